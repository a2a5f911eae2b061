"""HTTP as plain values: what flows yield, what sandboxes answer, what can go wrong.

A sandbox is a function from a ``Request`` to a ``Response``; ``MemoryClient`` hands
requests to one, ``client.HttpClient`` sends them over real sockets.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, runtime_checkable
from urllib.parse import quote, urlsplit


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

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Request holds a key and is never pickled or copied")


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
    where sending took long, three times as long as that. ``reading``: for the whole body
    of an answer, however steadily it drips: an honest one is small.
    """

    connect: float = 10.0
    idle: float = 30.0
    answer: float = 30.0
    reading: float = 300.0


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
