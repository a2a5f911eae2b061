"""Sends requests over real sockets; no file but this and ``fast`` names the HTTP library."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from . import (
    BadAnswer,
    Count,
    Dropped,
    Headers,
    Malformed,
    NotConnected,
    Patience,
    Request,
    Response,
    Stalled,
    Untrusted,
    WireError,
    bandwidth,
    fast,
)
from .addresses import proxy_for, public_address
from .sockets import UNSENT, Network
from .sockets import moved as left_the_system

MAX_ANSWER = 1 << 20  # bytes of a success; the longest honest one lists 1,000 parts
MAX_PROBLEM = 64 << 10  # bytes of an error that are read before the rest is dropped


class HttpClient:
    """Sends requests over HTTP/1.1: no redirects, no cookies, no decoding, nothing kept whole.

    Proxies come from the environment; this machine is always reached directly.
    ``ca_bundle`` is a file of certificates to trust instead of the usual ones; there
    is no way to trust everything. ``client`` is a caller's own ``httpx.AsyncClient``:
    it is used as it stands and never closed here.
    """

    def __init__(
        self,
        *,
        ca_bundle: str | None = None,
        client: httpx.AsyncClient | None = None,
        connections: int = 96,
    ) -> None:
        self._own = client
        self._ca_bundle = ca_bundle
        self._limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=5
        )
        self._transports: dict[str, httpx.AsyncBaseTransport] = {}
        self._unhurried: set[str] = set()  # hosts that only the stock transport trusts
        self._step = 64 << 10  # bytes handed over at once
        self._quick = 0  # how many times in a row that was done at once

    async def send(
        self, request: Request, count: Count | None = None, patience: Patience = Patience()
    ) -> Response:
        """Return the answer. Raises a ``WireError``, or whatever reading a stream raised."""
        watch = _Watch(patience)
        body = _Outgoing(self, request, watch, count)
        telling = left_the_system.set(watch.still_moving)
        try:
            async with watch:
                return await self._exchange(request, body, watch)
        except Exception as error:
            trouble, frames = body.failure or (_translated(error, request.host, watch), None)
        finally:
            left_the_system.reset(telling)
        if isinstance(trouble, Stalled):
            self._step = max(_STEPS[0], self._step // 4)
        # Raised out here and without the frames below, which hold the URL and the headers.
        raise trouble.with_traceback(frames)

    async def close(self) -> None:
        """Close every connection made here."""
        transports, self._transports = list(self._transports.values()), {}
        for transport in transports:
            await transport.aclose()

    async def _exchange(self, request: Request, body: _Outgoing, watch: _Watch) -> Response:
        proxy = None if self._own is not None else proxy_for(request.url)
        url, extensions = await self._address(request, proxy)
        outgoing = httpx.Request(
            request.method,
            url,
            headers={
                "Host": urlsplit(request.url).netloc.rpartition("@")[2],
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "User-Agent": "chunkup-jupyter",
                **request.headers,
                **({"Content-Length": str(request.size)} if _has_length(request) else {}),
            },
            stream=body,
            extensions=extensions,
        )
        outgoing.url = url  # a copy was made of it, and normalised
        if self._own is not None:
            answer = await self._own.send(outgoing, stream=True, auth=None, follow_redirects=False)
        else:
            answer = await self._answer(request, outgoing, proxy)
        try:
            watch.reading()
            if answer.status_code < 300 and not body.whole:
                raise Dropped(f"{request.host} answered before it had the whole body")
            content = await _read(answer, watch)
        finally:
            await answer.aclose()
        fields = Headers(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers.raw
        )
        return Response(answer.status_code, fields, content, request.url)

    async def _address(self, request: Request, proxy: str | None) -> tuple[_Exact, dict[str, Any]]:
        """Return where to connect and what to ask for there, and how TLS is to be checked."""
        parts = urlsplit(request.url)
        if parts.scheme not in ("http", "https"):
            raise Untrusted(f"{parts.scheme}:// is no address for an upload")
        target = _ascii((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        extensions: dict[str, Any] = {
            "timeout": {"connect": 10.0, "read": None, "write": None, "pool": None},
        }
        address: str | None = None
        if request.public_only:
            address = await public_address(parts.hostname or "", proxy)
        origin = httpx.URL(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/")
        if address is not None:
            origin = origin.copy_with(host=address)
            extensions["sni_hostname"] = parts.hostname
        return _Exact(origin, target), extensions

    async def _answer(
        self, request: Request, outgoing: httpx.Request, proxy: str | None
    ) -> httpx.Response:
        """Send over the faster transport where it is there and fits, else over the stock one."""
        if proxy is None and self._may_hurry(request, outgoing):
            if "fast" not in self._transports:
                self._transports["fast"] = fast.CurlTransport(_bundle(self._ca_bundle))
            try:
                return await self._transports["fast"].handle_async_request(outgoing)
            except httpx.ConnectError:
                # Nothing was sent. The stock transport knows how to say what is wrong, and
                # may trust a server that the other library does not.
                self._unhurried.add(request.host)
        return await self._transport(proxy).handle_async_request(outgoing)

    def _may_hurry(self, request: Request, outgoing: httpx.Request) -> bool:
        streams = any(not isinstance(piece, bytes) and piece.size for piece in request.pieces)
        return streams and request.host not in self._unhurried and fast.fits(outgoing)

    def _transport(self, proxy: str | None) -> httpx.AsyncBaseTransport:
        key = proxy or ""
        if key not in self._transports:
            made = self._transports[key] = httpx.AsyncHTTPTransport(
                verify=_tls_context(self._ca_bundle),
                limits=self._limits,
                proxy=proxy,
                trust_env=False,
                socket_options=_SOCKET_OPTIONS,
            )
            # The pool takes this as an argument, but httpx 0.28 does not pass it on.
            made._pool._network_backend = Network()
        return self._transports[key]


class _Exact(httpx.URL):
    """An origin, and a request target that is sent as it stands.

    The HTTP library has an extension for that, but a proxy's CONNECT would carry it too.
    """

    def __init__(self, origin: httpx.URL, target: bytes) -> None:
        super().__init__(origin)
        self._target = target

    @property
    def raw_path(self) -> bytes:
        """The path and the query, percent-encoded by whoever made the request."""
        return self._target


_SOCKET_OPTIONS: list[Any] = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
if hasattr(socket, "TCP_NOTSENT_LOWAT"):
    _SOCKET_OPTIONS.append((socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT[0]))

_STEPS = (16 << 10, 1 << 20)  # bytes: the least and the most handed over at once
# How many quick steps make the next ones larger: the first few only fill buffers, and
# a large step would take a slow link longer than it may stand still.
_GROWS = 16


class _Watch:
    """One deadline that moves with the bytes."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._timeout = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._deadline: float | None = None
        self._end = float("inf")  # no deadline moves beyond it
        self._alarm: asyncio.TimerHandle | None = None
        self.stage = "connecting"

    async def __aenter__(self) -> _Watch:
        await self._timeout.__aenter__()
        self._arm(self._patience.connect + self._patience.idle)
        return self

    async def __aexit__(self, *exc: Any) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        await self._timeout.__aexit__(*exc)

    def sending(self) -> None:
        """The head was handed over."""
        self.stage = "sending"
        self._began = self._loop.time()

    def reading_source(self) -> None:
        """The source may take its time: nothing is late until it has delivered."""
        self._deadline = None

    def moved(self) -> None:
        """A byte moved."""
        self._arm(self._patience.idle)

    def still_moving(self) -> None:
        """A byte that was handed over before left this system."""
        if self._deadline is not None:
            later = self._loop.time() + self._patience.idle
            self._deadline = max(self._deadline, min(later, self._end))

    def sent(self) -> None:
        """The last byte was handed over; now the server has the word."""
        self.stage = "waiting for the answer"
        took = self._loop.time() - self._began
        self._arm(max(self._patience.answer, 3 * took))

    def reading(self) -> None:
        """The head of the answer came."""
        self.stage = "reading the answer"
        self._end = self._loop.time() + self._patience.reading
        self.moved()

    @property
    def late(self) -> str:
        """What took too long when the deadline has passed."""
        if self._deadline == self._end:
            return f"the answer did not end within {self._patience.reading:.0f} s"
        return f"no byte moved in time while {self.stage}"

    def _arm(self, seconds: float) -> None:
        self._deadline = deadline = min(self._loop.time() + seconds, self._end)
        if self._alarm is None or self._alarm.when() > deadline:
            self._ring_at(deadline)

    def _ring_at(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        """End it, or look again when the deadline has moved: setting alarms costs more."""
        self._alarm = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._ring_at(self._deadline)
        else:
            self._timeout.reschedule(self._deadline)


class _Outgoing(httpx.AsyncByteStream):
    """A request's content as it goes out, counted and watched."""

    def __init__(
        self, client: HttpClient, request: Request, watch: _Watch, count: Count | None
    ) -> None:
        self._client = client
        self._request = request
        self._watch = watch
        self._count = count
        self._sender = bandwidth.sender.get()
        self.failure: tuple[Exception, TracebackType | None] | None = None
        """What reading a stream raised, and where."""
        self.whole = False
        """Whether the last byte was handed over."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._watch.sending()
        for piece in self._request.pieces:
            if isinstance(piece, bytes):
                self._watch.moved()
                if piece:
                    yield piece
                continue
            blocks = piece.__aiter__()
            while True:
                self._watch.reading_source()
                try:
                    block = await anext(blocks, None)
                except Exception as error:
                    self.failure = error, error.__traceback__
                    raise
                self._watch.moved()
                if block is None:
                    break
                async for slice_ in self._sliced(block):
                    yield slice_
        self.whole = True
        self._watch.sent()

    async def _sliced(self, block: bytes | memoryview) -> AsyncIterator[Any]:
        """Yield a block in pieces small enough to see a slow link move."""
        client, now = self._client, asyncio.get_running_loop().time
        view, start = memoryview(block), 0
        while start < len(view):
            size = bandwidth.everybody.step(client._step)
            # What goes out whole goes as it is: the HTTP library copies slices.
            piece = view[start : start + size] if size < len(view) or start else block
            if bandwidth.everybody.limit is not None:
                self._watch.reading_source()  # nothing is late that was held back here
                await bandwidth.everybody.take(self._sender, len(piece))
                self._watch.moved()
            began = now()
            yield piece
            took = now() - began
            if took > 1.0:
                client._step, client._quick = max(_STEPS[0], client._step // 2), 0
            elif took < 0.1:
                client._quick += 1
                if client._quick % _GROWS == 0:
                    client._step = min(_STEPS[1], client._step * 2)
            self._watch.moved()
            if self._count is not None:
                self._count(len(piece))
            start += len(piece)


async def _read(answer: httpx.Response, watch: _Watch) -> bytes:
    """Return the raw body, capped: an error's first bytes, a success whole or not at all."""
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    failed = answer.status_code >= 400
    cap = MAX_PROBLEM if failed else MAX_ANSWER
    content = bytearray()
    assert isinstance(answer.stream, httpx.AsyncByteStream)
    async for block in answer.stream:
        watch.moved()
        content += block[: cap + 1 - len(content)]
        if len(content) > cap:
            if failed:
                break
            raise BadAnswer(f"the answer is larger than {cap >> 20} MiB")
    if encoding not in ("", "identity"):
        if failed:
            return b""
        raise BadAnswer(f"the answer is {encoding[:20]}-encoded though plain was asked for")
    return bytes(content[:cap])


def _has_length(request: Request) -> bool:
    return bool(request.size) or request.method in ("POST", "PUT", "PATCH")


def _ascii(text: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise Malformed("the URL of a request is not percent-encoded") from None


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    return _context(_bundle(ca_bundle))


def _bundle(given: str | None) -> str:
    """Return the file of certificates to trust, "" for the usual ones."""
    return given or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or ""


@lru_cache(maxsize=4)  # reading the certificates takes 20 ms and a megabyte
def _context(bundle: str) -> ssl.SSLContext:
    if not bundle:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=bundle)
    except (OSError, ssl.SSLError):
        raise Untrusted(f"the certificates in {bundle} cannot be read") from None


def _translated(error: Exception, host: str, watch: _Watch) -> Exception:
    """Return our word for whatever the HTTP library or the system raised."""
    match error:
        case WireError():
            return error
        case TimeoutError():
            if watch.stage == "connecting":
                return NotConnected(f"{host} did not accept a connection in time")
            return Stalled(f"{watch.late} ({host})")
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return NotConnected(f"{host} did not accept a connection in time")
        case httpx.ConnectError() | httpx.ProxyError() | httpx.UnsupportedProtocol():
            if reason := _tls_reason(error):
                return Untrusted(f"TLS with {host} failed: {reason}")
            return NotConnected(f"no connection to {host}: {_cause(error)}")
        case httpx.LocalProtocolError() | httpx.InvalidURL() | httpx.CookieConflict():
            return Malformed(f"the request to {host} cannot be written as HTTP")
        case httpx.TimeoutException():
            return Stalled(f"no byte moved in time while {watch.stage} ({host})")
        case httpx.HTTPError() | httpx.StreamError() | OSError():
            return Dropped(f"the connection to {host} broke while {watch.stage}")
        case _ if type(error).__module__.startswith(("anyio", "httpcore", "h11")):
            return Dropped(f"the connection to {host} broke while {watch.stage}")
        case _:
            return error


def _tls_reason(error: BaseException) -> str:
    """Return what TLS complained about, "" when it was not TLS."""
    for seen in _roots(error):
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen.verify_message or "the certificate cannot be verified"
        if isinstance(seen, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            return ""  # cut off
        if isinstance(seen, ssl.SSLError):
            return "the server does not speak TLS properly"
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return text.rpartition("failed:")[2].partition("(_ssl")[0].strip() or "bad certificate"
    return "the server does not speak TLS properly" if "[SSL" in text else ""


def _cause(error: BaseException) -> str:
    """Return, in words, why no connection came about."""
    for each in _roots(error):
        match each:
            case socket.gaierror():
                return "the name cannot be resolved"
            case ConnectionRefusedError():
                return "connection refused"
            case ConnectionResetError():
                return "connection reset"
            case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH | errno.ENETDOWN):
                return "network unreachable"
    return "connecting failed"


def _roots(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it came from, and what that came from."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _roots(each)
        error = error.__cause__ or error.__context__
