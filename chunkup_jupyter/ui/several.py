"""Several uploads on one screen: a line for each file, of constant height; one bar; or a log.

These views look at a ``Batch`` a few times a second; they get no events.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, TextIO

from .. import units
from ..errors import InvalidUpload
from ..events import Event, Progress, State
from ..jobs.batch import Batch, BatchResult, Item
from ..jobs.results import UploadResult
from . import cards, words
from .bars import LOG_EVERY, Quiet, View, above, shows_widgets, total_bar
from .cards import BRAND, FONT, INK, MUTED, SIZE, TRACK, WARN
from .terminal import tell

LINES = 10  # files on the live view; the others are counted
LISTED = 200  # files in the table that stays; the others are counted
EVERY = 0.25  # seconds between two looks

_log = logging.getLogger(__name__)
_HEIGHT = 22  # pixels of a row


def choose(progress: str, shell: Any = None, *, detached: bool = False) -> View:
    """Return the view of several uploads that ``--progress`` asks for; see ``bars.choose``.

    Raises:
        InvalidUpload: HTML was asked for where nothing can show it.
    """
    kernel = getattr(shell, "kernel", None) is not None
    if progress == "none":
        return Quiet()
    if progress in ("html", "widget") or (progress == "auto" and kernel):
        if shell is None:
            raise InvalidUpload(f"--progress {progress} needs a notebook; there is text and none")
        if progress == "widget" or (progress == "auto" and shows_widgets(shell)):
            try:
                from .widget import FilesWidget

                return FilesWidget(detached=detached)
            except Exception:  # whatever is wrong with the widgets here, the uploads go on
                _log.debug("no widget; showing HTML instead", exc_info=True)
        return Lines(detached=detached)
    if kernel:
        return Total(sys.stdout)  # front ends paint standard error red
    return Total() if sys.stderr.isatty() else Log()


class _Watching:
    """Looks at a batch from a thread of its own until it has ended or the view is closed."""

    shows_result = False

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._batch: Batch | None = None
        self._warned: set[str] = set()

    def __call__(self, event: Event, progress: Progress) -> None: ...

    def follow(self, batch: Any) -> None:
        """Begin to show the batch."""
        self._batch = batch
        self._look(batch, first=True)
        self._thread = threading.Thread(target=self._run, name="chunkup-view", daemon=True)
        contextvars.Context().run(self._thread.start)

    def close(self) -> None:
        """Show the last state, and let go. May be repeated."""
        self._over.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10)

    def _run(self) -> None:
        batch = self._batch
        assert batch is not None
        while not self._over.is_set() and not batch.done():
            self._look(batch)
            self._over.wait(EVERY)
        self._look(batch, last=True)

    def _look(self, batch: Batch, *, first: bool = False, last: bool = False) -> None:
        """A broken front end never stops an upload: it is noted in the log."""
        try:
            self._draw(batch, first, last)
        except Exception:
            _log.debug("the view of several uploads could not be drawn", exc_info=True)

    def _fresh_warnings(self, batch: Batch) -> list[str]:
        """Return what no earlier call returned, as lines that name their file."""
        found = []
        for item in batch.items:
            for _, text in words.warnings(item.progress):
                line = text if text.startswith(item.name) else f"{words.shown(item.name)}: {text}"
                if line not in self._warned:
                    self._warned.add(line)
                    found.append(f"Warning: {line}")
        return found

    def _draw(self, batch: Batch, first: bool, last: bool) -> None:
        raise NotImplementedError


class Lines(_Watching):
    """One line a file in one output, redrawn in place; ended, a static table.

    With ``display_id`` it takes the place of what is shown there.
    """

    shows_result = True

    def __init__(self, *, detached: bool = False, display_id: str = "") -> None:
        super().__init__()
        self._detached = detached
        self._new = not display_id
        self._id = display_id or uuid.uuid4().hex
        self._said = ""

    def _draw(self, batch: Batch, first: bool, last: bool) -> None:
        if last:
            html, text = batch_html(batch), batch_text(batch)
        else:
            html = live_html(batch, detached=self._detached)
            # What a saved notebook shows of uploads that never ended.
            text = words.marked(f"{batch.name}: uploading to {batch.target}", batch.sandbox)
        if html != self._said:
            self._said = html
            contextvars.Context().run(
                cards.put_on_screen,
                html,
                text,
                display_id=self._id,
                update=not (first and self._new),
            )


class Total(_Watching):
    """One tqdm bar for all files together, on standard error."""

    def __init__(self, file: TextIO | None = None) -> None:
        super().__init__()
        self._file = file or sys.stderr
        self._bar: Any = None

    def follow(self, batch: Any) -> None:
        """Draw the bar."""
        self._write(batch, words.title(batch.name, batch.target))
        self._bar = total_bar(self._file)
        super().follow(batch)

    def _draw(self, batch: Batch, first: bool, last: bool) -> None:
        if self._bar is None:
            return
        for line in self._fresh_warnings(batch):
            self._write(batch, line)
        self._bar.show(batch.progress, batch.meter, counts(batch), force=True)
        if last:
            self._bar.close()
            self._bar = None

    def _write(self, batch: Batch, line: str) -> None:
        above(self._bar, words.marked(line, batch.sandbox), self._file)


class Log(_Watching):
    """A line for every file that has ended, and how far all are now and then."""

    def __init__(
        self, file: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._file = file or sys.stderr
        self._clock = clock
        self._at = clock()
        self._told: set[int] = set()

    def _draw(self, batch: Batch, first: bool, last: bool) -> None:
        for line in self._fresh_warnings(batch):
            self._say(batch, line)
        for number, item in enumerate(batch.items):
            if number not in self._told and item.state.ended:
                self._told.add(number)
                outcome = item.outcome
                if isinstance(outcome, UploadResult):
                    self._say(batch, words.proof(outcome))
                else:
                    self._say(batch, words.sentence(item.name, batch.target, item.progress))
        if first or last or self._clock() - self._at >= LOG_EVERY:
            self._at = self._clock()
            text = " · ".join([*counts(batch), *_amounts(batch)])
            self._say(batch, f"{words.title(batch.name, batch.target)}: {text}")

    def _say(self, batch: Batch, line: str) -> None:
        tell(words.marked(line, batch.sandbox), self._file)


def counts(batch: Batch) -> list[str]:
    """Return how many files are in which state, in words."""
    found = Counter(_word(item) for item in batch.items)
    done = found.pop("complete", 0)
    said = [f"{done:,} of {words.plural(len(batch), 'file')}"]
    moving = sum(found.pop(word, 0) for word in _MOVING)
    said += [f"{moving:,} on their way" if moving != 1 else "1 on its way"] if moving else []
    return said + [f"{number:,} {word}" for word, number in found.items()]


def live_html(batch: Batch, *, detached: bool = False) -> str:
    """Return one frame: a total and a line for each of some files, of constant height."""
    progress, shown = batch.progress, _on_show(batch)
    state = "Paused" if progress.state is State.PAUSED else "Uploading"
    title = (
        f"<b>{escape(batch.name)}</b> <span style='{MUTED}'>→ {escape(words.shown(batch.target))}"
        f"</span>{cards.pill(batch.sandbox)}"
    )
    rows = "".join(_line(item) for item in shown)
    more = len(batch) - len(shown)
    foot = " · ".join(counts(batch)) + (f" · {more:,} not shown" if more else "")
    hint = (
        "runs in the background; when the kernel is restarted or culled, run the line again"
        if detached
        else "Kernel ▸ Interrupt stops them; the same line goes on where it stopped"
    )
    said = f"{batch.name} → {batch.target}: {state.lower()} {progress.percent}%"
    height = _HEIGHT * (len(shown) + 3) + 16
    return (
        f"<div role='group' aria-label='{escape(said, quote=True)}' style='{FONT};{SIZE};{INK};"
        f"box-sizing:border-box;height:{height}px;max-width:760px;padding:4px 0;overflow:hidden;"
        f"line-height:{_HEIGHT}px;font-variant-numeric:tabular-nums'>"
        f"{_row(title, f'<b>{state}: {progress.percent}%</b>')}{_bar(progress, 6)}{rows}"
        f"{_row(f'<span>{escape(foot)}</span>', escape(' · '.join(_amounts(batch))), MUTED)}"
        f"{_row(f'<span>{hint}</span>', '', MUTED)}</div>"
    )


def batch_html(batch: Batch) -> str:
    """Return all files as a table that needs no script: what a saved notebook keeps."""
    rows = [_facts(item) for item in _listed(batch)]
    more = len(batch) - len(rows)
    rows += [(f"and {more:,} more", "", "", "", "")] if more > 0 else []
    note = " · ".join([*counts(batch), *_amounts(batch)])
    title = f"{batch.name} → {words.shown(batch.target)}" + (" (sandbox)" if batch.sandbox else "")
    return cards.grid(title, ("File", "Id", "Size", "Time", "State"), rows, note)


def batch_text(batch: Batch) -> str:
    """Return all files as aligned text, one a line."""
    rows = [
        (
            f"{_MARKS.get(item.state, '▸')} {words.shown(item.name)}",
            " · ".join(filter(None, _facts(item)[1:])),
        )
        for item in _listed(batch)
    ]
    title = f"{words.title(batch.name, batch.target)}: {' · '.join(counts(batch))}"
    text = f"{title}\n{words.aligned(rows)}"
    more = len(batch) - len(rows)
    return words.marked(text + (f"\nand {more:,} more" if more > 0 else ""), batch.sandbox)


def results_html(results: BatchResult) -> str:
    """Return what became of several files as a table."""
    return batch_html(results.batch)


_MARKS = {
    State.COMPLETED: "✓",
    State.FAILED: "✗",
    State.STOPPED: "◼",
    State.CANCELLED: "◼",
    State.PAUSED: "‖",
}
_MOVING = ("preparing", "uploading", "completing", "processing")


def _word(item: Item) -> str:
    if item.waiting:
        return "waiting"
    return "complete" if item.state is State.COMPLETED else item.state.value


def _amounts(batch: Batch) -> list[str]:
    progress = batch.progress
    if batch.done():
        return [units.size(progress.sent)]
    found = [f"{units.size(progress.sent)} of {units.size(progress.total)}"]
    if batch.meter.rate > 0:
        found.append(units.rate(batch.meter.rate))
        left = batch.meter.left(progress.total - progress.sent)
        found += [f"{units.seconds(max(1, left))} left"] if left is not None else []
    return found


def _on_show(batch: Batch) -> list[Item]:
    """Return the files with a line of their own: what moves, what failed, what comes next."""

    def rank(item: Item) -> int:
        if item.waiting:
            return 2
        if item.state is State.COMPLETED:
            return 3
        return 1 if item.state.ended else 0

    chosen = sorted(range(len(batch)), key=lambda at: (rank(batch.items[at]), at))[:LINES]
    return [batch.items[at] for at in sorted(chosen)]


def _listed(batch: Batch) -> Sequence[Item]:
    """Return the files of the table: all, or all that failed and then the first."""
    if len(batch) <= LISTED:
        return batch.items
    failed = [item for item in batch.items if item.state is not State.COMPLETED]
    rest = [item for item in batch.items if item.state is State.COMPLETED]
    return [*failed[:LISTED], *rest[: max(0, LISTED - len(failed))]]


def _facts(item: Item) -> tuple[str, str, str, str, str]:
    """Return name, id, size, time and state of a file."""
    outcome = item.outcome
    warned = [f"warning: {text}" for _, text in words.warnings(item.progress)]
    if isinstance(outcome, UploadResult):
        time_ = units.seconds(outcome.elapsed)
        state = " · ".join(["complete", *warned])
        return item.name, words.shown(outcome.id), units.size(outcome.size), time_, state
    state = _word(item)
    if outcome is not None and item.state is State.FAILED:
        state = f"failed: {words.shown(outcome, 160)}"
    elif item.progress.sent and item.state is not State.COMPLETED:
        state = f"{state} at {item.progress.percent}%"
    state = " · ".join([state, *warned])
    return item.name, "", units.size(item.total) if item.total else "", "", state


def _line(item: Item) -> str:
    progress = item.progress
    mark = _MARKS.get(item.state, "○" if item.waiting else "▸")
    right, colour = words.headline(progress) if not item.waiting else "Waiting", MUTED
    if item.state is State.FAILED:
        right = words.shown(progress.error or "failed", 70)
    elif progress.note and not item.waiting:
        right = words.shown(progress.note, 60)
    elif progress.warnings:
        right, colour = f"{right} · {words.shown(progress.warnings[-1], 200)}", f"color:{WARN}"
    size = units.size(item.total) if item.total else ""
    return (
        f"<div style='display:flex;gap:10px;height:{_HEIGHT}px;white-space:nowrap'>"
        f"<span style='flex:0 0 14px'>{mark}</span>"
        f"<span style='flex:1 1 30%;{_CUT}'>{escape(words.shown(item.name))}</span>"
        f"<span style='flex:0 0 70px;text-align:right;{MUTED}'>{size}</span>"
        f"<span style='flex:0 0 120px;padding-top:8px'>{_bar(progress, 6, margin=0)}</span>"
        f"<span style='flex:1 1 35%;{_CUT};{colour}' "
        f"title='{escape(right, quote=True)}'>{escape(right)}</span></div>"
    )


_CUT = "min-width:0;overflow:hidden;text-overflow:ellipsis"


def _row(left: str, right: str, style: str = "") -> str:
    return (
        f"<div style='display:flex;justify-content:space-between;gap:16px;height:{_HEIGHT}px;"
        f"white-space:nowrap;overflow:hidden;{style}'><span style='{_CUT}'>{left}</span>"
        f"<span>{right}</span></div>"
    )


def _bar(progress: Progress, height: int, margin: int = 5) -> str:
    done = 100.0 if progress.state is State.COMPLETED else float(progress.percent)
    colour = WARN if progress.state in (State.PAUSED, State.FAILED, State.STOPPED) else BRAND
    return (
        f"<div style='height:{height}px;margin:{margin}px 0;border-radius:3px;overflow:hidden;"
        f"background:{TRACK}'><div style='height:100%;width:{done:.0f}%;background:{colour}'>"
        "</div></div>"
    )
