"""HTTP as plain values, and the only place that names the HTTP library.

``Request`` and ``Response`` are what flows yield and are sent; a sandbox is a
function from one to the other. ``HttpClient`` sends them over real sockets,
``MemoryClient`` hands them to such a function.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from . import bandwidth, fast
from .sockets import UNSENT, Network
from .sockets import moved as left_the_system


@runtime_checkable
class Stream(Protocol):
    """Bytes that are produced while they are sent. Iterating again starts afresh."""

    @property
    def size(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[bytes | memoryview]: ...


Content = bytes | Stream | tuple[bytes | Stream, ...]


class Headers(Mapping[str, str]):
    """Header fields by name, whatever its case; kept in lower case."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        self._fields = {name.lower(): value for name, value in pairs}

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Any:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._fields)})"


@dataclass(frozen=True, repr=False)
class Request:
    """One HTTP request, exactly as it is to be sent.

    ``url`` is sent as it stands: nothing is normalised, so what is signed is what
    is sent. ``content`` is bytes, a stream, or several of them in a row; its length
    is always known and sent as ``Content-Length``.

    ``once``: the request may not simply be repeated when its answer is lost; the
    flow is told by an ``AnswerLost`` thrown into it. ``public_only``: a server, not
    the user, named this host, so private and link-local addresses are refused.
    ``within``: seconds the answer may take after the last byte, None for the usual.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content = b""
    once: bool = False
    public_only: bool = False
    within: float | None = None

    @property
    def pieces(self) -> tuple[bytes | Stream, ...]:
        """The content as a row of bytes and streams."""
        return self.content if isinstance(self.content, tuple) else (self.content,)

    @property
    def size(self) -> int:
        """The length of the content in bytes."""
        return sum(len(p) if isinstance(p, bytes) else p.size for p in self.pieces)

    @property
    def host(self) -> str:
        """The host's name, without a port."""
        return urlsplit(self.url).hostname or ""

    @property
    def path(self) -> str:
        """The path as sent, percent-encoded, without the query."""
        return urlsplit(self.url).path or "/"

    @property
    def query(self) -> str:
        """The query as sent, percent-encoded."""
        return urlsplit(self.url).query

    def __repr__(self) -> str:
        return f"<{self.method} {shown(self.url)} {self.size} bytes>"


@dataclass(frozen=True, repr=False)
class Response:
    """One HTTP answer, read whole and undecoded (``content`` is at most 1 MiB)."""

    status: int
    headers: Headers = field(default_factory=Headers)
    content: bytes = b""
    url: str = ""

    def json(self) -> Any:
        """Return the decoded JSON body. Raises ``ValueError`` when it is not JSON."""
        return json.loads(self.content)

    @property
    def text(self) -> str:
        """The body as text, undecodable bytes replaced."""
        return self.content.decode("utf-8", "replace")

    @property
    def host(self) -> str:
        """The host that answered, without a port."""
        return urlsplit(self.url).hostname or ""

    def __repr__(self) -> str:
        return f"<{self.status}, {len(self.content)} bytes>"


Send = Callable[[Request], Response]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def json_request(
    method: str,
    url: str,
    body: Any,
    headers: Mapping[str, str] | None = None,
    *,
    once: bool = False,
) -> Request:
    """Return a request with a JSON body and its content type."""
    fields = {**(headers or {}), "Content-Type": "application/json"}
    return Request(method, url, fields, json.dumps(body).encode(), once=once)


def shown(url: str) -> str:
    """Return a URL as it may be shown: no query, no user, no fragment.

    >>> shown("https://key:pw@bucket.example/a/b?Signature=abc")
    'https://bucket.example/a/b'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def encoded(text: str, safe: str = "") -> str:
    """Percent-encode UTF-8, keeping ``A-Za-z0-9-_.~`` and ``safe``."""
    return quote(text, safe=safe + "-_.~")


def is_loopback(url: str) -> bool:
    """Say whether a URL's host is this machine, judged by its name alone."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class WireError(Exception):
    """A request got no answer. The text says why and never holds a query or a header."""


class NotConnected(WireError):
    """No connection came about: nothing of the request was sent."""


class Dropped(WireError):
    """The connection broke; the server may have carried the request out or not."""


class Stalled(WireError):
    """No byte moved for too long; the server may have carried the request out or not."""


class Untrusted(WireError):
    """TLS failed, or a server named a private address: nothing of the request was sent."""


class Malformed(WireError):
    """The request cannot be written as HTTP: a line break in a header, say."""


class BadAnswer(WireError):
    """The answer is larger than any honest one, or compressed though we asked for plain."""


@dataclass(frozen=True)
class Patience:
    """How long to wait without a byte, in seconds.

    ``idle``: while sending or reading. ``answer``: after the last byte of the body;
    where sending took long, three times as long as that.
    """

    connect: float = 10.0
    idle: float = 30.0
    answer: float = 30.0


Count = Callable[[int], None]
"""Told how many bytes of a stream were handed to the socket, block by block."""


class Client(Protocol):
    """Whatever takes a request and brings its answer."""

    async def send(
        self, request: Request, count: Count | None = None, patience: Patience = Patience()
    ) -> Response: ...

    async def close(self) -> None: ...


class MemoryClient:
    """Hands requests to a function, a sandbox's ``handle`` say: no sockets, no waiting."""

    def __init__(self, handle: Send) -> None:
        self._handle = handle

    async def send(
        self, request: Request, count: Count | None = None, patience: Patience = Patience()
    ) -> Response:
        """Return the function's answer, the body collected and counted on the way."""
        collected: list[bytes] = []
        for piece in request.pieces:
            if isinstance(piece, bytes):
                collected.append(piece)
                continue
            async for block in piece:
                collected.append(bytes(block))
                if count is not None:
                    count(len(block))
        whole = Request(
            request.method,
            request.url,
            {**request.headers, "Content-Length": str(request.size)},
            b"".join(collected),
        )
        return self._handle(whole)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


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
        proxy = None if self._own is not None else _proxy_for(request.url)
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
            answer = await self._answer(request, outgoing, body, proxy)
        try:
            watch.moved()
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
            address = await _public_address(parts.hostname or "", proxy)
        origin = httpx.URL(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/")
        if address is not None:
            origin = origin.copy_with(host=address)
            extensions["sni_hostname"] = parts.hostname
        return _Exact(origin, target), extensions

    async def _answer(
        self, request: Request, outgoing: httpx.Request, body: _Outgoing, proxy: str | None
    ) -> httpx.Response:
        """Send over the faster transport where it keeps every promise, else over the stock one."""
        if proxy is None and self._may_hurry(request):
            quick = httpx.Request(
                request.method, request.url, headers=outgoing.headers, stream=body
            )
            if "fast" not in self._transports:
                self._transports["fast"] = fast.transport()
            body.counted_out = True
            try:
                return await self._transports["fast"].handle_async_request(quick)
            except httpx.ConnectError as error:
                # Nothing was sent: the stock transport may trust whom the system does
                # not, and knows how to say what is wrong.
                if fast.distrusts(error):
                    self._unhurried.add(request.host)
            body.counted_out = False
        return await self._transport(proxy).handle_async_request(outgoing)

    def _may_hurry(self, request: Request) -> bool:
        streams = any(not isinstance(piece, bytes) and piece.size for piece in request.pieces)
        trusted = _bundle(self._ca_bundle)  # the other library knows one way to be told
        return (
            streams
            and not request.public_only  # it would resolve the name once more
            and trusted in ("", os.environ.get("SSL_CERT_FILE"))
            and request.host not in self._unhurried
            and all(map(str.isprintable, request.headers.values()))
            and fast.fits(request.url)
        )

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
        self.stage = "connecting"

    async def __aenter__(self) -> _Watch:
        await self._timeout.__aenter__()
        self._arm(self._patience.connect + self._patience.idle)
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._timeout.__aexit__(*exc)

    def sending(self) -> None:
        """The head was handed over."""
        self.stage = "sending"
        self._began = self._loop.time()

    def reading_source(self) -> None:
        """The source may take its time: nothing is late until it has delivered."""
        self._timeout.reschedule(None)

    def moved(self) -> None:
        """A byte moved."""
        self._arm(self._patience.idle)

    def still_moving(self) -> None:
        """A byte that was handed over before left this system."""
        when = self._timeout.when()
        if when is not None:
            self._timeout.reschedule(max(when, self._loop.time() + self._patience.idle))

    def sent(self) -> None:
        """The last byte was handed over; now the server has the word."""
        self.stage = "waiting for the answer"
        took = self._loop.time() - self._began
        self._arm(max(self._patience.answer, 3 * took))

    def _arm(self, seconds: float) -> None:
        self._timeout.reschedule(self._loop.time() + seconds)


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
        self.counted_out = False
        """Whether the reader stops at the last byte and never asks what follows it."""
        self._left = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._watch.sending()
        self._left = self._request.size
        for piece in self._request.pieces:
            if isinstance(piece, bytes):
                self._watch.moved()
                if piece:
                    self._hand_over(len(piece))
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
            last = self._hand_over(len(piece))
            if last and self._count is not None:
                self._count(len(piece))
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
            if self._count is not None and not last:
                self._count(len(piece))
            start += len(piece)

    def _hand_over(self, size: int) -> bool:
        """Note that bytes go out; say whether nobody will come back from them."""
        self._left -= size
        if self._left or not self.counted_out:
            return False
        self.whole = True
        self._watch.sent()
        return True


async def _read(answer: httpx.Response, watch: _Watch) -> bytes:
    """Return the raw body, capped: an error's first bytes, a success whole or not at all."""
    watch.stage = "reading the answer"
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


def _proxy_for(url: str) -> str | None:
    """Return the proxy the environment names for this URL; none for this machine."""
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if found and "://" not in found:
        found = f"http://{found}"
    return found


async def _public_address(host: str, proxy: str | None) -> str | None:
    """Return the address to connect to, None to let the proxy resolve the name.

    Raises ``Untrusted`` when the host is, or resolves to, an address that is not public.
    """
    addresses: list[Address] = []
    private = host == "localhost" or host.endswith(".localhost")
    if not private:
        addresses = [literal] if (literal := _literal(host)) else await _resolved(host, proxy)
    if private or not all(map(_is_public, addresses)):
        raise Untrusted(f"a server named {host}, which is not a public address")
    # One family is enough for a storage service, and the older one works everywhere.
    addresses.sort(key=lambda address: address.version)
    return str(addresses[0]) if addresses else None


async def _resolved(host: str, proxy: str | None) -> list[Address]:
    if proxy is not None:
        return []
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host, 443, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except (OSError, UnicodeError):
        raise NotConnected(f"the name {host} cannot be resolved") from None
    return [ipaddress.ip_address(info[4][0]) for info in found]


def _literal(host: str) -> Address | None:
    """Return the address that a host spells out, in any way the system would read it."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 2130706433, 0x7f.1
    except (OSError, UnicodeError):
        return None


def _is_public(address: Address) -> bool:
    """Say whether an address, or the one inside it, is on the public internet."""
    inner: Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address.teredo is not None:
            inner = address.teredo[1]
        if int(address) >> 32 in (0, 0x0064FF9B << 64):  # compatible, NAT64
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.is_site_local:
            return False
    return all(
        each.is_global and not each.is_multicast and not each.is_reserved
        for each in (inner or address,)
    )


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
            return Stalled(f"no byte moved in time while {watch.stage} ({host})")
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
        case _ if type(error).__module__.startswith(("anyio", "httpcore", "h11", "pyreqwest")):
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
