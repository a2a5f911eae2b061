"""What an upload tells of itself: how far it is, who hears of it, and when time gets short."""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import partial
from typing import Any

from ..events import Event, Listener, Progress
from ..units import rate as rate_text
from ..units import seconds as seconds_text

log = logging.getLogger("chunkup_jupyter")

CLOCK = 10.0  # seconds of sending before the rate is held against the session's life


class Telling:
    """The progress of an upload, and those who listen to it.

    ``listeners`` are called with every event and the progress after it, in the order
    they came. One that raises is dropped: a broken view must not stop an upload.
    """

    def __init__(self, total: int, listeners: list[Listener]) -> None:
        self.progress = Progress(total=total)
        self.listeners = listeners
        self._busy: set[asyncio.Future[Any]] = set()

    def tell(self, event: Event) -> None:
        """Let everybody know; nothing is told after the end."""
        if self.progress.state.ended:
            return
        self.progress = self.progress.after(event)
        for listener in list(self.listeners):
            try:
                answer = listener(event, self.progress)
                if inspect.isawaitable(answer):
                    busy = asyncio.ensure_future(answer)
                    self._busy.add(busy)
                    busy.add_done_callback(partial(self._answered, listener))
            except Exception as error:
                self._drop(listener, error)

    async def heard(self, within: float) -> None:
        """Wait for the listeners that are still at it, ``within`` seconds at most."""
        if self._busy:
            await asyncio.wait(self._busy, timeout=within)

    def _answered(self, listener: Listener, busy: asyncio.Future[Any]) -> None:
        self._busy.discard(busy)
        if not busy.cancelled() and (error := busy.exception()) is not None:
            self._drop(listener, error)

    def _drop(self, listener: Listener, error: BaseException) -> None:
        if listener in self.listeners:  # of a slow one several answers may fail
            self.listeners.remove(listener)
            log.error("a progress listener failed and was dropped", exc_info=error)


class Hourglass:
    """Notices early when a session will close before the last part is there. Once."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._warned = False

    def warning(self, now: float, moved: int, left: int, remains: float | None) -> str:
        """Return what to warn of, "" when there is nothing (any more).

        Of any one clock it is ``now``, and the session lives ``remains`` seconds longer
        (None: for good); ``moved`` bytes were handed over so far, ``left`` are missing.
        """
        if remains is None or not moved or self._warned:
            return ""
        if self._began is None:
            self._began = now
        elapsed = now - self._began
        if elapsed < CLOCK or left * elapsed <= remains * moved:
            return ""
        self._warned = True
        rate = moved / elapsed
        return (
            f"at {rate_text(rate)} the rest needs {seconds_text(left / rate)}, but the "
            f"session closes in {seconds_text(max(0, remains))}"
        )
