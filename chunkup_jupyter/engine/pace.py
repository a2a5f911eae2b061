"""How many parts may be in the air at once: as asked, or found by trying."""

from __future__ import annotations

import asyncio
from collections import deque

START = 4  # jobs to begin with when the number is found by trying
MOST = 16  # polite, and where the HTTP library's pool begins to cost (measured 2026-11)


class Pace:
    """A gate that lets ``limit`` workers through.

    With ``jobs`` given the limit is that number; without, it starts at four and
    doubles while the throughput still grows by a tenth or more, then stays. ``trouble`` (429,
    SlowDown, a stall) halves it, at most once in five seconds; it recovers by one
    every five quiet seconds. Times in seconds of any one clock.
    """

    def __init__(self, jobs: int | None = None, most: int = MOST) -> None:
        self.adaptive = jobs is None
        self.most = most if jobs is None else jobs
        self.limit = min(START, self.most) if jobs is None else jobs
        self.active = 0
        self._ceiling = self.most
        self._queue: deque[asyncio.Future[None]] = deque()
        self._window: tuple[float, int] | None = None
        self._best = 0.0
        self._before = 0
        self._quiet_since = 0.0
        self._halved_at = float("-inf")
        self._now = 0.0

    async def enter(self) -> None:
        """Wait for a place; they are given in the order they were asked for."""
        if self.active < self.limit:
            self.active += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place in self._queue:
                self._queue.remove(place)
            elif not place.cancelled():
                self.leave()  # it was given just now
            raise

    def leave(self) -> None:
        """Give the place back."""
        self.active -= 1
        self._wake()

    def trouble(self) -> None:
        """The server is overrun: halve, unless that happened just now."""
        if self._now - self._halved_at >= 5:
            self.limit = max(1, self.limit // 2)
            self._ceiling = max(1, self.limit)
            self._halved_at = self._quiet_since = self._now
            self._window = None

    def observe(self, now: float, moved: int) -> None:
        """Take a reading: ``moved`` bytes in all have been handed over by ``now``."""
        self._now = now
        if self._halved_at > float("-inf") and now - self._quiet_since >= 5:
            self._quiet_since = now
            self._ceiling = min(self.most, self._ceiling + 1)
            if not self.adaptive or self.limit < self._ceiling:
                self._set(min(self.limit + 1, self._ceiling))
        if not self.adaptive:
            return
        if self._window is None:
            self._window = (now, moved)
            return
        began, before = self._window
        if now - began < 1.0 or self.active < self.limit:
            return
        rate = (moved - before) / (now - began)
        self._window = (now, moved)
        if rate > self._best * 1.1:
            self._best, self._before = rate, self.limit
            self._set(min(self.limit * 2, self._ceiling))
        elif self._before and self.limit > self._before:
            # The last step brought nothing: go back and stay there.
            self._set(self._before)
            self._ceiling = self._before

    def _set(self, limit: int) -> None:
        self.limit = limit
        self._wake()

    def _wake(self) -> None:
        while self._queue and self.active < self.limit:
            place = self._queue.popleft()
            if not place.done():
                self.active += 1
                place.set_result(None)
