"""A request's body on its way into a sandbox's store."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from . import Blob, Store

_IN_MEMORY = 64 << 10  # bytes; bodies beyond it go to a file, if the store has a folder
_BLOCK = 512 << 10  # bytes written to disk at a time


class DiskFull(Exception):
    """The disk took no more."""


class Incoming:
    """A body on its way into the store, counted against the quota as it comes.

    At most one block is being written while the next one gathers, so that neither
    waits for the other and memory stays at two blocks.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gathered = bytearray()
        self._size = 0  # reserved so far
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._writing: asyncio.Future[None] | None = None

    async def add(self, data: bytes) -> None:
        """Take the next bytes. Raises ``QuotaExceeded``."""
        self._store.reserve(len(data))
        self._size += len(data)
        self._gathered += data
        threshold = _IN_MEMORY if self._file is None else _BLOCK
        if self._store.root is not None and len(self._gathered) >= threshold:
            await self._write()

    async def finish(self) -> Blob:
        """Return the whole as a blob that owns its bytes."""
        size = self._size
        if self._file is None:
            kept: bytes | Path = bytes(self._gathered)
        else:
            await self._write()
            await self._written()
            assert self._path is not None
            kept, self._path = self._path, None
        self._size = 0
        return self._store.adopt(kept, size)

    async def close(self) -> None:
        """Close the file; what was not finished is deleted and no longer counted."""
        with contextlib.suppress(DiskFull):
            await self._written()
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._store.release(self._size)
        self._size = 0

    async def _write(self) -> None:
        await self._written()
        if self._file is None:
            path = self._store.new_path()
            self._file, self._path = _new_file(path), path
        block, self._gathered = self._gathered, bytearray()
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, _write_all, self._file, block)

    async def _written(self) -> None:
        if self._writing is not None:
            # Shielded: who is cancelled here must not close the file under the thread.
            await asyncio.shield(self._writing)
            self._writing = None


def _new_file(path: Path) -> BinaryIO:
    try:
        return open(path, "xb", buffering=0, opener=_private)
    except OSError as error:
        raise DiskFull from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _write_all(file: BinaryIO, data: bytearray) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise DiskFull from error
