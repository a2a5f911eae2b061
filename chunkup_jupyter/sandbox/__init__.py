"""Servers that speak a provider's protocol on this machine: for learning and for tests.

A sandbox is a function from request to response: ``handle``. Wire a provider to it
and a whole upload runs without I/O; ``sandbox.server.serve`` puts it on a loopback
port for everybody else's clients. It knows nothing of what the providers know.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypedDict
from urllib.parse import parse_qsl, unquote, urlsplit

from ..wire import Headers, Request, Response
from .store import Blob, QuotaExceeded, Store

__all__ = [
    "Answer",
    "Blob",
    "Call",
    "No",
    "QuotaExceeded",
    "Sandbox",
    "Setup",
    "Store",
    "answer_json",
    "load",
    "names",
    "random_key",
    "same",
]


@dataclass(frozen=True)
class Call:
    """A request as a sandbox sees it: taken apart, its body stored.

    ``path`` is percent-decoded, ``raw_path`` and ``raw_query`` are as sent; ``query``
    is a list of decoded pairs in the order sent, blank values kept. ``url`` is
    absolute.
    """

    method: str
    url: str
    raw_path: str
    raw_query: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Headers
    body: Blob

    def get(self, name: str) -> str | None:
        """Return the first query value of that name, None when absent."""
        return next((value for key, value in self.query if key == name), None)

    def json(self) -> Any:
        """Return the JSON body (read up to 1 MiB). Raises ``ValueError``."""
        return json.loads(self.body.read(1 << 20))

    @property
    def says_json(self) -> bool:
        """Whether the body is said to be JSON."""
        return self.headers.get("content-type", "").partition(";")[0].strip() == "application/json"


@dataclass(frozen=True)
class Answer(Response):
    """A response whose body may be a stored blob, streamed instead of read."""

    blob: Blob | None = None


class No(Exception):
    """A refusal: an HTTP status, the provider's own code for it, a message for people."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Setup(TypedDict, total=False):
    """What every sandbox takes: where bytes are kept, the clock, its own origin."""

    store: Store | None
    now: Callable[[], float]
    base: str


class Sandbox(ABC):
    """One provider's server. Subclasses answer calls; state is guarded by a lock.

    ``limits`` is a frozen dataclass of the documented limits; ``shrink`` replaces
    some, so that a 100-byte file crosses every boundary. ``now`` is the clock, in
    Unix seconds. ``base`` is the server's own origin, needed for URLs it hands out.
    """

    name: ClassVar[str]
    api: ClassVar[str] = ""
    """What follows the origin in ``base_url`` (``/v1``)."""

    def __init__(
        self,
        *,
        store: Store | None = None,
        now: Callable[[], float] = time.time,
        base: str = "http://127.0.0.1:1",
    ) -> None:
        self.store = store or Store()
        self.now = now
        self.base = base
        self.lock = threading.RLock()
        self.seen: Counter[str] = Counter()
        """How often each kind of call was answered, by the name ``count`` was given."""

    limits: Any

    @property
    def base_url(self) -> str:
        """What the vendor's SDK and our provider take as their base URL or endpoint."""
        return self.base + self.api

    def handle(self, request: Request) -> Answer:
        """Answer one request whose body is in memory."""
        data = b"".join(
            bytes(piece) if isinstance(piece, bytes) else b"".join(iter(piece))  # type: ignore[call-overload]
            for piece in request.pieces
        )
        return self.take(request.method, request.url, Headers(request.headers), self.keep(data))

    def keep(self, data: bytes) -> Blob:
        """Store bytes in memory, within the quota."""
        self.store.reserve(len(data))
        return self.store.adopt(data, len(data))

    def take(self, method: str, url: str, headers: Headers, body: Blob) -> Answer:
        """Answer one call whose body is stored already. Every answer carries ``Date``."""
        parts = urlsplit(url)
        call = Call(
            method=method,
            url=url,
            raw_path=parts.path or "/",
            raw_query=parts.query,
            path=unquote(parts.path or "/"),
            query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
            headers=headers,
            body=body,
        )
        with self.lock:
            answer = self.answer(call)
        return self.dated(answer, url)

    def dated(self, answer: Answer, url: str) -> Answer:
        """Return an answer as it leaves: with ``Date``, which one official SDK needs."""
        stamp = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(self.now()))
        fields = {"date": stamp, **answer.headers}
        return replace(answer, headers=Headers(fields), url=url)

    def shrink(self, **limits: Any) -> None:
        """Replace documented limits, by field name.

        Raises ``ValueError`` for nonsense: nothing that is counted goes below 1, or below
        0 if it is one of the limits' ``may_be_zero``, and no least exceeds its most.
        """
        changed = replace(self.limits, **limits)
        _check_limits(changed, getattr(changed, "may_be_zero", ()))
        self.limits = changed

    def count(self, kind: str) -> None:
        """Note that a call of this kind was answered."""
        self.seen[kind] += 1

    @abstractmethod
    def answer(self, call: Call) -> Answer:
        """Answer one call, under the lock."""

    @abstractmethod
    def announce(self) -> Mapping[str, str]:
        """Return the key fields, bucket and region that apply, for the ready line."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Return the environment variables that point our providers and the SDK here."""

    @abstractmethod
    def finished(self) -> Mapping[str, Blob]:
        """Return what uploads made, by result id: for comparing bytes."""

    @abstractmethod
    def unfinished(self) -> Sequence[str]:
        """Return the ids of sessions that are still open."""


def _check_limits(limits: Any, may_be_zero: Sequence[str]) -> None:
    values = {field.name: getattr(limits, field.name) for field in fields(limits)}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not (value > 0 or (value == 0 and name in may_be_zero)):
            least = "not negative" if name in may_be_zero else "more than 0"
            raise ValueError(f"{name} has to be {least}, not {value}")
        least_of, _, what = name.partition("_")
        most = values.get(f"max_{what}")
        if least_of == "min" and most is not None and value > most:
            raise ValueError(f"{name} is {value}, more than max_{what}, which is {most}")


def answer_json(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a JSON answer."""
    fields = {"content-type": "application/json", **(headers or {})}
    return Answer(status, Headers(fields), json.dumps(body).encode())


def random_key(prefix: str = "") -> str:
    """Return a key of 192 random bits."""
    return prefix + secrets.token_hex(24)


def same(given: str, right: str) -> bool:
    """Compare keys and signatures in a time that tells nothing about them."""
    return hmac.compare_digest(given.encode(), right.encode())


def names() -> list[str]:
    """Return the names of the providers that have a sandbox."""
    return sorted(point.name for point in entry_points(group="chunkup_jupyter.sandboxes"))


def load(name: str) -> type[Sandbox]:
    """Return the sandbox class for a provider's URL scheme. Raises ``KeyError``."""
    for point in entry_points(group="chunkup_jupyter.sandboxes"):
        if point.name == name:
            return point.load()  # type: ignore[no-any-return]
    raise KeyError(name)
