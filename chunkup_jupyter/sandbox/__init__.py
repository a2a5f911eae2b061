"""Servers that speak a provider's protocol on this machine: for learning and for tests.

A sandbox is a function from request to response: ``handle``. Wire a provider to it
and a whole upload runs without I/O; ``sandbox.server.serve`` puts it on a loopback
port for everybody else's clients. It knows nothing of what the providers know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from .. import digests
from ..wire import Headers, Request, Response

Chunk = tuple[bytes | Path, int, int]


@dataclass(frozen=True)
class Blob:
    """Stored bytes: a row of slices of files or of memory. Joining copies nothing."""

    chunks: tuple[Chunk, ...] = ()

    @classmethod
    def of(cls, data: bytes) -> Blob:
        """Return a blob over bytes in memory."""
        return cls(((data, 0, len(data)),)) if data else cls()

    @property
    def size(self) -> int:
        """The length in bytes."""
        return sum(size for _, _, size in self.chunks)

    def __add__(self, other: Blob) -> Blob:
        return Blob(self.chunks + other.chunks)

    def slice(self, start: int, size: int) -> Blob:
        """Return ``size`` bytes from ``start``, by reference."""
        wanted: list[Chunk] = []
        for data, offset, length in self.chunks:
            if start < length and size > 0:
                take = min(size, length - start)
                wanted.append((data, offset + start, take))
                size -= take
                start = 0
            else:
                start = max(0, start - length)
        return Blob(tuple(wanted))

    def blocks(self, block: int = 1 << 20) -> Iterator[bytes]:
        """Yield the bytes in blocks."""
        for data, offset, length in self.chunks:
            if isinstance(data, bytes):
                yield data[offset : offset + length]
                continue
            with data.open("rb") as file:
                file.seek(offset)
                while length > 0 and (read := file.read(min(block, length))):
                    length -= len(read)
                    yield read

    def read(self, limit: int | None = None) -> bytes:
        """Return all the bytes, or the first ``limit`` of them."""
        whole = self if limit is None else self.slice(0, limit)
        return b"".join(whole.blocks())

    def digest(self, name: str) -> str:
        """Return the digest of that name (``md5``, ``crc64``, ``sha256``) as text."""
        digest = digests.new(name)
        for block in self.blocks():
            digest.update(block)
        return digest.text()

    def sha256(self) -> str:
        """Return the SHA-256 in hex, for comparing what came with what was sent."""
        hashed = hashlib.sha256()
        for block in self.blocks():
            hashed.update(block)
        return hashed.hexdigest()


class QuotaExceeded(Exception):
    """The store is full."""


class _Hold:
    """The claim of stored bytes on their quota and their file; given back once."""

    def __init__(self, store: Store, size: int, path: Path | None) -> None:
        self._store, self._size, self._path = store, size, path

    def give_back(self) -> None:
        size, self._size = self._size, 0
        if size:
            self._store.release(size)
            if self._path is not None:
                with contextlib.suppress(OSError):
                    os.unlink(self._path)

    def __del__(self) -> None:
        self.give_back()


class _Memory(bytes):
    """Bytes in memory that know what they hold."""

    hold: _Hold


class _File(type(Path())):  # type: ignore[misc]  # Path itself may be subclassed from 3.12 on
    """A file's path that knows what it holds."""

    hold: _Hold


class Store:
    """Where blobs live: memory, or a private folder with names nobody chose.

    ``quota`` is in bytes over everything kept. Bytes belong to the store while any
    blob refers to them: when the last one is gone their file is deleted and the quota
    has them back, so nobody has to remember what a refused request left behind.
    ``free`` does it at once.
    """

    def __init__(self, root: Path | None = None, quota: int | None = None) -> None:
        self.root = root
        self._own = False
        self._used = 0
        self._given_back: deque[int] = deque()
        self._lock = threading.Lock()
        self.quota = quota

    @classmethod
    def on_disk(cls, root: Path | None = None, quota: int | None = None) -> Store:
        """Return a store in ``root``, or in a private temporary folder deleted by ``close``."""
        own = root is None
        folder = Path(tempfile.mkdtemp(prefix="chunkup-sandbox-")) if root is None else root
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if quota is None:
            quota = min(16 << 30, shutil.disk_usage(folder).free // 2)
        store = cls(folder, quota)
        store._own = own
        return store

    @property
    def used(self) -> int:
        """How many bytes are counted against the quota."""
        with self._lock:
            self._settle()
            return self._used

    def reserve(self, size: int) -> None:
        """Count ``size`` more bytes. Raises ``QuotaExceeded``."""
        with self._lock:
            self._settle()
            if self.quota is not None and self._used + size > self.quota:
                raise QuotaExceeded
            self._used += size

    def release(self, size: int) -> None:
        """Count ``size`` bytes less."""
        # Blobs die wherever the interpreter drops them, even while reserve() holds the
        # lock: appending is atomic, so it needs none.
        self._given_back.append(size)

    def _settle(self) -> None:
        while self._given_back:
            self._used = max(0, self._used - self._given_back.popleft())

    def new_path(self) -> Path:
        """Return a fresh private path for one body. Only for stores on disk."""
        assert self.root is not None
        return self.root / f"{secrets.token_hex(16)}.part"

    def adopt(self, data: bytes | Path, size: int) -> Blob:
        """Return a blob over bytes that are reserved already, in memory or in a file of ours.

        The store has them back when nothing refers to them any more.
        """
        kept: _Memory | _File = _File(data) if isinstance(data, Path) else _Memory(data)
        kept.hold = _Hold(self, size, data if isinstance(data, Path) else None)
        return Blob(((kept, 0, size),)) if size else Blob()

    def free(self, blob: Blob) -> None:
        """Forget a blob's bytes now: its whole files are deleted, memory is dropped."""
        for hold in {getattr(data, "hold", None) for data, _, _ in blob.chunks} - {None}:
            hold.give_back()  # type: ignore[union-attr]

    def close(self) -> None:
        """Delete the folder if this store made it."""
        if self._own and self.root is not None:
            shutil.rmtree(self.root, ignore_errors=True)


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


@dataclass(frozen=True)
class Answer(Response):
    """A response whose body may be a stored blob, streamed instead of read."""

    blob: Blob | None = None


class Sandbox(ABC):
    """One provider's server. Subclasses answer calls; state is guarded by a lock.

    ``limits`` is a frozen dataclass of the documented limits; ``shrink`` replaces
    some, so that a 100-byte file crosses every boundary. ``now`` is the clock, in
    Unix seconds. ``base`` is the server's own origin, needed for URLs it hands out.
    """

    name: ClassVar[str]
    digests_of: ClassVar[tuple[str, ...]] = ()
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
        """Replace documented limits, by field name."""
        self.limits = replace(self.limits, **limits)

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


def answer_json(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a JSON answer."""
    fields = {"content-type": "application/json", **(headers or {})}
    return Answer(status, Headers(fields), json.dumps(body).encode())


def random_key(prefix: str = "") -> str:
    """Return a key of 192 random bits."""
    return prefix + secrets.token_hex(24)


def names() -> list[str]:
    """Return the names of the providers that have a sandbox."""
    return sorted(point.name for point in entry_points(group="chunkup_jupyter.sandboxes"))


def load(name: str) -> type[Sandbox]:
    """Return the sandbox class for a provider's URL scheme. Raises ``KeyError``."""
    for point in entry_points(group="chunkup_jupyter.sandboxes"):
        if point.name == name:
            return point.load()  # type: ignore[no-any-return]
    raise KeyError(name)
