"""Alibaba Cloud OSS: multipart upload to ``oss://bucket/key``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree.ElementTree import Element

from ..answers import clean, expect, parse_xml, problem, request_id, xml_text
from ..digests import combine_crc64
from ..errors import (
    AnswerLost,
    AuthError,
    ChunkupError,
    CredentialsMissing,
    InsecureConnection,
    IntegrityError,
    InvalidUpload,
    OutcomeUnknown,
    ProtocolError,
    ProviderError,
    SessionLost,
    Unreachable,
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
    option,
)
from ..plan import check_size
from ..secrets import Need, Secret
from ..wire import Request, Response, encoded, is_loopback
from . import oss_signing as signing

# Limits: "Multipart upload and resumable upload" and "Terms", OSS developer guide,
# read 2026-11. 48.8 TB there is 10,000 parts of 5 GB; all are binary units.
RULES = Rules(
    max_size=10_000 * (5 << 30),
    min_part=100 << 10,  # the last part may be smaller
    max_part=5 << 30,
    max_parts=10_000,
    part_digests=("crc64",),
)
_PAGE = 1000  # "ListParts", "ListMultipartUploads", as above
_TRAFFIC = (819_200, 838_860_800)  # bits a second; "Single-connection bandwidth throttling"
_TAGS = 10  # "Object tagging", as above
_PAGES = 1000  # ours: a listing of more than a million uploads is a server gone mad

_TRIES = 3  # of one request whose answer asks for another, or makes no sense
_COMPLETIONS = 8  # as many as the transport makes of any other request

_AGAIN = frozenset({"RequestTimeout", "BadRequest", "InvalidDigest"})  # 400s that pass
_STALE = frozenset(
    "SecurityTokenExpired InvalidSecurityToken AccessKeyIdAndSecurityTokenNotMatch "
    "InvalidAccessKeyId ExpiredToken".split()
)
_ACLS = ("default", "private", "public-read", "public-read-write")
_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_STYLES = ("virtual", "path", "cname")

_ADVICE = {
    "SignatureDoesNotMatch": "check OSS_ACCESS_KEY_SECRET, and that no proxy rewrites requests",
    "InvalidAccessKeyId": "check OSS_ACCESS_KEY_ID, and that the key is enabled",
    "SecurityTokenExpired": "get new temporary credentials; the upload can then be continued",
    "RequestTimeTooSkewed": "set this machine's clock; OSS allows 15 minutes",
    "SecondLevelDomainForbidden": "leave --addressing path out; OSS wants the bucket in the host",
    "TransferAccelerationDisabled": "enable transfer acceleration for the bucket first",
    "NoSuchBucket": "check the bucket's name and --region",
    "FileAlreadyExists": "it was left as it is, because of --no-clobber",
    "EntityTooSmall": "run it again with --fresh and larger parts",
    "EntityTooLarge": "run it again with --fresh and smaller parts",
    "InvalidPart": "run the same line again: parts OSS does not have are sent again",
    # Error codes that are the same for several mistakes are told apart by their EC.
    "0002-00000080": "signature version 1 is closed for this account; leave --signature out",
    "0002-00000226": "check --region: it must be the bucket's own, such as cn-hangzhou",
    "0002-00000228": "check --region: it must be the bucket's own, such as cn-hangzhou",
}


def _tags(text: str) -> dict[str, str]:
    """Return ``team=vision&stage=raw`` as a dictionary."""
    try:
        return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        raise ValueError(f"{text!r} is no tagging; write team=vision&stage=raw") from None


def _bits(text: str) -> int:
    """Return bits a second."""
    if not re.fullmatch(r"\d{1,12}", text):
        raise ValueError(f"{text!r} is no number of bits a second, such as 8388608")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class OSS(Provider):
    """One object: ``oss://bucket/key``. A key that ends in ``/`` takes the file's name.

    ``region`` is the plain id (``cn-hangzhou``); signature version 4 cannot do without.
    ``endpoint`` is a host or URL, or one of ``internal``, ``dualstack``, ``accelerate``,
    ``accelerate-overseas``. ``now`` is the clock in Unix seconds; ``skew`` is what it is
    wrong by, learnt from the server's ``Date``.

    Raises ``InvalidUpload`` for what cannot be an address, ``InsecureConnection`` for
    plain http to anything but this machine.
    """

    title: ClassVar[str] = "Alibaba Cloud OSS"
    form: ClassVar[str] = "oss://BUCKET/KEY"
    needs: ClassVar[tuple[Need, ...]] = (
        Need(
            "access_key_id",
            ("OSS_ACCESS_KEY_ID",),
            ("accessKeyID", "accessKeyId", "access_key_id", "access-key-id", "accessid"),
        ),
        Need(
            "access_key_secret",
            ("OSS_ACCESS_KEY_SECRET",),
            ("accessKeySecret", "access_key_secret", "access-key-secret", "accesskey"),
        ),
        Need(
            "session_token",
            ("OSS_SESSION_TOKEN",),
            ("stsToken", "sts_token", "sts-token", "securityToken", "session_token"),
            required=False,
        ),
        Need("region", ("OSS_REGION",), ("region",), secret=False, required=False),
        Need("endpoint", ("OSS_ENDPOINT",), ("endpoint",), secret=False, required=False),
    )
    config_file: ClassVar[str] = "~/.ossutilconfig"
    keeps_paths: ClassVar[bool] = True

    bucket: str
    key: str = ""
    access_key_id: Secret = field(default=Secret(""), repr=False)
    access_key_secret: Secret = field(default=Secret(""), repr=False)
    session_token: Secret | None = field(default=None, repr=False)
    region: str = option("", help="region id such as cn-hangzhou (or OSS_REGION)", address=True)
    endpoint: str = option(
        "",
        help="host or URL, or internal, dualstack, accelerate, accelerate-overseas",
        aliases=("-e",),
        address=True,
    )
    acl: str = option("", help="who may read the object", choices=_ACLS)
    storage_class: str = option(
        "", help="storage class of the object", choices=_CLASSES, settled=True
    )
    meta: Mapping[str, str] = option(
        help="user metadata of the object; may be repeated",
        factory=dict,
        aliases=("metadata",),
        metavar="K=V",
        repeat=True,
        settled=True,
    )
    tagging: Mapping[str, str] = option(
        help="tags of the object, as K=V&K=V",
        factory=dict,
        metavar="K=V&K=V",
        parse=_tags,
        settled=True,
    )
    no_clobber: bool = option(False, help="refuse to replace an object", toggle=True)
    traffic_limit: int | None = option(
        None, help="bits a second for each part, 819200 to 838860800", metavar="BITS", parse=_bits
    )
    addressing: str = option(
        "", help="where the bucket stands in the URL", choices=_STYLES, address=True
    )
    signature: str = option("v4", help="signature version", choices=("v4", "v1"))
    allow_insecure: bool = option(
        False,
        help="allow plain http to another machine: anybody on the way can read it",
        toggle=True,
    )
    now: Callable[[], float] = field(default=lambda: datetime.now(UTC).timestamp(), repr=False)
    rules: Rules = RULES
    skew: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        signing.check_bucket(self.bucket)
        if self.key:
            signing.check_key(self.key.removesuffix("/") or "/")
        region = self.region.strip().lower().removeprefix("oss-")
        if region and not re.fullmatch(r"[a-z0-9-]{2,64}", region):
            raise InvalidUpload(f"{clean(region, 40)!r} is no region; one is called cn-hangzhou")
        for name, value, known in (
            ("--addressing", self.addressing, ("", *_STYLES)),
            ("--signature", self.signature, ("v4", "v1")),
            # It is sent with the completion: a mistake would show after the last byte.
            ("--acl", self.acl, ("", *_ACLS)),
        ):
            if value not in known:
                raise InvalidUpload(f"{name} is one of {', '.join(filter(None, known))}")
        origin = signing.origin(self.endpoint.strip(), region, self.bucket)
        if origin.startswith("http:") and not is_loopback(origin) and not self.allow_insecure:
            raise InsecureConnection(
                f"{urlsplit(origin).hostname} would get the file over plain http; "
                "use https, or --allow-insecure if nobody can listen"
            )
        region = region or signing.region_of(origin)
        if not region and self.signature == "v4":
            raise InvalidUpload(
                "OSS needs --region (or OSS_REGION), such as cn-hangzhou: signatures name the "
                "bucket's region, and this endpoint does not tell it"
            )
        _check_extras(self)
        object.__setattr__(self, "region", region)
        object.__setattr__(self, "endpoint", origin)

    # -- where

    @classmethod
    def from_url(cls, url: str, **fields: Any) -> OSS:
        """Return the destination ``oss://bucket/key``; the key is taken as it stands."""
        _, _, rest = url.partition(":")
        if not rest.startswith("//"):
            raise InvalidUpload(
                "write oss://bucket/key, or oss://bucket/folder/ to keep the file's name"
            )
        bucket, _, key = rest[2:].partition("/")
        given = {name: value for name, value in fields.items() if value is not None}
        return cls(bucket=bucket, key=key, **given)

    @property
    def url(self) -> str:
        """``oss://bucket/key``."""
        return f"oss://{self.bucket}/{self.key}"

    @property
    def account(self) -> str:
        """The server, unless it is the public service, where a bucket's name is unique.

        The access key is no part of it: temporary keys change during an upload.
        """
        parts = urlsplit(self.endpoint)
        return "" if (parts.hostname or "").endswith(".aliyuncs.com") else parts.netloc

    @property
    def holds_many(self) -> bool:
        """Whether the destination is a folder."""
        return not self.key or self.key.endswith("/")

    @property
    def kind(self) -> str:
        """``oss``: any file may go there."""
        return "oss"

    def for_file(self, file: FileInfo) -> OSS:
        """Return the object's own destination: a folder appends the file's name."""
        if not self.holds_many:
            return self
        signing.check_key(file.name)
        signing.check_key(self.key + file.name)
        return replace(self, key=self.key + file.name)

    def check(self, file: FileInfo) -> Sequence[str]:
        """Return warnings about the file's size and about an endpoint that looks wrong."""
        target = self.for_file(file)
        if target.holds_many:
            raise InvalidUpload("the file has no name to append; write oss://bucket/folder/name")
        warnings = list(check_size(file, self.rules))
        host = urlsplit(self.endpoint).hostname or ""
        implied = signing.region_of(self.endpoint)
        if implied and implied != self.region:
            warnings.append(f"{host} is in {implied}, but --region says {self.region}")
        if "-internal." in host:
            warnings.append(f"{host} can be reached only from inside Alibaba Cloud")
        if self._style == "virtual" and not host.endswith(".aliyuncs.com"):
            warnings.append(
                f"{self.bucket}.{host} will be asked; if {host} is a domain bound to the "
                "bucket, add --addressing cname"
            )
        return warnings

    @property
    def _style(self) -> str:
        return self.addressing or ("path" if signing.is_bare(self.endpoint) else "virtual")

    def _address(self, key: str) -> str:
        """Return the URL of an object, or of the bucket when ``key`` is ""."""
        scheme, _, host = self.endpoint.partition("://")
        path = signing.path_text(key)
        match self._style:
            case "path":
                return f"{scheme}://{host}/{self.bucket}/{path}"
            case "cname":
                return f"{scheme}://{host}/{path}"
            case _:
                return f"{scheme}://{self.bucket}.{host}/{path}"

    # -- verbs

    def create(self, file: FileInfo, part_size: int) -> Flow[Session]:
        """Initiate a multipart upload."""
        if self.holds_many:
            raise InvalidUpload(f"{self.url} is a folder; name the object")
        headers = {
            "Content-Type": file.media_type,
            **({"x-oss-storage-class": self.storage_class} if self.storage_class else {}),
            **({"x-oss-tagging": _tag_text(self.tagging)} if self.tagging else {}),
            **{f"x-oss-meta-{name.lower()}": value for name, value in self.meta.items()},
            **self._clobber(),
        }
        root = yield from self._ask(
            "POST", self.key, [("uploads", "")], "InitiateMultipartUploadResult", headers
        )
        upload_id = xml_text(root, "UploadId")
        if not re.fullmatch(r"[!-~]{1,1024}", upload_id):
            raise ProtocolError(f"opening the upload: {self._host} gave no usable upload id")
        return Session(upload_id, file, part_size, {"bucket": self.bucket, "key": self.key})

    def put_part(self, session: Session, part: Part, body: Body) -> Flow[PartReceipt]:
        """Send one part. An answer without an ETag is no success: it is sent again.

        Raises:
            IntegrityError: OSS computed another CRC-64 than that of what was sent.
            SessionLost: OSS no longer knows the upload.
        """
        query = [("partNumber", str(part.number)), ("uploadId", session.upload_id)]
        limit = self.traffic_limit
        headers = {"x-oss-traffic-limit": str(limit)} if limit else {}
        doing = f"sending part {part.number}"
        for _ in range(_TRIES):
            response = yield from self._call("PUT", _key_of(session, self), query, headers, body)
            etag = _accept(response, doing, 200).headers.get("etag", "").strip()
            theirs, ours = _crc(response), body.digest("crc64")
            if ours is not None and theirs is not None and int(ours) != theirs:
                raise IntegrityError(
                    f"part {part.number} did not arrive as it was sent: something between "
                    f"here and {self._host} changes bytes"
                )
            if re.fullmatch(r'"?[!#-~]{1,200}"?', etag):
                checksum = "" if ours is None else f"crc64:{ours}"
                return PartReceipt(part.number, part.size, etag.strip('"'), checksum)
        raise ProtocolError(f"{doing}: {self._host} answered 200 without an ETag, {_TRIES} times")

    def complete(
        self, session: Session, receipts: Sequence[PartReceipt], digest: str | None = None
    ) -> Flow[Result | NotYet]:
        """Join the parts, and compare the CRC-64 of the whole with that of the parts.

        When the answer is lost or makes no sense, the object itself is asked before
        anything is repeated.

        Raises:
            IntegrityError: OSS has other bytes than were sent.
            SessionLost: OSS knows neither the upload nor the object.
            OutcomeUnknown: it knows the upload no longer, and the object may not be asked.
        """
        body, headers = self._completion(receipts)
        listed = False
        crc = whole_crc(receipts)
        key, query = _key_of(session, self), [("uploadId", session.upload_id)]
        trouble: ChunkupError | None = None
        senseless = 0
        for _ in range(_COMPLETIONS):
            try:
                response = yield from self._call("POST", key, query, headers, body, once=True)
            except AnswerLost as error:
                trouble = error
            else:
                code = problem(response)[0]
                if code == "NoSuchUpload":
                    # An earlier complete may have worked and its answer been lost: the
                    # upload id is gone either way, so ask the object itself.
                    return (yield from self._stands(session, crc, sure=False))
                if code == "InvalidPart" and not listed:
                    # The parts' CRCs were compared as they came, so a wrong ETag may be
                    # all that is wrong: something in between changed a header.
                    listed = True
                    held = yield from self.held(session)
                    body, headers = self._completion(_corrected(receipts, held))
                    continue
                if response.status == 409 and code == "FileAlreadyExists" and trouble:
                    return (yield from self._stands(session, crc, sure=False))
                if response.status == 203:
                    result = yield from self._stands(session, crc, sure=True)
                    note = f"stored, but its callback failed: {clean(problem(response)[1])}"
                    return replace(result, raw={**result.raw, "note": note})
                _accept(response, "completing the upload", 200)
                done = _answer(response, "CompleteMultipartUploadResult")
                if done is not None and xml_text(done, "ETag"):
                    return (yield from self._confirmed(session, crc, response, done))
                trouble = _senseless(response, "completing the upload")
                senseless += 1
            found, _ = yield from self._look(session, crc)
            # The same bytes may have stood there before: then the upload is still open,
            # and would stay and cost money.
            if found is not None and not (yield from self._is_open(session)):
                return found
            if senseless == _TRIES:
                break
        if isinstance(trouble, AnswerLost):
            raise Unreachable(
                f"completing the upload: {trouble}; the object is not there yet",
                attempts=trouble.attempts,
            ) from trouble
        raise trouble or ProtocolError("completing the upload: no answer")

    def held(self, session: Session) -> Flow[Held]:
        """List the parts OSS has, all pages of them."""
        receipts: list[PartReceipt] = []
        last, more = 0, True
        while more:
            query = [
                ("uploadId", session.upload_id),
                ("max-parts", str(_PAGE)),
                ("part-number-marker", str(last)),
            ]
            root = yield from self._ask("GET", _key_of(session, self), query, "ListPartsResult")
            page = [_listed(part) for part in root.iter("Part")]
            for receipt in page:
                if not last < receipt.number <= (self.rules.max_parts or 10_000):
                    raise ProtocolError(f"{self._host} lists parts out of order")
                last = receipt.number
            receipts += page
            more = bool(page) and xml_text(root, "IsTruncated").strip().lower() == "true"
        return receipts

    def abort(self, session: Session) -> Flow[None]:
        """Make OSS forget the upload and its parts."""
        query = [("uploadId", session.upload_id)]
        response = yield from self._call("DELETE", _key_of(session, self), query)
        _accept(response, "aborting the upload", 200, 204, 404)

    def list_open(self) -> Flow[Sequence[Session]]:
        """List unfinished uploads to this key, or under this folder.

        Sizes are not known. ``extra`` holds ``key``, and ``created_at`` in Unix seconds.
        """
        sessions: list[Session] = []
        marker = ("", "")
        for _ in range(_PAGES):
            query = [("uploads", ""), ("max-uploads", str(_PAGE)), ("encoding-type", "url")]
            if self.key:
                query.append(("prefix", self.key))
            if any(marker):
                query += [("key-marker", marker[0]), ("upload-id-marker", marker[1])]
            root = yield from self._ask("GET", "", query, "ListMultipartUploadsResult")
            plain = unquote if xml_text(root, "EncodingType") == "url" else str
            page = [_open_session(upload, self.bucket, plain) for upload in root.iter("Upload")]
            sessions += [s for s in page if self.holds_many or s.file.name == self.key]
            following = (
                plain(xml_text(root, "NextKeyMarker")),
                xml_text(root, "NextUploadIdMarker"),
            )
            more = xml_text(root, "IsTruncated").strip().lower() == "true"
            if not page or not more or following == marker:
                break
            marker = following
        return sessions

    def existing(self, file: FileInfo) -> Flow[Result | None]:
        """Return the object that stands at the key; None when there is none, or no saying."""
        target = self.for_file(file)
        response = yield from self._call("HEAD", target.key)
        if response.status in (403, 404):
            return None
        return target._described(_accept(response, "asking for the object", 200))

    def look_up(self, result: Result) -> Flow[Result | None]:
        """Return the object if it stands there with the same size and CRC-64."""
        response = yield from self._call("HEAD", self.key)
        if response.status == 404:
            return None
        found = self._described(_accept(response, "asking for the object", 200))
        if found.size != result.size or found.raw.get("crc64") != result.raw.get("crc64"):
            return None
        return replace(found, verified=("CRC-64 of the object",))

    def delete(self, result: Result) -> Flow[None]:
        """Delete the object. May be repeated."""
        prefix = f"oss://{self.bucket}/"
        if not result.id.startswith(prefix) or result.id == prefix:
            raise InvalidUpload(f"{clean(result.id, 100)} is no object of {prefix}")
        response = yield from self._call("DELETE", result.id.removeprefix(prefix))
        _accept(response, "deleting the object", 200, 204, 404)

    def presigned_url(
        self,
        method: str = "GET",
        expires: int = 3600,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Return a URL that does one thing without a key. It is a password: don't show it.

        ``expires`` is in seconds, 1 to 604,800. ``headers`` must be sent exactly so.
        With temporary credentials it dies with them.
        """
        if self.holds_many:
            raise InvalidUpload(f"{self.url} is a folder; name the object")
        if not 1 <= expires <= signing.MAX_EXPIRES:
            raise InvalidUpload("a presigned URL lives 1 to 604,800 seconds (7 days)")
        call = signing.Call(method, self.bucket, self.key, tuple(query), headers or {})
        at = self._time()
        if self.signature == "v1":
            pairs = signing.presign_v1(call, self._keys, int(at) + expires)
        else:
            pairs = signing.presign_v4(call, self._keys, self.region, at, expires)
        return f"{self._address(self.key)}?{signing.query_text(pairs)}"

    # -- words

    def next_cell(self, result: Result) -> str:
        """Return the code that reads the object back with the vendor's SDK."""
        key = result.id.removeprefix(f"oss://{self.bucket}/")
        style = {"path": "use_path_style=True", "cname": "use_cname=True"}.get(self._style)
        reader = {
            "csv": "pd.read_csv(io.BytesIO(data))",
            "tsv": 'pd.read_csv(io.BytesIO(data), sep="\\t")',
            "jsonl": "pd.read_json(io.BytesIO(data), lines=True)",
            "json": "pd.read_json(io.BytesIO(data))",
            "parquet": "pd.read_parquet(io.BytesIO(data))",
        }.get(key.rpartition(".")[2].lower())
        lines = [
            *(["import io"] if reader else []),
            "import alibabacloud_oss_v2 as oss",
            *(["import pandas as pd"] if reader else []),
            "",
            "config = oss.config.load_default()",
            "keys = oss.credentials.EnvironmentVariableCredentialsProvider()",
            "config.credentials_provider = keys",
            f"config.region = {self.region!r}",
            f"config.endpoint = {self.endpoint!r}",
            *([f"config.{style.replace('=', ' = ')}"] if style else []),
            "client = oss.Client(config)",
            f"request = oss.GetObjectRequest(bucket={self.bucket!r}, key={key!r})",
            "",
            "data = client.get_object(request).body.read()",
            *([f"table = {reader}"] if reader else []),
            "link = client.presign(request).url  # a password for 15 minutes: don't print it",
        ]
        return "\n".join(lines)

    # -- asking

    def _call(
        self,
        method: str,
        key: str,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        content: bytes | Body = b"",
        *,
        once: bool = False,
    ) -> Flow[Response]:
        """Send one signed request; sign again when a clock was wrong or a 400 is passing."""
        for _ in range(_TRIES):
            response = _readable(
                (yield self._request(method, key, query, headers or {}, content, once))
            )
            if response.status < 400:
                break
            code = problem(response)[0]
            if code == "RequestTimeTooSkewed":
                # Also what a request meets that waited longer than 15 minutes for the network.
                if not self._learn_clock(response):
                    break
            elif response.status != 400 or code not in _AGAIN:
                break
        return response

    def _ask(
        self,
        method: str,
        key: str,
        query: Sequence[tuple[str, str]],
        name: str,
        headers: Mapping[str, str] | None = None,
    ) -> Flow[Element]:
        """Return the XML of that name; a 200 that holds something else is asked for again."""
        doing = _DOING[name]
        for _ in range(_TRIES):
            response = yield from self._call(method, key, query, headers)
            root = _answer(_accept(response, doing, 200), name)
            if root is not None:
                return root
        raise _senseless(response, doing)

    def _request(
        self,
        method: str,
        key: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        content: bytes | Body,
        once: bool,
    ) -> Request:
        call = signing.Call(method, self.bucket, key, tuple(query), headers)
        if self.signature == "v1":
            signed = signing.sign_v1(call, self._keys, self._time())
        else:
            signed = signing.sign_v4(call, self._keys, self.region, self._time())
        url = self._address(key)
        if query:
            url += "?" + signing.query_text(query)
        return Request(method, url, {**headers, **signed}, content, once=once)

    def _confirmed(
        self, session: Session, crc: int | None, response: Response, done: Element
    ) -> Flow[Result]:
        """Return the result of a completion that says yes, once its bytes are confirmed."""
        theirs = _crc(response)
        raw = {
            "bucket": self.bucket,
            "key": _key_of(session, self),
            "etag": clean(xml_text(done, "ETag"), 200).strip('"'),
            "crc64": "" if theirs is None else str(theirs),
            "version_id": clean(response.headers.get("x-oss-version-id", ""), 200),
            "location": clean(xml_text(done, "Location"), 2000),
            "request_id": request_id(response),
        }
        raw = {name: value for name, value in raw.items() if value}
        if crc is not None and theirs is not None:
            if crc != theirs:
                raise _torn(session, self)
            return self._result(session, raw, (_PARTS, f"CRC-64 {crc} of the object"))
        found, looked = yield from self._look(session, crc)
        if looked and found is None:
            raise _torn(session, self)
        return self._result(session, raw, () if found is None else found.verified)

    def _stands(self, session: Session, crc: int | None, *, sure: bool) -> Flow[Result]:
        """Return the object if it is what was sent; ``sure``: OSS says that it stored it."""
        found, looked = yield from self._look(session, crc)
        if found is not None:
            return found
        if not looked:
            if sure:
                return self._result(session, {}, ())
            raise OutcomeUnknown(
                f"{self._host} no longer knows the upload, and this key may not look at the "
                f"object; see whether {self.url} is there before uploading again"
            )
        if sure:
            raise _torn(session, self)
        raise SessionLost(
            f"OSS no longer knows upload {clean(session.upload_id[:8])}…, and the object is "
            "not there; start it again to upload from the beginning",
            status=404,
            code="NoSuchUpload",
            host=self._host,
        )

    def _look(self, session: Session, crc: int | None) -> Flow[tuple[Result | None, bool]]:
        """Return the object if it is what was sent, and whether looking was allowed.

        Size and CRC-64 are compared; the size alone when either CRC is not known.
        """
        response = yield from self._call("HEAD", _key_of(session, self))
        if response.status == 403:
            return None, False
        if response.status == 404 and problem(response)[0] in ("", "NoSuchKey"):
            return None, True
        found = self._described(_accept(response, "looking at the object", 200))
        theirs = _crc(response)
        if found.size != session.file.size or (None not in (crc, theirs) and crc != theirs):
            return None, True
        verified = (
            (_SIZE,) if None in (crc, theirs) else (_SIZE, _PARTS, f"CRC-64 {crc} of the object")
        )
        return self._result(session, found.raw, verified), True

    def _is_open(self, session: Session) -> Flow[bool]:
        """Say whether OSS still knows the upload; no is assumed when it may not be asked."""
        query = [("uploadId", session.upload_id), ("max-parts", "1")]
        response = yield from self._call("GET", _key_of(session, self), query)
        return response.status == 200

    def _result(
        self, session: Session, raw: Mapping[str, Any], verified: tuple[str, ...]
    ) -> Result:
        key = _key_of(session, self)
        return Result(
            id=f"oss://{self.bucket}/{key}",
            url=self._address(key),
            size=session.file.size,
            raw=raw,
            verified=verified,
        )

    def _described(self, response: Response) -> Result:
        """Return the result that a HEAD of this very object describes."""
        length = response.headers.get("content-length", "")
        if not re.fullmatch(r"\d{1,18}", length):
            raise ProtocolError(f"{self._host} describes an object without a size")
        raw = {
            "bucket": self.bucket,
            "key": self.key,
            "etag": clean(response.headers.get("etag", ""), 200).strip('"'),
            "crc64": clean(response.headers.get("x-oss-hash-crc64ecma", ""), 30),
            "last_modified": clean(response.headers.get("last-modified", ""), 60),
            "storage_class": clean(response.headers.get("x-oss-storage-class", ""), 60),
            "version_id": clean(response.headers.get("x-oss-version-id", ""), 200),
        }
        raw = {name: value for name, value in raw.items() if value}
        return Result(id=self.url, url=self._address(self.key), size=int(length), raw=raw)

    def _completion(self, receipts: Sequence[PartReceipt]) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers that join these parts."""
        body = complete_body(receipts)
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        return body, {
            "Content-Type": "application/xml",
            "Content-MD5": base64.b64encode(digest).decode(),
            **({"x-oss-object-acl": self.acl} if self.acl else {}),
            **self._clobber(),
        }

    def _clobber(self) -> dict[str, str]:
        return {"x-oss-forbid-overwrite": "true"} if self.no_clobber else {}

    @property
    def _keys(self) -> signing.Keys:
        if not self.access_key_id or not self.access_key_secret:
            raise CredentialsMissing(
                "OSS needs OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET; --sandbox needs neither"
            )
        return signing.Keys(self.access_key_id, self.access_key_secret, self.session_token)

    @property
    def _host(self) -> str:
        return urlsplit(self._address("")).hostname or ""

    def _time(self) -> float:
        return self.now() + self.skew.get("offset", 0.0)

    def _learn_clock(self, response: Response) -> bool:
        """Keep how far off our clock is, by the server's Date; False when it gives none."""
        try:
            theirs = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError, OverflowError):
            return False
        self.skew["offset"] = theirs - self.now()
        return True


_PARTS, _SIZE = "CRC-64 of every part", "size of the object"

_DOING = {
    "InitiateMultipartUploadResult": "opening the upload",
    "ListPartsResult": "listing the parts",
    "ListMultipartUploadsResult": "listing unfinished uploads",
}


def complete_body(receipts: Sequence[PartReceipt]) -> bytes:
    """Return the list of parts that completion takes, in the order given."""
    parts = "".join(
        f'<Part><PartNumber>{r.number}</PartNumber><ETag>"{_escaped(r.token)}"</ETag></Part>'
        for r in receipts
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def whole_crc(receipts: Sequence[PartReceipt]) -> int | None:
    """Return the CRC-64 of all parts in a row; None when that of any is not known."""
    crc = 0
    for receipt in receipts:
        name, _, value = receipt.checksum.partition(":")
        if name != "crc64":
            return None
        crc = combine_crc64(crc, int(value), receipt.size)
    return crc


def _corrected(receipts: Sequence[PartReceipt], held: Held) -> list[PartReceipt]:
    """Return the receipts with the ETags OSS lists for parts of the same size and CRC-64."""
    assert not isinstance(held, int)
    listed = {receipt.number: receipt for receipt in held or ()}
    return [
        replace(receipt, token=theirs.token)
        if (theirs := listed.get(receipt.number)) is not None
        and (theirs.size, theirs.checksum) == (receipt.size, receipt.checksum)
        else receipt
        for receipt in receipts
    ]


# -- reading answers


def _readable(response: Response) -> Response:
    """Return an answer to HEAD with the error that OSS hides in a header as its body."""
    hidden = response.headers.get("x-oss-err", "")
    if response.content or response.status < 400 or not 0 < len(hidden) < 16 << 10:
        return response
    try:
        return replace(response, content=base64.b64decode(hidden, validate=True))
    except (binascii.Error, ValueError):
        return response


def _accept(response: Response, doing: str, *codes: int) -> Response:
    """Return the response if its status is one of ``codes``, else raise what it means.

    Raises ``SessionLost`` for an unknown upload; ``AuthError`` with ``expired`` set when
    the same request may work with fresh credentials.
    """
    try:
        return expect(response, *codes, doing=doing)
    except ProviderError as error:
        kind = SessionLost if error.code == "NoSuchUpload" else type(error)
        better = kind(
            "; ".join([str(error).rstrip("."), *_advice(response, error.code)]),
            status=error.status,
            code=error.code,
            request_id=error.request_id,
            host=error.host,
        )
        if isinstance(better, AuthError):
            better.expired = error.code in _STALE
        raise better from None


def _advice(response: Response, code: str) -> list[str]:
    """Return sentences on what to do about an error, from its code, EC and endpoint."""
    ec, endpoint, signed = response.headers.get("x-oss-ec", ""), "", ""
    try:
        root = parse_xml(response.content)
    except ProtocolError:
        pass
    else:
        ec = ec or xml_text(root, "EC")
        endpoint = clean(xml_text(root, "Endpoint"), 100)
        signed = xml_text(root, "StringToSign")
    told = [_ADVICE[name] for name in (ec, code) if name in _ADVICE][:1]
    if endpoint:
        told.append(f"the bucket answers at --endpoint {endpoint}")
    if signed.startswith("OSS4-HMAC-SHA256\n"):  # version 1 strings may hold an STS token
        told.append(f"OSS expected a signature of {clean(signed, 300)}")
    return told


def _answer(response: Response, name: str) -> Element | None:
    """Return the XML of a 200 if it is the one that was asked for."""
    try:
        root = parse_xml(response.content)
    except ProtocolError:
        return None
    return root if root.tag == name else None


def _senseless(response: Response, doing: str) -> ProtocolError:
    code, message = problem(response)
    said = f"{code} {message}".strip() or "nothing that can be read"
    return ProtocolError(
        f"{doing}: {response.host or 'OSS'} answered {response.status}, but with {said}",
        status=response.status,
        code=code,
        request_id=request_id(response),
        host=response.host,
    )


def _torn(session: Session, provider: OSS) -> IntegrityError:
    return IntegrityError(
        f"OSS stored other bytes than those of {session.file.name}; delete the object and "
        "upload it again",
        final=provider.no_clobber,  # otherwise sending it once more replaces them
    )


def _crc(response: Response) -> int | None:
    """Return the CRC-64 that OSS computed, None when it sent none."""
    text = response.headers.get("x-oss-hash-crc64ecma", "").strip()
    if not text:
        return None
    if not re.fullmatch(r"\d{1,20}", text) or int(text) >= 1 << 64:
        raise ProtocolError(f"{response.host or 'OSS'} sent a CRC-64 that is none")
    return int(text)


def _listed(part: Element) -> PartReceipt:
    """Return the receipt of a listed part."""
    number, size = xml_text(part, "PartNumber"), xml_text(part, "Size")
    etag, crc = xml_text(part, "ETag").strip().strip('"'), xml_text(part, "HashCrc64ecma")
    if not (
        re.fullmatch(r"\d{1,5}", number)
        and re.fullmatch(r"\d{1,13}", size)
        and re.fullmatch(r"[!#-~]{1,200}", etag)
        and re.fullmatch(r"\d{0,20}", crc)
    ):
        raise ProtocolError("OSS lists a part that makes no sense")
    return PartReceipt(int(number), int(size), etag, f"crc64:{int(crc)}" if crc else "")


def _open_session(upload: Element, bucket: str, plain: Callable[[str], str]) -> Session:
    """Return the session of a listed upload; of its file only the name is known."""
    key, upload_id = plain(xml_text(upload, "Key")), xml_text(upload, "UploadId")
    if not key or not re.fullmatch(r"[!-~]{1,1024}", upload_id):
        raise ProtocolError("OSS lists an upload that makes no sense")
    extra = {"bucket": bucket, "key": key}
    try:
        begun = datetime.fromisoformat(xml_text(upload, "Initiated"))
        extra["created_at"] = str(int(begun.timestamp()))
    except (ValueError, OverflowError):
        pass
    return Session(upload_id, FileInfo(key, 0), 0, extra)


def _key_of(session: Session, provider: OSS) -> str:
    return session.extra.get("key", provider.key)


def _check_extras(provider: OSS) -> None:
    """Refuse what cannot be sent as a header."""
    if not re.fullmatch(r"[A-Za-z-]{0,40}", provider.storage_class):
        raise InvalidUpload("--storage-class is one word")
    for name, value in provider.meta.items():
        if not re.fullmatch(r"[A-Za-z0-9-]{1,200}", name):
            raise InvalidUpload(f"--meta {clean(name, 40)!r}: letters, digits and hyphens only")
        if not re.fullmatch(r"[!-~]([ -~]*[!-~])?|", value):
            raise InvalidUpload(
                f"--meta {name}: its value travels as a header, so ASCII without line breaks; "
                "percent-encode anything else"
            )
    if len(provider.tagging) > _TAGS:
        raise InvalidUpload(f"an object has at most {_TAGS} tags")
    limit = provider.traffic_limit
    if limit is not None and not _TRAFFIC[0] <= limit <= _TRAFFIC[1]:
        raise InvalidUpload(f"--traffic-limit is {_TRAFFIC[0]:,} to {_TRAFFIC[1]:,} bits a second")


def _tag_text(tags: Mapping[str, str]) -> str:
    return "&".join(f"{encoded(k)}={encoded(v)}" for k, v in tags.items())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
