"""Progress in a terminal: one tqdm bar for the whole upload, or plain lines in a log."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TextIO

from ..errors import InvalidUpload
from ..events import Event, Meter, PartRetried, Progress, Restarted, State
from . import words
from .terminal import tell

_log = logging.getLogger(__name__)

LOG_EVERY = 10.0  # seconds between two lines in a log, unless the state changes


class View(Protocol):
    """Something that shows one upload: a listener that learns its job, and ends."""

    def __call__(self, event: Event, progress: Progress) -> None: ...
    def follow(self, job: Any) -> None:
        """Begin to show ``job`` (events may have come before)."""

    def close(self) -> None:
        """Show the last state, and let go of everything. May be repeated."""

    shows_result: bool
    """Whether the last state that stays on screen is the result itself."""


class Quiet:
    """Shows nothing."""

    shows_result = False

    def __call__(self, event: Event, progress: Progress) -> None: ...
    def follow(self, job: Any) -> None: ...
    def close(self) -> None: ...


class Bar:
    """One total bar for state, bytes, rate, time left, parts and retries."""

    shows_result = False

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._lock = threading.Lock()
        self._last: Progress | None = None
        self._job: Any = None
        self._bar: Any = None
        self._told: set[str] = set()

    def follow(self, job: Any) -> None:
        """Draw the bar below a line that says what goes where."""
        with self._lock:
            self._job, progress = job, self._last or job.progress
            self._write([words.title(job.name, job.target)])
            self._write(words.notices(progress))
            self._bar = total_bar(self._file)
            self._draw(progress)

    def __call__(self, event: Event, progress: Progress) -> None:
        with self._lock:
            self._last = progress
            if self._bar is not None:
                self._draw(progress)

    def close(self) -> None:
        """Draw the last state and end with what was proved. May be repeated."""
        with self._lock:
            bar, self._bar = self._bar, None
            if bar is not None:
                bar.show(self._last or self._job.progress, self._job.meter, force=True)
                bar.close()
                end(self._job, self._file)

    def _draw(self, progress: Progress) -> None:
        self._write(words.notices(progress))
        # tqdm draws when enough time has passed; a change of state is drawn at once.
        self._bar.show(progress, self._job.meter, force=progress.state is not State.UPLOADING)

    def _write(self, lines: Sequence[str]) -> None:
        """Put lines above the bar, each once."""
        fresh = [line for line in lines if line not in self._told]
        self._told.update(fresh)
        for line in fresh:
            above(self._bar, words.marked(line, self._job.sandbox), self._file)


def total_bar(file: TextIO) -> Any:
    """Return a tqdm bar that is given all it shows by ``show``."""
    from tqdm import tqdm

    class Total(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # its watching thread would outlive the upload
        said: Mapping[str, Any] = {}

        @property
        def format_dict(self) -> dict[str, Any]:
            found = {**super().format_dict, **self.said}
            # The bar has what the words leave of the line, ten columns at least.
            room = (found["ncols"] or 1000) - _BESIDE
            found["tail"] = f" {words.shown(found['tail'], room)}" if room > 8 else ""
            return found

        def refresh(self, *where: Any, **how: Any) -> None:
            if self.said:  # tqdm draws once before it is told anything
                super().refresh(*where, **how)

        def show(
            self, progress: Progress, meter: Meter, facts: Sequence[str] = (), *, force: bool
        ) -> None:
            """Show this; not more than ten times a second unless forced."""
            # Bytes of an earlier run are no speed of this one.
            self.total, self.initial, self.n = progress.total, progress.reused, progress.sent
            note = [words.shown(progress.note, 60)] if progress.note else []
            self.said = {
                "state": words.headline(progress).partition(":")[0],
                # Not tqdm's own: ours is 100 only when the provider confirmed.
                "percent": progress.percent,
                "rate": meter.rate or None,
                "tail": " · ".join([*note, *(facts or words.parts(progress))]),
            }
            if force:
                self.refresh()
            else:
                self.update(0)

    return Total(
        unit="B",
        unit_scale=True,
        file=file,
        dynamic_ncols=True,
        mininterval=0.1,
        miniters=0,
        bar_format="{state:<10} {percent:3d}%|{bar}| {n_fmt}/{total_fmt} "
        "[{elapsed}<{remaining}, {rate_fmt}]{tail}",
    )


_BESIDE = 64  # columns of a terminal's line for all but the tail


def above(bar: Any, line: str, file: TextIO) -> None:
    """Print a line above a bar, or before there is one."""
    if bar is None:
        tell(line, file)
    else:
        bar.write(line, file=file)


def end(job: Any, file: TextIO) -> None:
    """Print what was proved of an upload that is complete; nothing of another."""
    if job.done() and job.progress.state is State.COMPLETED:
        tell(words.marked(words.proof(job.result(0)), job.sandbox), file)


class Log:
    """Plain lines on standard error, where no terminal can redraw one."""

    shows_result = False

    def __init__(self, file: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self._file = file or sys.stderr
        self._clock = clock
        self._job: Any = None
        self._said: tuple[State, int] | None = None
        self._at = 0.0
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def follow(self, job: Any) -> None:
        """Say where the upload is."""
        self._job = job
        self._say(job.progress)

    def __call__(self, event: Event, progress: Progress) -> None:
        if self._job is not None:
            self._say(progress, always=isinstance(event, (PartRetried, Restarted)))

    def close(self) -> None:
        """Say the last state, or what was proved. May be repeated."""
        if self._job is not None:
            self._say(self._job.progress)
            end(self._job, self._file)
            self._job = None

    def _say(self, progress: Progress, *, always: bool = False) -> None:
        with self._lock:
            job = self._job
            for line in words.notices(progress):
                if line not in self._told:
                    self._told.add(line)
                    self._print(line)
            now, said = self._clock(), (progress.state, progress.percent)
            moved = said != self._said and now - self._at >= LOG_EVERY
            if not always and not moved and self._said and self._said[0] is progress.state:
                return
            self._said, self._at = said, now
            if progress.state is State.COMPLETED:
                return  # the proof says it
            meter: Meter | None = getattr(job, "meter", None)
            self._print(words.sentence(job.name, job.target, progress, meter))

    def _print(self, line: str) -> None:
        tell(words.marked(line, self._job.sandbox), self._file)


def choose(progress: str, shell: Any = None, *, detached: bool = False) -> View:
    """Return the view that ``--progress`` asks for, or the best one here.

    ``shell`` is IPython's, None outside it. ``auto`` is the widget where a front end
    with widgets asked for the cell, the updating HTML view in any other kernel, a bar
    in a terminal, and plain lines where standard error is no terminal. ``detached``:
    nobody waits, so that an error is told by the view alone.

    Raises:
        InvalidUpload: HTML or a widget was asked for where nothing can show it.
    """
    kernel = getattr(shell, "kernel", None) is not None
    if progress == "auto":
        progress = "widget" if kernel and shows_widgets(shell) else "html" if kernel else "text"
    elif progress in ("html", "widget") and shell is None:
        raise InvalidUpload(f"--progress {progress} needs a notebook; there is text and none")
    match progress:
        case "none":
            return Quiet()
        case "widget":
            try:
                from .widget import Widget

                return Widget(detached=detached)
            except Exception:  # whatever is wrong with the widgets here, the upload goes on
                _log.debug("no widget; showing HTML instead", exc_info=True)
                return _live(detached)
        case "html":
            return _live(detached)
    if kernel:  # its streams say that they are no terminal, yet they can redraw a line
        return Bar(sys.stdout)  # front ends paint standard error red
    return Bar() if _can_redraw(sys.stderr) else Log()


def _live(detached: bool) -> View:
    from .live import Live

    return Live(detached=detached)


def shows_widgets(shell: Any) -> bool:
    """Say whether somebody sits before the cell who can see a widget.

    JupyterLab and Notebook name the cell in what they send, and so does VS Code in its
    own way; nbclient, papermill and Voila, which would only store the widget, don't.
    """
    cell = _cell(shell)
    return bool(cell) and not cell.startswith("vscode")


def is_vs_code(shell: Any) -> bool:
    """Say whether VS Code asked for the cell, from whichever machine."""
    return _cell(shell).startswith("vscode")


def _cell(shell: Any) -> str:
    """Return the cell's name in its front end, "" where that gives none."""
    try:
        parent = shell.kernel.get_parent("shell")
        return str(parent.get("metadata", {}).get("cellId") or "")
    except Exception:  # a kernel of another make
        return ""


def _can_redraw(stream: TextIO) -> bool:
    """Say whether a stream is a terminal with room for a bar (some have no size at all)."""
    if not stream.isatty():
        return False
    try:
        return os.get_terminal_size(stream.fileno()).lines > 1
    except (OSError, ValueError):  # no file behind it
        return True
