"""Connections that hear an answer while they still talk, and see what leaves the system.

A server may say no (413, 403) before it has read a body, and then read no more of it.
Whoever only writes would wait there until a deadline; this notices the answer. And a
slow link takes its time with what the system has long accepted; this sees it move.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol

import httpcore

if sys.platform == "linux":
    import fcntl
    import termios

UNSENT = (128 << 10, 1 << 20)
"""How many bytes may wait in the system to be sent: to begin with, and at most.

Bytes handed over should be bytes on their way: with more a slow link hides megabytes in
the system and the answer seems late. A quick one needs more, or every few packets wake
this process: 15 % of its CPU (measured 2026-11). What is handed over at once tells which.
"""
_PIECE = 512 << 10  # bytes encrypted at once: they stay in the processor's cache
_KEPT = 256 << 10  # bytes that may have come before anybody takes them
_HEARD = 64 << 10  # bytes heard while talking: nobody has as much to say before an answer
_INTERIM = b"HTTP/1.1 1"  # how a head begins that only announces an answer: 100, 103
_GLANCE = 0.5  # seconds between two looks at what is still to leave

moved: ContextVar[Callable[[], None]] = ContextVar("moved", default=lambda: None)
"""Called when bytes left this system that were handed over before."""


class Network(httpcore.AsyncNetworkBackend):
    """Opens connections for the HTTP library's pool."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect. Times are in seconds."""
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        if local_address is not None:
            options["local_addr"] = (local_address, 0)
        # For names, which may have several addresses, and where the loop knows it. A race
        # that is cancelled when it is won drops the socket open (CPython 3.12, staggered.py).
        name = ":" not in host and not host.replace(".", "").isdigit()
        if name and isinstance(loop, asyncio.BaseEventLoop):
            options["happy_eyeballs_delay"] = 0.25
        with _told(httpcore.ConnectError, httpcore.ConnectTimeout):
            async with asyncio.timeout(timeout):
                _, line = await loop.create_connection(_Line, host, port, **options)
            for option in socket_options or ():
                line.socket.setsockopt(*option)
        return _Stream(line, line)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class _Channel(Protocol):
    """Something bytes go through in both ways; only ``change`` ever waits."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come than what can be taken."""

    @property
    def full(self) -> bool:
        """Whether the system has not taken yet what was sent."""

    def take(self) -> bytes:
        """Return what came, b"" when nothing did."""

    def send(self, data: Any) -> bool:
        """Send; False when something has to come before that is possible."""

    async def change(self) -> None:
        """Wait until any of this may have changed."""


class _Line(asyncio.Protocol):
    """A TCP connection."""

    socket: Any

    def __init__(self) -> None:
        self.ended = False
        self.full = False
        self._came = bytearray()
        self._lost: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._unsent = UNSENT[0]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(0)  # full until the system has taken everything
        self.socket = transport.get_extra_info("socket")

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = error or ConnectionResetError("the connection was closed")
        self.ended, self.full = True, False
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._came += data
        if len(self._came) > _KEPT:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self.ended = True
        self._wake()
        return True  # there may be more to say for this side

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._wake()

    def take(self) -> bytes:
        if not self._came:
            return b""
        taken = bytes(self._came)
        self._came.clear()
        self.transport.resume_reading()
        return taken

    def send(self, data: Any) -> bool:
        if self._lost is not None:
            raise self._lost
        self.transport.write(data)
        return True

    async def change(self) -> None:
        """Wait until something comes or leaves; tell meanwhile of bytes that move."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._glance_at(self._queued())
        try:
            await self._waiting
        finally:
            self._glance.cancel()
            self._waiting = None

    def make_room(self, size: int) -> None:
        """Let the system hold about as much as is handed over at once."""
        wanted = min(max(UNSENT[0], size), UNSENT[1])
        if size < 16 << 10 or wanted == self._unsent:  # heads and tails say nothing
            return
        self._unsent = wanted
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with contextlib.suppress(OSError):  # closed meanwhile
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, wanted)

    def _glance_at(self, queued: int) -> None:
        """Look again in a moment whether fewer bytes wait than ``queued``."""
        self._glance = asyncio.get_running_loop().call_later(_GLANCE, self._look, queued)

    def _look(self, before: int) -> None:
        queued = self._queued()
        if queued < before:
            moved.get()()
        self._glance_at(queued)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _queued(self) -> int:
        here: int = self.transport.get_write_buffer_size()
        return here + unconfirmed(self.socket.fileno())


def unconfirmed(fd: int) -> int:
    """Return how many bytes the system holds that the other side has not confirmed.

    Zero where the system does not tell.
    """
    if sys.platform != "linux":
        return 0
    try:
        answer = fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0")
    except (OSError, ValueError):  # closed meanwhile
        return 0
    return int(struct.unpack("i", answer)[0])


class _Secure:
    """TLS through another channel.

    The event loop's own takes a block more than the system has room for, and does not
    say when the last byte went.
    """

    def __init__(self, inner: _Channel, context: ssl.SSLContext, host: str | None) -> None:
        self._inner = inner
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._closed = False

    @property
    def ended(self) -> bool:
        return self._closed or self._inner.ended

    @property
    def full(self) -> bool:
        return self._inner.full

    async def greet(self) -> None:
        """Shake hands. Raises ``ssl.SSLError``, also when the connection ends meanwhile."""
        while True:
            self._listen()
            try:
                self.object.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._speak()
                await self._inner.change()
            finally:
                self._speak()

    def take(self) -> bytes:
        self._listen()
        taken = bytearray()
        try:
            while block := self.object.read(1 << 16):
                taken += block
            self._closed = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._closed = True  # many servers just hang up; lengths tell what is missing
        self._speak()
        return bytes(taken)

    def send(self, data: Any) -> bool:
        try:
            self.object.write(data)
        except ssl.SSLWantReadError:  # the other side changes keys
            self._listen()
            return False
        finally:
            self._speak()
        return True

    async def change(self) -> None:
        await self._inner.change()

    def _listen(self) -> None:
        if came := self._inner.take():
            self._incoming.write(came)
        elif self._inner.ended:
            self._incoming.write_eof()

    def _speak(self) -> None:
        if self._outgoing.pending:
            self._inner.send(self._outgoing.read())


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, line: _Line, channel: _Channel) -> None:
        self._line = line
        self._channel = channel
        self._heard = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _told(httpcore.ReadError, httpcore.ReadTimeout):
            async with asyncio.timeout(timeout):
                while not self._hear() and not self._channel.ended:
                    await self._channel.change()
        heard, self._heard = self._heard[:max_bytes], self._heard[max_bytes:]
        return heard

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write; ``WriteError``, as if the server had hung up, when its answer is there."""
        self._line.make_room(len(buffer))
        with _told(httpcore.WriteError, httpcore.WriteTimeout):
            async with asyncio.timeout(timeout):
                for start in range(0, len(buffer), _PIECE):
                    piece = memoryview(buffer)[start : start + _PIECE]
                    while not self._channel.send(piece):
                        await self._channel.change()
                    while self._channel.full:
                        if self._answered():
                            raise httpcore.WriteError("the server has answered already")
                        await self._channel.change()

    async def aclose(self) -> None:
        self._line.transport.abort()
        await asyncio.sleep(0)  # it is closed by then

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        secure = _Secure(self._channel, ssl_context, server_hostname)
        try:
            with _told(httpcore.ConnectError, httpcore.ConnectTimeout):
                async with asyncio.timeout(timeout):
                    await secure.greet()
        except BaseException:
            await self.aclose()
            raise
        return _Stream(self._line, secure)

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "is_readable":
                return bool(self._hear()) or self._channel.ended
            case "ssl_object":
                return getattr(self._channel, "object", None)
            case "socket":
                return self._line.socket
            case "client_addr" | "server_addr":
                name = "sockname" if info == "client_addr" else "peername"
                return self._line.transport.get_extra_info(name)
        return None

    def _hear(self) -> bytes:
        self._heard += self._channel.take()
        return self._heard

    def _answered(self) -> bool:
        """Say whether an answer came, or none will."""
        heard = self._hear()
        return self._channel.ended or len(heard) > _HEARD or _holds_answer(heard)


def _holds_answer(heard: bytes) -> bool:
    """Say whether there is more than heads that only announce an answer, whole or not yet."""
    start = 0
    while heard.startswith(_INTERIM, start):
        end = heard.find(b"\r\n\r\n", start)
        if end < 0:
            return False
        start = end + 4
    return not _INTERIM.startswith(heard[start : start + len(_INTERIM)])


@contextlib.contextmanager
def _told(trouble: type[Exception], late: type[Exception]) -> Iterator[None]:
    """Raise what the HTTP library expects."""
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except OSError as error:  # TLS's are of this kind
        raise trouble(str(error)) from error
