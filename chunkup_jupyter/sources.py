"""Bytes from a path, from memory, or from a stream; opened once, checked often.

Offsets and sizes are in bytes. Reading never blocks the event loop for more than one
block: what the page cache holds is read at once, everything else in a thread.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import mimetypes
import os
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol, cast, runtime_checkable

from . import digests, units
from .errors import (
    InvalidUpload,
    NameNeeded,
    NotRegularFile,
    SourceChanged,
    SourceError,
    SourceGone,
)
from .model import FileInfo

Buffer = bytes | bytearray | memoryview
Readable = str | os.PathLike[Any] | Buffer | io.IOBase
"""What ``open_source`` takes, beside a ``Source`` and anything with a binary ``read``."""

SPOOL_MEMORY = 64 << 20  # bytes of a stream kept in memory before a temporary file is made
SPOOL_QUOTA = 8 << 30  # bytes of a stream kept at all; half the free space if that is less
_DIGEST_BLOCK = 4 << 20  # a hop to a thread costs 0.1 ms, MD5 of this takes 4 ms
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


@runtime_checkable
class Source(Protocol):
    """Where the bytes of one upload come from.

    ``identity`` keys the journal; ``spelled`` is how the user wrote the source, "" when
    it cannot be written again; ``in_order`` says that reads must come in order.
    """

    info: FileInfo
    identity: str
    spelled: str
    in_order: bool

    async def read(self, start: int, size: int) -> bytes | memoryview:
        """Return exactly ``size`` bytes from ``start``. Reads may overlap.

        Raises ``SourceChanged`` when there are fewer, ``SourceGone`` or ``SourceError``
        when they cannot be had.
        """

    def verify(self) -> None:
        """Raise ``SourceChanged`` when the bytes are not those that were opened. Cheap."""

    def close(self) -> None:
        """Let go. May be repeated."""


def open_source(
    source: Any,
    *,
    name: str | None = None,
    media_type: str | None = None,
    size: int | None = None,
    spelled: str | None = None,
) -> Source:
    """Return a source for a path, bytes, a binary file object, or a source itself.

    ``name`` and ``media_type`` override what the source says of itself; ``spelled``
    overrides how it is written in the line that resumes.

    Raises:
        NameNeeded: bytes or a nameless stream without ``name``.
        NotRegularFile: a directory, a device, a pipe, or a file of no stated size.
        SourceError: it is missing or may not be read; ``errno`` says which.
        InvalidUpload: a text file, a stated ``size`` that differs, a stream beyond its bound.
    """
    opened = _open(source, name)
    try:
        if size is not None and size != opened.info.size:
            raise InvalidUpload(
                f"{opened.info.name} has {opened.info.size:,} bytes, not the stated {size:,}"
            )
        if name is not None and not name.strip():
            raise NameNeeded("the file name is empty; give name=…")
    except InvalidUpload:
        if opened is not source:
            opened.close()
        raise
    if name:
        opened.info = replace(opened.info, name=name, media_type=media_type_of(name))
    if media_type:
        opened.info = replace(opened.info, media_type=media_type)
    if spelled is not None:
        opened.spelled = spelled
    return opened


def _open(source: Any, name: str | None) -> Source:
    match source:
        case str() | os.PathLike():
            return PathSource(source)
        case bytes() | bytearray() | memoryview():
            return MemorySource(source, name)
        case io.TextIOBase():
            raise InvalidUpload("this file is open as text; open it with mode 'rb'")
        case io.BytesIO():
            return MemorySource(source.getbuffer(), name or _name_of(source))
    if isinstance(source, Source):
        return source
    if isinstance(source, io.IOBase) and not source.readable():
        raise InvalidUpload("this file is not open for reading; open it with mode 'rb'")
    if not callable(getattr(source, "read", None)):
        raise InvalidUpload(
            f"a {type(source).__name__} cannot be uploaded; give a path, bytes, or a binary file"
        )
    if type(source) in (io.BufferedReader, io.BufferedRandom, io.FileIO):
        opened = _of_descriptor(source, name)
        if opened is not None:
            return opened
    if _seekable(source):
        return FileObjectSource(source, name)
    return spool(source, name)


def media_type_of(name: str) -> str:
    """Return the media type that a file name suggests, ``application/octet-stream`` if none."""
    extension = os.path.splitext(name)[1].lower()
    if extension in _MEDIA_TYPES:
        return _MEDIA_TYPES[extension]
    guess, encoding = mimetypes.guess_type("x" + extension if extension else "x", strict=False)
    if encoding or not guess:
        return "application/gzip" if encoding == "gzip" else "application/octet-stream"
    return guess


async def crc64_of(source: Source, start: int, size: int) -> int:
    """Return the CRC-64/XZ of ``size`` bytes from ``start``: the proof of one part."""
    crc = digests.Crc64()
    await _digest(source, crc, start, size, None)
    return crc.value


async def digest_of(
    source: Source, name: str, on_bytes: Callable[[int], object] | None = None
) -> str:
    """Return the text of the whole source's ``md5``, ``sha256`` or ``crc64``.

    Reads in order and hashes in a thread, block by block, so that cancelling takes
    effect within one block. ``on_bytes`` is told the size of every block hashed.
    """
    digest = digests.new(name)
    await _digest(source, digest, 0, source.info.size, on_bytes)
    return digest.text()


async def _digest(
    source: Source,
    digest: digests.Digest,
    start: int,
    size: int,
    on_bytes: Callable[[int], object] | None,
) -> None:
    def both(at: int, count: int) -> None:
        digest.update(cast(_Blocking, source).read_blocking(at, count))

    end = start + size
    blocking = isinstance(source, _Blocking)
    for at in range(start, end, _DIGEST_BLOCK):
        count = min(_DIGEST_BLOCK, end - at)
        if blocking:
            await asyncio.to_thread(both, at, count)
        else:
            await asyncio.to_thread(digest.update, await source.read(at, count))
        if on_bytes is not None:
            on_bytes(count)


@runtime_checkable
class _Blocking(Protocol):
    """A source that a thread can read from."""

    def read_blocking(self, start: int, size: int) -> bytes | memoryview: ...


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
                raise NotRegularFile(f"{spelled} is a directory; give a file in it")
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
            advice = "give a file in it" if kind == "a directory" else "copy its bytes to a file"
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
                raise _failed(self._label, start, error) from error
        return block

    def verify(self) -> None:
        """Raise ``SourceChanged`` when size, time, inode or device moved since the opening."""
        with self._reading():
            try:
                now = os.fstat(self._file)
            except OSError as error:
                raise _failed(self._label, 0, error) from error
        was = self._stat
        if now.st_size != was.st_size:
            raise SourceChanged(
                f"{self._label} changed during the upload: it had {was.st_size:,} bytes "
                f"and now has {now.st_size:,}"
            )
        if _marks(now) != _marks(was):
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
                os.posix_fadvise(self._file, start + size, _DIGEST_BLOCK, os.POSIX_FADV_WILLNEED)
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
    """Bytes in memory. They are not copied, so they must not be changed meanwhile."""

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
        """Nothing can be checked cheaply; the parts' own checksums tell."""

    def close(self) -> None:
        """Let go of the memory."""
        self._view = memoryview(b"")


class FileObjectSource:
    """A seekable binary file object, from its first byte to its last.

    It is read in threads, one read at a time, and is left open for its owner.
    """

    in_order = False
    spelled = ""

    def __init__(self, file: Any, name: str | None) -> None:
        found = name or _name_of(file)
        if not found:
            raise NameNeeded("this file object has no name; give name=…")
        self._file = file
        self._lock = threading.Lock()
        self._closed = False
        self._name = found
        try:
            file.seek(0)
            if not isinstance(file.read(0), Buffer):
                raise InvalidUpload(f"{found} is open as text; open it with mode 'rb'")
            size = self._end()
        except (OSError, ValueError) as error:
            if isinstance(error, InvalidUpload):
                raise
            raise _failed(found, 0, error) from error
        self._marks = self._look()
        # What cannot be stat'ed has no fingerprint: only the parts' checksums prove it.
        self.info = FileInfo(found, size, media_type_of(found), "")
        self.identity = f"stream:{found}:{size}"

    async def read(self, start: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``start``."""
        return await asyncio.to_thread(self.read_blocking, start, size)

    def read_blocking(self, start: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``start``, waiting for them."""
        with self._lock:
            if self._closed:
                raise SourceError(f"{self._name} was closed")
            try:
                self._file.seek(start)
                return _exactly(self._file, size, self._name, start)
            except SourceError:
                raise
            except (OSError, ValueError) as error:
                raise _failed(self._name, start, error) from error

    def verify(self) -> None:
        """Raise ``SourceChanged`` when the file behind the object was written to.

        The size of an object without a file is looked up, unless a read is going on.
        """
        if self._look() != self._marks:
            raise SourceChanged(f"{self._name} was written to during the upload")
        if self._marks is None and self._lock.acquire(blocking=False):
            try:
                size = self.info.size if self._closed else self._end()
            except (OSError, ValueError) as error:
                raise _failed(self._name, 0, error) from error
            finally:
                self._lock.release()
            if size != self.info.size:
                raise SourceChanged(
                    f"{self._name} changed during the upload: it had {self.info.size:,} bytes "
                    f"and now has {size:,}"
                )

    def close(self) -> None:
        """Stop reading; the object stays open for its owner."""
        self._closed = True

    def _end(self) -> int:
        self._file.seek(0, os.SEEK_END)
        return int(self._file.tell())

    def _look(self) -> tuple[int, ...] | None:
        try:
            return _marks(os.fstat(self._file.fileno()))
        except (AttributeError, OSError, ValueError):
            return None


def spool(
    file: Any,
    name: str | None,
    *,
    memory: int = SPOOL_MEMORY,
    quota: int | None = None,
) -> Source:
    """Read a stream to its end and return a source over what it held.

    Up to ``memory`` bytes stay in memory; more go to a private temporary file that
    disappears with the source, up to ``quota`` bytes (8 GiB, or half the free space).

    Raises:
        NameNeeded: the stream has no name.
        InvalidUpload: it holds more than ``quota``, or text.
    """
    found = name or _name_of(file)
    if not found:
        raise NameNeeded("a stream has no file name; give name=…")
    if quota is None:
        quota = min(SPOOL_QUOTA, shutil.disk_usage(tempfile.gettempdir()).free // 2)
    digest = hashlib.sha256()
    held = bytearray()
    spilled: Any = None
    total = 0
    try:
        while block := file.read(1 << 20):
            if not isinstance(block, Buffer):
                raise InvalidUpload(f"{found} is open as text; open it with mode 'rb'")
            total += len(block)
            if total > quota:
                raise InvalidUpload(
                    f"{found} is a stream that cannot be sized, and it holds more than the "
                    f"{units.size(quota)} that are kept of one; write it to a file first"
                )
            digest.update(block)
            if spilled is None and total <= memory:
                held += block
                continue
            if spilled is None:
                spilled = tempfile.TemporaryFile(prefix="chunkup-", buffering=0)  # noqa: SIM115
                _write_all(spilled, held)
                held = bytearray()
            _write_all(spilled, block)
        if spilled is None:
            return MemorySource(held, found)
        opened = PathSource.of_descriptor(os.dup(spilled.fileno()), found)
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise _failed(found, total, error) from error
    finally:
        if spilled is not None:
            spilled.close()  # the duplicate keeps the bytes
    sha256 = digest.hexdigest()
    opened.info = replace(
        opened.info, name=found, media_type=media_type_of(found), fingerprint=f"sha256:{sha256}"
    )
    opened.identity = f"bytes:{found}:{sha256}"
    return opened


def _of_descriptor(file: Any, name: str | None) -> Source | None:
    """Return a source over a real file that somebody opened, None when it is a pipe."""
    try:
        if file.writable():
            file.flush()
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        given = file.name  # a number when it was opened by descriptor
        path = os.path.abspath(os.fsdecode(given)) if isinstance(given, str | bytes) else ""
        here = os.path.samestat(os.stat(path), os.fstat(file.fileno())) if path else False
    except FileNotFoundError:
        here = False
    except (OSError, ValueError) as error:
        raise _failed(name or "the file", 0, error) from error
    if not name and not path:
        raise NameNeeded("this file object has no name; give name=…")
    found = name or os.path.basename(path)
    # The owner's position and its closing are no concern of ours.
    opened = PathSource.of_descriptor(os.dup(file.fileno()), os.path.realpath(path) or found)
    if here:
        opened.spelled = path
    else:
        opened.identity = f"stream:{found}:{opened.info.size}"
    return opened


def _exactly(file: Any, size: int, name: str, start: int) -> bytes:
    block = b""
    while len(block) < size:
        more = file.read(size - len(block))
        if more is None:
            raise SourceError(f"{name} has no bytes ready: it is in non-blocking mode")
        if not more:
            raise SourceChanged(f"{name} ends at byte {start + len(block):,}, too early")
        block = block + more if block else bytes(more)
    return block


def _write_all(file: Any, data: Buffer) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _seekable(file: Any) -> bool:
    try:
        if callable(getattr(file, "seekable", None)):
            return bool(file.seekable())
        file.seek(file.tell())
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _name_of(file: Any) -> str:
    name = getattr(file, "name", None)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return os.path.basename(name) if isinstance(name, str) else ""


def _slow(size: int, seconds: float) -> bool:
    return seconds > 0.0002 + size / 1e9  # below 1 GB/s it did not come from the page cache


def _marks(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def _fingerprint(found: os.stat_result) -> str:
    return "stat:" + "-".join(f"{value:x}" for value in _marks(found))


def _unreadable(path: str, error: OSError) -> SourceError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            wrapped = SourceError(f"there is no file {path}")
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


def _failed(name: str, start: int, error: Exception) -> SourceError:
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    if number in (errno.ESTALE, errno.ENOTCONN, errno.ENODEV):
        wrapped: SourceError = SourceGone(f"{name} went away: {reason}")
    else:
        wrapped = SourceError(f"{name} cannot be read at byte {start:,}: {reason}")
    wrapped.errno = number
    return wrapped


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
