"""Progress in a terminal: one tqdm bar for the whole upload, or plain lines in a log."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from ..errors import InvalidUpload
from ..events import Event, Meter, PartRetried, Progress, Restarted, Started, State
from . import words

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
    """One total bar for bytes, rate, time left, state, parts and retries."""

    shows_result = False

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._lock = threading.Lock()
        self._last: Progress | None = None
        self._bar: Any = None
        self._mark = ""
        self._warned = 0
        self._closed = False

    def follow(self, job: Any) -> None:
        """Draw the bar."""
        from tqdm import tqdm

        class Total(tqdm):  # type: ignore[misc]
            monitor_interval = 0  # its watching thread would outlive the upload
            percent = 0

            @property
            def format_dict(self) -> dict[str, Any]:
                return {**super().format_dict, "percent": self.percent}

        mark = self._mark = "[sandbox] " if job.sandbox else ""
        with self._lock:
            self._bar = Total(
                desc=f"{mark}{job.name} → {job.target}",
                total=job.progress.total or job.plan.file.size,
                unit="B",
                unit_scale=True,
                file=self._file,
                dynamic_ncols=True,
                mininterval=0.1,
                leave=True,
                # Not tqdm's own percentage: ours is 100 only when the provider confirmed.
                bar_format="{desc} {percent:3d}%|{bar}| {n_fmt}/{total_fmt} "
                "[{elapsed}<{remaining}, {rate_fmt}{postfix}]",
            )
            self._warn(self._last or job.progress)
            self._draw(self._last or job.progress)

    def __call__(self, event: Event, progress: Progress) -> None:
        with self._lock:
            self._last = progress
            if self._bar is None or self._closed:
                return
            if isinstance(event, (Started, Restarted)):
                # Bytes of an earlier run are no speed of this one.
                self._bar.initial = progress.reused
                self._bar.total = progress.total or self._bar.total
            self._warn(progress)
            self._draw(progress)

    def close(self) -> None:
        """Draw the last state and end the line."""
        with self._lock:
            if self._bar is not None and not self._closed:
                self._closed = True
                self._draw(self._last, force=True)
                self._bar.close()

    def _warn(self, progress: Progress) -> None:
        """Put warnings above the bar, each once."""
        for _, text in words.warnings(progress)[self._warned :]:
            self._bar.write(f"{self._mark}Warning: {text}", file=self._file)
        self._warned = len(progress.warnings)

    def _draw(self, progress: Progress | None, *, force: bool = False) -> None:
        if progress is None:
            return
        # The percentage stands there already.
        said = [words.headline(progress).partition(":")[0], *words.parts(progress)]
        text = " · ".join([*said, words.shown(progress.note, 60)] if progress.note else said)
        self._bar.set_postfix_str(text, refresh=False)
        # tqdm draws when enough time has passed; a change of state is drawn at once.
        self._bar.n, self._bar.percent = progress.sent, progress.percent
        if force or progress.state is not State.UPLOADING:
            self._bar.refresh()
        else:
            self._bar.update(0)


class Log:
    """Plain lines on standard error, where no terminal can redraw one."""

    shows_result = False

    def __init__(self, file: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self._file = file or sys.stderr
        self._clock = clock
        self._job: Any = None
        self._said: tuple[State, int] | None = None
        self._at = 0.0
        self._warned = 0
        self._lock = threading.Lock()

    def follow(self, job: Any) -> None:
        """Say where the upload is."""
        self._job = job
        self._say(job.progress)

    def __call__(self, event: Event, progress: Progress) -> None:
        if self._job is not None:
            if isinstance(event, Started) and progress.parts_reused:
                self._print(words.resuming(progress))
            self._say(progress, always=isinstance(event, (PartRetried, Restarted)))

    def close(self) -> None:
        """Say the last state."""
        if self._job is not None:
            self._say(self._job.progress)

    def _say(self, progress: Progress, *, always: bool = False) -> None:
        with self._lock:
            for _, text in words.warnings(progress)[self._warned :]:
                self._print(f"Warning: {text}")
            self._warned = len(progress.warnings)
            now, said = self._clock(), (progress.state, progress.percent)
            moved = said != self._said and now - self._at >= LOG_EVERY
            if not always and not moved and self._said and self._said[0] is progress.state:
                return
            self._said, self._at = said, now
            job = self._job
            meter: Meter | None = getattr(job, "meter", None)
            self._print(words.sentence(job.name, job.target, progress, meter))

    def _print(self, line: str) -> None:
        print(words.marked(line, self._job.sandbox), file=self._file, flush=True)


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
    try:
        parent = shell.kernel.get_parent("shell")
        cell = str(parent.get("metadata", {}).get("cellId") or "")
    except Exception:  # a kernel of another make
        return False
    return bool(cell) and not cell.startswith("vscode")


def _can_redraw(stream: TextIO) -> bool:
    """Say whether a stream is a terminal with room for a bar (some have no size at all)."""
    if not stream.isatty():
        return False
    try:
        return os.get_terminal_size(stream.fileno()).lines > 1
    except (OSError, ValueError):  # no file behind it
        return True
