"""The upload panel: choose files and a destination, look at the plan, start, and watch.

What it starts is a ``%chunkup`` line, shown and copyable: ``form`` builds it, the magic's
grammar reads it, ``jobs.start`` gets what the grammar found. Everything the page asks is
done on one thread of the panel's own, so that a click never waits for a running cell's
end once it was heard, and never makes one wait.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from .. import jobs, journal, units
from ..errors import ChunkupError
from ..events import Cancelled, Event, Failed, Progress, State, Waiting
from ..secrets import Secret
from . import assets, form, grammar, running, verbs, words
from .form import Answers
from .parts import Board, LiveView, answer_while_busy
from .picker import BrowserSource, Picker

AT_ONCE = 2  # files on their way at a time; each has its parts in parallel already
SHOWN = 20  # finished uploads in the history
PLANNED = 50  # files whose plan is made at once

_OVER = (State.COMPLETED, State.CANCELLED)  # nothing will be read again

_log = logging.getLogger(__name__)


class Panel(anywidget.AnyWidget):
    """``Panel()`` in a cell shows it. ``jobs`` are the uploads it has started.

    Uploads run in the background: the cell returns at once, buttons work in every front
    end, and the panel may be shown, hidden and shown again.
    """

    _esm = assets.script("dom", "fields", "panel")
    _css = assets.style()
    asked: Any = traitlets.Dict().tag(sync=True)
    lists: Any = traitlets.Dict().tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        answer_while_busy(self)
        self.picker = Picker()
        self.view = LiveView(stay=True)
        self._secrets: dict[str, dict[str, Secret]] = {}
        self._turns: list[Turn] = []
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.asked = {
            "providers": form.schema(),
            "remembered": form.remembered(),
            "picker": self.picker.model_id,
            "view": self.view.model_id,
        }
        self._look()
        self.on_msg(self._said)
        self.picker.on_pick(lambda _: self._work.put(self._look))
        worker = threading.Thread(target=self._run, name="chunkup-panel", daemon=True)
        contextvars.Context().run(worker.start)

    @property
    def jobs(self) -> list[jobs.Job]:
        """The uploads that were started here, oldest first."""
        return [turn.job for turn in self._turns if turn.job is not None]

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
        """Take a message, on any thread; a key in it is taken out at once."""
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
        badge = form.badges(answers.scheme, given, answers.sandbox, answers.key_env)
        asked = bool(given) and not answers.sandbox
        problem = ""
        if form.dest_of(answers):
            try:
                form.understood(answers)
            except grammar.BadLine as error:
                problem = words.shown(error)
        browser = self._picked(content)
        return {
            "line": form.line_of(answers, asked=asked),
            "count": len(answers.sources) + len(browser),
            "ready": bool(form.dest_of(answers)) and not problem,
            "badge": badge,
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
        orders = self._orders(content)
        rate = self._rate(orders[0].line.dest)
        rows: list[list[str]] = []
        found: list[Any] = []
        for turn in orders[:PLANNED]:
            try:
                plan = jobs.plan(turn.source, turn.line.dest, **turn.options())
            except ChunkupError as error:
                rows.append([turn.name, words.shown(error)])
                continue
            found.append(plan)
            parts = words.plural(plan.parts, "part")
            rows.append([plan.file.name, f"{units.size(plan.file.size)} · {parts}"])
        if len(orders) == 1 and found:
            rows = [[label, text] for label, text in words.plan_rows(found[0], rate)]
            if rate:
                rows.append(["Time", _estimate(found[0].file.size, rate)])
        elif found:
            total = sum(plan.file.size for plan in found)
            text = f"{words.plural(len(orders), 'file')} · {units.size(total)}"
            rows.append(["Together", text + (f" · {_estimate(total, rate)}" if rate else "")])
            for warning in dict.fromkeys(w for plan in found for w in plan.warnings):
                rows.append(["Warning", words.shown(warning)])
        return {"plan": rows}

    def _start(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        orders = self._orders(content)
        form.remember(self._answers(content))
        for turn in orders:
            self._turns.append(turn)
            self.view.follow(turn, turn.board)
        self._pump()
        return {"started": len(orders)}

    def _resume(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        """Do what ``%chunkup resume ID -b`` does, with this view."""
        line = grammar.parse(["resume", str(content["id"]), "-b"])
        shows = _Shows(self.view)
        job = running.block(verbs.carry_out(line, lambda _: shows, running.Trail()))
        turn = Turn(job.name, line, {}, self._again)
        turn.job = job
        self._turns.append(turn)
        job.subscribe(self._watch(turn))
        self._look()
        return {"started": 1}

    def _discard(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        """Do what ``%chunkup cancel ID`` does."""
        line = grammar.parse(["cancel", str(content["id"])])
        told = running.block(verbs.carry_out(line, lambda _: _Shows(self.view), running.Trail()))
        self._look()
        return {"said": told.text}

    def _tidy(self, *_: Any) -> None:
        """Take what has ended out of the view."""
        for turn in [turn for turn in self._turns if turn.shown.progress.state.ended]:
            self.view.forget(turn.shown)
        self._look()

    def _refresh(self, *_: Any) -> None:
        self._look()

    def _browse(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        return {"listing": form.listing(str(content.get("folder", "")))}

    def _complete(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        return {"paths": form.completions(str(content.get("text", "")))}

    def _expand(self, content: Mapping[str, Any], _: Secret | None) -> dict[str, Any]:
        text = str(content.get("text", ""))
        paths = form.expand(text)
        if not paths:
            return {"paths": [], "problem": f"no file is called {words.shown(text, 80)}"}
        missing = [p for p in paths if "://" not in p and not os.path.isfile(os.path.expanduser(p))]
        if missing:
            kind = "is a folder" if os.path.isdir(missing[0]) else "is not there"
            return {"paths": [], "problem": f"{words.shown(missing[0], 80)} {kind}"}
        return {"paths": paths}

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

    # -- the queue

    def _answers(self, content: Mapping[str, Any]) -> Answers:
        return Answers.of(content.get("form") or {})

    def _picked(self, content: Mapping[str, Any]) -> list[BrowserSource]:
        wanted = set((content.get("form") or {}).get("picked") or ())
        return [source for source in self.picker.files if source.key in wanted]

    def _orders(self, content: Mapping[str, Any]) -> list[Turn]:
        answers = self._answers(content)
        line = form.understood(answers)
        secrets = {} if answers.sandbox else dict(self._secrets.get(answers.scheme, {}))
        sources: list[Any] = [*answers.sources, *self._picked(content)]
        if not sources:
            raise grammar.BadLine("choose a file first")
        return [Turn(source, line, secrets, self._again) for source in sources]

    def _again(self, turn: Turn) -> None:
        self._work.put(lambda: self._begin(turn))

    def _pump(self) -> None:
        """Let the next ones begin, while few are on their way."""
        active = sum(turn.job is not None and not turn.job.state.ended for turn in self._turns)
        for turn in self._turns:
            if active >= AT_ONCE:
                return
            if turn.job is None and not turn.progress.state.ended:
                active += self._begin(turn)

    def _begin(self, turn: Turn) -> bool:
        """Start one upload. One that cannot start shows why and stops no other."""
        board = Board()
        try:
            job = jobs.start(
                turn.source,
                turn.line.dest,
                listeners=[board, self._watch(turn)],
                **turn.options(),
            )
        except Exception as error:
            turn.tell(Failed(error))
            return False
        self.view.replace(turn, job, board)
        turn.job = job
        return True

    def _watch(self, turn: Turn) -> Callable[[Event, Progress], None]:
        """Return a listener that hears of the upload's end, on the background thread."""

        def listener(_: Event, progress: Progress) -> None:
            if progress.state.ended:
                self._work.put(lambda: self._ended(turn))

        return listener

    def _ended(self, turn: Turn) -> None:
        job = turn.job
        if job is not None:
            job.settle(2.0)  # its journal and the ledger are written by then
            if isinstance(turn.source, BrowserSource) and job.state in _OVER:
                self.picker.drop(turn.source)
        self._pump()
        self._look()

    # -- what is unfinished, what was sent

    def _look(self) -> None:
        mine = {(job.name, job.target) for job in jobs.list_jobs() if not job.done()}
        unfinished = [
            {
                "id": one.id[:8],
                "name": words.shown(one.name),
                "target": words.shown(one.target),
                "kept": verbs._so_far(one),
                "life": verbs._life(one),
                "browser": not one.spelled,
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
        self.lists = {"unfinished": unfinished, "history": history}

    def _rate(self, dest: str) -> float:
        """Return the bytes a second of the last upload to such a place, 0 when there is none."""
        scheme = dest.partition(":")[0]
        for entry in reversed(journal.Ledger(journal.default_folder()).entries()):
            if entry.target.startswith(f"{scheme}:") and entry.elapsed > 0.5:
                return entry.size / entry.elapsed
        return 0.0


class Turn:
    """A file that waits for its turn; the view shows it as it shows a job."""

    meter = None
    plan = None
    session = None

    def __init__(
        self,
        source: Any,
        line: grammar.Line,
        secrets: Mapping[str, Secret],
        again: Callable[[Turn], None],
    ) -> None:
        self.source = source
        self.line = line
        self.job: jobs.Job | None = None
        self.target, self.sandbox = line.dest, line.sandbox
        named = isinstance(source, str)
        self.name = re.split(r"[/\\]", source)[-1] if named else source.info.name
        self.progress = Progress().after(Waiting("it waits for its turn"))
        self.board = Board()
        self._secrets = secrets
        self._again = again

    @property
    def word(self) -> str:
        """What the view says of its state."""
        return "" if self.progress.state.ended else "Waiting"

    @property
    def shown(self) -> Any:
        """What the view shows of it: the job, once there is one."""
        return self if self.job is None else self.job

    def options(self) -> dict[str, Any]:
        """Return what ``jobs.start`` takes besides source and destination."""
        return {**self.line.arguments(), "credentials": self._secrets or None}

    def tell(self, event: Event) -> None:
        """Let something happen to it."""
        self.progress = self.progress.after(event)
        self.board(event, self.progress)

    def pause(self) -> None:
        """Nothing moves yet."""

    def resume(self) -> None:
        """Try again what could not be started."""
        self.progress = Progress()
        self._again(self)

    def cancel(self) -> None:
        """Give up its turn."""
        with contextlib.suppress(ValueError):
            self.tell(Cancelled())


class _Shows:
    """The panel's view, as the magic wants one."""

    shows_result = False

    def __init__(self, view: LiveView) -> None:
        self._view, self._board = view, Board()

    def __call__(self, event: Event, progress: Progress) -> None:
        self._board(event, progress)

    def follow(self, job: Any) -> None:
        """Show the job in the panel."""
        self._view.follow(job, self._board)

    def close(self) -> None:
        """The panel's view stays."""


def _estimate(size: int, rate: float) -> str:
    return f"about {units.seconds(size / rate)} at {units.rate(rate)}, as last time"


def _stop() -> None:
    """Ends the worker."""
