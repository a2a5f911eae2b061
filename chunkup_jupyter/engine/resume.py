"""What of an earlier run can be used: never a part that is not proved by its checksum."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .. import plan, units
from ..errors import SessionLost
from ..events import PartDone
from ..journal import Past
from ..model import FileInfo, Held, Part, PartReceipt, Rules, Session
from ..sources import Source, crc64_of


class Unproved(Exception):
    """The server holds bytes in order that the file may no longer begin with."""


MARGIN = 120.0  # seconds a session must still live to be worth resuming


def unusable(
    past: Past,
    file: FileInfo,
    part_size: int | None,
    now: float,
    terms: Mapping[str, Any] | None = None,
) -> str:
    """Return why the session of ``past`` cannot be resumed, "" when it can.

    One that expired can when every part is noted: it may have been completed just before
    a crash, and completing it again finds that out. ``part_size`` is the one asked for,
    None for any; ``now`` is in Unix seconds; ``terms`` are those a new session would be
    opened with.
    """
    session = past.session
    assert session is not None
    if session.file.name != file.name:
        return f"it was begun under the name {session.file.name}; starting again"
    if session.file.size != file.size:
        return (
            f"{file.name} changed since (it had {session.file.size:,} bytes, now "
            f"{file.size:,}); starting again"
        )
    if part_size is not None and part_size != session.part_size:
        return (
            f"another part size was asked for ({units.chosen(part_size)}, it was "
            f"{units.chosen(session.part_size)}); starting again"
        )
    wanted = dict(terms or {})
    other = sorted(
        name for name in {*session.terms, *wanted} if session.terms.get(name) != wanted.get(name)
    )
    if other:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in other)
        return f"it was begun with another {options}, which is settled at the start; starting again"
    expired = session.expires_at is not None and session.expires_at - now < MARGIN
    if expired and not _whole(session, past):
        return "the earlier session expired; starting again"
    return ""


async def reusable(
    session: Session,
    past: Past,
    source: Source,
    rules: Rules,
    ask: Callable[[], Awaitable[Held]],
) -> list[PartDone]:
    """Return the parts that the server has and the file still holds, in order.

    ``ask`` returns what the server says it holds. Every part's bytes are read again
    and compared with the checksum that was noted when they were sent. Bytes held in
    order that no checksum covers (a crash came first) are taken for the file's only if
    its fingerprint is the same as then.

    Raises:
        SessionLost: the server no longer knows the session.
        Unproved: what the server holds in order cannot be used.
    """
    unknown: list[Part] = []
    try:
        held = await ask()
    except SessionLost:
        if not _whole(session, past):
            raise
        held = None  # it may be gone because it was completed: that verb can tell
    known = {number: (done.receipt, f"crc64:{done.crc64}") for number, done in past.parts.items()}
    if isinstance(held, int):
        known = {n: had for n, had in known.items() if _end(session, n) <= held}
        covered = max((_end(session, n) for n in known), default=0)
        same = bool(session.file.fingerprint) and (
            session.file.fingerprint == source.info.fingerprint
        )
        if held > covered and not same:
            raise Unproved(f"{session.file.name} may have changed since; starting again")
        unknown = [part for part in plan.parts(session) if covered < part.start + part.size <= held]
    elif held is not None:
        listed = {receipt.number: receipt for receipt in held}
        if not rules.report_every:
            # The list is all the server has; of reported parts it has only those.
            known = {n: had for n, had in known.items() if n in listed}
        for n, receipt in listed.items():
            if n not in known or (receipt.token and receipt.token != known[n][0].token):
                known[n] = receipt, receipt.checksum
    proved = []
    for number in sorted(known):
        receipt, checksum = known[number]
        name, _, value = checksum.partition(":")
        if name == "crc64" and plan.fits(receipt, session):
            part = plan.part_at(number, session.file.size, session.part_size)
            crc = await crc64_of(source, part.start, part.size)
            if str(crc) == value:
                proved.append(PartDone(receipt, crc))
    if isinstance(held, int) and len(proved) < len(known):
        raise Unproved(f"{session.file.name} changed since; starting again")
    for part in unknown:
        crc = await crc64_of(source, part.start, part.size)
        proved.append(PartDone(PartReceipt(part.number, part.size), crc))
    return proved


def _whole(session: Session, past: Past) -> bool:
    return len(past.parts) == plan.count(session.file.size, session.part_size)


def _end(session: Session, number: int) -> int:
    part = plan.part_at(number, session.file.size, session.part_size)
    return part.start + part.size
