"""HTTP as plain values, and the only place that names the HTTP library.

``Request`` and ``Response`` are what flows yield and are sent; a sandbox is a
function from one to the other. ``HttpClient`` sends them over real sockets.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable
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
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content = b""
    once: bool = False
    public_only: bool = False

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
