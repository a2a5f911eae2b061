"""One process at a time for one journal, and a word to the others on how far it is.

On POSIX systems the lock is ``flock`` on a descriptor of our own: a forked child (a data
loader, say) must drop it, or it would outlive a killed kernel, and ``filelock`` keeps its
descriptor to itself. Windows uses ``filelock``. Where the file system has no locks, a
file that names its owner stands in.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from ..errors import AlreadyUploading

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
_CREATE = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_FOREIGN_STALE = 600.0  # seconds without a heartbeat after which another machine's lock is void

_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """The right to write one journal. ``path`` is the lock file, the status lies beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._status = path.with_suffix(".status")
        self._owner = path.with_suffix(".owner")  # only where there is no flock
        self._held: Any = None  # a descriptor, a filelock, or True for a named owner
        self._beats = threading.Lock()
        self._next_beat = 0.0
        self._writing = False

    def acquire(self, what: str, patience: float = 0.2) -> None:
        """Take the lock, trying for ``patience`` seconds.

        Raises:
            AlreadyUploading: somebody has it; ``what`` says of what.
            OSError: the lock file cannot be written.
        """
        deadline = time.monotonic() + patience
        while not self._try():
            if time.monotonic() > deadline:
                raise self._occupied(what)
            time.sleep(0.02)
        _held.add(self)
        self._write_status("starting")

    def beat(self, text: str) -> None:
        """Tell the others how far we are, at most once a second; never waits for the disk."""
        now = time.monotonic()
        if self._held is None or self._writing or now < self._next_beat:
            return
        self._next_beat = now + 1.0
        self._writing = True
        threading.Thread(target=self._beat, args=(text,), daemon=True).start()

    def release(self) -> None:
        """Give it back and remove its files. May be repeated."""
        with self._beats:
            held, self._held = self._held, None
            if held is None:
                return
            _held.discard(self)
            for left in (self._status, self._status.with_suffix(".status.new")):
                with contextlib.suppress(OSError):
                    os.unlink(left)
            if held is True:
                with contextlib.suppress(OSError):
                    if self._owner.read_text() == json.dumps(_me()):
                        os.unlink(self._owner)
                return
            if sys.platform == "win32":
                held.release()
            # Removed while still held: whoever waits for the old file sees that it has
            # lost its name, and tries again.
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            if sys.platform != "win32":
                os.close(held)

    def drop(self) -> None:
        """Forget the lock without giving it back: it is the parent process's."""
        held, self._held = self._held, None
        self._beats = threading.Lock()
        if held is not None and held is not True and sys.platform != "win32":
            os.close(held)

    def owner(self) -> tuple[int, str] | None:
        """Return who has it now (pid, 0 if unknown) and how far it is; None when it is free."""
        if not self._path.exists() and not self._owner.exists():
            return None
        if self._try():
            self.release()
            return None
        pid, _, text = self.status()
        return pid, text

    def status(self) -> tuple[int, str, str]:
        """Return the owner's process id, its machine and how far it is; 0 and "" if unknown."""
        try:
            data = json.loads(self._status.read_bytes())
            return int(data["pid"]), str(data["host"]), str(data["text"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, "", ""

    def _occupied(self, what: str) -> AlreadyUploading:
        pid, host, text = self.status()
        if pid == os.getpid() and host in ("", platform.node()):
            who = "this process"
        else:
            who = f"process {pid}" if pid else "another process"
            if host not in ("", platform.node()):
                who += f" on {host}"
        so_far = f" ({text})" if text else ""
        return AlreadyUploading(
            f"{who} is already uploading {what}{so_far}; wait for it, or stop it there",
            pid=pid,
            progress=text,
        )

    def _beat(self, text: str) -> None:
        try:
            self._write_status(text)
        finally:
            self._writing = False

    def _write_status(self, text: str) -> None:
        data = {"pid": os.getpid(), "host": platform.node(), "text": text, "at": time.time()}
        temporary = self._status.with_suffix(".status.new")
        with self._beats, contextlib.suppress(OSError):
            if self._held is None:
                return
            file = os.open(temporary, _CREATE | os.O_TRUNC, 0o600)
            try:
                os.write(file, json.dumps(data).encode())
            finally:
                os.close(file)
            os.replace(temporary, self._status)

    if sys.platform == "win32":

        def _try(self) -> bool:
            import filelock

            lock = filelock.FileLock(self._path, thread_local=False)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                return False
            self._held = lock
            return True

    else:

        def _try(self) -> bool:
            import fcntl

            file = os.open(self._path, _CREATE, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(file)
                if error.errno in _NO_LOCKS:
                    with contextlib.suppress(OSError):
                        os.unlink(self._path)  # of no use here
                    return self._try_by_name()
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return False
                raise
            if not _is_at(file, self._path):  # its last owner removed it meanwhile
                os.close(file)
                return False
            self._held = file
            return True

    def _try_by_name(self) -> bool:
        """Take the lock where there is no ``flock``: an owner's file, made exclusively."""
        try:
            file = os.open(self._owner, _CREATE | os.O_EXCL, 0o600)
        except FileExistsError:
            self._remove_stale(self._owner)
            return False
        try:
            os.write(file, json.dumps(_me()).encode())
        finally:
            os.close(file)
        self._held = True
        return True

    def _remove_stale(self, owner: Path) -> None:
        with contextlib.suppress(OSError):
            text = owner.read_text()
            age = time.time() - owner.stat().st_mtime
            with contextlib.suppress(OSError):
                age = min(age, time.time() - self._status.stat().st_mtime)
            if not _stale(text, age):
                return
            aside = owner.with_name(f"{owner.name}.{os.getpid()}.{time.time_ns()}")
            os.rename(owner, aside)
            if aside.read_text() != text:  # a third process was quicker: it is theirs
                os.link(aside, owner)
            os.unlink(aside)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _me() -> dict[str, Any]:
    pid = os.getpid()
    return {"pid": pid, "host": platform.node(), "boot": _boot(), "start": _start(pid)}


def _stale(text: str, age: float) -> bool:
    """Say whether an owner is gone. ``age`` is the time since its last sign, in seconds."""
    try:
        owner = json.loads(text)
        pid, host = int(owner["pid"]), owner["host"]
        boot, start = owner["boot"], owner["start"]
    except (ValueError, KeyError, TypeError):
        return age > 5  # it died between making the file and filling it
    if host != platform.node():
        return age > _FOREIGN_STALE
    if boot != _boot():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return bool(start != _start(pid))


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start(pid: int) -> str:
    """Return when a process started, in the system's ticks; "" where that is not to be had."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _drop_all() -> None:
    for lock in list(_held):
        lock.drop()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_all)
