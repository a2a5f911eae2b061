"""Where a sandbox keeps bytes: slices of files or of memory, counted against a quota."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import digests

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
