"""What TwelveLabs knows of a session, and telling it more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...answers import clean
from ...errors import Refused, SessionLost
from ...model import FileInfo, Flow, PartReceipt, Session
from ...plan import count
from ...wire import Response, encoded
from .answers import identifier, instant, integer, objects, pages_of
from .calls import Calls

PAGE = 50  # items on a page, the most there are; spec, GET …/multipart-uploads
_MOST_PAGES = 200  # of a listing of sessions: 10,000 of them
UPLOADS = "/assets/multipart-uploads"
_SHOWN = (
    "upload_id",
    "status",
    "chunks_completed",
    "chunks_failed",
    "chunks_pending",
    "total_size",
    "uploaded_size",
    "created_at",
    "updated_at",
)


@dataclass(frozen=True)
class State:
    """What the server says of a session: over or not, and which parts it counts."""

    done: bool
    completed: set[int]
    failed: set[int]
    why: str
    raw: Mapping[str, Any]


class Sessions(Calls):
    """Sessions asked about, listed, reported to."""

    def list_open(self) -> Flow[Sequence[Session]]:
        """List unfinished sessions. The server tells neither their file's name nor asset.

        ``extra`` holds ``created_at`` in Unix seconds where the server does tell.
        """
        found: dict[str, Session] = {}
        for page in range(1, _MOST_PAGES + 1):
            path = f"{UPLOADS}?page={page}&page_limit={PAGE}"
            data = yield from self._ask("GET", path, None, "data", doing="listing uploads")
            fresh = [each for each in objects(data, "data") if each.get("upload_id") not in found]
            for each in fresh:
                upload_id = identifier(each, "upload_id")
                total = integer(each, "total_size", 1, 1 << 60)
                size = integer(each, "chunk_size", 1, 1 << 50)
                extra = {"status": clean(each.get("status", ""), 20)}
                if each.get("created_at") is not None:
                    extra["created_at"] = str(int(instant(each["created_at"], 0)))
                found[upload_id] = Session(
                    upload_id, FileInfo("", total), size, extra, self._expiry(each)
                )
            if not fresh or page >= pages_of(data):
                break
        return tuple(found.values())

    def _report(self, session: Session, batch: Sequence[PartReceipt]) -> Flow[Response]:
        """Report at most fifty parts and return the answer, whatever it is but "unknown"."""
        body = {
            "completed_chunks": [
                {
                    "chunk_index": each.number,
                    "proof": each.token,
                    "proof_type": "etag",
                    "chunk_size": each.size,
                }
                for each in batch
            ]
        }
        response = yield from self._call("POST", path_of(session), body)
        if response.status in (404, 410):
            raise lost(session)
        return response

    def _state(self, session: Session, *, whole: bool = True) -> Flow[State]:
        """Return what the server knows of a session: the first page, or all of them.

        Raises ``SessionLost`` when it expired, failed, or is unknown.
        """
        total = count(session.file.size, session.part_size)
        status: dict[int, object] = {}
        raw: dict[str, Any] = {}
        why, page, pages = "", 0, 1
        while page < pages:
            page += 1
            path = f"{path_of(session)}?page={page}&page_limit={PAGE}"
            try:
                data = yield from self._ask("GET", path, None, "status", doing="asking for status")
            except Refused as error:
                if error.status in (404, 410):
                    raise lost(session) from error
                raise
            if data["status"] in ("expired", "failed"):
                raise lost(session, f"calls it {data['status']}")
            raw = raw or {name: data[name] for name in _SHOWN if name in data}
            chunks = objects(data, "uploaded_chunks")
            known = len(status)
            for each in chunks:
                status[integer(each, "index", 1, total)] = each.get("status")
                if each.get("status") == "failed":
                    why = why or clean(each.get("error") or "", 200)
            if not whole or len(status) == known:
                break  # an empty page, or one that was there already
            if page == 1:
                pages = min(pages_of(data), -(-total // len(chunks)) + 1)
        return State(
            raw["status"] == "completed",
            {number for number, said in status.items() if said == "completed"},
            {number for number, said in status.items() if said == "failed"},
            why,
            raw,
        )


def path_of(session: Session) -> str:
    return f"{UPLOADS}/{encoded(session.upload_id)}"


def lost(session: Session, how: str = "no longer knows it") -> SessionLost:
    return SessionLost(f"TwelveLabs {how}: upload {session.upload_id[:8]}… has to begin anew")
