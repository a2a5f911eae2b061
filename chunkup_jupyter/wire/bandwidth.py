"""How many bytes a second all uploads of this process may send together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass

from ..units import parse_size

AHEAD = 0.1  # seconds of sending that may be saved up while nobody sends
LOOK = 0.25  # seconds after which whoever waits sees that the limit was changed
_LEAST = 16 << 10  # bytes handed over at once at least


@dataclass
class _Turn:
    """Somebody who wants to hand over ``size`` bytes; ``first`` once nobody is before it."""

    sender: object
    size: int
    loop: asyncio.AbstractEventLoop
    first: asyncio.Future[None]


class Bandwidth:
    """A bucket of bytes, filled at ``limit`` bytes a second (None: no limit).

    Senders share it fairly: it is the turn of the one that has had the least since it
    began to wait, however many parts it sends at once. Any thread and any loop.
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._saved = 0.0  # bytes that may be sent at once; below 0: bytes too many were
        self._seen = clock()
        self._had: dict[object, int] = {}  # bytes, of everybody who waits
        self._turns: dict[object, deque[_Turn]] = {}

    @property
    def limit(self) -> int | None:
        """Bytes a second, None for no limit. May be set at any time, from any thread."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        with self._lock:
            self._fill()
            self._limit = limit
            self._saved = min(self._saved, 0.0)

    def step(self, size: int) -> int:
        """Return how much of ``size`` bytes to hand over at once: a tenth of a second's."""
        if self._limit is None:
            return size
        return min(size, max(_LEAST, self._limit // 10))

    async def take(self, sender: object, size: int) -> None:
        """Wait until ``size`` bytes may go out. ``sender`` is who shares with the others."""
        if self._limit is None:
            return
        loop = asyncio.get_running_loop()
        turn = _Turn(sender, size, loop, loop.create_future())
        with self._lock:
            self._join(turn)
            self._call()
        try:
            await turn.first
            while (wait := self._pay(turn)) > 0:
                await self._sleep(min(wait, LOOK))
        finally:
            with self._lock:
                self._leave(turn)
                self._call()

    def _join(self, turn: _Turn) -> None:
        if turn.sender not in self._turns:
            least = min((self._had[one] for one in self._turns), default=0)
            had = self._had.get(turn.sender, least)
            # Who was busy sending catches up; who was away for long gets one second's worth.
            self._had[turn.sender] = max(had, least - (self._limit or 0))
            self._turns[turn.sender] = deque()
        self._turns[turn.sender].append(turn)

    def _leave(self, turn: _Turn) -> None:
        turns = self._turns[turn.sender]
        turns.remove(turn)
        if not turns:
            del self._turns[turn.sender]
        if not self._turns:
            self._had.clear()

    def _call(self) -> None:
        """Tell whose turn it is, unless somebody is at it."""
        if not self._turns or any(turns[0].first.done() for turns in self._turns.values()):
            return
        sender = min(self._turns, key=self._had.__getitem__)
        first = self._turns[sender][0]

        def wake() -> None:
            if not first.first.done():
                first.first.set_result(None)

        if first.loop is _running():
            wake()
        else:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                first.loop.call_soon_threadsafe(wake)

    def _pay(self, turn: _Turn) -> float:
        """Take the bytes and return 0, or return the seconds until they are there."""
        with self._lock:
            self._fill()
            if self._limit is None:
                return 0.0
            if self._saved <= -1:  # less than a byte is rounding
                return max(0.001, -self._saved / self._limit)
            self._saved -= turn.size
            self._had[turn.sender] += turn.size
            return 0.0

    def _fill(self) -> None:
        now = self._clock()
        if self._limit is not None:
            most = self._limit * AHEAD
            self._saved = min(most, self._saved + (now - self._seen) * self._limit)
        self._seen = now


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


everybody = Bandwidth()
"""What every upload of this process asks."""

sender: ContextVar[object] = ContextVar("sender", default=None)
"""Which upload the running task belongs to."""


def set_bandwidth(limit: str | int | None) -> None:
    """Limit all uploads of this process together; takes effect at once, while they run.

    ``limit`` is in bytes a second, or ``"10M"`` (MiB a second); None or 0 lifts it.

    Raises:
        ValueError: it is no size.
    """
    size = 0 if limit is None else parse_size(limit)
    if size < 0:
        raise ValueError("a limit is not below 0")
    everybody.limit = size or None
