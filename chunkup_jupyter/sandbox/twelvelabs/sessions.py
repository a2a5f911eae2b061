"""Sessions: opened, given URLs, reported to, asked about, listed."""

from __future__ import annotations

import secrets
from typing import Any

from .. import Answer, Blob, Call, No, same
from .assets import Assets
from .contents import Asset, Chunk, Grant, Session, stamp
from .requests import integer, metadata, text

TYPES = ("video", "audio", "image")


class Sessions(Assets):
    """The multipart calls of the API."""

    def _session(self, upload_id: str) -> Session:
        session = self._sessions.get(upload_id)
        if session is None:
            raise No(404, "resource_not_exist", "The upload session was not found")
        return session

    def _active(self, session: Session) -> None:
        if session.status != "active":
            raise No(400, "parameter_invalid", f"The upload session is {session.status}")

    def _create(self, body: dict[str, Any]) -> Answer:
        limits = self.limits
        if not limits.enabled:
            raise No(403, "not_authorized", "You do not have access to this feature")
        known = {"filename", "type", "total_size", "enable_hls", "enable_thumbnail"}
        for name in body.keys() - known - {"user_metadata"}:
            raise No(400, "parameter_unknown", f"{name} is unknown")
        filename = text(body, "filename", 1, limits.max_filename)
        kind = body.get("type")
        if kind not in TYPES:
            raise No(400, "parameter_invalid", f"type must be one of {', '.join(TYPES)}")
        most = limits.max_image if kind == "image" else limits.max_size
        if "total_size" not in body:
            raise No(400, "parameter_not_provided", "total_size is required")
        size = integer(body, "total_size", limits.min_size, None)
        if size > most:
            raise No(400, "video_filesize_too_large", f"The file must not exceed {most} bytes")
        for name in ("enable_hls", "enable_thumbnail"):
            if not isinstance(body.get(name, False), bool):
                raise No(400, "parameter_invalid", f"{name} must be true or false")
        now = self.now()
        asset = Asset(
            secrets.token_hex(12),
            kind,
            filename,
            now,
            metadata(body.get("user_metadata")),
            body.get("enable_hls", False),
            body.get("enable_thumbnail", False),
        )
        session = Session(
            secrets.token_hex(12),
            asset,
            size,
            limits.chunk_size,
            now,
            now + limits.session_seconds,
            updated=now,
        )
        self._assets[asset.id] = asset
        self._sessions[session.id] = session
        answer = {
            "upload_id": session.id,
            "asset_id": asset.id,
            "upload_urls": self._urls(session, 1, min(limits.urls_first, session.total)),
            "upload_headers": dict(self.upload_headers),
            "chunk_size": session.chunk_size,
            "total_chunks": session.total,
            "expires_at": stamp(session.expires),
        }
        return self._ok("create", answer, 201)

    def _urls(self, session: Session, start: int, many: int) -> list[dict[str, Any]]:
        """Hand out URLs that are good for one upload each."""
        life, found = self.limits.url_seconds, []
        for number in range(start, start + many):
            token = secrets.token_hex(24)
            expires = self.now() + life
            session.grants[token] = Grant(number, expires)
            query = f"X-Amz-Expires={life:.0f}&X-Amz-Signature={token}"
            url = f"{self.base}/storage/{session.id}/{number}?{query}"
            found.append({"chunk_index": number, "url": url, "expires_at": stamp(expires)})
        return found

    def _more_urls(self, session: Session, body: dict[str, Any]) -> Answer:
        self._active(session)
        start = integer(body, "start", 1, session.total)
        many = integer(body, "count", 1, self.limits.urls_most)
        many = min(many, session.total - start + 1)
        now = self.now()
        answer = {
            "upload_id": session.id,
            "start_index": start,
            "count": many,
            "upload_urls": self._urls(session, start, many),
            "generated_at": stamp(now),
            "expires_at": stamp(now + self.limits.url_seconds),
        }
        return self._ok("presigned-urls", answer)

    def _report(self, session: Session, body: dict[str, Any]) -> Answer:
        """Take note of stored chunks; one wrong item refuses the whole batch."""
        if session.status != "completed":  # the last report may come twice
            self._active(session)
        items = body.get("completed_chunks")
        most = self.limits.report_most
        if not isinstance(items, list) or not 1 <= len(items) <= most:
            raise No(400, "parameter_invalid", f"completed_chunks must have 1 to {most} items")
        fresh: dict[int, Chunk] = {}
        for item in items:
            if not isinstance(item, dict) or item.get("proof_type") != "etag":
                raise No(400, "parameter_invalid", "proof_type must be etag")
            number = integer(item, "chunk_index", 1, session.total)
            proof = text(item, "proof", 1, 1024)
            size = integer(item, "chunk_size", 1, None)
            chunk = session.chunks.get(number)
            if session.status == "completed" or (chunk and chunk.reported is not None):
                continue
            if chunk is None:
                raise No(400, "parameter_invalid", f"Chunk {number} was not uploaded")
            if not same(proof, chunk.etag):
                raise No(400, "parameter_invalid", f"The proof of chunk {number} does not match")
            if size != chunk.blob.size:
                raise No(400, "parameter_invalid", f"The size of chunk {number} does not match")
            fresh[number] = chunk
        for number, chunk in fresh.items():
            chunk.reported = session.updated = self.now()
            session.failed.pop(number, None)
        if session.status == "active" and session.completed == session.total:
            self._finish(session)
        done = session.total if session.status == "completed" else session.completed
        answer: dict[str, Any] = {
            "asset_id": session.asset.id,
            "processed_chunks": len(fresh),
            "duplicate_chunks": len(items) - len(fresh),
            "total_completed": done,
        }
        if done == session.total:
            answer["url"] = self._content_url(session.asset)
        return self._ok("report", answer)

    def _finish(self, session: Session) -> None:
        """Put the chunks together; from here on it is the asset that changes."""
        session.status = "completed"
        asset = session.asset
        asset.arrived = self.now()
        asset.blob = Blob()
        for number in range(1, session.total + 1):
            asset.blob += session.chunks[number].blob
        session.grants.clear()

    def _status(self, session: Session, call: Call) -> Answer:
        numbers, info = self._page(call, range(1, session.total + 1))
        status = session.status
        if status == "completed" and session.polls < self.limits.polls_completing:
            session.polls += 1
            status = "active"
        answer = {
            "upload_id": session.id,
            "status": status,
            "uploaded_chunks": [self._chunk(session, number) for number in numbers],
            "chunks_completed": session.completed,
            "chunks_failed": len(session.failed),
            "chunks_pending": session.total - session.completed - len(session.failed),
            "page_info": info,
            "total_size": session.size,
            "uploaded_size": sum(
                each.blob.size for each in session.chunks.values() if each.reported is not None
            ),
            "created_at": stamp(session.created),
            "updated_at": stamp(session.updated),
        }
        return self._ok("status", answer)

    @staticmethod
    def _chunk(session: Session, number: int) -> dict[str, Any]:
        """Return a chunk as the status names it: ``index`` here, ``chunk_index`` elsewhere."""
        chunk = session.chunks.get(number)
        reported = chunk.reported if chunk else None
        when = stamp(reported) if reported is not None else None
        shown: dict[str, Any] = {"index": number, "uploaded_at": when, "updated_at": when}
        if number in session.failed:
            return {**shown, "status": "failed", "error": session.failed[number]}
        return {**shown, "status": "pending" if reported is None else "completed"}

    def _list(self, call: Call) -> Answer:
        active = [each for each in self._sessions.values() if each.status == "active"]
        sessions, info = self._page(call, active[::-1])
        data = [
            {
                "upload_id": each.id,
                "status": each.status,
                "total_size": each.size,
                "chunk_size": each.chunk_size,
                "total_chunks": each.total,
                "created_at": stamp(each.created),
                "expires_at": stamp(each.expires),
            }
            for each in sessions
        ]
        return self._ok("list", {"data": data, "page_info": info})
