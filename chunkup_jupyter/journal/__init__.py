"""Durable events, one JSON line each: what a restarted process knows of an upload.

Every line carries its own CRC-32, so a torn end is told from damage. A torn end is
ignored (nobody was told that it is durable). Damage elsewhere sets the file aside as
``….bad``: the parts in it are no longer trusted, but a session whose line is intact is
kept, because the server can be asked about it. The first line names the version, the
target and the source; nothing in the file is a key or a presigned URL.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from ..errors import InvalidUpload
from ..events import Started
from ..model import Session
from .ledger import Entry, Ledger
from .lines import FileLines, Foreign, Lines, MemoryLines, System, private_folder
from .locks import Lock
from .records import (
    VERSION,
    Acknowledged,
    Creating,
    Key,
    Known,
    Past,
    Reading,
    Record,
    encode,
    read,
    to_json,
)

__all__ = [
    "Acknowledged",
    "Creating",
    "Entry",
    "Journal",
    "Key",
    "Ledger",
    "MemoryLines",
    "Past",
    "Record",
    "Unfinished",
    "default_folder",
    "open_journal",
    "peek",
    "remove",
    "unfinished",
]


def default_folder() -> Path:
    """Return the folder for journals and the ledger; ``CHUNKUP_STATE`` overrides it."""
    if chosen := os.environ.get("CHUNKUP_STATE", "").strip():
        return Path(os.path.expanduser(chosen))  # ``Path`` would raise where there is no home
    return platformdirs.user_state_path("chunkup", appauthor=False)


def open_journal(
    folder: Path | None,
    key: Key,
    *,
    source: Mapping[str, Any] | None = None,
    memory: MemoryLines | None = None,
    system: System | None = None,
) -> Journal:
    """Return the journal of one upload, locked; ``folder`` None keeps it in ``memory`` only.

    ``source`` is what a new journal says about its source (``spelled``, ``name``,
    ``size``, ``fingerprint``, …): plain JSON values that ``Past.source`` gives back.
    Trouble with the disk is no error: the journal then lives in memory and has a ``problem``.

    Raises:
        AlreadyUploading: another process, or another job of this one, has it.
    """
    memory = memory or MemoryLines()
    if folder is None:
        return Journal(memory, key, source=source)
    journals = folder / "journals"
    lock = Lock(journals / f"{key.id}.lock")
    try:
        private_folder(folder)
        lock.acquire(f"{(source or {}).get('name') or 'this file'} to {key.target}")
    except OSError as error:
        return Journal(memory, key, source=source, problem=_cannot_write(error))
    lines = FileLines(journals / f"{key.id}.jsonl", system)
    try:
        with contextlib.suppress(OSError):
            lines.tidy()
        return Journal(lines, key, source=source, lock=lock)
    except BaseException:
        lock.release()
        raise


def peek(folder: Path | None, key: Key) -> Past:
    """Return what is known of an upload; locks and changes nothing."""
    found = None
    if folder is not None:
        with contextlib.suppress(OSError):
            found = FileLines(folder / "journals" / f"{key.id}.jsonl").load()
    return read(found or b"", key).known.past()


class Journal:
    """The durable record of one upload. Usable from any thread and any running loop.

    ``problem`` is "" or a sentence for the user: what was found unreadable, or that
    nothing can be written and so nothing can be resumed.
    """

    def __init__(
        self,
        lines: Lines,
        key: Key,
        *,
        source: Mapping[str, Any] | None = None,
        lock: Lock | None = None,
        problem: str = "",
    ) -> None:
        self.problem = problem
        self.key = key
        self._lines = lines
        self._lock = lock
        self._source = dict(source or {})
        self._pid = os.getpid()
        self._guard = threading.Condition()
        self._pending: list[tuple[bytes, concurrent.futures.Future[None]]] = []
        self._flushing = False
        self._broken = False  # nothing is written any more
        self._begun = False  # the first line stands
        self._failed = False  # the disk did
        self._known = Known(self._source)
        self._load()

    @property
    def kept(self) -> bool:
        """Whether another process finds its session on disk, as far as it was ever written."""
        return self._begun and not self._lines.instant

    @property
    def durable(self) -> bool:
        """Whether all that was written will be found on disk."""
        return not self._lines.instant and not self._failed

    def replay(self) -> Past:
        """Return what is known: what was read when opening, and what was written since."""
        with self._guard:
            return self._known.past()

    async def write(self, record: Record) -> None:
        """Return once ``record`` is durable.

        One wait for the disk serves everybody who waits. Trouble with the disk is not
        raised: it sets ``problem``, and from then on nothing is written.
        """
        content = to_json(record, self._source)
        line = encode(content)
        if self._lines.instant:
            self._known.add(content)
            self._store([line])
            return
        waiter: concurrent.futures.Future[None] = concurrent.futures.Future()
        with self._guard:
            self._known.add(content)
            if self._broken:
                return
            self._pending.append((line, waiter))
            starts = not self._flushing
            self._flushing = True
        if starts:
            # A thread of its own: the loop's pool may be full of reads from a slow disk.
            threading.Thread(target=self._flush, name="chunkup-journal", daemon=True).start()
        await asyncio.wrap_future(waiter)

    def beat(self, text: str) -> None:
        """Let other processes know how far this upload is; as often as you like."""
        if self._lock is not None:
            self._lock.beat(text)

    def reset(self) -> None:
        """Begin anew: what an earlier run left is forgotten, at once and durably."""
        self._settle()
        self._known = Known(self._source)
        if self._broken or not self._begun:
            return
        try:
            self._lines.replace(self._header())
        except OSError as error:
            self._give_up(error)

    def discard(self) -> None:
        """Delete it and release the lock: the upload is finished or was cancelled."""
        self._settle()
        if self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._lines.delete()
        self._begun = False
        self.close()

    def close(self) -> None:
        """Keep it and release the lock. May be repeated."""
        self._settle()
        self._broken = True
        self._lines.close()
        if self._lock is not None:
            lock, self._lock = self._lock, None
            lock.release()

    # -- reading

    def _load(self) -> None:
        try:
            data = self._lines.load()
            if data is None:
                return
            reading = read(data, self.key)
            if reading.trouble:
                self._set_aside(reading)
                return
            self._known, self._begun = reading.known, reading.known.session is not None
            if not self._begun:
                # Nothing to go on with: the next line begins the file anew, and it says
                # of the source what is said today.
                self._known.source = self._source or self._known.source
            elif reading.intact < len(data):
                self._lines.truncate(reading.intact)
        except Foreign as error:
            self._set_aside(Reading(Known({}), 0, f"is not ours ({error.strerror})"))
        except OSError as error:
            self._give_up(error)

    def _set_aside(self, reading: Reading) -> None:
        """Begin a new journal, which keeps nothing of the old one but an intact session."""
        session = reading.known.session
        try:
            name = self._lines.set_aside()
            if session is None:
                self._lines.delete()
                outcome = "the upload begins anew"
            else:
                self._known = Known(reading.known.source or self._source)
                self._known.started_at = reading.known.started_at
                started = to_json(Started(session), self._source)
                self._known.add(started)
                self._lines.replace(self._header() + encode(started))
                self._begun = True
                outcome = "the server is asked what it has"
        except OSError as error:
            self._give_up(error)
        else:
            self.problem = f"the journal {reading.trouble}; it is kept as {name}, and {outcome}"

    # -- writing

    def _flush(self) -> None:
        """Write what waits until nothing does; runs in its own thread."""
        while True:
            with self._guard:
                batch, self._pending = self._pending, []
                if not batch:
                    self._flushing = False
                    self._guard.notify_all()
                    return
            try:
                self._store([line for line, _ in batch])
            finally:
                for _, waiter in batch:
                    if waiter.set_running_or_notify_cancel():
                        waiter.set_result(None)

    def _store(self, lines: list[bytes]) -> None:
        if self._broken:
            return
        if self._pid != os.getpid():
            self._broken = True  # the file is the parent process's
            self.problem = "this process was forked from the one that uploads: no journal is kept"
            return
        try:
            if self._begun:
                self._lines.append(b"".join(lines))
            else:
                self._lines.replace(self._header() + b"".join(lines))
                self._begun = True
        except OSError as error:
            self._give_up(error)

    def _header(self) -> bytes:
        self._known.started_at = self._known.started_at or time.time()
        return encode(
            {
                "chunkup": VERSION,
                "target": self.key.target,
                "account": self.key.account,
                "identity": self.key.source,
                "source": self._known.source,
                "pid": os.getpid(),
                "started_at": self._known.started_at,
            }
        )

    def _give_up(self, error: OSError) -> None:
        self._broken = self._failed = True
        self.problem = self.problem or _cannot_write(error, self._begun)

    def _settle(self) -> None:
        """Wait until nothing is being written."""
        if self._pid == os.getpid():  # a fork has none of its parent's threads
            with self._guard:
                self._guard.wait_for(lambda: not self._flushing)


@dataclass(frozen=True)
class Unfinished:
    """An upload that can be resumed. Sizes in bytes, times in Unix seconds.

    ``pid`` is the process that is at it just now (0 when none is, -1 when unknown) and
    ``progress`` what it says; ``spelled`` is how its source was written ("" if it cannot be);
    ``numbers`` are those of the parts that are kept.
    """

    id: str
    target: str
    spelled: str
    name: str
    size: int
    parts: int
    parts_done: int
    bytes_done: int
    started_at: float
    expires_at: float | None = None
    session: Session | None = None
    creating: bool = False
    source: Mapping[str, Any] = field(default_factory=dict)
    account: str = ""
    pid: int = 0
    progress: str = ""
    numbers: frozenset[int] = frozenset()


def unfinished(folder: Path | None = None) -> list[Unfinished]:
    """Return the uploads that were begun and not finished, oldest first. Changes nothing."""
    found = []
    for path in (folder or default_folder()).joinpath("journals").glob("*.jsonl"):
        with contextlib.suppress(OSError):
            reading = read(FileLines(path).load() or b"", None)
            if reading.header:
                found.append(_describe(path, reading))
    return sorted(found, key=lambda one: one.started_at)


def remove(id: str, folder: Path | None = None) -> None:  # noqa: A002  as the user knows it
    """Forget an unfinished upload. The server's session is not touched.

    Raises:
        InvalidUpload: there is none of this id.
        AlreadyUploading: somebody is at it.
    """
    path = (folder or default_folder()) / "journals" / f"{id}.jsonl"
    if not id.isalnum() or not path.is_file():
        raise InvalidUpload(f"there is no unfinished upload {id!r}; `list` shows them")
    lock = Lock(path.with_suffix(".lock"))
    lock.acquire(f"upload {id}")
    try:
        FileLines(path).delete()
    finally:
        lock.release()


def _describe(path: Path, reading: Reading) -> Unfinished:
    known, header = reading.known, reading.header
    session, source = known.session, known.source
    size = session.file.size if session else int(source.get("size") or 0)
    try:
        owner = Lock(path.with_suffix(".lock")).owner()
    except OSError:
        owner = None  # a folder that cannot be written: nobody can be at it
    pid, progress = owner or (0, "")
    return Unfinished(
        id=path.stem,
        target=str(header["target"]),
        account=str(header["account"]),
        spelled=str(source.get("spelled", "")),
        name=str(source.get("name") or (session.file.name if session else "")),
        size=size,
        parts=max(1, -(-size // session.part_size)) if session else 0,
        parts_done=len(known.parts),
        bytes_done=sum(done.receipt.size for done in known.parts.values()),
        started_at=known.started_at,
        expires_at=session.expires_at if session else None,
        session=session,
        creating=known.creating,
        source=source,
        pid=pid if owner is None or pid else -1,
        progress=progress,
        numbers=frozenset(known.parts),
    )


def _cannot_write(error: OSError, begun: bool = False) -> str:
    reason = error.strerror or str(error)
    left = "from what it holds by now" if begun else "if it is interrupted"
    able = "can be resumed only" if begun else "cannot be resumed"
    return f"the journal cannot be written ({reason}): the upload goes on, but {able} {left}"
