"""TwelveLabs' multipart uploads and assets on this machine, with the storage behind them.

The API answers under ``/v1.3``; presigned URLs lead to ``/storage`` at the same port,
which speaks S3's XML and wants no key. Where the API description (openapi-1.3.yaml of
2026-02-17) and the SDK (twelvelabs 1.3.6) disagree, the SDK is followed.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar
from xml.sax.saxutils import escape

from ..wire import Headers
from . import Answer, Blob, Call, Sandbox, Store, answer_json, random_key

TYPES = ("video", "audio", "image")
_MEDIA = {"video": "video/mp4", "audio": "audio/mpeg", "image": "image/jpeg"}
# How files of each type begin: MP4 and MOV, Matroska and WebM, AVI and WAV, MPEG, …
_BEGINNINGS = {
    "video": rb"....(ftyp|moov|mdat|free)|\x1aE\xdf\xa3|RIFF....AVI |\x00\x00\x01[\xb3\xba]|FLV",
    "audio": rb"ID3|\xff[\xe0-\xff]|RIFF....WAVE|OggS|fLaC|....ftyp",
    "image": rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM",
}


@dataclass(frozen=True)
class Limits:
    """What the service documents, and how eager this one is. Bytes and seconds.

    ``urls_first`` URLs come with a new session, ``urls_most`` and ``report_most`` are
    the most of one call. ``polls_completing`` and ``polls_processing`` are how many
    looks a finished session and its asset stay unfinished, ``seconds_processing`` how
    long the asset does. ``enabled`` False refuses new sessions as an account without
    the preview is refused. ``check_media`` looks whether files begin as their type does.
    """

    chunk_size: int = 5 << 20  # the API's samples; the real server chooses
    min_size: int = 1
    max_size: int = 10 * 10**9  # "10 GB", SDK; the description says 4 GiB
    max_image: int = 32 << 20  # "32 MB", SDK
    max_filename: int = 255
    session_seconds: float = 24 * 3600
    url_seconds: float = 3600
    urls_first: int = 10
    urls_most: int = 50
    report_most: int = 50
    page_most: int = 50
    page_default: int = 10
    polls_completing: int = 0
    polls_processing: int = 1
    seconds_processing: float = 0
    enabled: bool = True
    check_media: bool = False


@dataclass
class _Grant:
    """A presigned URL: for which chunk, until when, and whether it did its work."""

    number: int
    expires: float
    used: bool = False


@dataclass
class _Chunk:
    """A chunk in the storage. ``reported`` is when it was, None before."""

    blob: Blob
    etag: str
    reported: float | None = None


@dataclass
class _Session:
    id: str
    asset: _Asset
    size: int
    chunk_size: int
    created: float
    expires: float
    status: str = "active"
    polls: int = 0
    updated: float = 0
    grants: dict[str, _Grant] = field(default_factory=dict)
    chunks: dict[int, _Chunk] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return -(-self.size // self.chunk_size)

    @property
    def completed(self) -> int:
        return sum(1 for each in self.chunks.values() if each.reported is not None)

    def size_of(self, number: int) -> int:
        return min(self.chunk_size, self.size - (number - 1) * self.chunk_size)


@dataclass
class _Asset:
    id: str
    type: str
    filename: str
    created: float
    user_metadata: Mapping[str, Any]
    hls: bool
    thumbnail: bool
    secret: str = field(default_factory=lambda: secrets.token_hex(24))
    status: str = "processing"
    error: str = ""
    polls: int = 0
    arrived: float | None = None
    blob: Blob | None = None


class _No(Exception):
    """A refusal by the API: a status, its code, a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _StorageNo(Exception):
    """A refusal by the storage, which answers in XML."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class TwelveLabsSandbox(Sandbox):
    """Multipart uploads, assets, and a little of what people do with an asset next.

    ``api_key`` is what calls of the API carry as ``x-api-key``.
    """

    name: ClassVar[str] = "twelvelabs"
    api: ClassVar[str] = "/v1.3"
    digests_of: ClassVar[tuple[str, ...]] = ("md5",)
    upload_headers: ClassVar[Mapping[str, str]] = {"Content-Type": "application/octet-stream"}

    def __init__(
        self,
        *,
        api_key: str | None = None,
        limits: Limits | None = None,
        store: Store | None = None,
        now: Callable[[], float] = time.time,
        base: str = "http://127.0.0.1:1",
    ) -> None:
        super().__init__(store=store, now=now, base=base)
        self.api_key = api_key or random_key("tlk_sandbox_")
        self.limits: Limits = limits or Limits()
        self._sessions: dict[str, _Session] = {}
        self._assets: dict[str, _Asset] = {}
        self._made: dict[tuple[str, ...], dict[str, Any]] = {}

    # -- what others ask a sandbox

    def announce(self) -> Mapping[str, str]:
        """Return the key."""
        return {"api_key": self.api_key}

    def environment(self) -> Mapping[str, str]:
        """Return what points our provider and the official SDK here."""
        return {
            "TWELVELABS_API_KEY": self.api_key,
            "TWELVE_LABS_API_KEY": self.api_key,
            "TWELVELABS_BASE_URL": self.base_url,
        }

    def finished(self) -> Mapping[str, Blob]:
        """Return the bytes of every asset whose upload was completed, by its id."""
        with self.lock:
            return {each.id: each.blob for each in self._assets.values() if each.blob is not None}

    def unfinished(self) -> Sequence[str]:
        """Return the ids of sessions that still take chunks."""
        with self.lock:
            self._expire_sessions()
            return [each.id for each in self._sessions.values() if each.status == "active"]

    def expire_urls(self) -> None:
        """Make every presigned URL handed out so far void."""
        with self.lock:
            for session in self._sessions.values():
                for grant in session.grants.values():
                    grant.expires = self.now()

    def fail_chunk(self, upload_id: str, number: int, why: str = "storage error") -> None:
        """Lose a chunk: the session's status calls it failed until it is sent again."""
        with self.lock:
            session = self._sessions[upload_id]
            session.chunks.pop(number, None)
            session.failed[number] = why

    def answer(self, call: Call) -> Answer:
        """Answer one call of the API or of the storage."""
        self._expire_sessions()
        try:
            if call.path.startswith("/storage/"):
                return self._storage(call)
            return self._route(call)
        except _No as no:
            return answer_json(no.status, {"code": no.code, "message": no.message})
        except _StorageNo as no:
            text = f"<Code>{escape(no.code)}</Code><Message>{escape(no.message)}</Message>"
            xml = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{text}</Error>'
            headers = Headers({"content-type": "application/xml"})
            return Answer(no.status, headers, xml.encode())

    # -- the API

    def _route(self, call: Call) -> Answer:
        if not call.path.startswith(self.api + "/"):
            raise _No(404, "api_not_exist", f"{call.method} {call.path} does not exist")
        given = call.headers.get("x-api-key", "")
        if not hmac.compare_digest(given.encode(), self.api_key.encode()):
            raise _No(401, "api_key_invalid", "The API key is missing or invalid")
        steps = tuple(call.path.removeprefix(self.api + "/").split("/"))
        match (call.method, *steps):
            case ("POST", "assets", "multipart-uploads"):
                return self._create(self._body(call))
            case ("GET", "assets", "multipart-uploads"):
                return self._list(call)
            case ("POST", "assets", "multipart-uploads", upload_id):
                return self._report(self._session(upload_id), self._body(call))
            case ("GET", "assets", "multipart-uploads", upload_id):
                return self._status(self._session(upload_id), call)
            case ("POST", "assets", "multipart-uploads", upload_id, "presigned-urls"):
                return self._more_urls(self._session(upload_id), self._body(call))
            case ("GET", "assets"):
                return self._list_assets(call)
            case ("GET", "assets", asset_id):
                asset = self._asset(asset_id)
                self._process(asset)
                return self._ok("asset", self._shown(asset))
            case ("GET", "assets", asset_id, "content"):
                return self._content(self._asset(asset_id))
            case ("DELETE", "assets", asset_id):
                return self._delete(self._asset(asset_id), call)
        return self._neighbour(call, steps)

    def _ok(self, kind: str, body: Any, status: int = 200) -> Answer:
        self.count(kind)
        return answer_json(status, body)

    @staticmethod
    def _body(call: Call) -> dict[str, Any]:
        """Return the JSON object that a call carries."""
        if call.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise _No(415, "parameter_invalid", "The body must be application/json")
        try:
            body = call.json()
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise _No(400, "parameter_invalid", "The body must be a JSON object")
        return body

    def _session(self, upload_id: str) -> _Session:
        session = self._sessions.get(upload_id)
        if session is None:
            raise _No(404, "resource_not_exist", "The upload session was not found")
        return session

    def _active(self, session: _Session) -> None:
        if session.status != "active":
            raise _No(400, "parameter_invalid", f"The upload session is {session.status}")

    def _asset(self, asset_id: str) -> _Asset:
        asset = self._assets.get(asset_id)
        if asset is None:
            raise _No(404, "resource_not_exist", f"Asset {asset_id} does not exist")
        return asset

    def _create(self, body: dict[str, Any]) -> Answer:
        limits = self.limits
        if not limits.enabled:
            raise _No(403, "not_authorized", "You do not have access to this feature")
        known = {"filename", "type", "total_size", "enable_hls", "enable_thumbnail"}
        for name in body.keys() - known - {"user_metadata"}:
            raise _No(400, "parameter_unknown", f"{name} is unknown")
        filename = _text(body, "filename", 1, limits.max_filename)
        kind = body.get("type")
        if kind not in TYPES:
            raise _No(400, "parameter_invalid", f"type must be one of {', '.join(TYPES)}")
        most = limits.max_image if kind == "image" else limits.max_size
        if "total_size" not in body:
            raise _No(400, "parameter_not_provided", "total_size is required")
        size = _integer(body, "total_size", limits.min_size, None)
        if size > most:
            raise _No(400, "video_filesize_too_large", f"The file must not exceed {most} bytes")
        for name in ("enable_hls", "enable_thumbnail"):
            if not isinstance(body.get(name, False), bool):
                raise _No(400, "parameter_invalid", f"{name} must be true or false")
        now = self.now()
        asset = _Asset(
            secrets.token_hex(12),
            kind,
            filename,
            now,
            _metadata(body.get("user_metadata")),
            body.get("enable_hls", False),
            body.get("enable_thumbnail", False),
        )
        session = _Session(
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
            "expires_at": _stamp(session.expires),
        }
        return self._ok("create", answer, 201)

    def _urls(self, session: _Session, start: int, many: int) -> list[dict[str, Any]]:
        """Hand out URLs that are good for one upload each."""
        life, found = self.limits.url_seconds, []
        for number in range(start, start + many):
            token = secrets.token_hex(24)
            expires = self.now() + life
            session.grants[token] = _Grant(number, expires)
            query = f"X-Amz-Expires={life:.0f}&X-Amz-Signature={token}"
            url = f"{self.base}/storage/{session.id}/{number}?{query}"
            found.append({"chunk_index": number, "url": url, "expires_at": _stamp(expires)})
        return found

    def _more_urls(self, session: _Session, body: dict[str, Any]) -> Answer:
        self._active(session)
        start = _integer(body, "start", 1, session.total)
        many = _integer(body, "count", 1, self.limits.urls_most)
        many = min(many, session.total - start + 1)
        now = self.now()
        answer = {
            "upload_id": session.id,
            "start_index": start,
            "count": many,
            "upload_urls": self._urls(session, start, many),
            "generated_at": _stamp(now),
            "expires_at": _stamp(now + self.limits.url_seconds),
        }
        return self._ok("presigned-urls", answer)

    def _report(self, session: _Session, body: dict[str, Any]) -> Answer:
        """Take note of stored chunks; one wrong item refuses the whole batch."""
        if session.status != "completed":  # the last report may come twice
            self._active(session)
        items = body.get("completed_chunks")
        most = self.limits.report_most
        if not isinstance(items, list) or not 1 <= len(items) <= most:
            raise _No(400, "parameter_invalid", f"completed_chunks must have 1 to {most} items")
        fresh: dict[int, _Chunk] = {}
        for item in items:
            if not isinstance(item, dict) or item.get("proof_type") != "etag":
                raise _No(400, "parameter_invalid", "proof_type must be etag")
            number = _integer(item, "chunk_index", 1, session.total)
            proof = _text(item, "proof", 1, 1024)
            size = _integer(item, "chunk_size", 1, None)
            chunk = session.chunks.get(number)
            if session.status == "completed" or (chunk and chunk.reported is not None):
                continue
            if chunk is None:
                raise _No(400, "parameter_invalid", f"Chunk {number} was not uploaded")
            if not hmac.compare_digest(proof.encode(), chunk.etag.encode()):
                raise _No(400, "parameter_invalid", f"The proof of chunk {number} does not match")
            if size != chunk.blob.size:
                raise _No(400, "parameter_invalid", f"The size of chunk {number} does not match")
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

    def _finish(self, session: _Session) -> None:
        """Put the chunks together; from here on it is the asset that changes."""
        session.status = "completed"
        asset = session.asset
        asset.arrived = self.now()
        asset.blob = Blob()
        for number in range(1, session.total + 1):
            asset.blob += session.chunks[number].blob
        session.grants.clear()

    def _status(self, session: _Session, call: Call) -> Answer:
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
            "created_at": _stamp(session.created),
            "updated_at": _stamp(session.updated),
        }
        return self._ok("status", answer)

    @staticmethod
    def _chunk(session: _Session, number: int) -> dict[str, Any]:
        """Return a chunk as the status names it: ``index`` here, ``chunk_index`` elsewhere."""
        chunk = session.chunks.get(number)
        reported = chunk.reported if chunk else None
        when = _stamp(reported) if reported is not None else None
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
                "created_at": _stamp(each.created),
                "expires_at": _stamp(each.expires),
            }
            for each in sessions
        ]
        return self._ok("list", {"data": data, "page_info": info})

    def _page(self, call: Call, items: Sequence[Any]) -> tuple[Sequence[Any], dict[str, int]]:
        """Return one page and its ``page_info``. Pages past the end are empty."""
        limits = self.limits
        page = _number(call, "page", 1, None)
        many = _number(call, "page_limit", limits.page_default, limits.page_most)
        info = {
            "limit_per_page": many,
            "page": page,
            "total_page": -(-len(items) // many),
            "total_results": len(items),
        }
        return items[(page - 1) * many : page * many], info

    # -- assets

    def _process(self, asset: _Asset) -> None:
        """Let a look at an asset move it on."""
        if asset.status != "processing" or asset.blob is None or asset.arrived is None:
            return
        asset.polls += 1
        limits = self.limits
        if asset.polls <= limits.polls_processing:
            return
        if self.now() < asset.arrived + limits.seconds_processing:
            return
        asset.status = "ready"
        if limits.check_media:
            begins = re.compile(_BEGINNINGS[asset.type], re.DOTALL)
            if not begins.match(asset.blob.read(64)):
                asset.status = "failed"
                asset.error = f"The file is no {asset.type} that can be read"

    def _shown(self, asset: _Asset) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "_id": asset.id,
            "method": "multipart",
            "status": asset.status,
            "filename": asset.filename,
            "file_type": _MEDIA[asset.type],
            "created_at": _stamp(asset.created),
        }
        if asset.user_metadata:
            shown["user_metadata"] = asset.user_metadata
        if asset.status == "failed":
            shown["error"] = {"message": asset.error}
        if asset.status == "ready" and asset.blob is not None:
            shown["size"] = asset.blob.size
            shown["url"] = self._content_url(asset)
            shown["technical_metadata"] = {
                "file_size_bytes": asset.blob.size,
                "file_mime_type": _MEDIA[asset.type],
            }
            if asset.hls:
                shown["hls"] = {"status": "ready", "manifest_url": self._content_url(asset)}
            if asset.thumbnail:
                shown["thumbnail"] = {"status": "ready"}
        return shown

    def _content_url(self, asset: _Asset) -> str:
        """Return where the bytes can be had without a key."""
        return f"{self.base}/storage/assets/{asset.id}/{asset.secret}"

    def _content(self, asset: _Asset) -> Answer:
        if asset.blob is None:
            raise _No(404, "resource_not_exist", f"Asset {asset.id} has no content yet")
        self.count("content")
        return Answer(200, Headers({"content-type": _MEDIA[asset.type]}), blob=asset.blob)

    def _list_assets(self, call: Call) -> Answer:
        wanted = {value for name, value in call.query if name == "asset_ids"}
        kinds = {value for name, value in call.query if name == "asset_types"}
        part = (call.get("filename") or "").lower()
        found = [
            each
            for each in reversed(self._assets.values())
            if (not wanted or each.id in wanted)
            and (not kinds or each.type in kinds)
            and part in each.filename.lower()
        ]
        assets, info = self._page(call, found)
        return self._ok(
            "assets", {"data": [self._shown(each) for each in assets], "page_info": info}
        )

    def _delete(self, asset: _Asset, call: Call) -> Answer:
        uses = [
            steps
            for steps, made in self._made.items()
            if steps[2:3] == ("indexed-assets",) and made["asset_id"] == asset.id
        ]
        if uses and call.get("force") != "true":
            raise _No(409, "resource_in_use", "Indexed assets reference this asset")
        for steps in uses:
            del self._made[steps]
        del self._assets[asset.id]
        self.count("delete")
        return Answer(204)

    # -- the storage

    def _storage(self, call: Call) -> Answer:
        # S3 takes a request signed in its URL or in a header, never both.
        if any(name in call.headers for name in ("x-api-key", "authorization")):
            raise _StorageNo(400, "InvalidArgument", "Only one auth mechanism allowed")
        match (call.method, *call.path.removeprefix("/storage/").split("/")):
            case ("PUT", upload_id, number) if re.fullmatch(r"[1-9][0-9]{0,8}", number):
                return self._put(call, upload_id, int(number))
            case ("GET", "assets", asset_id, token):
                asset = self._assets.get(asset_id)
                if asset is None or not hmac.compare_digest(token.encode(), asset.secret.encode()):
                    raise _StorageNo(403, "AccessDenied", "Access Denied")
                return self._content(asset)
        raise _StorageNo(405, "MethodNotAllowed", "This method is not allowed here")

    def _put(self, call: Call, upload_id: str, number: int) -> Answer:
        """Store a chunk. What is refused leaves the chunk that was there before."""
        session = self._sessions.get(upload_id)
        if session is None or session.status != "active":
            raise _StorageNo(404, "NoSuchUpload", "The upload may have been aborted or completed")
        grant = session.grants.get(call.get("X-Amz-Signature") or "")
        if grant is None or grant.number != number:
            raise _StorageNo(403, "SignatureDoesNotMatch", "The signature does not match")
        if grant.used or self.now() >= grant.expires:
            raise _StorageNo(403, "AccessDenied", "Request has expired")
        for name, value in self.upload_headers.items():
            if call.headers.get(name) != value:
                raise _StorageNo(403, "SignatureDoesNotMatch", "The signature does not match")
        if "chunked" in call.headers.get("transfer-encoding", "").lower():
            raise _StorageNo(501, "NotImplemented", "Transfer-Encoding is not implemented")
        expected = session.size_of(number)
        if call.body.size < expected:
            raise _StorageNo(400, "EntityTooSmall", f"The chunk has {expected} bytes")
        if call.body.size > expected:
            raise _StorageNo(400, "EntityTooLarge", f"The chunk has {expected} bytes")
        etag = call.body.digest("md5")
        before = session.chunks.get(number)
        if before is None or before.etag != etag:  # other bytes have to be reported again
            session.chunks[number] = _Chunk(call.body, etag)
        grant.used = True
        self.count("put")
        return Answer(200, Headers({"etag": f'"{etag}"'}))

    def _expire_sessions(self) -> None:
        """End the sessions whose time is over, and drop what they stored."""
        for session in self._sessions.values():
            if session.status == "active" and self.now() >= session.expires:
                session.status = "expired"
                session.chunks.clear()
                session.grants.clear()
                session.asset.status = "failed"
                session.asset.error = "The upload was not completed in time"

    # -- what people do next

    def _neighbour(self, call: Call, steps: tuple[str, ...]) -> Answer:
        """Answer the calls of a first tutorial, just well enough for the official SDK."""
        match (call.method, *steps):
            case ("POST", "indexes"):
                body = self._body(call)
                made = {"_id": secrets.token_hex(12), **body, "video_count": 0}
                self._made["indexes", made["_id"]] = made
                return self._ok("make", {"_id": made["_id"]}, 201)
            case ("POST", "indexes", index_id, "indexed-assets"):
                if ("indexes", index_id) not in self._made:
                    raise _No(404, "resource_not_exist", f"Index {index_id} does not exist")
                asset = self._usable(self._body(call).get("asset_id"))
                new = secrets.token_hex(12)
                self._made[*steps, new] = {"_id": new, "asset_id": asset.id, "status": "ready"}
                return self._ok("make", {"_id": new, "asset_id": asset.id}, 202)
            case ("GET", "indexes", *_) if steps in self._made:
                return self._ok("get", self._made[steps])
            case ("DELETE", "indexes", *_) if steps in self._made:
                for made_at in [each for each in self._made if each[: len(steps)] == steps]:
                    del self._made[made_at]
                self.count("delete")
                return Answer(204)
            case ("POST", "search"):
                index_id = self._form(call, "index_id")
                found = [
                    {"video_id": made["asset_id"], "start": 0.0, "end": 4.0, "rank": rank}
                    for rank, made in enumerate(self._indexed(index_id), start=1)
                ]
                return self._ok("use", {"data": found, "page_info": {"total_results": len(found)}})
            case ("POST", "analyze"):
                body = self._body(call)
                video = body.get("video")
                asset = self._usable(video.get("asset_id") if isinstance(video, dict) else None)
                said = f"This is a sandbox: it has {asset.filename} and cannot watch it."
                answer = {"id": secrets.token_hex(12), "data": said, "finish_reason": "stop"}
                return self._ok("use", answer)
            case ("POST", "embed-v2"):
                body = self._body(call)
                media = body.get(str(body.get("input_type")), {})
                source = media.get("media_source", {}) if isinstance(media, dict) else {}
                self._usable(source.get("asset_id") if isinstance(source, dict) else None)
                return self._ok("use", {"data": [{"embedding": [0.0] * 512}]})
        raise _No(404, "api_not_exist", f"{call.method} {call.path} does not exist")

    def _usable(self, asset_id: object) -> _Asset:
        asset = self._asset(str(asset_id))
        if asset.status != "ready":
            raise _No(400, "parameter_invalid", f"Asset {asset.id} is {asset.status}")
        return asset

    def _indexed(self, index_id: str) -> Iterator[dict[str, Any]]:
        if ("indexes", index_id) not in self._made:
            raise _No(404, "resource_not_exist", f"Index {index_id} does not exist")
        for steps, made in self._made.items():
            if steps[:3] == ("indexes", index_id, "indexed-assets"):
                yield made

    @staticmethod
    def _form(call: Call, name: str) -> str:
        """Return one field of a form, of either kind."""
        body = call.body.read(64 << 10).decode("utf-8", "replace")
        pattern = rf'name="{name}"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)|(?:^|&){name}=([^&]*)'
        found = re.search(pattern, body)
        return (found[1] or found[2] or "") if found else ""


def _stamp(when: float) -> str:
    """Return Unix seconds as the API writes them."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(data: Mapping[str, Any], name: str, least: int, most: int) -> str:
    value = data.get(name)
    if value is None:
        raise _No(400, "parameter_not_provided", f"{name} is required")
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise _No(400, "parameter_invalid", f"{name} must have {least} to {most} characters")
    return value


def _integer(data: Mapping[str, Any], name: str, least: int, most: int | None) -> int:
    value = data.get(name)
    fits = isinstance(value, int) and least <= value and (most is None or value <= most)
    if not fits or isinstance(value, bool):
        upper = "" if most is None else f" and at most {most}"
        raise _No(400, "parameter_invalid", f"{name} must be at least {least}{upper}")
    return int(value or 0)


def _number(call: Call, name: str, default: int | None, most: int | None) -> int:
    """Return a whole number from 1 in the query."""
    text = call.get(name)
    if text is None:
        return default or 1
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text) or (most is not None and int(text) > most):
        raise _No(400, "parameter_invalid", f"{name} is invalid")
    return int(text)


def _metadata(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _No(400, "parameter_invalid", "user_metadata must be an object")
    for key, each in value.items():
        texts = isinstance(each, list) and all(isinstance(text, str) for text in each)
        if not (texts or each is None or isinstance(each, str | int | float)):
            raise _No(400, "parameter_invalid", f"user_metadata {key} is invalid")
    return {key: each for key, each in value.items() if each not in (None, "", [])}
