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
from . import cards, words
from .live import Live
from .parts import Board, LiveView
from .story import Story

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
        self._board.hint = words.hint(detached=detached)
        self._detached = detached
        self._id = uuid.uuid4().hex
        self._view: LiveView | None = None
        self._instead: Live | None = None
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
        self._view.follow(job, self._board)

    def close(self) -> None:
        """Show the last state; return when it is on screen. May be repeated."""
        if self._view is None:
            return
        if not self._board.progress.state.ended:
            self._view.leave()
        self._view.ended.wait(5)
        if self._instead is not None:
            self._instead.close()

    def _replace(self, view: LiveView) -> None:
        job, progress = self._job, self._board.progress
        if not progress.state.ended:  # no page shows the widget
            self._instead = Live(detached=self._detached)
            self._instead.story = self.story
            self._instead.follow(job, self._id)
            return
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


def _hears_while_it_waits() -> bool:
    """Say whether this kernel takes in what pages send while a cell awaits."""
    version = getattr(sys.modules.get("ipykernel"), "version_info", (0,))
    return bool(version[0] >= 7)
