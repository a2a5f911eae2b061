"""One ``%chunkup`` line in a cell: carried out, shown, bound, and told when it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from IPython.core.error import UsageError

from ..errors import ChunkupError, UploadInterrupted
from ..jobs.batch import BatchResult
from ..plan import Plan
from . import bars, cards, displays, grammar, running, several, trouble, verbs, words
from .grammar import BadLine, HelpAsked, Line

_SETTINGS = tuple("jobs files part_size verify wait_ready check sandbox progress debug".split())


class Call:
    """One use of the magic, whose settings hold where the line says nothing."""

    def __init__(self, magic: Any, text: str) -> None:
        self._magic = magic
        self._shell: Any = magic.shell
        self._text = text
        self._line = Line()
        self._trail = running.Trail()

    def block(self) -> Any:
        """Carry the line out, blocking; return the cell's value."""
        with self._told():
            return running.block(self._steps())

    async def wait(self) -> Any:
        """Carry the line out, awaiting; return the cell's value."""
        with self._told():
            return await running.beat(self._steps())

    def _steps(self) -> running.Steps:
        settings = {name: getattr(self._magic, name) for name in _SETTINGS}
        line = self._line = grammar.parse(self._text).settle(settings)
        if line.verb:
            return (yield from self._verb(line))
        value = yield from running.steps(line, self._view, self._trail, self._bind)
        if isinstance(value, Plan):
            cards.put_on_screen(cards.plan_html(value), words.plan_text(value))
            displays.remember(self._shell, value)
        elif line.dry_run:
            cards.put_on_screen(cards.plans_html(value), words.plans_text(value))
            displays.remember(self._shell, value)
        elif self._trail.shown:
            displays.remember(self._shell, value)
        return value

    def _verb(self, line: Line) -> running.Steps:
        outcome = yield from verbs.carry_out(line, self._view, self._trail)
        if isinstance(outcome, verbs.Told):
            cards.put_on_screen(outcome.html, outcome.text)
            return None
        if line.verb == "resume":
            self._bind(outcome)
            if self._trail.shown:
                displays.remember(self._shell, outcome)
        return outcome

    def _view(self, line: Line, *, many: bool = False) -> bars.View:
        choose = several.choose if many else bars.choose
        return choose(line.progress, self._shell, detached=line.detach)

    def _bind(self, value: Any) -> None:
        """Put the value into ``_chunkup`` and wherever else the line wants it."""
        names = ["_chunkup", self._line.out]
        if value is self._trail.job or isinstance(value, BatchResult):
            # An assignment that fails binds nothing by itself.
            names.append(self._line.assigned)
        names = [name for name in dict.fromkeys(names) if name]
        self._shell.push(dict.fromkeys(names, value), interactive=False)
        self._trail.bound = tuple(str(name) for name in names)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what goes wrong into one screen that still fails the cell."""
        try:
            yield
        except HelpAsked as asked:
            print(str(asked).rstrip())  # noqa: T201
        except BadLine as error:
            raise UsageError(f"%chunkup: {error}") from None
        except ChunkupError as error:
            trouble.install(error, self._screen(error))
            if self._line.debug and not isinstance(error, UploadInterrupted):
                raise
            raise error.with_traceback(None) from None

    def _screen(self, error: ChunkupError) -> str:
        line = self._line
        return trouble.screen(
            error,
            self._trail.job,
            bound=self._trail.bound,
            debug=line.debug,
            sandbox=line.sandbox,
            sources=(line.sources, line.dest),
        )
