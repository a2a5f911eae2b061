"""The live widget as one output of a cell: shown while it runs, static HTML when it has ended.

Where no page shows it (the front end has no widgets, or other ones), an updating HTML view
takes its place after a few seconds.
"""

from __future__ import annotations

import contextvars
import logging
import math
import sys
import uuid
from typing import Any

from ..events import Event, Progress
from . import cards, several, words
from .live import Live
from .parts import Board, ItemBoard, LiveView
from .story import Story

FILES = 50  # that a page is told of ten times a second
UNSEEN = 5.0  # seconds after which nobody can be expected to see the widget

_log = logging.getLogger(__name__)


class Widget:
    """Shows one job with ``LiveView``; a ``View`` as the bars and the HTML are.

    Ended, the output holds a table and a line of text and no widget, so that a saved
    notebook tells the truth wherever it is opened.
    """

    shows_result = True

    def __init__(self, *, detached: bool = False) -> None:
        self.story = Story()
        self._board = Board()
        self._detached = detached
        self._id = uuid.uuid4().hex
        self._view: LiveView | None = None
        self._instead: Any = None
        self._job: Any = None

    def __call__(self, event: Event, progress: Progress) -> None:
        self.story(event, progress)
        self._board(event, progress)
        if self._instead is not None:
            self._instead.hear(progress)

    def follow(self, job: Any) -> None:
        """Put the view on screen."""
        self._job = job
        patience = UNSEEN if self._detached or _hears_while_it_waits() else math.inf
        self._view = LiveView(on_end=self._replace, patience=patience)
        # Shown before it moves: what is sent to a view that is not there is lost.
        shows: Any = self._view
        bundle = dict(shows._repr_mimebundle_()[0])
        bundle["text/plain"] = words.marked(f"{job.name}: uploading to {job.target}", job.sandbox)
        self._publish(bundle, update=False)
        rows = self._boards()
        for _, board in rows:
            board.hint = words.hint(detached=self._detached)
        self._view.show(rows)

    def close(self) -> None:
        """Show the last state; return when it is on screen. May be repeated."""
        if self._view is not None:
            if not self._over():
                self._view.leave()
            self._view.ended.wait(5)
        if self._instead is not None:
            self._instead.close()

    def _replace(self, view: LiveView) -> None:
        if not self._over():  # no page shows the widget
            self._instead = self._html()
            self._instead.follow(self._job)
            return
        html, text = self._last()
        try:
            contextvars.Context().run(
                self._publish, {"text/html": html, "text/plain": text}, update=True
            )
        except Exception:  # a broken front end never fails an upload
            _log.debug("the live view could not be replaced", exc_info=True)

    def _publish(self, bundle: dict[str, Any], *, update: bool) -> None:
        from IPython.display import display

        show: Any = display
        show(bundle, raw=True, display_id=self._id, update=update)

    # What differs when there are several files.

    def _boards(self) -> list[tuple[Any, Board]]:
        return [(self._job, self._board)]

    def _over(self) -> bool:
        return self._board.progress.state.ended

    def _html(self) -> Any:
        return Live(detached=self._detached, display_id=self._id, story=self.story)

    def _last(self) -> tuple[str, str]:
        job, progress = self._job, self._board.progress
        html = cards.ended_html(job, progress, self.story, brief=not self._detached)
        return html, cards.ended_text(job, progress, self.story)


class FilesWidget(Widget):
    """Shows the files of a batch in one ``LiveView``: a line each, and one of them in full."""

    def follow(self, batch: Any) -> None:
        """Put the view on screen; of very many files the HTML one, which only counts them."""
        if len(batch) <= FILES:
            super().follow(batch)
            return
        self._instead = several.Lines(detached=self._detached)
        self._instead.follow(batch)

    def _boards(self) -> list[tuple[Any, Board]]:
        return [(item, ItemBoard(item)) for item in self._job.items]

    def _over(self) -> bool:
        return all(item.state.ended for item in self._job.items)

    def _html(self) -> Any:
        return several.Lines(detached=self._detached, display_id=self._id)

    def _last(self) -> tuple[str, str]:
        self._job.settle(5)  # the last event comes before the last result
        return several.batch_html(self._job), several.batch_text(self._job)


def _hears_while_it_waits() -> bool:
    """Say whether this kernel takes in what pages send while a cell awaits."""
    version = getattr(sys.modules.get("ipykernel"), "version_info", (0,))
    return bool(version[0] >= 7)
