"""A server that speaks Alibaba Cloud OSS: objects and multipart uploads.

Statuses, codes and limits are those of the OSS developer guide and API reference,
read 2026-11; where those leave a question open, a limit lets a test choose.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from itertools import pairwise
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from ..digests import combine_crc64
from ..wire import Headers
from . import Answer, Blob, Call, Sandbox, Store, random_key
from .oss_signing import Checker, Refusal

_PUBLIC = re.compile(r"(?:([a-z0-9-]+)\.)?(?:oss-[a-z0-9-]+|[a-z0-9-]+\.oss)\.aliyuncs\.com")
_ACLS = ("default", "private", "public-read", "public-read-write")
_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_KEPT = ("cache-control", "content-disposition", "content-encoding", "content-type", "expires")
_QUOTE = {'"': "&quot;"}
_TRAFFIC = (819_200, 838_860_800)  # bits a second


@dataclass(frozen=True)
class Limits:
    """The documented limits: sizes in bytes, times in seconds.

    ``session_life`` is a lifecycle rule that aborts uploads, 0 for never (the default
    of a bucket). ``signature_v1`` is False for accounts made after March 2025.
    ``repeat_complete``: whether completing twice is answered alike; undocumented.
    """

    min_part: int = 100 << 10
    max_part: int = 5 << 30
    max_parts: int = 10_000
    max_object: int = 10_000 * (5 << 30)
    max_put: int = 5 << 30
    page: int = 1000
    key_bytes: int = 1023
    tags: int = 10
    skew: int = 900
    max_expires: int = 604_800
    session_life: int = 0
    signature_v1: bool = True
    repeat_complete: bool = False


@dataclass(frozen=True)
class _Marked(Blob):
    """A body whose digests were computed on its way in, outside the lock."""

    md5: str = ""
    crc: str = ""


@dataclass(frozen=True)
class _Stored:
    """One part."""

    blob: Blob
    md5: str  # upper case
    crc: int
    at: float


@dataclass(frozen=True)
class _Object:
    """One object, with what was said about it when it was made."""

    blob: Blob
    etag: str
    crc: int
    at: float
    kind: str
    fields: Mapping[str, str]
    storage_class: str
    acl: str
    tags: Mapping[str, str]


@dataclass
class _Upload:
    """One open upload."""

    id: str
    bucket: str
    key: str
    at: float
    headers: Headers
    sequential: bool
    parts: dict[int, _Stored] = field(default_factory=dict)


class OSSSandbox(Sandbox):
    """Buckets that fill by themselves, one key pair, one region.

    ``security_token`` makes the key a temporary one. ``any_bucket`` lets every valid
    bucket name exist; otherwise only ``bucket`` does. A host that is neither this
    machine nor the public service counts as a domain bound to ``bucket``.
    """

    name: ClassVar[str] = "oss"
    digests_of: ClassVar[tuple[str, ...]] = ("md5", "crc64")

    def __init__(
        self,
        *,
        access_key_id: str | None = None,
        access_key_secret: str | None = None,
        security_token: str | None = None,
        bucket: str = "sandbox",
        region: str = "cn-hangzhou",
        any_bucket: bool = True,
        limits: Limits | None = None,
        store: Store | None = None,
        now: Callable[[], float] = time.time,
        base: str = "http://127.0.0.1:1",
    ) -> None:
        super().__init__(store=store, now=now, base=base)
        if not _is_bucket(bucket):
            raise ValueError(f"{bucket!r} is no bucket name")
        self.access_key_id = access_key_id or f"LTAI{secrets.token_hex(16)}"
        self.access_key_secret = access_key_secret or random_key()
        self.security_token = security_token
        self.token_expired = False
        self.bucket = bucket
        self.region = region.removeprefix("oss-")
        self.any_bucket = any_bucket
        self.limits = limits or Limits()
        self._objects: dict[tuple[str, str], _Object] = {}
        self._uploads: dict[str, _Upload] = {}
        self._completed: dict[str, Answer] = {}

    # -- what others ask a sandbox

    def announce(self) -> Mapping[str, str]:
        """Return the key pair, bucket and region."""
        token = {"security_token": self.security_token} if self.security_token else {}
        return {
            "access_key_id": self.access_key_id,
            "access_key_secret": self.access_key_secret,
            **token,
            "bucket": self.bucket,
            "region": self.region,
        }

    def environment(self) -> Mapping[str, str]:
        """Return what points our provider and the vendor's tools here."""
        token = {"OSS_SESSION_TOKEN": self.security_token} if self.security_token else {}
        return {
            "OSS_ACCESS_KEY_ID": self.access_key_id,
            "OSS_ACCESS_KEY_SECRET": self.access_key_secret,
            **token,
            "OSS_REGION": self.region,
            "OSS_ENDPOINT": self.base_url,
        }

    def finished(self) -> Mapping[str, Blob]:
        """Return the bytes of every object, by ``oss://bucket/key``."""
        with self.lock:
            return {f"oss://{b}/{k}": found.blob for (b, k), found in self._objects.items()}

    def unfinished(self) -> Sequence[str]:
        """Return the ids of open uploads."""
        with self.lock:
            self._lapse()
            return list(self._uploads)

    def forget(self, upload_id: str) -> None:
        """Lose an upload, as a lifecycle rule does."""
        with self.lock:
            self._uploads.pop(upload_id, None)

    def renew_token(self, token: str) -> None:
        """Replace the STS token; the old one is no longer valid."""
        with self.lock:
            self.security_token, self.token_expired = token, False

    def expire_token(self) -> None:
        """Let the STS token run out."""
        with self.lock:
            self.token_expired = True

    def take(self, method: str, url: str, headers: Headers, body: Blob) -> Answer:
        """Answer one call. A body's digests are computed before the lock is taken."""
        if method == "PUT":
            body = _marked(body)
        return super().take(method, url, headers, body)

    def answer(self, call: Call) -> Answer:
        """Answer one call; every answer carries a request id."""
        request_id = secrets.token_hex(12).upper()
        try:
            self._lapse()
            answer = self._route(call)
        except Refusal as no:
            answer = _refused(call, no, request_id)
        fields = {"server": "AliyunOSS", "x-oss-request-id": request_id, "x-oss-server-time": "1"}
        return replace(answer, headers=Headers({**fields, **answer.headers}))

    # -- who is asked, and for what

    def _route(self, call: Call) -> Answer:
        bucket, key = self._place(call)
        Checker(
            key_id=self.access_key_id,
            secret=self.access_key_secret,
            region=self.region,
            token=self.security_token,
            token_expired=self.token_expired,
            skew=self.limits.skew,
            max_expires=self.limits.max_expires,
            version_1=self.limits.signature_v1,
        ).check(call, bucket, key, self.now())
        if not bucket:
            raise Refusal(501, "NotImplemented", "Listing buckets is not part of the sandbox.")
        if not _is_bucket(bucket):
            raise Refusal(400, "InvalidBucketName", "The bucket name is not valid.")
        if not self.any_bucket and bucket != self.bucket:
            raise Refusal(404, "NoSuchBucket", "The bucket does not exist.", BucketName=bucket)
        names = {name for name, _ in call.query}
        if not key:
            if call.method == "GET" and "uploads" in names:
                return self._list_uploads(call, bucket)
            if call.method == "GET" and not names & {"acl", "location", "bucketInfo", "stat"}:
                return self._list_objects(call, bucket)
            raise Refusal(501, "NotImplemented", "Not part of the sandbox.")
        if len(key.encode()) > self.limits.key_bytes or key[0] in "/\\":
            raise Refusal(400, "InvalidObjectName", "The object name is not valid.")
        match call.method:
            case "POST" if "uploads" in names:
                return self._initiate(call, bucket, key)
            case "POST" if "uploadId" in names:
                return self._complete(call, bucket, key)
            case "PUT" if "uploadId" in names or "partNumber" in names:
                return self._put_part(call, bucket, key)
            case "DELETE" if "uploadId" in names:
                return self._abort(call, bucket, key)
            case "GET" if "uploadId" in names:
                return self._list_parts(call, bucket, key)
            case "PUT" if not names & {"acl", "tagging", "symlink"}:
                return self._put_object(call, bucket, key)
            case "GET" | "HEAD" if not names & {"acl", "tagging", "symlink"}:
                return self._get_object(call, bucket, key)
            case "DELETE" if "tagging" not in names:
                return self._delete_object(bucket, key)
        raise Refusal(501, "NotImplemented", "Not part of the sandbox.")

    def _place(self, call: Call) -> tuple[str, str]:
        """Return bucket and key, from host and path; "" for what is not named."""
        host, path = urlsplit(call.url).hostname or "", call.raw_path[1:]
        try:
            if _is_bare(host):
                bucket, _, key = path.partition("/")
                return unquote(bucket, errors="strict"), unquote(key, errors="strict")
            key = unquote(path, errors="strict")
        except UnicodeDecodeError:
            raise Refusal(400, "InvalidObjectName", "The object name is not UTF-8.") from None
        if host.endswith(".localhost"):
            return host.split(".")[0], key
        if found := _PUBLIC.fullmatch(host):
            if not found[1] and key:
                raise Refusal(
                    403, "SecondLevelDomainForbidden", "Put the bucket into the host name."
                )
            return found[1] or "", key
        return self.bucket, key

    # -- multipart uploads

    def _initiate(self, call: Call, bucket: str, key: str) -> Answer:
        self._check_made(call)
        self._keep_existing(call.headers, bucket, key)
        upload = _Upload(
            secrets.token_hex(16).upper(),
            bucket,
            key,
            self.now(),
            call.headers,
            call.get("sequential") is not None,
        )
        self._uploads[upload.id] = upload
        self.count("initiate")
        return _xml(
            "InitiateMultipartUploadResult",
            *_encoding(call),
            ("Bucket", bucket),
            ("Key", _name(call, key)),
            ("UploadId", upload.id),
        )

    def _put_part(self, call: Call, bucket: str, key: str) -> Answer:
        upload = self._upload(call, bucket, key)
        if "x-oss-copy-source" in call.headers:
            raise Refusal(501, "NotImplemented", "Copying parts is not part of the sandbox.")
        if any(name.startswith("x-oss-server-side-encryption") for name in call.headers):
            raise Refusal(400, "InvalidArgument", "Encryption belongs to the initiation.")
        number = self._number(call, "partNumber", 0)
        if not 1 <= number <= self.limits.max_parts:
            raise Refusal(
                400,
                "InvalidArgument",
                f"Part number must be an integer between 1 and {self.limits.max_parts}.",
                ArgumentName="partNumber",
                ArgumentValue=str(number),
            )
        _check_length(call)
        _check_traffic(call)
        if call.body.size > self.limits.max_part:
            raise Refusal(400, "EntityTooLarge", "The part exceeds the maximum allowed size.")
        if upload.sequential and number != max(upload.parts, default=0) + 1:
            raise Refusal(409, "PartNotSequential", "Parts of this upload go in order.")
        body = _marked(call.body)
        _check_md5(call, body)
        blob = Blob(body.chunks)
        upload.parts[number] = _Stored(blob, body.md5.upper(), int(body.crc), self.now())
        self.count("part")
        fields = {"etag": f'"{body.md5.upper()}"', "x-oss-hash-crc64ecma": body.crc}
        fields["content-md5"] = base64.b64encode(bytes.fromhex(body.md5)).decode()
        return Answer(200, Headers(fields))

    def _complete(self, call: Call, bucket: str, key: str) -> Answer:
        if self.limits.repeat_complete and (call.get("uploadId") or "") in self._completed:
            return self._completed[call.get("uploadId") or ""]
        upload = self._upload(call, bucket, key)
        _check_md5(call, _marked(call.body))
        if call.headers.get("x-oss-complete-all") == "yes":
            if call.body.size:
                raise Refusal(400, "InvalidArgument", "x-oss-complete-all goes without a body.")
            chosen = [upload.parts[number] for number in sorted(upload.parts)]
            if not chosen:
                raise Refusal(400, "InvalidPart", "There is no part.")
        else:
            chosen = self._chosen(call, upload)
        if any(part.blob.size < self.limits.min_part for part in chosen[:-1]):
            raise Refusal(
                400,
                "EntityTooSmall",
                "A part is smaller than the minimum allowed size.",
                "0042-00000213",
                MinSizeAllowed=str(self.limits.min_part),
            )
        if sum(part.blob.size for part in chosen) > self.limits.max_object:
            raise Refusal(400, "EntityTooLarge", "The object exceeds the maximum allowed size.")
        acl = call.headers.get("x-oss-object-acl", "default")
        if acl not in _ACLS:
            raise Refusal(400, "InvalidArgument", "no such ACL.", ArgumentName="x-oss-object-acl")
        self._keep_existing(upload.headers, bucket, key)
        self._keep_existing(call.headers, bucket, key)
        crc, md5 = 0, hashlib.md5(usedforsecurity=False)
        for part in chosen:
            crc = combine_crc64(crc, part.crc, part.blob.size)
            md5.update(bytes.fromhex(part.md5))
        blob = Blob(tuple(chunk for part in chosen for chunk in part.blob.chunks))
        etag = f"{md5.hexdigest().upper()}-{len(chosen)}"
        self._objects[bucket, key] = self._made(upload.headers, blob, etag, crc, "Multipart", acl)
        del self._uploads[upload.id]
        self.count("complete")
        answer = _xml(
            "CompleteMultipartUploadResult",
            *_encoding(call),
            ("Location", f"{self.base}/{bucket}/{quote(key)}"),
            ("Bucket", bucket),
            ("Key", _name(call, key)),
            ("ETag", f'"{etag}"'),
        )
        fields = {**answer.headers, "etag": f'"{etag}"', "x-oss-hash-crc64ecma": str(crc)}
        answer = replace(answer, headers=Headers(fields))
        self._completed[upload.id] = answer
        if "x-oss-callback" in call.headers:
            raise Refusal(203, "CallbackFailed", "The sandbox calls nobody back.")
        return answer

    def _chosen(self, call: Call, upload: _Upload) -> list[_Stored]:
        """Return the parts that the body of a completion names."""
        listed = _listed_parts(call)
        numbers = [number for number, _ in listed]
        if any(later <= number for number, later in pairwise(numbers)):
            raise Refusal(
                400,
                "InvalidPartOrder",
                "The list of parts was not in ascending order.",
                "0042-00000209",
            )
        for number, etag in listed:
            part = upload.parts.get(number)
            if part is None or part.md5 != etag.strip('"').upper():
                raise Refusal(
                    400,
                    "InvalidPart",
                    "A part could not be found, or its ETag does not match.",
                    PartNumber=str(number),
                )
        return [upload.parts[number] for number in numbers]

    def _abort(self, call: Call, bucket: str, key: str) -> Answer:
        del self._uploads[self._upload(call, bucket, key).id]
        self.count("abort")
        return Answer(204)

    def _list_parts(self, call: Call, bucket: str, key: str) -> Answer:
        upload = self._upload(call, bucket, key)
        after = self._number(call, "part-number-marker", 0)
        most = self._page(call, "max-parts", self.limits.page)
        numbers = [number for number in sorted(upload.parts) if number > after]
        page = numbers[:most]
        self.count("list-parts")
        return _xml(
            "ListPartsResult",
            *_encoding(call),
            ("Bucket", bucket),
            ("Key", _name(call, key)),
            ("UploadId", upload.id),
            ("StorageClass", upload.headers.get("x-oss-storage-class", "Standard")),
            ("PartNumberMarker", after),
            ("NextPartNumberMarker", page[-1] if page else ""),
            ("MaxParts", most),
            ("IsTruncated", _bool(len(numbers) > most)),
            *(("Part", _part_fields(number, upload.parts[number])) for number in page),
        )

    def _list_uploads(self, call: Call, bucket: str) -> Answer:
        prefix, delimiter = call.get("prefix") or "", call.get("delimiter") or ""
        after, after_id = call.get("key-marker") or "", call.get("upload-id-marker") or ""
        most = self._page(call, "max-uploads", self.limits.page)
        entries: dict[tuple[str, str], _Upload | None] = {}
        for upload in self._uploads.values():
            if upload.bucket != bucket or not upload.key.startswith(prefix):
                continue
            folder = _folder(upload.key, prefix, delimiter)
            entry = (folder, "") if folder else (upload.key, upload.id)
            same = entry[0] == after and bool(after_id) and entry[1] > after_id
            if not after or entry[0] > after or same:
                entries[entry] = None if folder else upload
        page = sorted(entries)[:most]
        self.count("list-uploads")
        return _xml(
            "ListMultipartUploadsResult",
            *_encoding(call),
            ("Bucket", bucket),
            ("KeyMarker", _name(call, after)),
            ("UploadIdMarker", after_id),
            ("NextKeyMarker", _name(call, page[-1][0]) if page else ""),
            ("NextUploadIdMarker", page[-1][1] if page else ""),
            ("Delimiter", _name(call, delimiter)),
            ("Prefix", _name(call, prefix)),
            ("MaxUploads", most),
            ("IsTruncated", _bool(len(entries) > most)),
            *(
                _entry(call, key, "Upload", _upload_fields, entries[key, name])
                for key, name in page
            ),
        )

    def _upload(self, call: Call, bucket: str, key: str) -> _Upload:
        upload = self._uploads.get(call.get("uploadId") or "")
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise Refusal(
                404,
                "NoSuchUpload",
                "The specified upload does not exist. It may have been aborted or completed.",
                UploadId=call.get("uploadId") or "",
            )
        return upload

    def _lapse(self) -> None:
        life = self.limits.session_life
        if life:
            born = self.now() - life
            self._uploads = {name: u for name, u in self._uploads.items() if u.at > born}

    # -- objects

    def _put_object(self, call: Call, bucket: str, key: str) -> Answer:
        if "x-oss-copy-source" in call.headers:
            raise Refusal(501, "NotImplemented", "Copying is not part of the sandbox.")
        _check_length(call)
        self._check_made(call)
        if call.body.size > self.limits.max_put:
            raise Refusal(400, "EntityTooLarge", "The object exceeds the maximum allowed size.")
        body = _marked(call.body)
        _check_md5(call, body)
        self._keep_existing(call.headers, bucket, key)
        acl = call.headers.get("x-oss-object-acl", "default")
        etag, blob = body.md5.upper(), Blob(body.chunks)
        self._objects[bucket, key] = self._made(
            call.headers, blob, etag, int(body.crc), "Normal", acl
        )
        self.count("put")
        fields = {"etag": f'"{etag}"', "x-oss-hash-crc64ecma": body.crc}
        return Answer(200, Headers(fields))

    def _get_object(self, call: Call, bucket: str, key: str) -> Answer:
        found = self._objects.get((bucket, key))
        if found is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.", Key=key)
        fields = {
            "content-type": "application/octet-stream",
            **found.fields,
            "etag": f'"{found.etag}"',
            "last-modified": datetime.fromtimestamp(found.at, UTC).strftime(
                "%a, %d %b %Y %H:%M:%S GMT"
            ),
            "accept-ranges": "bytes",
            "x-oss-hash-crc64ecma": str(found.crc),
            "x-oss-object-type": found.kind,
            "x-oss-storage-class": found.storage_class,
        }
        if found.tags:
            fields["x-oss-tagging-count"] = str(len(found.tags))
        for name, value in call.query:
            if name.startswith("response-"):
                fields[name.removeprefix("response-")] = value
        self.count(call.method.lower())
        if call.method == "HEAD":
            return Answer(200, Headers({**fields, "content-length": str(found.blob.size)}))
        wanted = _range(call.headers.get("range", ""), found.blob.size)
        if wanted is None:
            return Answer(200, Headers(fields), blob=found.blob)
        start, end = wanted
        fields["content-range"] = f"bytes {start}-{end - 1}/{found.blob.size}"
        return Answer(206, Headers(fields), blob=found.blob.slice(start, end - start))

    def _delete_object(self, bucket: str, key: str) -> Answer:
        self._objects.pop((bucket, key), None)
        self.count("delete")
        return Answer(204)

    def _list_objects(self, call: Call, bucket: str) -> Answer:
        second = call.get("list-type") == "2"
        prefix, delimiter = call.get("prefix") or "", call.get("delimiter") or ""
        if second:
            after = _after(call.get("continuation-token")) or call.get("start-after") or ""
        else:
            after = call.get("marker") or ""
        most = self._page(call, "max-keys", 100)
        entries: dict[str, _Object | None] = {}
        for (where, key), found in sorted(self._objects.items()):
            if where == bucket and key.startswith(prefix):
                folder = _folder(key, prefix, delimiter)
                if (folder or key) > after:
                    entries[folder or key] = None if folder else found
        page = list(entries)[:most]
        truncated = len(entries) > most
        if second:
            marks = [
                ("ContinuationToken", call.get("continuation-token") or ""),
                ("StartAfter", _name(call, call.get("start-after") or "")),
                ("KeyCount", str(len(page))),
            ]
            following = ("NextContinuationToken", _token_of(page[-1]) if truncated else "")
        else:
            marks = [("Marker", _name(call, after))]
            following = ("NextMarker", _name(call, page[-1]) if truncated else "")
        self.count("list-objects")
        return _xml(
            "ListBucketResult",
            *_encoding(call),
            ("Name", bucket),
            ("Prefix", _name(call, prefix)),
            *marks,
            ("MaxKeys", most),
            ("Delimiter", _name(call, delimiter)),
            ("IsTruncated", _bool(truncated)),
            *([following] if truncated else []),
            *(_entry(call, key, "Contents", _object_fields, entries[key]) for key in page),
        )

    def _made(
        self, headers: Headers, blob: Blob, etag: str, crc: int, kind: str, acl: str
    ) -> _Object:
        meta = {n: v for n, v in headers.items() if n in _KEPT or n.startswith("x-oss-meta-")}
        return _Object(
            blob=blob,
            etag=etag,
            crc=crc,
            at=self.now(),
            kind=kind,
            fields=meta,
            storage_class=headers.get("x-oss-storage-class", "Standard"),
            acl=acl,
            tags=dict(parse_qsl(headers.get("x-oss-tagging", ""), keep_blank_values=True)),
        )

    def object(self, bucket: str, key: str) -> _Object:
        """Return an object as stored. Raises ``KeyError``."""
        with self.lock:
            return self._objects[bucket, key]

    # -- what requests may say

    def _check_made(self, call: Call) -> None:
        """Refuse an object that is described wrongly."""
        _check_traffic(call)
        if call.headers.get("x-oss-storage-class", "Standard") not in _CLASSES:
            raise Refusal(400, "InvalidArgument", "No such storage class.")
        if call.headers.get("x-oss-forbid-overwrite", "false") not in ("true", "false"):
            raise Refusal(400, "InvalidArgument", "x-oss-forbid-overwrite is true or false.")
        tags = parse_qsl(call.headers.get("x-oss-tagging", ""), keep_blank_values=True)
        if len(tags) > self.limits.tags or len(dict(tags)) != len(tags):
            raise Refusal(400, "InvalidTag", "Too many tags, or one twice.")

    def _keep_existing(self, headers: Headers, bucket: str, key: str) -> None:
        """Refuse to overwrite where that was forbidden."""
        if headers.get("x-oss-forbid-overwrite") == "true" and (bucket, key) in self._objects:
            raise Refusal(409, "FileAlreadyExists", "The object you specified already exists.")

    def _number(self, call: Call, name: str, default: int) -> int:
        text = call.get(name)
        if not text:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise Refusal(
                400,
                "InvalidArgument",
                f"{name} must be an integer.",
                ArgumentName=name,
                ArgumentValue=text,
            )
        return int(text)

    def _page(self, call: Call, name: str, default: int) -> int:
        most = self._number(call, name, default)
        if not 1 <= most <= 1000:
            raise Refusal(
                400,
                "InvalidArgument",
                f"{name} is 1 to 1000.",
                ArgumentName=name,
                ArgumentValue=str(most),
            )
        page: int = self.limits.page
        return min(most, page)


# -- requests


def _marked(body: Blob) -> _Marked:
    if isinstance(body, _Marked):
        return body
    return _Marked(body.chunks, body.digest("md5"), body.digest("crc64"))


def _check_md5(call: Call, body: _Marked) -> None:
    given = call.headers.get("content-md5")
    if given is not None and given != base64.b64encode(bytes.fromhex(body.md5)).decode():
        raise Refusal(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")


def _check_length(call: Call) -> None:
    over_a_port = "host" in call.headers
    if over_a_port and not {"content-length", "transfer-encoding"} & set(call.headers):
        raise Refusal(411, "MissingContentLength", "You must provide the Content-Length.")


def _check_traffic(call: Call) -> None:
    given = call.headers.get("x-oss-traffic-limit", call.get("x-oss-traffic-limit"))
    if given is not None and not (
        re.fullmatch(r"[0-9]{1,12}", given) and _TRAFFIC[0] <= int(given) <= _TRAFFIC[1]
    ):
        raise Refusal(
            400,
            "InvalidArgument",
            "The traffic limit is out of range.",
            ArgumentName="x-oss-traffic-limit",
            ArgumentValue=given,
        )


def _listed_parts(call: Call) -> list[tuple[int, str]]:
    """Return the numbers and ETags that a completion lists."""
    body = call.body.read(4 << 20)
    try:
        if b"<!" in body or call.body.size > len(body):
            raise ValueError
        root = ElementTree.fromstring(body)
        if root.tag.rpartition("}")[2] != "CompleteMultipartUpload" or not len(root):
            raise ValueError
        listed = []
        for part in root:
            fields = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in part}
            listed.append((int(fields["PartNumber"]), fields["ETag"]))
    except (ElementTree.ParseError, ValueError, KeyError):
        raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed.") from None
    return listed


def _range(text: str, size: int) -> tuple[int, int] | None:
    """Return start and end (exclusive) of a range; None for all, as for a bad one."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text)
    if not match or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    return (start, end) if start < end else None


def _folder(key: str, prefix: str, delimiter: str) -> str:
    """Return the common prefix a key falls under, "" when it stands for itself."""
    if not delimiter:
        return ""
    head, found, _ = key[len(prefix) :].partition(delimiter)
    return prefix + head + found if found else ""


def _is_bucket(name: str) -> bool:
    return re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", name) is not None


def _is_bare(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


# -- answers

_Elements = tuple[tuple[str, Any], ...]


def _xml(root: str, *children: tuple[str, Any], status: int = 200) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>'
    body += f"{_elements(children)}</{root}>"
    return Answer(status, Headers({"content-type": "application/xml"}), body.encode())


def _elements(children: _Elements) -> str:
    """Return elements as text; a tuple as a value holds elements itself."""
    text = ""
    for name, value in children:
        inner = _elements(value) if isinstance(value, tuple) else escape(str(value), _QUOTE)
        text += f"<{name}>{inner}</{name}>"
    return text


def _refused(call: Call, no: Refusal, request_id: str) -> Answer:
    fields = {
        "Code": no.code,
        "Message": no.message,
        "RequestId": request_id,
        "HostId": urlsplit(call.url).hostname or "",
        **no.more,
        "EC": no.ec,
        "RecommendDoc": f"https://api.aliyun.com/troubleshoot?q={no.ec}",
    }
    answer = _xml("Error", *fields.items(), status=no.status)
    headers = {**answer.headers, "x-oss-ec": no.ec}
    if call.method != "HEAD":
        return replace(answer, headers=Headers(headers))
    headers["x-oss-err"] = base64.b64encode(answer.content).decode()
    return Answer(no.status, Headers(headers))


def _encoding(call: Call) -> list[tuple[str, str]]:
    return [("EncodingType", "url")] if call.get("encoding-type") == "url" else []


def _name(call: Call, text: str) -> str:
    """Return a key as lists write it."""
    return quote(text, safe="") if call.get("encoding-type") == "url" else text


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _part_fields(number: int, part: _Stored) -> _Elements:
    return (
        ("PartNumber", number),
        ("LastModified", _iso(part.at)),
        ("ETag", f'"{part.md5}"'),
        ("HashCrc64ecma", part.crc),
        ("Size", part.blob.size),
    )


def _entry(
    call: Call, key: str, name: str, fields: Callable[[Any], _Elements], found: Any
) -> tuple[str, _Elements]:
    """Return one line of a list: a thing itself, or the folder that stands for several."""
    if found is None:
        return "CommonPrefixes", (("Prefix", _name(call, key)),)
    return name, (("Key", _name(call, key)), *fields(found))


def _upload_fields(upload: _Upload) -> _Elements:
    return (
        ("UploadId", upload.id),
        ("StorageClass", "Standard"),
        ("Initiated", _iso(upload.at)),
    )


def _object_fields(found: _Object) -> _Elements:
    return (
        ("LastModified", _iso(found.at)),
        ("ETag", f'"{found.etag}"'),
        ("Type", found.kind),
        ("Size", found.blob.size),
        ("StorageClass", found.storage_class),
        ("Owner", (("ID", "sandbox"), ("DisplayName", "sandbox"))),
    )


def _token_of(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _after(token: str | None) -> str:
    try:
        return base64.b64decode(token or "", altchars=b"-_", validate=True).decode()
    except ValueError:
        raise Refusal(400, "InvalidArgument", "The continuation token is not valid.") from None
