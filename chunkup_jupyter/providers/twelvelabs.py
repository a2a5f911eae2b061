"""TwelveLabs: multipart upload of assets, through presigned URLs of its storage.

The server chooses the part size. Parts go to presigned URLs, never with the API key;
their ETags are reported in batches; the last report finishes the upload, and the
platform then checks the asset until it is ready. What is said here about the service
was read 2026-11 in its Python SDK (twelvelabs 1.3.6, "SDK" below) and its OpenAPI
description (openapi-1.3.yaml of 2026-02-17, "spec").
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..answers import clean, expect, json_of, problem, request_id
from ..errors import (
    AuthError,
    CredentialsMissing,
    InsecureConnection,
    IntegrityError,
    InvalidUpload,
    ProtocolError,
    Refused,
    SessionLost,
)
from ..model import (
    Body,
    FileInfo,
    Flow,
    Held,
    NotYet,
    Part,
    PartReceipt,
    Provider,
    Result,
    Rules,
    Session,
    answered,
    option,
)
from ..plan import count, part_at
from ..secrets import Need, Secret
from ..wire import Request, Response, encoded, is_loopback, json_request

TYPES = ("video", "audio", "image")  # SDK, create_asset_upload_request_type.py; spec: video only
MOST_URLS = 50  # of one call for more of them; spec, RequestAdditionalPresignedURLsRequest
MOST_REPORTED = 50  # chunks in one report; spec, ReportChunkBatchRequest
PAGE = 50  # items on a page, the most there are; spec, GET …/multipart-uploads
SESSION_LIFE = 24 * 3600.0  # seconds; spec, CreateAssetUploadResponse.expires_at
URL_LIFE = 3600.0  # seconds; spec, PresignedURLChunk
IMAGE_MOST = 32_000_000  # bytes; "32 MB", SDK, multipart_upload/client.py

RULES = Rules(
    min_size=1,  # spec, total_size minimum
    server_decides=True,  # chunk_size of the answer to create
    life=SESSION_LIFE,
    part_digests=("md5",),
    report_every=MOST_REPORTED,
    advised_max=4 << 30,  # 4,294,967,296 in the spec; newer pages say more
    advice=(
        "TwelveLabs' pages disagree about the largest file: 2 GB, 4 GB (API description of "
        "2026-02) or 10 GB (SDK 1.3.6, read 2026-11); the server decides at the start"
    ),
)

_NO_KEY = Secret("")
_AHEAD = 16  # parts before the last known URL at which more are fetched; above the usual jobs
_TRIES = 8  # fresh URLs a part may cost in one go; as often as a request is attempted
_MOST_CHUNKS = 100_000  # ten times what S3 takes; keeps a nonsensical chunk size from the engine
_MOST_PAGES = 200  # of a listing of sessions: 10,000 of them
_POLL = 2.0  # seconds between two looks at what the server is working on

# What a session may ask us to send to its storage. Everything else is left out: a key
# or a cookie of ours must not be asked for, and Host and lengths are the transport's.
_HEADERS = re.compile(
    r"content-type|content-disposition|content-language|cache-control|expires"
    r"|x-(amz|goog|ms|oss)-[a-z0-9-]+",
    re.IGNORECASE,
)


def _utc_now() -> float:
    return datetime.now(UTC).timestamp()


@dataclass(frozen=True)
class _Grant:
    """A presigned URL, and until when (Unix seconds, the server's clock) it is used."""

    url: Secret
    good_until: float


@dataclass(frozen=True, kw_only=True)
class TwelveLabs(Provider):
    """An account at TwelveLabs. ``type`` says what the file is: video, audio or image."""

    title: ClassVar[str] = "TwelveLabs"
    form: ClassVar[str] = "twelvelabs:video|audio|image"
    needs: ClassVar[tuple[Need, ...]] = (
        Need("api_key", ("TWELVELABS_API_KEY", "TWELVE_LABS_API_KEY", "TL_API_KEY")),
        # Undocumented; the SDK reads it (client.py).
        Need("base_url", ("TWELVELABS_BASE_URL",), secret=False, required=False),
    )
    waits_ready: ClassVar[bool] = True

    rules: Rules = RULES
    type: str = option("", help="what the file is", choices=TYPES)
    api_key: Secret = _NO_KEY
    base_url: str = option(
        "https://api.twelvelabs.io/v1.3",  # SDK, environment.py
        help="another address of the API",
        aliases=("endpoint",),
        metavar="URL",
        address=True,
    )
    hls: bool = option(
        False, help="prepare the asset for streaming (HLS)", toggle=True, settled=True
    )
    thumbnail: bool = option(False, help="make a thumbnail of the asset", toggle=True, settled=True)
    meta: Mapping[str, Any] = option(
        factory=dict,
        help="metadata of the asset",
        aliases=("metadata",),
        repeat=True,
        metavar="K=V",
        settled=True,
    )
    allow_insecure: bool = option(
        False, toggle=True, help="allow plain http to a host that is not this machine"
    )
    now: Callable[[], float] = field(default=_utc_now, repr=False, compare=False)
    """The clock, in Unix seconds."""

    # Presigned URLs live here and nowhere else: they are secrets, and dead in an hour.
    _urls: dict[tuple[str, int], _Grant] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _reach: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    _clock: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.api_key, str):
            object.__setattr__(self, "api_key", Secret(self.api_key))
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", self.type):
            choices = ", ".join(f"twelvelabs:{each}" for each in TYPES)
            raise InvalidUpload(f"TwelveLabs needs to know what the file is: {choices}")
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidUpload("the base URL of TwelveLabs begins with https:// and names a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise InvalidUpload("the base URL of TwelveLabs is an address without user or query")
        if parts.scheme == "http" and not (self.allow_insecure or is_loopback(self.base_url)):
            raise InsecureConnection(
                f"plain http to {parts.hostname} would show your API key and your file to "
                "everybody in between; use https"
            )

    # -- where

    @classmethod
    def from_url(cls, url: str, **fields: Any) -> TwelveLabs:
        """Return the destination of ``twelvelabs:video``; ``type`` in ``fields`` wins.

        Raises ``InvalidUpload`` when neither names a type.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        kind = given.pop("type", "") or url.partition(":")[2].strip("/")
        return cls(type=str(kind).lower(), **given)

    @property
    def url(self) -> str:
        """``twelvelabs:video``."""
        return f"twelvelabs:{self.type}"

    @property
    def account(self) -> str:
        """The key's identity."""
        return self.api_key.identity()

    @property
    def kind(self) -> str:
        """``twelvelabs:video``, ``twelvelabs:audio`` or ``twelvelabs:image``."""
        return self.url

    def check(self, file: FileInfo) -> Sequence[str]:
        """Return warnings; raise ``InvalidUpload`` for a name or metadata it can't take."""
        if not 1 <= len(file.name) <= 255:  # spec, filename
            raise InvalidUpload(
                f"TwelveLabs takes names of 1 to 255 characters, not {len(file.name)}; "
                "give a shorter one with --name"
            )
        _metadata(self.meta)
        warnings = []
        if self.type not in TYPES:
            warnings.append(
                f"TwelveLabs documents {', '.join(TYPES)}, not {self.type!r}; it may refuse"
            )
        if self.type == "image" and file.size > IMAGE_MOST:
            warnings.append(
                f"TwelveLabs takes images of up to 32 MB (SDK 1.3.6); this one has "
                f"{file.size:,} bytes and may be refused"
            )
        return warnings

    # -- verbs

    def create(self, file: FileInfo, part_size: int) -> Flow[Session]:
        """Open a session for 24 hours. ``part_size`` is ignored: the server decides."""
        body: dict[str, Any] = {
            "filename": file.name,
            "type": self.type,
            "total_size": file.size,
        }
        if self.hls:
            body["enable_hls"] = True
        if self.thumbnail:
            body["enable_thumbnail"] = True
        if meta := _metadata(self.meta):
            body["user_metadata"] = meta
        doing = f"opening an upload of {file.name}"
        try:
            data = yield from self._ask("POST", _UPLOADS, body, "upload_id", doing=doing)
        except AuthError as error:
            if error.status != 403:
                raise
            raise AuthError(
                f"{error}. Multipart upload may be a preview that is not enabled for this "
                "account: ask TwelveLabs, or send files up to 200 MB directly",
                status=error.status,
                code=error.code,
                request_id=error.request_id,
                host=error.host,
            ) from error
        size = _integer(data, "chunk_size", 1, 1 << 50)
        total = _integer(data, "total_chunks", 1, _MOST_CHUNKS)
        if total != count(file.size, size):
            raise ProtocolError(
                f"TwelveLabs answered {total:,} chunks of {size:,} bytes for a file of "
                f"{file.size:,} bytes"
            )
        session = Session(
            _identifier(data, "upload_id"),
            file,
            size,
            {
                "asset_id": _identifier(data, "asset_id"),
                "total_chunks": str(total),
                "upload_headers": json.dumps(_allowed(data.get("upload_headers"))),
            },
            self._expiry(data),
        )
        self._keep_urls(session, data)
        return session

    def put_part(self, session: Session, part: Part, body: Body) -> Flow[PartReceipt]:
        """Send one part to its presigned URL, fetching fresh ones as they are needed.

        Raises ``IntegrityError`` when the storage's ETag is an MD5 and not that of the
        bytes just sent.
        """
        key = session.upload_id, part.number
        headers = _allowed(json.loads(session.extra.get("upload_headers", "null")))
        doing = f"part {part.number}"
        for _ in range(_TRIES):
            yield from self._more_urls(session, part.number)
            grant = self._urls.pop(key)  # "can be used once" (spec): never tried by a second flow
            response = yield Request(
                "PUT",
                grant.url.reveal(),
                headers,
                body,
                public_only=not is_loopback(self.base_url),
            )
            etag = _etag(response)
            if not _worth_a_fresh_url(response, etag):
                break
        code, message = problem(response)
        host = response.host or "the storage"
        if response.status == 404 and code in ("NoSuchUpload", ""):
            raise SessionLost(f"{doing}: TwelveLabs' storage no longer knows this upload")
        if response.status == 403:
            raise Refused(
                f"{doing}: {host} refused {_TRIES} fresh URLs: {code} {message}".rstrip(": "),
                status=403,
                code=code,
                request_id=request_id(response),
                host=response.host,
            )
        expect(response, doing=doing)
        if not etag:
            raise ProtocolError(
                f"{doing}: {host} answered {response.status} without an ETag, {_TRIES} times",
                status=response.status,
                host=response.host,
            )
        return PartReceipt(part.number, part.size, etag, _compared(response, etag, body, doing))

    def held(self, session: Session) -> Flow[Held]:
        """Say which parts were reported.

        The server does not give their ETags back, so these receipts have no token;
        ``complete`` needs none for them. A part that is in the storage and was not
        reported counts as missing: report the journal's receipts with ``acknowledge``
        before asking.
        """
        state = yield from self._state(session)
        return tuple(
            PartReceipt(number, part_at(number, session.file.size, session.part_size).size)
            for number in sorted(state.completed)
        )

    def acknowledge(self, session: Session, receipts: Sequence[PartReceipt]) -> Flow[None]:
        """Report finished parts. Repeats are counted by the server and change nothing.

        A batch that the server refuses is left to ``complete``, which looks at every
        part. Raises ``SessionLost``.
        """
        for batch in _batches(receipts):
            response = yield from self._report(session, batch)
            if response.status == 400:
                yield from self._state(session, whole=False)
            else:
                _expect(response, "reporting parts")

    def complete(
        self, session: Session, receipts: Sequence[PartReceipt], digest: str | None = None
    ) -> Flow[Result | NotYet]:
        """Look, report what the server does not know, and look again.

        The last report finishes the upload, so a lost answer costs nothing: reports
        may be repeated. Raises ``IntegrityError`` naming parts that have to be sent
        again, ``SessionLost``.
        """
        try:
            state = yield from self._state(session, whole=False)
        except SessionLost:
            # Gone may mean completed long ago; then the asset can tell.
            finished = yield from self._finished(session)
            if finished is None:
                raise
            return finished
        if not state.done:
            state = yield from self._state(session)
            unknown = [each for each in receipts if each.number not in state.completed]
            lost = {each.number for each in unknown if not each.token}
            if lost and not state.done:
                raise _resend(lost, state.why)
            # A failed part that was sent again stays failed until it is reported.
            for batch in _batches(unknown):
                response = yield from self._report(session, batch)
                if response.status == 400:
                    numbers = {each.number for each in batch}
                    now = yield from self._state(session, whole=False)
                    if now.done:
                        break
                    code, message = problem(response)
                    raise _resend(numbers & state.failed or numbers, message or code)
                _expect(response, "reporting parts")
            if unknown:
                state = yield from self._state(session, whole=False)
            if not state.done and state.raw.get("chunks_failed"):
                state = yield from self._state(session)
                if state.failed:
                    raise _resend(state.failed, state.why)
        if not state.done:
            return NotYet(_POLL, "TwelveLabs is putting the parts together")
        self._forget(session)
        proved = sum(1 for each in receipts if each.checksum.startswith("md5:"))
        many = "every part" if proved == len(receipts) else f"{proved} of {len(receipts)} parts"
        words = f"MD5 of {many}, by the storage's ETags"
        return self._result(session, state.raw, (words,) if proved else ())

    def _result(
        self, session: Session, raw: Mapping[str, Any], verified: tuple[str, ...] = ()
    ) -> Result:
        asset = session.extra["asset_id"]
        url = f"{self.base_url}/assets/{encoded(asset)}"
        return Result(asset, url, session.file.size, {**raw, "asset_id": asset}, verified)

    def _finished(self, session: Session) -> Flow[Result | None]:
        """Return the result of a session that is gone, None if it was never completed."""
        asset = session.extra["asset_id"]
        response = yield self._request("GET", f"/assets/{encoded(asset)}")
        if response.status != 200:
            return None
        try:
            data = json_of(response)
        except ProtocolError:
            return None
        if data.get("status") != "ready" or data.get("size") != session.file.size:
            return None
        return self._result(session, {}, ("size of the asset, by TwelveLabs",))

    def abort(self, session: Session) -> Flow[None]:
        """Forget the session's URLs. No call ends it: it lapses after 24 hours."""
        self._forget(session)
        return answered(None)

    def ready(self, result: Result) -> Flow[Result | NotYet]:
        """Say whether the asset was checked, and compare its size with the file's."""
        data = yield from self._ask(
            "GET", f"/assets/{encoded(result.id)}", None, "status", doing=f"asset {result.id}"
        )
        match data["status"]:
            case "processing":
                return NotYet(_POLL, "TwelveLabs is checking the file")
            case "failed":
                error = data.get("error")
                said = clean(error.get("message", "")) if isinstance(error, dict) else ""
                raise Refused(
                    f"TwelveLabs took the file and could not use it: {said or 'no reason given'} "
                    f"(asset {result.id})"
                )
            case "ready":
                pass
            case other:
                raise ProtocolError(f"asset {result.id} has the unknown status {clean(other, 40)}")
        size, verified = data.get("size"), result.verified
        if _is_integer(size) and result.size:
            if size != result.size:
                raise IntegrityError(
                    f"asset {result.id} has {size:,} bytes, the file {result.size:,}", final=True
                )
            verified = (*verified, "size of the asset, by TwelveLabs")
        return Result(result.id, result.url, result.size, {**result.raw, **data}, verified)

    def look_up(self, result: Result) -> Flow[Result | None]:
        """Return the asset if it is still there, of the same size and usable."""
        response = yield self._request("GET", f"/assets/{encoded(result.id)}")
        if response.status == 404:
            return None
        _expect(response, f"asset {result.id}")
        data: dict[str, Any] = json_of(response)
        size = data.get("size")
        if data.get("status") == "failed" or (_is_integer(size) and size != result.size):
            return None
        return replace(result, raw=data, verified=("size",) if _is_integer(size) else ())

    def delete(self, result: Result) -> Flow[None]:
        """Delete the asset. May be repeated."""
        response = yield self._request("DELETE", f"/assets/{encoded(result.id)}")
        if response.status == 409:
            raise Refused(
                f"asset {result.id} is used by an index; delete it there first",
                status=409,
                host=response.host,
            )
        if response.status != 404:
            _expect(response, f"deleting asset {result.id}")

    def list_open(self) -> Flow[Sequence[Session]]:
        """List unfinished sessions. The server tells neither their file's name nor asset."""
        found: dict[str, Session] = {}
        for page in range(1, _MOST_PAGES + 1):
            path = f"{_UPLOADS}?page={page}&page_limit={PAGE}"
            data = yield from self._ask("GET", path, None, "data", doing="listing uploads")
            fresh = [each for each in _objects(data, "data") if each.get("upload_id") not in found]
            for each in fresh:
                upload_id = _identifier(each, "upload_id")
                total = _integer(each, "total_size", 1, 1 << 60)
                size = _integer(each, "chunk_size", 1, 1 << 50)
                extra = {"status": clean(each.get("status", ""), 20)}
                found[upload_id] = Session(
                    upload_id, FileInfo("", total), size, extra, self._expiry(each)
                )
            if not fresh or page >= _pages(data):
                break
        return tuple(found.values())

    # -- words

    def next_cell(self, result: Result) -> str:
        """Return a cell that uses the asset with TwelveLabs' own SDK."""
        usual = type(self).__dataclass_fields__["base_url"].default
        there = "" if self.base_url == usual else f', base_url="{self.base_url}"'
        head = (
            "import os\n"
            "from twelvelabs import TwelveLabs\n\n"
            f'client = TwelveLabs(api_key=os.environ["TWELVELABS_API_KEY"]{there})\n'
            f'asset_id = "{result.id}"\n'
        )
        return head + _NEXT.get(self.type, _NEXT["video"])

    # -- requests

    def _request(self, method: str, path: str, body: Any = None) -> Request:
        """Return a call of the API, with the key; ``path`` follows the base URL."""
        if not self.api_key:
            raise CredentialsMissing("TwelveLabs needs an API key: set TWELVELABS_API_KEY")
        headers = {"x-api-key": self.api_key.reveal(), "Accept": "application/json"}
        if body is None:
            return Request(method, self.base_url + path, headers)
        return json_request(method, self.base_url + path, body, headers)

    def _ask(
        self, method: str, path: str, body: Any, *wanted: str, doing: str
    ) -> Flow[dict[str, Any]]:
        """Return a JSON answer that has one of ``wanted``.

        A 2xx without it (a proxy's page, an error in disguise) is no success: it is
        asked again, three times in all. Every call here may be repeated.
        """
        for left in (2, 1, 0):
            response = yield self._request(method, path, body)
            self._note_time(response)
            _expect(response, doing)
            try:
                data = json_of(response)
            except ProtocolError:
                if not left:
                    raise
                continue
            if any(data.get(name) is not None for name in wanted):
                return data
        raise ProtocolError(
            f"{doing}: {response.host} answered {response.status} without {' or '.join(wanted)}",
            status=response.status,
            request_id=request_id(response),
            host=response.host,
        )

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
        response = yield self._request("POST", _path(session), body)
        return _known(response, session)

    def _state(self, session: Session, *, whole: bool = True) -> Flow[_State]:
        """Return what the server knows of a session: the first page, or all of them.

        Raises ``SessionLost`` when it expired, failed, or is unknown.
        """
        total = count(session.file.size, session.part_size)
        status: dict[int, object] = {}
        raw: dict[str, Any] = {}
        why, page, pages = "", 0, 1
        while page < pages:
            page += 1
            path = f"{_path(session)}?page={page}&page_limit={PAGE}"
            try:
                data = yield from self._ask("GET", path, None, "status", doing="asking for status")
            except Refused as error:
                if error.status in (404, 410):
                    raise _lost(session) from error
                raise
            if data["status"] in ("expired", "failed"):
                raise _lost(session, f"calls it {data['status']}")
            raw = raw or {name: data[name] for name in _SHOWN if name in data}
            chunks = _objects(data, "uploaded_chunks")
            known = len(status)
            for each in chunks:
                status[_integer(each, "index", 1, total)] = each.get("status")
                if each.get("status") == "failed":
                    why = why or clean(each.get("error") or "", 200)
            if not whole or len(status) == known:
                break  # an empty page, or one that was there already
            if page == 1:
                pages = min(_pages(data), -(-total // len(chunks)) + 1)
        return _State(
            raw["status"] == "completed",
            {number for number, said in status.items() if said == "completed"},
            {number for number, said in status.items() if said == "failed"},
            why,
            raw,
        )

    # -- presigned URLs

    def _more_urls(self, session: Session, number: int) -> Flow[None]:
        """Make sure that part ``number`` has a URL which is not about to expire.

        Fifty are fetched at a time, and the next fifty while there are some left, so
        that workers do not all find none at the same moment.
        """
        key = session.upload_id, number
        total = count(session.file.size, session.part_size)
        grant = self._urls.get(key)
        if grant is None or self._time() >= grant.good_until:
            start = number
        elif number + _AHEAD > (reach := self._reach.get(session.upload_id, total)) < total:
            start = reach + 1
        else:
            return
        many = min(MOST_URLS, total - start + 1)
        reach = self._reach.get(session.upload_id, 0)
        self._reach[session.upload_id] = max(reach, start + many - 1)
        doing = f"asking for the URL of part {number}"
        path, body = f"{_path(session)}/presigned-urls", {"start": start, "count": many}
        try:
            data = yield from self._ask("POST", path, body, "upload_urls", doing=doing)
        except Refused as error:
            if error.status in (404, 410):
                raise _lost(session) from error
            if error.status == 400:  # a bad range, or a session that is over: ask which
                yield from self._state(session, whole=False)
            raise
        self._keep_urls(session, data)
        if key not in self._urls:
            raise ProtocolError(f"{doing}: TwelveLabs answered without it")

    def _keep_urls(self, session: Session, data: Mapping[str, Any]) -> None:
        """Check and keep the URLs of an answer."""
        now, total = self._time(), count(session.file.size, session.part_size)
        seen: set[int] = set()
        for each in _objects(data, "upload_urls"):
            number = _integer(each, "chunk_index", 1, total)
            if number in seen:
                raise ProtocolError(f"TwelveLabs gave two URLs for part {number}")
            seen.add(number)
            url = check_presigned(each.get("url"), self.base_url)
            ends = _instant(each.get("expires_at"), now + URL_LIFE)
            # 80 % of its life, so that a slow part does not outlive its URL.
            self._urls[session.upload_id, number] = _Grant(Secret(url), now + 0.8 * (ends - now))
        if seen:
            reach = self._reach.get(session.upload_id, 0)
            self._reach[session.upload_id] = max(reach, *seen)

    def _forget(self, session: Session) -> None:
        for key in [key for key in self._urls if key[0] == session.upload_id]:
            del self._urls[key]
        self._reach.pop(session.upload_id, None)

    # -- the clock

    def _time(self) -> float:
        """Return the server's time: ours, put right when the two are far apart."""
        return self.now() + (self._clock[0] if self._clock else 0.0)

    def _note_time(self, response: Response) -> None:
        """Compare the clocks. Below a minute apart they count as the same."""
        try:
            theirs = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError, OverflowError):
            return
        apart = theirs - self.now()
        self._clock[:] = [apart if abs(apart) > 60 else 0.0]

    def _expiry(self, data: Mapping[str, Any]) -> float:
        """Return when a session ends, by our own clock."""
        now = self._time()
        ends = _instant(data.get("expires_at"), now + SESSION_LIFE)
        if ends <= now:
            raise ProtocolError("TwelveLabs answered with a session that has expired already")
        return ends - (now - self.now())


_UPLOADS = "/assets/multipart-uploads"
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
class _State:
    """What the server says of a session: over or not, and which parts it counts."""

    done: bool
    completed: set[int]
    failed: set[int]
    why: str
    raw: Mapping[str, Any]


def _expect(response: Response, doing: str) -> None:
    """Raise what a status means; a key that is not known may have been replaced meanwhile."""
    try:
        expect(response, doing=doing)
    except AuthError as error:
        error.expired = error.status == 401
        raise


def _path(session: Session) -> str:
    return f"{_UPLOADS}/{encoded(session.upload_id)}"


def _known(response: Response, session: Session) -> Response:
    if response.status in (404, 410):
        raise _lost(session)
    return response


def _lost(session: Session, how: str = "no longer knows it") -> SessionLost:
    return SessionLost(f"TwelveLabs {how}: upload {session.upload_id[:8]}… has to begin anew")


def _resend(numbers: set[int], why: str) -> IntegrityError:
    named = ", ".join(str(number) for number in sorted(numbers)[:20])
    more = f" and {len(numbers) - 20} more" if len(numbers) > 20 else ""
    said = f" ({why})" if why else ""
    return IntegrityError(f"TwelveLabs does not accept part {named}{more} as it came{said}")


def _batches(receipts: Sequence[PartReceipt]) -> Iterator[Sequence[PartReceipt]]:
    """Yield the receipts that can be reported, fifty at a time."""
    known = [each for each in receipts if each.token]
    for start in range(0, len(known), MOST_REPORTED):
        yield known[start : start + MOST_REPORTED]


# -- what the storage says


def _etag(response: Response) -> str:
    """Return the ETag of a success without ``W/`` and quotes, "" when it makes no sense."""
    if not 200 <= response.status < 300 or b"<Error>" in response.content[:1024]:
        return ""
    etag = response.headers.get("etag", "").removeprefix("W/").strip('"')
    return etag if re.fullmatch(r"[!-~]{1,200}", etag) else ""


def _worth_a_fresh_url(response: Response, etag: str) -> bool:
    """Say whether the same part should be sent again at once, to a new URL."""
    match response.status:
        case 403:  # the URL expired between issue and use, or was used by a lost attempt
            return True
        case 400:  # the session behind the signature ended; the body came too slowly
            return problem(response)[0] in ("ExpiredToken", "RequestTimeout")
        case status:
            return 200 <= status < 300 and not etag


def _compared(response: Response, etag: str, body: Body, doing: str) -> str:
    """Return the checksum for a receipt: the ETag, if it is the MD5 of what was sent.

    S3's ETag of a part is its MD5, unless the bucket encrypts with keys of its own
    (Common Response Headers, S3 API reference): then nothing can be compared.
    """
    ours = body.digest("md5")
    encrypted = "kms" in response.headers.get("x-amz-server-side-encryption", "").lower()
    customer = "x-amz-server-side-encryption-customer-algorithm" in response.headers
    if ours is None or encrypted or customer or not re.fullmatch(r"[0-9a-fA-F]{32}", etag):
        return ""
    if etag.lower() != ours:
        raise IntegrityError(f"{doing}: the storage received other bytes than were sent")
    return f"md5:{ours}"


# -- presigned URLs and what comes with them


def check_presigned(url: object, base_url: str) -> str:
    """Return a presigned URL that bytes of the user's may be sent to.

    https only, to a public host; where the API itself is on this machine, so may its
    storage be, in plain http. Names are resolved and checked by the transport.

    Raises:
        ProtocolError: naming what is wrong with it, not the URL.
    """
    local = is_loopback(base_url)

    def refused(why: str) -> ProtocolError:
        return ProtocolError(f"TwelveLabs named a storage address that {why}; nothing was sent")

    if not isinstance(url, str) or not re.fullmatch(r"[!-\[\]-~]{1,8192}", url):
        raise refused("is no URL")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise refused("is no URL") from None
    if parts.scheme != "https" and not (local and parts.scheme == "http"):
        raise refused("is not https")
    if "@" in parts.netloc or "#" in url:
        raise refused("carries a user or a fragment")
    if not re.fullmatch(r"[a-z0-9.:_-]+", host):
        raise refused("has no proper host")
    address = _address(host)
    if address is not None:
        never = address.is_link_local or address.is_multicast or address.is_unspecified
        near = local and address.is_private  # loopback is part of it
        if never or not (near or (address.is_global and not address.is_reserved)):
            raise refused("is not public")
    elif not local:
        labels = host.rstrip(".").split(".")
        if len(labels) < 2 or labels[-1] in ("localhost", "local", "internal"):
            raise refused("is not public")
    return url


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host spells out, None when it is a name.

    Understands what resolvers do: ``2130706433``, ``0x7f.1``, ``0177.0.0.1``,
    ``::ffff:10.0.0.1`` and the IPv4 addresses inside 6to4, NAT64 and Teredo.
    """
    if ":" in host:
        try:
            six = ipaddress.IPv6Address(host)
        except ValueError:
            return ipaddress.IPv6Address("::")  # not an address and not a name either
        if six.is_site_local:
            return ipaddress.IPv6Address("::")  # private long ago, and "global" to Python
        inner = six.ipv4_mapped or six.sixtofour or (six.teredo[1] if six.teredo else None)
        if int(six) >> 32 in (0x0064FF9B << 64, 0) and int(six) > 0xFFFF:  # NAT64, compatible
            inner = ipaddress.IPv4Address(int(six) & 0xFFFFFFFF)
        return inner or six
    labels = host.rstrip(".").split(".")
    if not re.fullmatch(r"0x[0-9a-f]*|[0-9]+", labels[-1]):
        return None
    try:
        numbers = [_number(label) for label in labels]
        *heads, tail = numbers
        if (
            len(numbers) > 4
            or any(each > 255 for each in heads)
            or tail >= 256 ** (5 - len(numbers))
        ):
            raise ValueError(host)
        value = tail + sum(each << 8 * (3 - place) for place, each in enumerate(heads))
        return ipaddress.IPv4Address(value)
    except ValueError:
        return ipaddress.IPv4Address(0)  # looks like an address and is none: refused


def _number(label: str) -> int:
    """Return a label as inet_aton reads it: decimal, 0 octal, 0x hexadecimal."""
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") else 10)


def _allowed(headers: object) -> dict[str, str]:
    """Return those headers of a session that are sent to its storage."""
    if headers is None:
        return {"Content-Type": "application/octet-stream"}  # what the SDK sends
    if not isinstance(headers, dict) or len(headers) > 64:
        raise ProtocolError("TwelveLabs' upload headers make no sense")
    kept = {}
    for name, value in headers.items():
        if _HEADERS.fullmatch(name):
            if not isinstance(value, str) or not re.fullmatch(r"[ -~]{0,4096}", value):
                raise ProtocolError(f"TwelveLabs' upload header {name} makes no sense")
            kept[name] = value
    return kept


# -- what the API says


def _metadata(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata as it is sent; empty values mean nothing there and are left out."""
    kept: dict[str, Any] = {}
    for key, value in meta.items():
        plain = isinstance(value, str | bool | int | float)
        if not (plain or value is None or _is_text_list(value)) or value != value:
            raise InvalidUpload(f"metadata {key!r} is a text, a number, true or false, or texts")
        if _is_integer(value) and abs(value) >= 1 << 53:
            value = str(value)  # "ints wider than 53 bits as text", SDK
        if value is not None and value != "" and value != []:
            kept[key] = list(value) if isinstance(value, tuple) else value
    return kept


def _is_text_list(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(data: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ProtocolError(f"TwelveLabs answered {name} {clean(value, 40)}, which makes no sense")
    return value


def _identifier(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    # Goes into paths: no slash, and not "..".
    if not isinstance(value, str) or not re.fullmatch(r"(?!\.+$)[\w.~:=+@-]{1,256}", value, re.A):
        raise ProtocolError(f"TwelveLabs answered {name} {clean(value, 40)}, which makes no sense")
    return value


def _objects(data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = data.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ProtocolError(f"TwelveLabs answered {name} that is no list of objects")
    return value


def _pages(data: Mapping[str, Any]) -> int:
    info = data.get("page_info")
    total = info.get("total_page") if isinstance(info, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) else _MOST_CHUNKS


def _instant(value: object, otherwise: float) -> float:
    """Return RFC 3339 as Unix seconds; ``otherwise`` when there is none."""
    if value is None:
        return otherwise
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]  # refused below
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        raise ProtocolError(f"TwelveLabs answered the time {clean(value, 40)}") from None


_EMBED = """
from twelvelabs import MediaSource, {kind}InputRequest

made = client.embed.v_2.create(
    input_type="{small}",
    model_name="marengo3.0",
    {small}={kind}InputRequest(media_source=MediaSource(asset_id=asset_id)),
)
print(len(made.data), "embeddings of", len(made.data[0].embedding), "numbers")
"""

_NEXT = {
    "image": _EMBED.format(kind="Image", small="image"),
    "audio": _EMBED.format(kind="Audio", small="audio"),
    "video": """
# Ask about it
from twelvelabs import VideoContext_AssetId

answer = client.analyze(
    model_name="pegasus1.5",
    video=VideoContext_AssetId(asset_id=asset_id),
    prompt="What happens in this video? Give times.",
)
print(answer.data)

# Search in it
import time
from twelvelabs.indexes import IndexesCreateRequestModelsItem

index = client.indexes.create(
    index_name=f"chunkup-{asset_id}",
    models=[
        IndexesCreateRequestModelsItem(
            model_name="marengo3.0", model_options=["visual", "audio"]
        )
    ],
)
indexed = client.indexes.indexed_assets.create(index.id, asset_id=asset_id)
while client.indexes.indexed_assets.retrieve(index.id, indexed.id).status not in (
    "ready",
    "failed",
):
    time.sleep(5)
for clip in client.search.query(
    index_id=index.id, query_text="people talking", search_options=["visual", "audio"]
):
    print(clip.start, clip.end, clip.rank)

# Embed it
"""
    + _EMBED.format(kind="Video", small="video").lstrip(),
}
