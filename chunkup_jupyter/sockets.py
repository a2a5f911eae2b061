"""Connections that hear an answer while they still talk, and see what leaves the system.

A server may say no (413, 403) before it has read a body, and then read no more of it.
Whoever only writes would wait there until a deadline; this notices the answer. And a
slow link takes its time with what the system has long accepted; this sees it move.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import httpcore

if sys.platform == "linux":
    import fcntl
    import termios

_UNHURRIED = 0.25  # seconds a write may take before somebody listens meanwhile
_GLANCE = 0.5  # seconds between two looks at what is still to leave

moved: ContextVar[Callable[[], None]] = ContextVar("moved", default=lambda: None)
"""Called when bytes left this system that were handed over before."""


class Network(httpcore.AsyncNetworkBackend):
    """Opens connections for the HTTP library's pool."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect. Times are in seconds."""
        return _Stream(
            await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._heard = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._heard:
            heard, self._heard = self._heard[:max_bytes], self._heard[max_bytes:]
            return heard
        if not self._queued():
            return await self._inner.read(max_bytes, timeout)
        reading = asyncio.ensure_future(self._inner.read(max_bytes, timeout))
        try:
            await self._watch(reading)
            return await reading
        finally:
            await _end(reading)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write; ``WriteError``, as if the server had hung up, when its answer is there."""
        listening: list[asyncio.Task[None]] = []
        interruption = asyncio.timeout(None)

        def listen() -> None:
            listening.append(asyncio.ensure_future(self._listen(interruption)))

        # Nearly every write is done before that: a task for each would cost more than it.
        timer = asyncio.get_running_loop().call_later(_UNHURRIED, listen)
        try:
            async with interruption:
                await self._inner.write(buffer, timeout)
        except TimeoutError:
            raise httpcore.WriteError("the server has answered already") from None
        finally:
            timer.cancel()
            for task in listening:
                await _end(task)

    async def _listen(self, interruption: asyncio.Timeout) -> None:
        """Interrupt a write when an answer is there, or the connection broke."""
        answered = False
        while not answered:
            reading = asyncio.ensure_future(self._inner.read(1 << 16))
            try:
                await self._watch(reading)
                self._heard += (said := reading.result())
                answered = not self._heard.startswith(b"HTTP/1.1 1")  # a 100 is no answer
                answered = answered or not said
            except httpcore.ReadError:
                answered = True
            finally:
                await _end(reading)
        if interruption.when() is None:
            interruption.reschedule(asyncio.get_running_loop().time())

    async def _watch(self, *tasks: asyncio.Future[Any]) -> None:
        """Wait for the first of these; tell meanwhile of bytes that leave."""
        queued = self._queued()
        while True:
            done, _ = await asyncio.wait(tasks, timeout=_GLANCE, return_when="FIRST_COMPLETED")
            if done:
                return
            before, queued = queued, self._queued()
            if queued < before:
                moved.get()()

    def _queued(self) -> int:
        """Return how many bytes the other side has not confirmed; 0 where nobody can say."""
        raw = self._inner.get_extra_info("socket")
        if sys.platform != "linux" or raw is None:
            return 0
        try:
            answer = fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        except (OSError, ValueError):  # closed meanwhile
            return 0
        return int(struct.unpack("i", answer)[0])

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


async def _end(task: asyncio.Future[Any]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
    elif not task.cancelled():
        task.exception()  # somebody has seen it
