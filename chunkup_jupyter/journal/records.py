"""The lines of a journal: what they say, how they are written, and what they amount to."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..events import Event, PartDone, Restarted, Started
from ..model import PartReceipt, Session

VERSION = 1


@dataclass(frozen=True)
class Key:
    """What makes two uploads the same: the target, the account and the source's identity."""

    target: str
    account: str
    source: str

    @property
    def id(self) -> str:
        """16 hex digits that name the journal's file."""
        text = json.dumps([self.target, self.account, self.source])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Creating(Event):
    """A session is about to be asked for; a crash now leaves one that only listing finds."""


@dataclass(frozen=True)
class Acknowledged(Event):
    """These parts were reported to the provider."""

    numbers: tuple[int, ...]


Record = Creating | Started | PartDone | Acknowledged | Restarted


@dataclass(frozen=True)
class Past:
    """What an earlier run left. ``source`` is what it said about its source.

    ``parts`` and ``acknowledged`` belong to ``session``. A session without parts may mean
    a damaged journal: ask the server. ``creating`` says that a session may exist whose
    id was never learned.
    """

    session: Session | None = None
    parts: Mapping[int, PartDone] = field(default_factory=dict)
    acknowledged: frozenset[int] = frozenset()
    creating: bool = False
    source: Mapping[str, Any] = field(default_factory=dict)
    started_at: float = 0.0


@dataclass(frozen=True)
class Reading:
    """What a text says. ``intact`` bytes can be built on; ``trouble`` is "" or what is wrong."""

    known: Known
    intact: int
    trouble: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)


def read(data: bytes, key: Key | None) -> Reading:
    """Replay a text that should be the journal of ``key`` (of any upload when None)."""
    known, header = Known({}), {}
    position = intact = 0
    torn = damaged = False
    for raw in data.split(b"\n")[:-1]:  # what has no newline is torn
        position += len(raw) + 1
        content = _decode(raw)
        if content is None:
            torn = True
            continue
        damaged = damaged or torn  # something intact follows: that was no torn end
        try:
            if "chunkup" not in content:
                known.add(content)
            elif content["chunkup"] != VERSION:
                return Reading(Known({}), 0, "was written by another version of chunkup")
            elif key and [content[name] for name in ("target", "account", "identity")] != [
                key.target,
                key.account,
                key.source,
            ]:
                return Reading(Known({}), 0, "is that of another upload")
            else:
                header = content
                known.source = content["source"]
                known.started_at = content["started_at"]
        except (KeyError, TypeError, ValueError):
            damaged = True
        if not torn:
            intact = position
    if damaged:
        return Reading(known, intact, "is damaged", header)
    if not header:
        return Reading(Known({}), 0, "is not one of ours" if data else "is empty")
    return Reading(known, intact, "", header)


class Known:
    """What the lines so far amount to."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self.source = source
        self.started_at = 0.0
        self._forget()

    def _forget(self) -> None:
        self.session: Session | None = None
        self.parts: dict[int, PartDone] = {}
        self.acknowledged: set[int] = set()
        self.creating = False

    def add(self, content: Mapping[str, Any]) -> None:
        """Take one line in. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for nonsense."""
        match content["is"]:
            case "creating":
                self.creating = True
            case "started":
                session = Session.from_json(content["session"])
                if self.session is None or self.session.upload_id != session.upload_id:
                    self._forget()
                self.session, self.creating = session, False
            case "part":
                receipt = PartReceipt(
                    content["n"], content["size"], content["token"], content["sum"]
                )
                self.parts[receipt.number] = PartDone(receipt, content["crc64"])
            case "acknowledged":
                self.acknowledged.update(content["numbers"])
            case "restarted":
                self._forget()
                self.source = content["source"]
            case other:
                raise ValueError(f"unknown line {other!r}")

    def past(self) -> Past:
        """Return it as it stands."""
        return Past(
            session=self.session,
            parts=dict(self.parts),
            acknowledged=frozenset(self.acknowledged),
            creating=self.creating,
            source=self.source,
            started_at=self.started_at,
        )


def to_json(record: Record, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as plain JSON values; ``source`` is what its file is by now."""
    match record:
        case Creating():
            return {"is": "creating"}
        case Started(session):
            # Parts that are reused have their own lines, or the server tells again.
            return {"is": "started", "session": session.to_json()}
        case PartDone(receipt, crc64):
            return {
                "is": "part",
                "n": receipt.number,
                "size": receipt.size,
                "token": receipt.token,
                "sum": receipt.checksum,
                "crc64": crc64,
            }
        case Acknowledged(numbers):
            return {"is": "acknowledged", "numbers": list(numbers)}
        case Restarted(reason):
            # The file may be another one now, so say again what it is.
            return {"is": "restarted", "reason": reason, "source": dict(source)}


def encode(content: Mapping[str, Any]) -> bytes:
    """Return one line: its CRC-32 in hex, and its JSON."""
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decode(line: bytes) -> dict[str, Any] | None:
    """Return what a line holds, None when its checksum does not hold or it is no JSON."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        content = json.loads(text)
    except ValueError:  # zeros are the checksum of nothing
        return None
    return content if isinstance(content, dict) else None
