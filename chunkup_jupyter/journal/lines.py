"""Where a journal's bytes live: a private file, or memory. Whoever appends, appends durably.

Everything touches the system through ``System``, so that a test can fail or kill any call.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Protocol

_LEDGER = "ledger.jsonl"
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Foreign(OSError):
    """The file belongs to somebody else, or is no regular file."""


class Lines(Protocol):
    """An append-only text that survives a crash at any call. All raise ``OSError``."""

    instant: bool
    """Appending costs nothing, so no thread is needed for it."""

    def load(self) -> bytes | None:
        """Return everything; None when nothing was ever written."""

    def truncate(self, size: int) -> None:
        """Forget what follows the first ``size`` bytes, before the next append."""

    def append(self, data: bytes) -> None:
        """Add to the end; durable when this returns, and not there at all when it raises."""

    def replace(self, data: bytes) -> None:
        """Put ``data`` in the place of everything, all of it or nothing; durable."""

    def set_aside(self) -> str:
        """Keep a copy of the present text under another name; return that name."""

    def delete(self) -> None:
        """Remove everything."""

    def close(self) -> None:
        """Let go; the text stays."""


class MemoryLines:
    """Lines in memory, for the exam and for uploads without a journal.

    A second journal over the same object sees what a restarted process would see.
    """

    instant = True

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.aside: list[bytes] = []

    def load(self) -> bytes | None:
        return bytes(self.data) or None

    def truncate(self, size: int) -> None:
        del self.data[size:]

    def append(self, data: bytes) -> None:
        self.data += data

    def replace(self, data: bytes) -> None:
        self.data[:] = data

    def set_aside(self) -> str:
        self.aside.append(bytes(self.data))
        return "memory"

    def delete(self) -> None:
        self.data.clear()

    def close(self) -> None:
        pass


class System:
    """The calls that matter to durability, one method each."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags | _FLAGS, mode)

    def read(self, file: int, size: int) -> bytes:
        return os.read(file, size)

    def write(self, file: int, data: bytes) -> int:
        return os.write(file, data)

    def fsync(self, file: int) -> None:
        os.fsync(file)

    def ftruncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def replace(self, old: Path, new: Path) -> None:
        os.replace(old, new)

    def link(self, old: Path, new: Path) -> None:
        os.link(old, new, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def fstat(self, file: int) -> os.stat_result:
        return os.fstat(file)

    def close(self, file: int) -> None:
        os.close(file)

    def sync_folder(self, folder: Path) -> None:
        """Make names in ``folder`` durable, where the system can."""
        if os.name == "nt":
            return
        file = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            os.fsync(file)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF):
                raise  # some network file systems have no such thing
        finally:
            os.close(file)


class FileLines:
    """Lines in one file of mode 0600. The caller holds the lock on it."""

    instant = False

    def __init__(self, path: Path, system: System | None = None) -> None:
        self.path = path
        self._system = system or System()
        self._file: int | None = None
        self._size: int | None = None  # bytes that are durable; None: not looked yet
        self._temporary = path.with_name(path.name + ".new")

    def tidy(self) -> None:
        """Remove what a crash may have left. Only for whoever holds the lock."""
        with contextlib.suppress(FileNotFoundError):
            self._system.unlink(self._temporary)

    def load(self) -> bytes | None:
        """Return everything, None when there is no file.

        Raises:
            Foreign: a link, a folder, or a file of another user stands there.
        """
        try:
            file = self._system.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            self._size = 0
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.EISDIR):
                raise Foreign(error.errno, "it is a link or a folder") from error
            raise
        try:
            found = self._system.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise Foreign(errno.EINVAL, "it is no regular file")
            if os.name != "nt" and found.st_uid not in (
                os.geteuid(),
                os.stat(self.path.parent).st_uid,  # as network drives map users
            ):
                raise Foreign(errno.EACCES, "it belongs to another user")
            chunks = []
            while chunk := self._system.read(file, 1 << 20):
                chunks.append(chunk)
        finally:
            self._system.close(file)
        data = b"".join(chunks)
        self._size = len(data)
        return data

    def truncate(self, size: int) -> None:
        """Forget what follows the first ``size`` bytes; done together with the next append."""
        self._size = size

    def append(self, data: bytes) -> None:
        """Add to the end and wait for the disk. A failure leaves the old end."""
        if not self._size:
            self.replace(data)
            return
        if self._file is None:
            self._file = self._system.open(self.path, os.O_WRONLY)
            self._system.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
        try:
            self._write_all(self._file, data)
            self._system.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                self._system.ftruncate(self._file, self._size)
                os.lseek(self._file, self._size, os.SEEK_SET)
            raise
        self._size += len(data)

    def replace(self, data: bytes) -> None:
        """Write a new file beside the old one and let it take its name, or leave no trace."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            file = self._system.open(self._temporary, flags)
        except FileExistsError:
            self._system.unlink(self._temporary)
            file = self._system.open(self._temporary, flags)
        try:
            self._write_all(file, data)
            self._system.fsync(file)
            if os.name == "nt":
                self._release()  # an open file cannot be replaced there
            self._system.replace(self._temporary, self.path)
        except OSError:
            self._system.close(file)
            with contextlib.suppress(OSError):
                self._system.unlink(self._temporary)
            raise
        self._release()
        self._file, self._size = file, len(data)
        self._system.sync_folder(self.path.parent)

    def set_aside(self) -> str:
        """Keep the present file as ``….bad`` too; return that name."""
        aside = self.path.with_name(self.path.name + ".bad")
        with contextlib.suppress(FileNotFoundError):
            self._system.unlink(aside)
        try:
            self._system.link(self.path, aside)
        except OSError:  # no hard links here, or a link or folder stands there
            self._system.replace(self.path, aside)
        return aside.name

    def delete(self) -> None:
        """Remove the file."""
        self._release()
        self._size = 0
        self.tidy()
        with contextlib.suppress(FileNotFoundError):
            self._system.unlink(self.path)

    def close(self) -> None:
        """Close the file."""
        self._release()

    def _release(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                self._system.close(file)

    def _write_all(self, file: int, data: bytes) -> None:
        while data:
            data = data[self._system.write(file, data) :]


def private_folder(folder: Path) -> None:
    """Make ``folder`` with mode 0700, and ``journals`` in it.

    One that exists is closed to others if it is ours and holds nothing but our things.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    inner = folder / "journals"
    for one in (folder, inner):
        if one is inner:
            inner.mkdir(mode=0o700, exist_ok=True)
        found = os.stat(one)
        if os.name == "nt" or found.st_uid != os.geteuid() or not found.st_mode & 0o077:
            continue
        if one is inner or {entry.name for entry in os.scandir(one)} <= {"journals", _LEDGER}:
            os.chmod(one, 0o700)
