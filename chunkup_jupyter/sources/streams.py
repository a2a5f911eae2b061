"""Binary file objects as sources: read in place if they can seek, else spooled first."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import tempfile
import threading
from dataclasses import replace
from typing import Any

from .. import units
from ..errors import InvalidUpload, NameNeeded, SourceChanged, SourceError
from ..model import FileInfo
from .files import Buffer, MemorySource, PathSource, failed, marks, media_type_of

SPOOL_MEMORY = 64 << 20  # bytes of a stream kept in memory before a temporary file is made
SPOOL_QUOTA = 8 << 30  # bytes of a stream kept at all; half the free space if that is less


class FileObjectSource:
    """A seekable binary file object, from its first byte to its last.

    It is read in threads, one read at a time, and is left open for its owner.
    """

    in_order = False
    spelled = ""

    def __init__(self, file: Any, name: str | None) -> None:
        found = name or file_name(file)
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
            raise failed(found, 0, error) from error
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
                raise failed(self._name, start, error) from error

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
                raise failed(self._name, 0, error) from error
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
            return marks(os.fstat(self._file.fileno()))
        except (AttributeError, OSError, ValueError):
            return None


def of_descriptor(file: Any, name: str | None) -> PathSource | None:
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
        raise failed(name or "the file", 0, error) from error
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


def spool(
    file: Any,
    name: str | None,
    *,
    memory: int = SPOOL_MEMORY,
    quota: int | None = None,
) -> MemorySource | PathSource:
    """Read a stream to its end and return a source over what it held.

    Up to ``memory`` bytes stay in memory; more go to a private temporary file that
    disappears with the source, up to ``quota`` bytes (8 GiB, or half the free space).

    Raises:
        NameNeeded: the stream has no name.
        InvalidUpload: it holds more than ``quota``, or text.
    """
    found = name or file_name(file)
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
        raise failed(found, total, error) from error
    finally:
        if spilled is not None:
            spilled.close()  # the duplicate keeps the bytes
    sha256 = digest.hexdigest()
    opened.info = replace(
        opened.info, name=found, media_type=media_type_of(found), fingerprint=f"sha256:{sha256}"
    )
    opened.identity = f"bytes:{found}:{sha256}"
    return opened


def seekable(file: Any) -> bool:
    """Say whether a file object can be read at any place."""
    try:
        if callable(getattr(file, "seekable", None)):
            return bool(file.seekable())
        file.seek(file.tell())
    except (AttributeError, OSError, ValueError):
        return False
    return True


def file_name(file: Any) -> str:
    """Return the name a file object was opened under, "" if it has none."""
    name = getattr(file, "name", None)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return os.path.basename(name) if isinstance(name, str) else ""


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
