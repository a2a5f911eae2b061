"""The live view of uploads: every part on one canvas, buttons, and a painter thread.

The browser gets binary deltas ten times a second as messages, and a snapshot once a
second as traits, so that a reloaded page shows the same without asking the kernel.
A delta is a row of u32, ``index << 8 | level``; ``level`` is one of the numbers below.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import anywidget
import traitlets

from .. import units
from ..events import Event, PartDone, PartRetried, Progress, Restarted, Started, State
from . import assets, words

QUEUED, READING = 0, 1
SENDING = 2  # 2 to 201: the fill in steps of half a percent
FULL = 201
VERIFYING, RETRYING, FAILED, REUSED, DONE = 240, 250, 253, 254, 255

TICK = 0.1  # seconds between two paintings
SNAPSHOT = 1.0  # seconds between two snapshots
_CAN = {
    State.PREPARING: ("cancel",),
    State.UPLOADING: ("pause", "cancel"),
    State.PAUSED: ("resume", "cancel"),
    State.COMPLETING: ("cancel",),
    State.PROCESSING: ("cancel",),
    State.COMPLETED: ("copy",),
    State.FAILED: ("retry",),
    State.STOPPED: ("retry",),
}
MANY = 1024  # changes at once from which on all levels are sent instead: a byte a part
TRIES = 200  # parts whose attempts and last error are carried; the latest win

_PHASE = {
    State.PREPARING: 0,
    State.UPLOADING: 1,
    State.PAUSED: 1,
    State.COMPLETING: 2,
    State.PROCESSING: 3,
    State.COMPLETED: 5,
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """One upload at one moment: changed levels, texts, all levels, and whether to repaint all."""

    changed: list[int] | None
    head: dict[str, Any]
    levels: bytes
    anew: bool


class Board:
    """What is shown of one upload. A listener: call it with every event.

    A call costs as much as the parts it names and takes no I/O; the painter thread
    looks with ``look``. It may hear events before it knows its job.
    """

    def __init__(self) -> None:
        self.job: Any = None
        self.lock = threading.RLock()
        self.wake: Callable[[], None] = lambda: None
        """Called when there is something new to be looked at."""
        self.progress = Progress()
        self.size = 0
        self.part_size = 1
        self.levels = bytearray(1)
        self.tries: dict[int, tuple[int, str]] = {}
        self.hint = ""
        """What is said when there is no news."""
        self._anew = True
        self._dirty: set[int] = set()
        self._flying: Mapping[int, int] = {}
        self._phase = 0
        self._speed: list[str] = []
        self._speed_at = 0.0

    def follow(self, job: Any) -> None:
        """Learn which job it is, and what happened before."""
        numbers = frozenset(getattr(job, "numbers_done", ()))
        with self.lock:
            self.job, self.progress = job, job.progress
            session, plan = getattr(job, "session", None), getattr(job, "plan", None)
            if session is not None:
                self._measure(session.file.size, session.part_size)
            elif plan is not None:
                self._measure(plan.file.size, plan.part_size)
            mark = REUSED if 0 < self.progress.parts_reused == len(numbers) else DONE
            for number in numbers:
                if number <= len(self.levels) and self.levels[number - 1] < REUSED:
                    self._set(number, mark)

    def __call__(self, event: Event, progress: Progress) -> None:
        """Take in what happened. Called on the background thread."""
        with self.lock:
            self.progress = progress
            match event:
                case Started(session, reused):
                    self._measure(session.file.size, session.part_size)
                    self.levels = bytearray(len(self.levels))
                    for receipt in reused:
                        self._set(receipt.number, REUSED)
                    self._anew = True
                case PartDone(receipt):
                    self._set(receipt.number, DONE)
                case PartRetried(number, attempt, _, reason) if number:
                    self.tries.pop(number, None)
                    self.tries[number] = (attempt, reason)
                    if len(self.tries) > TRIES:
                        del self.tries[next(iter(self.tries))]
                    self._set(number, RETRYING)
                case Restarted():
                    self.levels = bytearray(len(self.levels))
                    self.tries.clear()
                    self._dirty.clear()
                    self._anew = True
        self.wake()

    def look(self, now: float) -> Look:
        """Return all that is to be shown now, and forget what has changed since."""
        with self.lock:
            look = Look(self.changes(), self.head(now), bytes(self.levels), self._anew)
            self._anew = False
            return look

    def changes(self) -> list[int] | None:
        """Return ``index << 8 | level`` of what changed since the last call; 0 is part 1.

        None when so much did that all levels are the shorter answer.
        """
        with self.lock:
            levels, dirty = self.levels, self._dirty
            flying, was = self.progress.in_flight, self._flying
            count, size = len(levels), max(1, self.part_size)
            last = self.size - size * (count - 1)
            many = len(flying) > MANY
            for number, sent in flying.items():
                if not 0 < number <= count:
                    continue
                now = levels[number - 1]
                if now >= REUSED:
                    continue
                if 0 < sent < size and number < count:
                    level = SENDING + sent * 199 // size
                elif sent <= 0:
                    level = RETRYING if now == RETRYING else READING
                else:
                    level = SENDING + sent * 199 // last if sent < last else VERIFYING
                if many:
                    levels[number - 1] = level
                elif level != now:
                    levels[number - 1] = level
                    dirty.add(number - 1)
            if not was.keys() <= flying.keys():
                gone = FAILED if self.progress.state is State.FAILED else QUEUED
                for number in was.keys() - flying.keys():
                    if 0 < number <= count and levels[number - 1] < REUSED:
                        levels[number - 1] = gone
                        dirty.add(number - 1)
            self._flying, self._dirty = flying, set()
            if many or len(dirty) > MANY:
                return None
            return [index << 8 | levels[index] for index in dirty]

    def head(self, now: float) -> dict[str, Any]:
        """Return the texts and figures around the map, ready to be shown.

        ``now`` is in Unix seconds. Rate and time left change at most twice a second,
        so that they can be read.
        """
        with self.lock:
            progress, job = self.progress, self.job
            state, total, sent = progress.state, progress.total or self.size, progress.sent
            if now - self._speed_at >= 0.5 or state is not State.UPLOADING:
                speed = words.amounts(progress, getattr(job, "meter", None))
                self._speed, self._speed_at = speed[1:], now
            self._phase = _PHASE.get(state, self._phase)
            again = {
                number: reason
                for number, (_, reason) in self.tries.items()
                if number <= len(self.levels) and self.levels[number - 1] == RETRYING
            }
            note = progress.note or _one_line(progress.error) or words.again(again)
            note = note or "".join(progress.warnings[-1:])
            return {
                "name": words.shown(getattr(job, "name", "")),
                "dest": words.shown(getattr(job, "target", "")),
                "sandbox": bool(getattr(job, "sandbox", False)),
                "state": state.value,
                "word": words.headline(progress),
                "percent": progress.percent,
                "bytes": f"{units.size(sent)} of {units.size(total)}",
                "exact": f"{sent:,} of {total:,} bytes",
                "speed": self._speed,
                "counts": " · ".join(words.parts(progress)),
                "size": self.size,
                "part": self.part_size,
                "n": len(self.levels),
                "sent": _share(sent, total),
                "done": _share(progress.done, total),
                "reused": _share(progress.reused, total),
                "phase": self._phase,
                "closes": words.clock(progress, now),
                "note": words.shown(note, 400),
                "hint": "" if state.ended else self.hint,
                "id": progress.result.id if progress.result else "",
                "can": _CAN.get(state, ()),
                "flight": dict(islice(progress.in_flight.items(), 64)),
                "tries": dict(self.tries),
                "beat": int(now),
            }

    def _measure(self, size: int, part_size: int) -> None:
        count = max(1, -(-size // max(1, part_size)))
        if count != len(self.levels):
            self.levels = bytearray(count)
            self._dirty.clear()
        self.size, self.part_size, self._anew = size, part_size, True

    def _set(self, number: int, level: int) -> None:
        if 1 <= number <= len(self.levels):
            self.levels[number - 1] = level
            self._dirty.add(number - 1)


class ItemBoard(Board):
    """What is shown of one file of several: first it waits for its turn, then it has a job.

    Without an item it is the board of one job.
    """

    def __init__(self, item: Any = None) -> None:
        super().__init__()
        self._item = item

    def look(self, now: float) -> Look:
        """Look first whether its turn has come."""
        if self._item is not None:
            with self.lock:
                job = self._item.job
                if job is None:
                    self.progress = self._item.progress
                elif job is not self.job:
                    job.subscribe(self)
                    self.follow(job)
        return super().look(now)

    def head(self, now: float) -> dict[str, Any]:
        """Say of one that waits that it does."""
        waits = self._item is not None and self._item.waiting
        return {**super().head(now), **({"word": "Waiting"} if waits else {})}


class LiveView(anywidget.AnyWidget):
    """One or several uploads as they happen.

    Follow jobs with ``follow``; everything after that happens by itself. When all have
    ended, ``on_end(view)`` is called once on the painter thread (the owner replaces the
    view by static HTML there) and the view closes, unless it was told to ``stay``. So
    it does when no page has shown it for ``patience`` seconds.
    Nothing here raises into an upload, and nothing waits for the browser.
    """

    _esm = assets.script("dom", "map", "parts")
    _css = assets.style()
    heads: Any = traitlets.List().tag(sync=True)
    snap: Any = traitlets.Bytes().tag(sync=True)

    def __init__(
        self,
        *jobs: Any,
        on_end: Callable[[LiveView], None] | None = None,
        stay: bool = False,
        patience: float = math.inf,
    ) -> None:
        super().__init__()
        answer_while_busy(self)
        self.ended = threading.Event()
        """Set when every upload has ended and ``on_end`` has returned."""
        self.seen = threading.Event()
        """Set when a page has shown it and the kernel could hear of that."""
        self._on_end = on_end
        self._stay, self._patience = stay, patience
        self._boards: list[Board] = []
        self._acks: list[int] = []
        self._wake = threading.Event()
        self._left = False
        self._snapped = 0.0
        self._painter: threading.Thread | None = None
        self._guard = threading.Lock()
        self.on_msg(self._clicked)
        for job in jobs:
            self.follow(job)

    def follow(self, job: Any, board: Board | None = None) -> None:
        """Show one more upload; ``board`` is its listener when it has one already."""
        if board is None:
            board = Board()
            job.subscribe(board)
        self.show([(job, board)])

    def show(self, rows: Sequence[tuple[Any, Board]]) -> None:
        """Show more uploads, each with its board, all from the same moment."""
        for job, board in rows:
            board.wake = self._wake.set
            board.follow(job)
        with self._guard:
            self._boards = [*self._boards, *(board for _, board in rows)]
            self._snapped = 0.0
            if self._painter is None:
                self._painter = threading.Thread(
                    target=self._paint, name="chunkup-view", daemon=True
                )
                # A context of its own: with the cell's, some front ends drop what is
                # shown after the cell has ended.
                contextvars.Context().run(self._painter.start)
        self._wake.set()

    def forget(self, job: Any) -> None:
        """Take an upload out of the view."""
        with self._guard:
            self._boards = [board for board in self._boards if board.job is not job]
            self._snapped = 0.0
        self._wake.set()

    @property
    def jobs(self) -> list[Any]:
        """The uploads that are shown, in order."""
        return [board.job for board in self._boards]

    def leave(self) -> None:
        """Stop painting and close. For an owner that shows something else now."""
        self._left = True
        self._wake.set()

    def __repr__(self) -> str:
        lines = (f"{b.job.name}: uploading to {b.job.target}" for b in self._boards)
        return "\n".join(lines) or "no uploads yet"

    # -- painting, all of it on one thread

    def _paint(self) -> None:
        start = time.monotonic()
        try:
            while not self._left:
                self._wake.wait(SNAPSHOT)
                self._wake.clear()
                began = time.monotonic()
                boards = self._boards
                ended = all(board.progress.state.ended for board in boards)
                self._tick(snapshot=ended)
                if ended and not self._stay:
                    break
                if began - start > self._patience and not self.seen.is_set():
                    break
                # Asked anew: a click may have begun one again.
                over = all(board.progress.state.ended for board in boards)
                if self._stay and over and not self._acks:
                    self._wake.wait()
                    continue
                time.sleep(max(0.0, TICK - (time.monotonic() - began)))
            if self._on_end is not None and not self._left:
                self._on_end(self)
            self.close()
        except Exception:  # a broken front end is no reason to disturb an upload
            log.debug("the live view stopped", exc_info=True)
        finally:
            self.ended.set()

    def _tick(self, *, snapshot: bool = False) -> None:
        """Send what changed: one message, and once a second one more with everything."""
        now = time.monotonic()
        with self._guard:
            boards, acks, self._acks = self._boards, self._acks, []
            snapshot = snapshot or now - self._snapped >= SNAPSHOT
        looks = [board.look(time.time()) for board in boards]
        heads = [look.head for look in looks]
        if snapshot or any(look.anew for look in looks):
            self._snapped = now
            with self.hold_sync():
                self.heads = heads
                self.snap = b"".join(look.levels for look in looks)
            if acks:
                self.send({"t": "acks", "acks": acks})
            return
        deltas, base = array("I"), 0
        for look in looks:
            changed = look.changed
            if changed is None:
                everything = b"".join(look.levels for look in looks)
                self.send({"t": "all", "heads": heads, "acks": acks}, [everything])
                return
            deltas.extend(changed if not base else [base + one for one in changed])
            base += len(look.levels) << 8
        if deltas or acks or heads != self.heads:
            self.send({"t": "delta", "heads": heads, "acks": acks}, [deltas.tobytes()])

    # -- clicks

    def _clicked(self, _: Any, content: dict[str, Any], __: Any) -> None:
        """Do what a button says. Any thread; every action may be repeated."""
        if content.get("do") == "hello":
            self.seen.set()
            return
        try:
            board = self._boards[int(content.get("file", 0))]
            with contextlib.suppress(Exception):  # a click that came too late
                self._do(board, str(content.get("do", "")))
            with self._guard:
                self._acks.append(int(content.get("click", 0)))
            self._wake.set()
        except (IndexError, TypeError, ValueError):
            return

    def _do(self, board: Board, what: str) -> None:
        match what:
            case "pause" | "cancel":
                getattr(board.job, what)()
            case "resume" | "retry":
                board.job.resume()


def answer_while_busy(widget: Any) -> None:
    """Let the front end choose the thread that handles this widget's messages.

    ipykernel 7.4 (ipython/ipykernel#1565) sends a widget's messages to the shell that
    last wrote on its comm, which is the one a running cell keeps busy, and changes the
    thread in mid-stream. Earlier kernels obey the front end, which opens a subshell.
    The attribute is private: without it nothing changes. Not needed once ipykernel
    lets a comm say where its messages go.
    """
    comm: Any = getattr(widget, "comm", None)
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _one_line(error: BaseException | None) -> str:
    if error is None:
        return ""
    return " ".join(str(error).split()) or type(error).__name__
