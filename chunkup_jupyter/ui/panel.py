"""The upload panel: choose files and a destination, look at the plan, start, and watch.

What it starts is a ``%chunkup`` line, shown and copyable: ``form`` builds it, the magic's
grammar reads it, and ``running.steps`` carries it out as it does for the magic. Everything
the page asks is done on one thread of the panel's own, so that a click never waits for a
running cell's end once it was heard, and never makes one wait.
"""

from __future__ import annotations

import contextvars
import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from .. import journal, units
from ..errors import ChunkupError, CredentialsMissing
from ..events import Event, Progress, State
from ..jobs import Job, list_jobs, plan_of
from ..jobs.batch import Batch, Item
from ..jobs.many import orders_of
from ..plan import Plan
from ..secrets import Secret
from ..sources import urls
from . import assets, form, grammar, running, verbs, words
from .form import Answers
from .parts import ItemBoard, LiveView, answer_while_busy
from .picker import BrowserSource, Picker

SHOWN = 20  # finished uploads in the history
PLANNED = 50  # files whose plan is made at once

_NO_KEY = "no key was found: type it above, name a variable that holds it, or try the sandbox"
_OVER = (State.COMPLETED, State.CANCELLED)  # nothing will be read again

_log = logging.getLogger(__name__)


class Panel(anywidget.AnyWidget):
    """``Panel()`` in a cell shows it. ``jobs`` are the uploads it has started.

    ``sandbox`` ticks the sandbox's box to begin with, whatever it was the last time.

    Uploads run in the background: the cell returns at once, buttons work in every front
    end, and the panel may be shown, hidden and shown again.
    """

    _esm = assets.script("dom", "fields", "sources", "target", "shelf", "panel")
    _css = assets.style()
    asked: Any = traitlets.Dict().tag(sync=True)
    lists: Any = traitlets.Dict().tag(sync=True)

    def __init__(self, *, sandbox: bool = False) -> None:
        super().__init__()
        answer_while_busy(self)
        self.picker = Picker()
        self.view = LiveView(stay=True)
        self._secrets: dict[str, dict[str, Secret]] = {}
        self._started: list[Job | Batch] = []
        self._sending: list[tuple[Any, BrowserSource]] = []
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.asked = {
            "providers": form.schema(),
            "remembered": form.remembered() | ({"sandbox": True} if sandbox else {}),
            "picker": self.picker.model_id,
            "view": self.view.model_id,
        }
        self._look()
        self.on_msg(self._said)
        self.picker.on_pick(lambda _: self._work.put(self._look))
        worker = threading.Thread(target=self._run, name="chunkup-panel", daemon=True)
        contextvars.Context().run(worker.start)

    @property
    def jobs(self) -> list[Job]:
        """The uploads that were started here, oldest first."""
        return [job for one in self._started for job in _jobs_of(one)]

    def close(self) -> None:
        """Take the panel away; what runs goes on."""
        self._work.put(_stop)
        self.view.leave()
        self.picker.close()
        super().close()

    def __repr__(self) -> str:
        return "the upload panel (run the cell to see it)"

    # -- what the page asks

    def _said(self, _: Any, content: dict[str, Any], __: Any) -> None:
        """Take a message, on any thread; a key in it is taken out at once.

        That it was heard is said before the answer: a plan takes longer than a busy kernel
        should go unnoticed.
        """
        self.send({"t": "heard", "n": content.get("n", 0)})
        key = content.pop("key", None)
        secret = Secret(key.strip()) if isinstance(key, str) and key.strip() else None
        self._work.put(lambda: self._answer(content, secret))

    def _run(self) -> None:
        while True:
            task = self._work.get()
            if task is _stop:
                return
            try:
                task()
            except Exception:
                _log.exception("the panel could not do what was asked")

    def _answer(self, content: Mapping[str, Any], secret: Secret | None) -> None:
        what = self._DO.get(str(content.get("t")))
        answer: dict[str, Any]
        try:
            answer = {} if what is None else what(self, content, secret) or {}
        except CredentialsMissing:
            answer = {"problem": _NO_KEY}
        except (ChunkupError, grammar.BadLine, OSError, ValueError) as error:
            answer = {"problem": words.shown(error)}
        except Exception as error:  # never without an answer
            _log.exception("the panel could not do what was asked")
            answer = {"problem": f"this went wrong: {type(error).__name__}"}
        self.send({"t": "answer", "n": content.get("n", 0), **answer})

    def _form(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        """Say what the answers mean: the line, the keys, how many files."""
        answers = self._answers(content)
        given = self._secrets.get(answers.scheme, {})
        problem = ""
        if form.dest_of(answers):
            try:
                form.understood(answers)
            except grammar.BadLine as error:
                problem = words.shown(error)
        picked = self._picked(content)
        line, beside = form.line_of(answers, len(picked), asked=bool(given))
        return {
            "line": line,
            "beside": beside,
            "count": len(answers.sources) + len(picked),
            "ready": bool(form.dest_of(answers)) and not problem,
            "badge": form.badges(answers.scheme, given, answers.sandbox, answers.key_env),
            "typed": sorted(given),
            "problem": problem,
        }

    def _secret(self, content: Mapping[str, Any], secret: Secret | None) -> dict[str, Any]:
        """Keep a key for this kernel's life, here and nowhere else; or forget it."""
        scheme, field = str(content.get("scheme")), str(content.get("field"))
        if secret is not None:
            self._secrets.setdefault(scheme, {})[field] = secret
        else:
            self._secrets.pop(scheme, None)
        return self._form(content, None)

    def _plan(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        """Do what ``--dry-run`` does, but let one file's trouble hide no other's plan."""
        line = self._line(content)
        options = running.options_of(line) | line.choices()
        orders = orders_of(line.sources, line.dest, **_but_name(options))
        rate = self._rate(line)
        rows: list[tuple[str, str]] = []
        refused: list[tuple[str, str]] = []
        found: list[Any] = []
        for order in orders[:PLANNED]:
            name = words.shown(urls.shown(order.source), 80)
            try:
                plan = plan_of(order)
            except ChunkupError as error:
                if len(orders) == 1:
                    raise
                said = words.shown(error)
                refused.append(("Refused", said if said.startswith(name) else f"{name}: {said}"))
                continue
            found.append(plan)
            parts = words.plural(plan.parts, "part")
            rows.append((plan.file.name, f"{units.size(plan.file.size)} · {parts}"))
        if len(orders) == 1:
            (plan,) = found
            rows = words.plan_rows(plan, rate)
            after = [label for label, _ in rows].index("Memory") + 1
            rows.insert(after, ("Time", _estimate(plan.file.size, rate)))
        else:
            total = sum(plan.file.size for plan in found)
            known = words.plural(len(found), "file")
            if len(orders) > PLANNED:
                rows.append(("", f"and {len(orders) - PLANNED:,} more"))
            text = f"{known} · {units.size(total)} · {_estimate(total, rate)}"
            warnings = dict.fromkeys(w for plan in found for w in plan.warnings)
            warned = [("Warning", words.shown(one)) for one in warnings]
            rows = [
                ("Together", text),
                *_in_common(found, line.files, rate),
                *refused,
                *warned,
                *rows,
            ]
        return {"plan": rows}

    def _start(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        line = self._line(content)
        self._carry_out(line)
        form.remember(self._answers(content))
        self.asked = {**self.asked, "remembered": form.remembered()}
        self._look()
        return {"started": len(line.sources)}

    def _resume(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        """Do what ``%chunkup resume ID -b`` does, with this view."""
        found = str(content["id"])
        self._carry_out(self._with_keys(grammar.parse(["resume", found, "-b"]), found))
        self._look()
        return {"started": 1}

    def _discard(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        """Do what ``%chunkup cancel ID`` does."""
        found = str(content["id"])
        told = self._carry_out(self._with_keys(grammar.parse(["cancel", found]), found))
        self._look()
        return {"said": told.text}

    def _tidy(self, *_: Any) -> None:
        """Take what has ended out of the view."""
        for job in self.view.jobs:
            if job.progress.state.ended:
                self.view.forget(job)
        self._sending = [pair for pair in self._sending if not pair[0].state.ended]
        self._look()

    def _refresh(self, *_: Any) -> None:
        self._look()

    def _browse(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        return {"listing": form.listing(str(content.get("folder", "")))}

    def _complete(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        return {"paths": form.completions(str(content.get("text", "")))}

    def _expand(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        return {"found": form.expand(str(content.get("text", "")))}

    _DO: Mapping[str, Callable[..., dict[str, Any] | None]] = {
        "form": _form,
        "secret": _secret,
        "plan": _plan,
        "start": _start,
        "resume": _resume,
        "discard": _discard,
        "tidy": _tidy,
        "refresh": _refresh,
        "browse": _browse,
        "complete": _complete,
        "expand": _expand,
    }

    # -- carrying out

    def _answers(self, content: Mapping[str, Any]) -> Answers:
        return Answers.of(content.get("form") or {})

    def _picked(self, content: Mapping[str, Any]) -> list[BrowserSource]:
        wanted = set((content.get("form") or {}).get("picked") or ())
        return [source for source in self.picker.files if source.key in wanted]

    def _line(self, content: Mapping[str, Any]) -> grammar.Line:
        """Return the line that the page shows, with files of the browser and typed keys."""
        answers = self._answers(content)
        keys = self._secrets.get(answers.scheme, {})
        line = form.understood(answers, asked=bool(keys))
        sources: tuple[Any, ...] = (*line.sources, *self._picked(content))
        if not sources:
            raise grammar.BadLine("choose a file first")
        return dataclasses.replace(line, sources=sources, keys=dict(keys))

    def _with_keys(self, line: grammar.Line, unfinished: str) -> grammar.Line:
        """Let a verb use the keys that were typed for the provider of an unfinished upload."""
        for one in journal.unfinished():
            if one.id.startswith(unfinished):
                keys = self._secrets.get(one.target.partition(":")[0], {})
                given = line.given | {"ask_key"} if keys else line.given
                return dataclasses.replace(line, keys=dict(keys), ask_key=bool(keys), given=given)
        return line

    def _carry_out(self, line: grammar.Line) -> Any:
        """Do what the magic does with a line; what it starts is shown here."""
        trail = running.Trail()
        going = verbs.carry_out if line.verb else running.steps
        value = running.block(going(line, self._show, trail))
        if trail.job is not None and trail.job not in self._started:
            self._started.append(trail.job)
            pairs: Iterable[tuple[Any, Any]] = ((trail.job, source) for source in line.sources)
            if isinstance(trail.job, Batch):
                pairs = ((item, item.order.source) for item in trail.job.items)
            self._sending += [pair for pair in pairs if isinstance(pair[1], BrowserSource)]
        return value

    def _show(self, line: grammar.Line, **_: Any) -> _Shows:
        return _Shows(self.view, lambda job: self._work.put(lambda: self._ended(job)))

    def _ended(self, job: Job) -> None:
        job.settle(2.0)  # its journal and the ledger are written by then
        for one, source in list(self._sending):
            if one.state in _OVER:
                self._sending.remove((one, source))
                self.picker.drop(source)
        self._look()

    # -- what is unfinished, what was sent

    def _look(self) -> None:
        live = [job for job in list_jobs() if not job.done()]
        mine = {(job.name, job.target) for job in [*live, *self.view.jobs]}
        unfinished = [
            {
                "id": one.id[:8],
                "name": words.shown(one.name),
                "target": words.shown(one.target),
                "kept": verbs.so_far(one),
                "life": verbs.life(one),
                "how": _how_to_go_on(one),
            }
            for one in journal.unfinished()
            if not one.pid and (one.name, one.target) not in mine
        ]
        now = time.time()
        history = [
            {
                "name": words.shown(entry.name),
                "id": entry.id,
                "size": units.size(entry.size),
                "when": words.when(entry.when),
                "target": words.shown(entry.target),
                "expired": entry.expires_at is not None and entry.expires_at < now,
            }
            for entry in reversed(journal.Ledger(journal.default_folder()).entries()[-SHOWN:])
        ]
        sending = [source.key for _, source in self._sending if source in self.picker.files]
        self.lists = {"unfinished": unfinished, "history": history, "sending": sending}

    def _rate(self, line: grammar.Line) -> float:
        """Return the bytes a second of the last upload to such a place, 0 when there is none."""
        scheme = line.dest.partition(":")[0] + ":"
        for job in reversed(list_jobs()):
            if job.state is State.COMPLETED and job.sandbox == line.sandbox and job.done():
                result = job.result(0)
                if result.target.startswith(scheme) and result.elapsed > 0.5:
                    return result.rate
        for entry in reversed(journal.Ledger(journal.default_folder()).entries()):
            if not line.sandbox and entry.target.startswith(scheme) and entry.elapsed > 0.5:
                return entry.size / entry.elapsed
        return 0.0


class Row(ItemBoard):
    """One upload in the panel: a job, or a file of several that waits for its turn."""

    def __init__(self, ended: Callable[[Any], None], item: Item | None = None) -> None:
        super().__init__(item)
        self._ended = ended
        self.hint = words.HINT_IN_PANEL

    def __call__(self, event: Event, progress: Progress) -> None:
        super().__call__(event, progress)
        self._tell()

    def follow(self, job: Any) -> None:
        """Learn which job it is, and what happened before."""
        super().follow(job)
        self._tell()

    def _tell(self) -> None:
        if isinstance(self.job, Job) and self.progress.state.ended:
            self._ended(self.job)


class _Shows:
    """The panel's view of what one line starts, as the magic wants one."""

    shows_result = False

    def __init__(self, view: LiveView, ended: Callable[[Job], None]) -> None:
        self._view, self._ended = view, ended
        self._row = Row(ended)

    def __call__(self, event: Event, progress: Progress) -> None:
        self._row(event, progress)

    def follow(self, job: Any) -> None:
        """Show the job, or each file of several, in the panel."""
        if isinstance(job, Batch):
            for item in job.items:
                self._view.follow(item, Row(self._ended, item))
        else:
            self._view.follow(job, self._row)

    def close(self) -> None:
        """The panel's view stays."""


def _jobs_of(one: Job | Batch) -> Sequence[Job]:
    return one.jobs if isinstance(one, Batch) else [one]


def _but_name(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "name"}


def _how_to_go_on(one: journal.Unfinished) -> str:
    """Return what to do where a click cannot resume; "" where it can."""
    if one.spelled:
        return ""
    if str(one.source.get("fingerprint", "")).startswith("browser:"):
        return "to go on, send the same file of your computer there again"
    return "to go on, run what began it again"


def _in_common(plans: Sequence[Plan], files: int, rate: float) -> list[tuple[str, str]]:
    """Return what holds for all files, and what the largest needs."""
    if not plans:
        return []
    largest = max(plans, key=lambda plan: plan.file.size)
    facts = dict(words.plan_rows(largest, rate))
    memory = min(files, len(plans)) * max(plan.memory for plan in plans)
    rows = [("Memory", f"about {units.size(memory)} at most, {files} files at once")]
    if "Session" in facts:
        rows.append(("Session", f"of the largest: {facts['Session']}"))
    if "Checked" in facts:
        rows.append(("Checked", facts["Checked"]))
    return rows


def _estimate(size: int, rate: float) -> str:
    if rate > 0:
        return f"about {units.seconds(size / rate)} at {units.rate(rate)}, as last time"
    return f"{units.seconds(size / 10e6)} at 10 MB/s; nothing was sent there before to go by"


def _stop() -> None:
    """Ends the worker."""
