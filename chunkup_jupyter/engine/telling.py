"""What an upload tells of itself: how far it is, who hears of it, and when time gets short."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import suppress

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
        self._busy: list[asyncio.Future[None]] = []

    def tell(self, event: Event) -> None:
        """Let everybody know; nothing is told after the end."""
        if self.progress.state.ended:
            return
        self.progress = self.progress.after(event)
        for listener in list(self.listeners):
            try:
                answer = listener(event, self.progress)
                if inspect.isawaitable(answer):
                    self._busy = [busy for busy in self._busy if not busy.done()]
                    self._busy.append(asyncio.ensure_future(answer))
            except Exception:
                log.exception("a progress listener failed and was dropped")
                with suppress(ValueError):
                    self.listeners.remove(listener)

    async def heard(self) -> None:
        """Wait for the listeners that are still at it; what they raise is theirs."""
        await asyncio.gather(*self._busy, return_exceptions=True)


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
