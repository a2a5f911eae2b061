"""``%chunkup``: read the line, carry it out, show it, bind it. And how IPython learns it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from traitlets import Bool, Enum, Integer, TraitError, Unicode, Union, validate

from .. import units
from ..batch import BatchResult
from ..errors import ChunkupError, UploadInterrupted
from ..plan import Plan
from . import awaiting, cards, complete, grammar, running, several, trouble, verbs, words
from .bars import View, choose
from .grammar import BadLine, HelpAsked, Line

_RESULT, _JOB = "chunkup_jupyter.results.UploadResult", "chunkup_jupyter.jobs.Job"
_BATCH, _RESULTS = "chunkup_jupyter.batch.Batch", "chunkup_jupyter.batch.BatchResult"
_PLAN, _PROGRESS = "chunkup_jupyter.plan.Plan", "chunkup_jupyter.events.Progress"


@magics_class
class Chunkup(Magics):
    """The magic and its settings: ``%config Chunkup.jobs = 8``."""

    jobs = Integer(
        None, min=1, max=64, allow_none=True, help="Parts in flight at once; None: found by trying"
    ).tag(config=True)
    files = Integer(2, min=1, max=64, help="Files on their way at once").tag(config=True)
    part_size = Union(
        [Integer(min=1), Unicode()],
        default_value=None,
        allow_none=True,
        help="Bytes or '16M'; None: planned from file and provider",
    ).tag(config=True)
    verify = Enum(grammar.VERIFY, "auto", help="Compare checksums").tag(config=True)
    wait_ready = Bool(
        None, allow_none=True, help="Wait until the provider has processed the file"
    ).tag(config=True)
    check = Bool(True, help="Look at the file before sending it").tag(config=True)
    sandbox = Bool(False, help="Upload to a local server instead").tag(config=True)
    progress = Enum(grammar.PROGRESS, "auto", help="How to show progress").tag(config=True)
    debug = Bool(False, help="Add the traceback to an error").tag(config=True)

    @validate("part_size")
    def _a_size(self, proposal: dict[str, Any]) -> int | None:
        value = proposal["value"]
        try:
            return None if value is None else units.parse_size(value)
        except ValueError as error:
            raise TraitError(str(error)) from None

    @line_magic
    def chunkup(self, text: str = "") -> Any:
        with self._told(text) as call:
            return running.block(call.steps())

    @line_magic
    def chunkup_await(self, text: str = "") -> Any:
        """What a top-level %chunkup becomes: it awaits instead of blocking."""

        async def wait() -> Any:
            with self._told(text) as call:
                return await running.beat(call.steps())

        return wait()

    @contextlib.contextmanager
    def _told(self, text: str) -> Iterator[_Call]:
        """Turn what goes wrong into one screen that still fails the cell."""
        call = _Call(self, text)
        try:
            yield call
        except HelpAsked as asked:
            print(str(asked).rstrip())  # noqa: T201
        except BadLine as error:
            raise UsageError(f"%chunkup: {error}") from None
        except ChunkupError as error:
            call.explain(error)
            if call.line.debug and not isinstance(error, UploadInterrupted):
                raise
            raise error.with_traceback(None) from None


class _Call:
    """One use of the magic."""

    def __init__(self, magic: Chunkup, text: str) -> None:
        self._magic = magic
        self._shell: Any = magic.shell
        self._text = text
        self._trail = running.Trail()
        self.line = Line()

    def steps(self) -> running.Steps:
        """Understand the line and carry it out; return the cell's value."""
        try:
            line = grammar.parse(self._text)
        except HelpAsked as asked:
            print(str(asked).rstrip())  # noqa: T201
            return None
        settings = {name: getattr(self._magic, name) for name in _SETTINGS}
        line = self.line = line.settle(settings)
        if line.verb:
            return (yield from self._verb(line))
        value = yield from running.steps(line, self._view, self._trail, self._bind)
        plans = value if isinstance(value, list) else [value]
        if plans and all(isinstance(plan, Plan) for plan in plans):
            for plan in plans:
                cards.put_on_screen(
                    cards.plan_html(plan, sandbox=line.sandbox),
                    words.plan_text(plan, sandbox=line.sandbox),
                )
            self._shown(value)
        elif self._trail.shown:
            self._shown(value)
        return value

    def _verb(self, line: Line) -> running.Steps:
        outcome = yield from verbs.carry_out(line, self._view, self._trail)
        if isinstance(outcome, verbs.Told):
            cards.put_on_screen(outcome.html, outcome.text)
            return None
        if line.verb == "resume":
            self._bind(outcome)
            if self._trail.shown:
                self._shown(outcome)
        return outcome

    def _view(self, line: Line, *, many: bool = False) -> View:
        choice = several.choose if many else choose
        return choice(line.progress, self._shell, detached=line.detach)

    def _bind(self, value: Any) -> None:
        """Put the value into ``_chunkup`` and wherever else the line wants it."""
        names = ["_chunkup", self.line.out]
        if value is self._trail.job or isinstance(value, BatchResult):
            # An assignment that fails binds nothing by itself.
            names.append(self.line.assigned)
        names = [name for name in dict.fromkeys(names) if name]
        self._shell.push(dict.fromkeys(names, value), interactive=False)
        self._trail.bound = tuple(str(name) for name in names)

    def explain(self, error: ChunkupError) -> None:
        """Let IPython show this error as one screen."""
        trail, line = self._trail, self.line
        text = trouble.screen(
            error,
            trail.job,
            bound=trail.bound,
            debug=line.debug,
            sandbox=line.sandbox,
            sources=(line.sources, line.dest),
        )
        trouble.install(error, text)

    def _shown(self, value: Any) -> None:
        """Remember that this cell has shown the value already."""
        _on_screen[id(self._shell)] = (self._shell.execution_count, value)


_SETTINGS = tuple("jobs files part_size verify wait_ready check sandbox progress debug".split())

# What the running cell of each shell has put on screen itself: not displayed again.
_on_screen: dict[int, tuple[int, Any]] = {}


def load(shell: Any) -> None:
    """Add the magic, its completions, its awaiting and the HTML of our objects to a shell."""
    unload(shell)
    Chunkup.chunkup.__doc__ = grammar.help_text()
    shell.register_magics(Chunkup)
    shell.Completer.custom_matchers.append(complete.matcher(shell))
    if getattr(shell, "kernel", None) is not None:
        shell.input_transformers_post.append(awaiting.transform)
        _quietly(shell)
    for name, html in _HTML.items():
        module, _, kind = name.rpartition(".")
        formatters = shell.display_formatter.formatters
        formatters["text/html"].for_type_by_name(module, kind, html)
    formatters["text/plain"].for_type_by_name(*_PLAN.rsplit(".", 1), _pretty_plan)


def unload(shell: Any) -> None:
    """Remove everything that ``load`` added. May be repeated."""
    found = shell.magics_manager.registry.pop("Chunkup", None)
    if found is not None:
        for name in ("chunkup", "chunkup_await"):
            shell.magics_manager.magics["line"].pop(name, None)
        with contextlib.suppress(ValueError):
            shell.configurables.remove(found)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [one for one in matchers if not complete.is_ours(one)]
    after = shell.input_transformers_post
    after[:] = [one for one in after if one is not awaiting.transform]
    formatters = shell.display_formatter.formatters
    formatters["text/plain"].pop(_PLAN, None)
    for name in _HTML:
        formatters["text/html"].pop(name, None)
        shell.display_formatter.ipython_display_formatter.pop(name, None)
    _on_screen.pop(id(shell), None)


def _quietly(shell: Any) -> None:
    """Display our objects ourselves, but not those that the cell has shown."""
    formatter = shell.display_formatter.ipython_display_formatter
    for name, html in _HTML.items():
        module, _, kind = name.rpartition(".")
        formatter.for_type_by_name(module, kind, _displayer(shell, html))


def _pretty_plan(plan: Plan, printer: Any, cycle: bool) -> None:
    parts = f"{words.plural(plan.parts, 'part')} of {words.binary(plan.part_size)}"
    printer.text(f"<Plan: {plan.file.name} → {plan.target}, {parts}>")


def _displayer(shell: Any, html: Callable[[Any], str]) -> Callable[[Any], None]:
    def show(value: Any) -> None:
        count, shown = _on_screen.get(id(shell), (-1, None))
        known = shown if isinstance(shown, list) else [shown]
        if count != shell.execution_count or not any(value is one for one in known):
            text = words.plan_text(value) if isinstance(value, Plan) else repr(value)
            cards.put_on_screen(html(value), text)

    return show


_HTML: dict[str, Callable[[Any], str]] = {
    _RESULT: cards.result_html,
    _JOB: cards.job_html,
    _BATCH: several.batch_html,
    _RESULTS: several.results_html,
    _PLAN: cards.plan_html,
    _PROGRESS: cards.progress_html,
}
