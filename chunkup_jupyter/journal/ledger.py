"""What was uploaded: one line of JSON each, kept for ``history`` and for reuse."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from .lines import private_folder


@dataclass(frozen=True)
class Entry:
    """A finished upload. Sizes in bytes, times in Unix seconds, ``elapsed`` in seconds.

    ``checksum`` is the whole file's, as ``"crc64:<decimal>"``; ``verified`` says in words
    what was compared; ``expires_at`` is None when the file stays.
    """

    when: float
    name: str
    size: int
    target: str
    provider: str = ""
    account: str = ""
    id: str = ""
    checksum: str = ""
    verified: tuple[str, ...] = ()
    expires_at: float | None = None
    elapsed: float = 0.0
    parts: int = 0
    url: str = ""


class Ledger:
    """All finished uploads of one folder, ``ledger.jsonl``; in memory when ``folder`` is None.

    ``problem`` is "" or says why the last entry could not be written: a ledger that
    cannot be kept never fails an upload.
    """

    def __init__(self, folder: Path | None) -> None:
        self.problem = ""
        self._folder = folder
        self._memory: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Append an entry and wait for the disk. Queries and logins are cut from its URL."""
        scheme, host, path, _, _ = urlsplit(entry.url)
        plain = urlunsplit((scheme, host.rpartition("@")[2], path, "", ""))
        content = {**asdict(entry), "url": plain}
        if self._folder is None:
            self._memory.append(_entry(content))
            return
        try:
            self._append(json.dumps(content).encode() + b"\n")
        except OSError as error:
            self.problem = f"history cannot be written: {error.strerror or error}"

    def entries(self, **wanted: str | int) -> list[Entry]:
        """Return the entries that can be read, oldest first.

        ``wanted`` chooses by field, as in ``size=95``: of a long history only those lines
        are parsed.
        """
        found = list(self._memory)
        if self._folder is not None:
            # As ``json.dumps`` wrote them; what only looks alike is left out below.
            marks = [json.dumps({name: value})[1:-1].encode() for name, value in wanted.items()]
            with contextlib.suppress(OSError):
                for line in (self._folder / "ledger.jsonl").read_bytes().split(b"\n"):
                    if all(mark in line for mark in marks):
                        with contextlib.suppress(ValueError, TypeError):
                            found.append(_entry(json.loads(line)))
        return [one for one in found if all(getattr(one, n) == v for n, v in wanted.items())]

    def _append(self, line: bytes) -> None:
        assert self._folder is not None
        private_folder(self._folder)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        file = os.open(self._folder / "ledger.jsonl", flags, 0o600)
        try:
            size = os.fstat(file).st_size
            if size:
                os.lseek(file, size - 1, os.SEEK_SET)
                if os.read(file, 1) != b"\n":  # a crash tore the last line
                    line = b"\n" + line
            # One write, so that two processes do not mix their lines.
            if os.write(file, line) != len(line):
                raise OSError("the disk is full")
            os.fsync(file)
        finally:
            os.close(file)


def _entry(content: Any) -> Entry:
    """Return the entry that a line holds; what a newer version added is left out."""
    if not isinstance(content, dict):
        raise TypeError("no entry")
    names = {one.name for one in fields(Entry)}
    values = {name: value for name, value in content.items() if name in names}
    return Entry(**{**values, "verified": tuple(values.get("verified", ()))})
