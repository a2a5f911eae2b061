"""A regular file, and bytes in memory, as sources of an upload.

What the page cache holds is read at once, everything else in a thread, so that the
event loop never waits for more than one block.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import mimetypes
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..errors import (
    InvalidUpload,
    NameNeeded,
    NotRegularFile,
    SourceChanged,
    SourceError,
    SourceGone,
)
from ..model import FileInfo

Buffer = bytes | bytearray | memoryview

AHEAD = 4 << 20  # bytes that the disk is asked for while a block of them is sent
_SMALL = 4096  # a /proc or /sys file says 0 or one page, whatever it holds

_MEDIA_TYPES = {
    # What the standard table lacks, or has only since Python 3.13.
    ".jsonl": "application/jsonl",
    ".ndjson": "application/x-ndjson",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".ts": "video/mp2t",
    ".m4a": "audio/mp4",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".webp": "image/webp",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
}


class PathSource:
    """A regular file, opened once: renaming or deleting it does no harm afterwards."""

    in_order = False

    def __init__(self, path: str | os.PathLike[Any]) -> None:
        spelled = os.fsdecode(os.fspath(path))
        full = os.path.expanduser(spelled)
        # O_NONBLOCK: opening a pipe nobody writes to would hang the kernel.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        flags |= getattr(os, "O_BINARY", 0)
        try:
            if os.name == "nt" and os.path.isdir(full):
                raise NotRegularFile(f"{spelled} is a directory; {_FOLDER}")
            descriptor = os.open(full, flags)
        except ValueError as error:
            raise SourceError(f"{spelled!r} is no path: {error}") from error
        except NotRegularFile:
            raise
        except OSError as error:
            raise _unreadable(spelled, error) from error
        self._begin(descriptor, os.path.realpath(full), spelled)

    @classmethod
    def of_descriptor(cls, descriptor: int, path: str, spelled: str = "") -> PathSource:
        """Return a source that owns this descriptor of a regular file at ``path``."""
        source = cls.__new__(cls)
        source._begin(descriptor, path, spelled)
        return source

    def _begin(self, descriptor: int, path: str, spelled: str) -> None:
        self._file = descriptor
        self._lock = threading.Lock()
        self._readers = 0
        self._closing = False
        self._nowait = getattr(os, "RWF_NOWAIT", None)
        self._credit = 0  # blocks that may be read at once because the last one was fast
        self._label = spelled or os.path.basename(path)
        self.identity = f"path:{path}"
        self.spelled = spelled
        try:
            self._stat = os.fstat(descriptor)
            self._check()
        except NotRegularFile:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise _unreadable(self._label, error) from error
        name = os.path.basename(path if not spelled else os.path.normpath(spelled))
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self.info = FileInfo(
            name, self._stat.st_size, media_type_of(name), _fingerprint(self._stat)
        )

    def _check(self) -> None:
        kind = _KINDS.get(stat.S_IFMT(self._stat.st_mode))
        if kind:
            advice = _FOLDER if kind == "a directory" else "copy its bytes to a file"
            raise NotRegularFile(f"{self._label} is {kind}; {advice}")
        size = self._stat.st_size
        if size <= _SMALL:
            last = self._pread(max(0, size - 1), 1)
            if bool(last) != (size > 0):
                raise NotRegularFile(
                    f"{self._label} says it has {size} bytes and holds "
                    f"{'more' if last else 'fewer'}: the system makes it up as it is read; "
                    "copy it to a real file first"
                )

    async def read(self, start: int, size: int) -> bytes | memoryview:
        """Return exactly ``size`` bytes from ``start``."""
        if self._at_hand(start, size):
            began = time.perf_counter()
            block = self.read_blocking(start, size)
            if self._nowait is None and _slow(size, time.perf_counter() - began):
                self._credit = 0
            return block
        return await asyncio.to_thread(self._fetch, start, size)

    def read_blocking(self, start: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``start``, waiting for the disk."""
        with self._reading():
            try:
                block = self._pread(start, size)
                while len(block) < size:  # the kernel may return less: 2 GiB is its most
                    more = self._pread(start + len(block), size - len(block))
                    if not more:
                        raise SourceChanged(
                            f"{self._label} ends at byte {start + len(block):,}; "
                            f"it had {self.info.size:,} when the upload began"
                        )
                    block += more
            except SourceError:
                raise
            except OSError as error:
                raise failed(self._label, start, error) from error
        return block

    def verify(self) -> None:
        """Raise ``SourceChanged`` when size, time, inode or device moved since the opening."""
        with self._reading():
            try:
                now = os.fstat(self._file)
            except OSError as error:
                raise failed(self._label, 0, error) from error
        was = self._stat
        if now.st_size != was.st_size:
            raise SourceChanged(
                f"{self._label} changed during the upload: it had {was.st_size:,} bytes "
                f"and now has {now.st_size:,}"
            )
        if marks(now) != marks(was):
            raise SourceChanged(f"{self._label} was written to during the upload")

    def close(self) -> None:
        """Close the file, once the last thread that reads from it is done."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            if self._readers == 0:
                os.close(self._file)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        # Without this count a cancelled read, still in its thread, could meet the same
        # descriptor number opened again for another file.
        with self._lock:
            if self._closing:
                raise SourceError(f"{self._label} was closed")
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if self._closing and self._readers == 0:
                    os.close(self._file)

    def _at_hand(self, start: int, size: int) -> bool:
        """Say whether a read will not wait, by asking for its first and last byte.

        A buffer filled by ``preadv`` itself would be exact, and costs a third more CPU
        than ``pread``, which need not clear it first (measured 2026-11).
        """
        if size <= 0:
            return True
        if self._nowait is None:
            self._credit -= 1
            return self._credit >= 0
        byte = bytearray(1)
        with self._reading():
            try:
                for at in (start, start + size - 1):
                    os.preadv(self._file, [byte], at, self._nowait)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    self._nowait = None  # some file systems cannot say
                return False
        return True

    def _fetch(self, start: int, size: int) -> bytes:
        began = time.perf_counter()
        block = self.read_blocking(start, size)
        if self._nowait is None:
            # A stretch at a time, so that a mount that turns slow is noticed.
            self._credit = 0 if _slow(size, time.perf_counter() - began) else 15
        elif hasattr(os, "posix_fadvise"):
            with suppress(OSError, SourceError), self._reading():
                os.posix_fadvise(self._file, start + size, AHEAD, os.POSIX_FADV_WILLNEED)
        return block

    if sys.platform == "win32":

        def _pread(self, start: int, size: int) -> bytes:
            with self._lock:
                os.lseek(self._file, start, os.SEEK_SET)
                return os.read(self._file, size)

    else:

        def _pread(self, start: int, size: int) -> bytes:
            return os.pread(self._file, size, start)


class MemorySource:
    """Bytes in memory. They are not copied: what can be written to is looked at again."""

    in_order = False
    spelled = ""

    def __init__(self, data: Buffer, name: str | None) -> None:
        if not name:
            raise NameNeeded("bytes have no file name; give name=…")
        view = memoryview(data)
        if not view.contiguous:
            raise InvalidUpload("this memoryview has gaps; give bytes(view)")
        self._view = view.cast("B") if view.nbytes else memoryview(b"")
        digest = hashlib.sha256(self._view).hexdigest()
        self.info = FileInfo(name, self._view.nbytes, media_type_of(name), f"sha256:{digest}")
        self.identity = f"bytes:{name}:{digest}"

    async def read(self, start: int, size: int) -> memoryview:
        """Return a view of exactly ``size`` bytes from ``start``."""
        return self.read_blocking(start, size)

    def read_blocking(self, start: int, size: int) -> memoryview:
        """Return a view of exactly ``size`` bytes from ``start``."""
        block = self._view[start : start + size]
        if len(block) != size:
            raise SourceChanged(f"{self.info.name} has no {size:,} bytes at {start:,}")
        return block

    def verify(self) -> None:
        """Nothing can be checked cheaply; ``confirm`` does."""

    async def confirm(self) -> None:
        """Raise ``SourceChanged`` when memory that can be written to was."""
        if isinstance(self._view.obj, bytes):
            return
        digest = await asyncio.to_thread(hashlib.sha256, self._view)
        if f"sha256:{digest.hexdigest()}" != self.info.fingerprint:
            raise SourceChanged(
                f"{self.info.name} was written to during the upload; give a copy, bytes(…)"
            )

    def close(self) -> None:
        """Let go of the memory."""
        self._view = memoryview(b"")


def media_type_of(name: str) -> str:
    """Return the media type that a file name suggests, ``application/octet-stream`` if none."""
    extension = os.path.splitext(name)[1].lower()
    if extension in _MEDIA_TYPES:
        return _MEDIA_TYPES[extension]
    guess, encoding = mimetypes.guess_type("x" + extension if extension else "x", strict=False)
    if encoding or not guess:
        return "application/gzip" if encoding == "gzip" else "application/octet-stream"
    return guess


def _slow(size: int, seconds: float) -> bool:
    return seconds > 0.0002 + size / 1e9  # below 1 GB/s it did not come from the page cache


def marks(found: os.stat_result) -> tuple[int, ...]:
    """Return what moves when a file is written to or replaced."""
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def _fingerprint(found: os.stat_result) -> str:
    return "stat:" + "-".join(f"{value:x}" for value in marks(found))


def _unreadable(path: str, error: OSError) -> SourceError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            wrapped = SourceError(f"there is no file {path or repr(path)}")
        case errno.EACCES | errno.EPERM:
            wrapped = SourceError(f"{path} may not be read: permission denied")
        case errno.ELOOP:
            wrapped = SourceError(f"{path} is a symbolic link that leads back to itself")
        case errno.ENXIO | errno.ENODEV | errno.EOPNOTSUPP:
            wrapped = NotRegularFile(f"{path} is a socket or a device; copy its bytes to a file")
        case _:
            wrapped = SourceError(f"{path} cannot be opened: {error.strerror or error}")
    wrapped.errno = error.errno
    return wrapped


def failed(name: str, start: int, error: Exception) -> SourceError:
    """Return our error for a read that failed, for a reader; keeps ``errno``."""
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    if number in (errno.ESTALE, errno.ENOTCONN, errno.ENODEV):
        wrapped: SourceError = SourceGone(f"{name} went away: {reason}")
    else:
        wrapped = SourceError(f"{name} cannot be read at byte {start:,}: {reason}")
    wrapped.errno = number
    return wrapped


_FOLDER = "give a file in it, or add -r for all (in Python: upload_many with recursive=True)"
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
