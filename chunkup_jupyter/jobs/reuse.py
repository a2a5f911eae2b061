"""What history knows: the same bytes, brought to the same place before, and still there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from .. import units
from ..engine import Upload
from ..events import Waiting, Warned
from ..journal import Entry, Ledger
from ..model import Provider, Result
from ..sources import Source, digest_of
from .orders import Order

AT_ONCE = 1 << 30  # bytes that are read through before an upload only to say so: about a second
MARGIN = 120.0  # seconds a file must still live to be worth having


def earlier(order: Order, size: int, provider: Provider) -> Sequence[Entry]:
    """Return the uploads in history that may have been of these bytes, to this place.

    Waits for the disk.
    """
    if order.state is None or order.sandbox:
        return ()
    entries = Ledger(order.state).entries(target=provider.url, size=size)
    return candidates(entries, provider.url, provider.account, size, time.time())


def candidates(
    entries: Sequence[Entry], target: str, account: str, size: int, now: float
) -> list[Entry]:
    """Return the uploads of that many bytes to that place which have not expired, newest first."""
    return [
        entry
        for entry in reversed(entries)
        if (entry.target, entry.account, entry.size) == (target, account, size)
        and entry.id
        and entry.checksum
        and (entry.expires_at is None or entry.expires_at - now > MARGIN)
    ]


def with_checksum(entries: Sequence[Entry], checksum: str) -> Entry | None:
    """Return the first of these whose bytes have that CRC-64 (decimal)."""
    for entry in entries:
        if checksum and entry.checksum.removeprefix("crc64:") == checksum:
            return entry
    return None


async def match(source: Source, entries: Sequence[Entry]) -> Entry | None:
    """Return the first of these that holds the source's bytes; reads the source if there is any."""
    return with_checksum(entries, await digest_of(source, "crc64")) if entries else None


def offer(entry: Entry, now: float) -> str:
    """Return the sentence that offers it."""
    return (
        f"these bytes are already there as {entry.id} (uploaded "
        f"{units.seconds(max(1.0, now - entry.when))} ago); --reuse takes it instead, "
        "`history` has more"
    )


async def settle(upload: Upload, entries: Sequence[Entry], *, reuse: bool) -> Result | None:
    """Offer the earlier upload of the same bytes; with ``reuse`` return it if it still stands.

    Raises ``InvalidUpload`` when the provider cannot say whether it does.
    """
    source = upload.source
    if not reuse and (source.in_order or source.info.size > AT_ONCE):
        return None  # the result will say it, from the checksums of the parts
    if not entries:
        return None
    upload.tell(Waiting("comparing the file with history"))
    entry = await match(source, entries)
    upload.tell(Waiting(""))
    if entry is None:
        return None
    if not reuse:
        upload.tell(Warned(offer(entry, upload.now())))
        return None
    checksum = entry.checksum.removeprefix("crc64:")
    earlier = Result(
        entry.id, entry.url, entry.size, {"crc64": checksum}, entry.verified, entry.expires_at
    )
    found = await upload.ask(lambda provider: provider.look_up(earlier))
    if found is None:
        upload.tell(Warned(f"{entry.id} holds these bytes no longer; they are sent again"))
        return None
    return replace(found, verified=(*found.verified, "CRC-64 of the file, as in history"))
