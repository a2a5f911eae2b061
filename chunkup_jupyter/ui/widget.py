"""The live widget as one output of a cell: shown while it runs, static HTML when it has ended."""

from __future__ import annotations

import contextvars
import logging
import uuid
from typing import Any

from ..events import Event, Progress
from . import cards, words
from .parts import Board, LiveView
from .story import Story

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
        self._board.hint = words.hint(detached=detached)
        self._detached = detached
        self._id = uuid.uuid4().hex
        self._view: LiveView | None = None
        self._job: Any = None

    def __call__(self, event: Event, progress: Progress) -> None:
        self.story(event, progress)
        self._board(event, progress)

    def follow(self, job: Any) -> None:
        """Put the view on screen."""
        self._job = job
        self._view = LiveView(on_end=self._replace)
        # Shown before it moves: what is sent to a view that is not there is lost.
        shows: Any = self._view
        bundle = dict(shows._repr_mimebundle_()[0])
        bundle["text/plain"] = words.marked(f"{job.name}: uploading to {job.target}", job.sandbox)
        self._publish(bundle, update=False)
        self._view.follow(job, self._board)

    def close(self) -> None:
        """Show the last state; return when it is on screen. May be repeated."""
        if self._view is None:
            return
        if not self._board.progress.state.ended:
            self._view.leave()
        self._view.ended.wait(5)

    def _replace(self, view: LiveView) -> None:
        job, progress = self._job, self._board.progress
        html = cards.ended_html(job, progress, self.story, brief=not self._detached)
        text = cards.ended_text(job, progress, self.story)
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
