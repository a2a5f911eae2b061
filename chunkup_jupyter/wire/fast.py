"""The optional other way to send bodies: libcurl, behind httpx's own transport interface.

The extra ``fast`` brings pycurl; ``CHUNKUP_FAST=1`` lets bodies that stream go over it. What
that brings depends on the machine and on the OpenSSL that Python was built with, so
measure yours: ``python -m tests.benchmarks transports``. It trusts whom the stock
transport trusts, never follows, decodes or goes through a proxy, and sees as well what
leaves the system.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any

import httpx

from .sockets import UNSENT, moved, unconfirmed

_BUFFER = 1 << 20  # bytes that libcurl takes at once: as many as one step hands over at most
_IDLE = 5  # seconds an unused connection is kept, the same as the stock transport's
_GLANCE = 0.5  # seconds between two looks at what moved
_TARGET = re.compile(rb"/[\x21-\x7e]*")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]+")
_STATUS = re.compile(rb"HTTP/1\.\d (\d{3})")
_LENGTH = b"content-length"
# What happens before a byte of a request goes out.
_UNCONNECTED = (
    "COULDNT_RESOLVE_HOST",
    "COULDNT_CONNECT",
    "SSL_CONNECT_ERROR",
    "PEER_FAILED_VERIFICATION",
    "SSL_CACERT_BADFILE",
    "URL_MALFORMAT",
)

_forked = False


def fits(request: httpx.Request) -> bool:
    """Say whether it is installed, wanted, and writes this request as it is."""
    if os.environ.get("CHUNKUP_FAST", "0") in ("", "0") or _forked or sys.platform == "win32":
        return False  # Windows' event loop cannot watch the sockets of others
    return (
        bool(_TARGET.fullmatch(request.url.raw_path))
        and all(_NAME.fullmatch(n) and _VALUE.fullmatch(v) for n, v in request.headers.raw)
        and _library() is not None
    )


class CurlTransport(httpx.AsyncBaseTransport):
    """Sends requests whose content streams and has a ``Content-Length``. Only where ``fits``.

    ``certificates`` is a file of those to trust, "" for the usual ones. Lives on the event
    loop that uses it first. Raises httpx's errors, ``ConnectError`` when nothing was sent.
    """

    def __init__(self, certificates: str) -> None:
        import certifi  # reads a file of its own to know where

        self.curl: Any = _library()
        self.certificates = certificates or certifi.where()
        self.multi = self.curl.AsyncCurlMulti()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, and return the answer as soon as its head is there."""
        exchange = _Exchange(self, request)
        try:
            await exchange.head()
        except BaseException:
            await exchange.aclose()
            raise
        return httpx.Response(exchange.status, headers=exchange.fields, stream=exchange)

    async def aclose(self) -> None:
        """Close every connection."""
        await self.multi.aclose()


class _Exchange(httpx.AsyncByteStream):
    """One request and its answer, whose content it is."""

    def __init__(self, transport: CurlTransport, request: httpx.Request) -> None:
        self.status = self._status = 0  # of the last head that is whole, of any
        self.fields: list[tuple[bytes, bytes]] = []
        self._transport = transport
        self._library = transport.curl
        self._request = request
        self._piece = memoryview(b"")
        self._hungry = asyncio.Event()
        self._paused = False
        self._heard = asyncio.Event()
        self._content: list[bytes] = []
        self._gone = (0, 0)
        self._curl = self._prepared(transport)
        self._over: asyncio.Future[Any] = transport.multi.add_handle(self._curl)
        self._over.add_done_callback(lambda over: self._heard.set())
        self._feeding = asyncio.create_task(self._feed())
        self._feeding.add_done_callback(lambda feeding: self._heard.set())
        self._glance = asyncio.get_running_loop().call_later(_GLANCE, self._look)

    async def head(self) -> None:
        """Wait for the status and the header fields of the answer."""
        while not self._answered():
            await self._heard.wait()
            self._heard.clear()
            if self._feeding.done() and not self._feeding.cancelled():
                self._feeding.result()  # the source's trouble comes first
            if self._over.done() and not self._answered():
                self._fail()
                raise httpx.RemoteProtocolError("the answer has no status")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._content:
                yield self._content.pop(0)
            if self._over.done():
                break
            await self._heard.wait()
            self._heard.clear()
        self._fail()

    async def aclose(self) -> None:
        """End it, whether the answer was read or not."""
        self._glance.cancel()
        if not self._over.done():
            self._transport.multi.remove_handle(self._curl)  # which closes the connection
        self._feeding.cancel()
        await asyncio.wait([self._feeding])
        self._curl.close()  # and its megabyte is free for the next
        for each in (self._feeding, self._over):
            if each.done() and not each.cancelled():
                each.exception()  # somebody has heard of it

    def _fail(self) -> None:
        """Raise what ended it, if that was trouble."""
        try:
            self._over.result()
        except self._library.error as error:
            raise _translated(self._library, error) from None

    def _answered(self) -> bool:
        return self.status >= 200  # what begins with 1 announces the answer

    def _prepared(self, transport: CurlTransport) -> Any:
        library, request = self._library, self._request
        curl = library.Curl()
        url, name = request.url, request.extensions.get("sni_hostname")
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        host = url.raw_host.decode("ascii")
        host = f"[{host}]" if ":" in host else host
        if name is not None:  # the address was looked up and found fit by somebody else
            curl.setopt(library.CONNECT_TO, [f"{name}:{port}:{host}:{port}"])
        curl.setopt(library.URL, f"{url.scheme}://{name or host}:{port}/")
        curl.setopt(library.REQUEST_TARGET, url.raw_path.decode("ascii"))
        curl.setopt(library.UPLOAD, 1)
        curl.setopt(library.CUSTOMREQUEST, request.method)
        fields = [n + b": " + v for n, v in request.headers.raw if n.lower() != _LENGTH]
        curl.setopt(library.HTTPHEADER, [*fields, b"Expect:"])
        curl.setopt(library.INFILESIZE_LARGE, int(request.headers["Content-Length"]))
        curl.setopt(library.READFUNCTION, self._read)
        curl.setopt(library.HEADERFUNCTION, self._hear_head)
        curl.setopt(library.WRITEFUNCTION, self._hear)
        curl.setopt(library.SOCKOPTFUNCTION, _at_most_unsent)
        curl.setopt(library.UPLOAD_BUFFERSIZE, _BUFFER)
        curl.setopt(library.HTTP_VERSION, library.CURL_HTTP_VERSION_1_1)
        curl.setopt(library.PROXY, "")
        curl.setopt(library.SSLVERSION, library.SSLVERSION_TLSv1_2)
        curl.setopt(library.CAINFO, transport.certificates)
        curl.unsetopt(library.CAPATH)
        curl.setopt(library.CONNECTTIMEOUT, int(request.extensions["timeout"]["connect"]))
        curl.setopt(library.MAXAGE_CONN, _IDLE)
        curl.setopt(library.NOSIGNAL, 1)
        return curl

    # what goes out

    async def _feed(self) -> None:
        """Hold the next piece ready; the one before has been taken when it is asked for."""
        await self._hungry.wait()  # not before there is a connection
        assert isinstance(self._request.stream, httpx.AsyncByteStream)
        pieces: Any = aiter(self._request.stream)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                self._piece = memoryview(piece)
                self._hungry.clear()
                if self._paused:
                    self._paused = False
                    with contextlib.suppress(self._library.error):  # it is over; that says why
                        self._curl.pause(self._library.PAUSE_CONT)
                await self._hungry.wait()

    def _read(self, size: int) -> Any:
        if not self._piece:
            self._paused = True
            self._hungry.set()
            return self._library.READFUNC_PAUSE
        taken, self._piece = self._piece[:size], self._piece[size:]
        if not self._piece:
            self._hungry.set()
        return taken

    def _look(self) -> None:
        """Tell of bytes that left the system."""
        gone, queued = self._gone
        fd = self._curl.getinfo(self._library.ACTIVESOCKET)
        self._gone = (
            self._curl.getinfo(self._library.SIZE_UPLOAD_T),
            unconfirmed(fd) if fd >= 0 else 0,
        )
        if self._gone[0] > gone or self._gone[1] < queued:
            moved.get()()
        self._glance = asyncio.get_running_loop().call_later(_GLANCE, self._look)

    # what comes back

    def _hear_head(self, line: bytes) -> None:
        if status := _STATUS.match(line):
            self._status = int(status[1])
            self.fields.clear()
        elif not line.strip():
            self.status = self._status
            self._heard.set()
        elif line[:1] in b" \t" and self.fields:
            name, value = self.fields[-1]
            self.fields[-1] = (name, value + b" " + line.strip())
        else:
            name, _, value = line.partition(b":")
            self.fields.append((name.strip(), value.strip()))

    def _hear(self, content: bytes) -> None:
        self._content.append(content)
        self._heard.set()


def _at_most_unsent(fd: int, purpose: int) -> int:
    """Let the system hold no more than it can send soon."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as same:
            same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT[1])
    return 0


def _translated(library: Any, error: Any) -> httpx.TransportError:
    code, text = error.args[:2]
    if code == library.E_OPERATION_TIMEDOUT:  # the only limit that is set is for this
        return httpx.ConnectTimeout(text)
    if code in [getattr(library, f"E_{name}") for name in _UNCONNECTED]:
        return httpx.ConnectError(text)
    return httpx.ReadError(text)


@lru_cache(maxsize=1)
def _library() -> Any:
    """Return pycurl when it can do all that is needed; importing it takes 10 ms, so not before."""
    try:
        import pycurl
    except ImportError:
        return None
    able = hasattr(pycurl, "AsyncCurlMulti") and "OpenSSL" in pycurl.version
    return pycurl if able and pycurl.version_info()[4] & pycurl.VERSION_ASYNCHDNS else None


def _after_fork() -> None:
    """In a forked child: connections are shared with the parent, which goes on with them."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
