"""One display handle: an updating HTML view that leaves a true static result.

The view draws from a thread of its own, so that rendering never holds up the upload
and the clocks go on while nothing moves. Every drawing is one message of a few
kilobytes, whatever the number of parts.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import uuid
from html import escape
from typing import Any

from .. import units
from ..events import Event, Meter, Progress, State
from . import cards, words
from .cards import BRAND, FONT, GOOD, INK, LINE, MUTED, SIZE, TRACK, WARN
from .story import Cell, Story

MOST = 5.0  # drawings a second
LEAST = 1.0  # a second without news: the clocks still go on

_log = logging.getLogger(__name__)
_HEIGHT = 122  # pixels; five rows that never change their height


class Live:
    """Shows one job in one output, redrawn in place; ended, it is static HTML and text.

    With ``display_id`` it takes the place of what is shown there; ``story`` is what
    happened before, kept by whoever hands it over.
    """

    shows_result = True

    def __init__(
        self, *, detached: bool = False, display_id: str = "", story: Story | None = None
    ) -> None:
        self.story = story or Story()
        self._detached = detached
        self._new = not display_id
        self._id = display_id or uuid.uuid4().hex
        self._news = threading.Event()
        self._over = threading.Event()
        self._progress: Progress | None = None
        self._job: Any = None
        self._thread: threading.Thread | None = None
        self._said = ""

    def __call__(self, event: Event, progress: Progress) -> None:
        self.story(event, progress)
        self.hear(progress)

    def hear(self, progress: Progress) -> None:
        """Show this from now on; for an owner that keeps the story."""
        self._progress = progress
        self._news.set()

    def follow(self, job: Any) -> None:
        """Put the view on screen and begin to draw."""
        self._job = job
        self._draw(first=self._new)
        self._thread = threading.Thread(target=self._run, name="chunkup-view", daemon=True)
        # A context of its own: with the cell's, some front ends drop what is drawn
        # after the cell has ended.
        contextvars.Context().run(self._thread.start)

    def close(self) -> None:
        """Draw the last state and end the thread."""
        self._over.set()
        self._news.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10)

    @property
    def progress(self) -> Progress:
        """The newest progress that was heard of."""
        found: Progress = self._job.progress if self._progress is None else self._progress
        return found

    def _run(self) -> None:
        while not self._over.is_set() and not self.progress.state.ended:
            self._news.wait(LEAST)
            self._news.clear()
            if not self.progress.state.ended:
                self._draw()
            self._over.wait(1 / MOST)
        self._draw()

    def _draw(self, *, first: bool = False) -> None:
        """Draw once. A broken front end never stops an upload: it is noted in the log."""
        job, progress = self._job, self.progress
        try:
            if progress.state.ended:
                html = cards.ended_html(job, progress, self.story, brief=not self._detached)
                text = cards.ended_text(job, progress, self.story)
            else:
                html = live_html(job, progress, self.story, detached=self._detached)
                # A text that does not change: what a saved notebook shows of an upload
                # that never ended.
                text = words.marked(f"{job.name}: uploading to {job.target}", job.sandbox)
            if html != self._said:
                contextvars.Context().run(self._publish, html, text, first)
                self._said = html
        except Exception:
            _log.debug("the live view could not be drawn", exc_info=True)

    def _publish(self, html: str, text: str, first: bool) -> None:
        cards.put_on_screen(html, text, display_id=self._id, update=not first)


def live_html(
    job: Any, progress: Progress, story: Story, now: float | None = None, *, detached: bool = False
) -> str:
    """Return one frame of a running upload. ``now`` in Unix seconds."""
    meter: Meter | None = getattr(job, "meter", None)
    sums = escape(" · ".join(words.amounts(progress, meter)) if progress.parts else _whole(job))
    counts = " · ".join(words.parts(progress))
    clock = words.clock(progress, now)
    late = _too_late(progress, meter, now)
    title = (
        f"<span style='display:flex;gap:6px;min-width:0'>"
        f"<b style='{_ONE_LINE}'>{escape(words.shown(job.name))}</b>"
        f"<span style='{_ONE_LINE};{MUTED};flex-shrink:.5'>→ {escape(words.shown(job.target))}"
        f"</span>{cards.pill(job.sandbox)}</span>"
    )
    state = f"<b style='white-space:nowrap'>{escape(words.headline(progress))}</b>"
    steps = "".join(_phase(name, when) for name, when in words.phases(progress))
    phases = f"<span style='display:flex;gap:12px;font-size:12px'>{steps}</span>"
    closes = f"<span style='color:{WARN if late else 'inherit'}'>{escape(clock)}</span>"
    return (
        f"<div role='group' aria-label='{escape(_spoken(job, progress), quote=True)}' "
        f"style='{FONT};{SIZE};{INK};box-sizing:border-box;height:{_HEIGHT}px;max-width:760px;"
        f"padding:4px 0;line-height:20px;overflow:hidden;font-variant-numeric:tabular-nums'>"
        f"{_row(title, state)}{_bar(progress)}{_map(story.cells(progress))}"
        f"{_row(f'<span>{sums}</span>', _short(counts), MUTED)}"
        f"{_row(phases, '', MUTED)}"
        f"{_row(_foot(progress, story, late, detached), closes, MUTED)}"
        "</div>"
    )


_ONE_LINE = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap;min-width:0"


def _row(left: str, right: str, style: str = "") -> str:
    return (
        "<div style='display:flex;justify-content:space-between;gap:16px;height:20px;"
        f"white-space:nowrap;overflow:hidden;{style}'>{left}{right}</div>"
    )


def _bar(progress: Progress) -> str:
    """Return the total bar: what came from before, what was sent now, what is left."""
    total = progress.total or 1
    before, sent = 100 * progress.reused / total, 100 * progress.sent / total
    colour = WARN if progress.state is State.PAUSED else BRAND
    old = f"<div style='width:{before:.2f}%;background:{GOOD}'></div>" if before else ""
    return (
        f"<div style='display:flex;height:6px;margin:5px 0;border-radius:3px;overflow:hidden;"
        f"background:{TRACK}'>{old}"
        f"<div style='width:{max(0.0, sent - before):.2f}%;background:{colour}'></div></div>"
    )


def _map(cells: list[Cell]) -> str:
    """Return the part map: one small box a part, filled as far as it is."""
    gap = 2 if len(cells) <= 48 else 1
    boxes = "".join(_box(cell) for cell in cells)
    return (
        f"<div aria-hidden='true' style='display:flex;gap:{gap}px;height:8px;margin:0 0 5px'>"
        f"{boxes}</div>"
    )


def _box(cell: Cell) -> str:
    base = "flex:1;min-width:0;border-radius:1px;box-sizing:border-box"
    if cell.retrying:  # striped: told apart without colour
        fill = f"repeating-linear-gradient(135deg,{WARN} 0 2px,transparent 2px 4px)"
        return f"<span style='{base};border:1px solid {WARN};background:{fill}'></span>"
    done, reach = 100 * cell.done, 100 * min(1.0, cell.done + cell.moving)
    if cell.reused:
        lines = f"linear-gradient({GOOD} 0 3px,transparent 3px 5px,{GOOD} 5px)"
        return f"<span style='{base};background:{lines}'></span>"
    if done >= 100:
        return f"<span style='{base};background:{BRAND}'></span>"
    if reach <= 0 and not cell.moving:
        return f"<span style='{base};border:1px solid {LINE}'></span>"
    fill = f"linear-gradient(90deg,{BRAND} {reach:.0f}%,{TRACK} {reach:.0f}%)"
    return f"<span style='{base};border:1px solid {BRAND};background:{fill}'></span>"


def _phase(name: str, when: str) -> str:
    mark = {"done": "✓", "now": "▸", "later": "○"}[when]
    colour = {"done": f"color:{GOOD}", "now": f"color:{BRAND}", "later": MUTED}[when]
    text = {"done": MUTED, "now": INK, "later": MUTED}[when]
    # Nothing here changes its width, so nothing jumps.
    dot = f"<span style='display:inline-block;width:14px;{colour}'>{mark}</span>"
    return f"<span style='{text}'>{dot}{name}</span>"


def _short(text: str) -> str:
    return f"<span style='{_ONE_LINE}'>{escape(text)}</span>"


def _whole(job: Any) -> str:
    plan = getattr(job, "plan", None)
    return units.size(plan.file.size) if plan is not None else ""


def _foot(progress: Progress, story: Story, late: str, detached: bool) -> str:
    note = words.shown(progress.note, 200) or words.again(story.waiting(progress))
    doubt = late or ("" if note else words.shown("".join(progress.warnings[-1:]), 200))
    text = doubt or note or words.resuming(progress) or words.hint(detached=detached)
    warns = f";color:{WARN}" if doubt else ""
    return f"<span style='{_ONE_LINE}{warns}'>{escape(text)}</span>"


def _too_late(progress: Progress, meter: Meter | None, now: float | None) -> str:
    """Return a warning when the session will close before the last byte; else ""."""
    if progress.expires_at is None or meter is None or progress.state is not State.UPLOADING:
        return ""
    left = meter.left(progress.total - progress.sent)
    life = progress.expires_at - (time.time() if now is None else now)
    if left is None or left <= life:
        return ""
    return "at this rate the session closes before the file is there"


def _spoken(job: Any, progress: Progress) -> str:
    return words.sentence(job.name, job.target, progress)
