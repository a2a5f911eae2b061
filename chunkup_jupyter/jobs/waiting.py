"""Waiting for what runs in the background: from a thread, from a loop, until interrupted."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from ..errors import InvalidUpload, UploadInterrupted
from . import background

T = TypeVar("T")

_BEAT = 0.25  # seconds
_STOPPING = 2.0  # seconds that stopping may take


class Waited(ABC, Generic[T]):
    """Something in the background that ends. Every method may be called from any thread.

    A heartbeat is in every way of waiting: an interrupt that reaches another thread, and
    any on Windows, is heard only by one who is not asleep for good, and a kernel's wakes
    a sleeping cell, but not one that awaits another thread's future (measured 2026-11:
    seconds late).
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called."""

    def done(self) -> bool:
        """Say whether it has ended, one way or another."""
        return self._future().done()

    def result(self, timeout: float | None = None) -> T:
        """Wait and return the result.

        Raises what ended it; ``TimeoutError`` after ``timeout`` seconds (it goes on);
        ``UploadInterrupted`` when interrupted, having stopped it; ``InvalidUpload`` when
        its bytes could not come while the caller waits.
        """
        if background.on_loop() and not self.done():
            raise RuntimeError("waiting on the background thread for what it does would never end")
        self._refuse_to_wait(awaiting=False)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not self.settle(_BEAT if deadline is None else min(_BEAT, _left(deadline))):
                if deadline is not None and not _left(deadline):
                    raise TimeoutError(f"{self.name} is still on its way; it goes on")
            return self._outcome()
        except UploadInterrupted:
            raise
        except KeyboardInterrupt:
            self._halt()
            raise self.interrupted() from None

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        self._refuse_to_wait(awaiting=True)
        try:
            while not self.done():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        except asyncio.CancelledError as error:
            self.stop()
            error.add_note(str(self.interrupted()))
            raise
        return self._outcome()

    async def ended(self) -> None:
        """Wait for the end, whatever it is; stops nothing when cancelled."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        self._future().add_done_callback(lambda _: loop.call_soon_threadsafe(over.set))
        await over.wait()

    def settle(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the end, whatever it is; say whether it came."""
        try:
            self._future().exception(timeout)
        except TimeoutError:
            return False
        return True

    @abstractmethod
    def stop(self) -> None:
        """Stop, resumably."""

    @abstractmethod
    def interrupted(self) -> UploadInterrupted:
        """Return the error that an interrupt ends with."""

    @abstractmethod
    def _future(self) -> Future[Any]:
        """Return what is done when it has ended."""

    @abstractmethod
    def _outcome(self) -> T:
        """Return the result, or raise what ended it."""

    @abstractmethod
    def _coming(self) -> Iterable[Any]:
        """Return the sources whose bytes may still have to come."""

    def _refuse_to_wait(self, *, awaiting: bool) -> None:
        """Raise when bytes come through the thread that is about to wait for them."""
        if threading.current_thread() is not threading.main_thread():
            return
        for source in self._coming():
            refuses = getattr(source, "refuses_to_wait", None)
            if refuses is not None and (reason := refuses(awaiting=awaiting)):
                raise InvalidUpload(reason)

    def _halt(self) -> None:
        """Stop, and wait for it a little; a second interrupt only ends the waiting."""
        try:
            self.stop()
            self.settle(_STOPPING)
        except KeyboardInterrupt:
            self.stop()


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
