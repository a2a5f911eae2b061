"""What the server has: objects, and uploads with their parts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Unpack
from urllib.parse import parse_qsl

from ...wire import Headers
from .. import Answer, Blob, Sandbox, Setup, random_key
from .requests import is_bucket
from .signing import Refusal

_KEPT = ("cache-control", "content-disposition", "content-encoding", "content-type", "expires")


@dataclass(frozen=True)
class Limits:
    """The documented limits: sizes in bytes, times in seconds.

    ``session_life`` is a lifecycle rule that aborts uploads, 0 for never (the default
    of a bucket). ``signature_v1`` is False for accounts made after March 2025.
    ``repeat_complete``: whether completing twice is answered alike; undocumented.
    """

    may_be_zero: ClassVar[tuple[str, ...]] = ("session_life",)

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
class Marked(Blob):
    """A body whose digests were computed on its way in, outside the lock."""

    md5: str = ""
    crc: str = ""


@dataclass(frozen=True)
class Stored:
    """One part."""

    blob: Blob
    md5: str  # upper case
    crc: int
    at: float


@dataclass(frozen=True)
class Object:
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
class Upload:
    """One open upload."""

    id: str
    bucket: str
    key: str
    at: float
    headers: Headers
    sequential: bool
    parts: dict[int, Stored] = field(default_factory=dict)


class Contents(Sandbox):
    """A sandbox's memory."""

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
        **setup: Unpack[Setup],
    ) -> None:
        super().__init__(**setup)
        if not is_bucket(bucket):
            raise ValueError(f"{bucket!r} is no bucket name")
        self.access_key_id = access_key_id or f"LTAI{secrets.token_hex(16)}"
        self.access_key_secret = access_key_secret or random_key()
        self.security_token = security_token
        self.token_expired = False
        self.bucket = bucket
        self.region = region.removeprefix("oss-")
        self.any_bucket = any_bucket
        self.limits = limits or Limits()
        self._objects: dict[tuple[str, str], Object] = {}
        self._uploads: dict[str, Upload] = {}
        self._completed: dict[str, Answer] = {}

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

    def lose_part(self, upload_id: str, number: int) -> None:
        """Lose a part that was stored."""
        with self.lock:
            self._uploads[upload_id].parts.pop(number, None)

    def take(self, method: str, url: str, headers: Headers, body: Blob) -> Answer:
        """Answer one call. A body's digests are computed before the lock is taken."""
        if method == "PUT":
            body = marked(body)
        return super().take(method, url, headers, body)

    def _made(
        self, headers: Headers, blob: Blob, etag: str, crc: int, kind: str, acl: str
    ) -> Object:
        meta = {n: v for n, v in headers.items() if n in _KEPT or n.startswith("x-oss-meta-")}
        return Object(
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

    def object(self, bucket: str, key: str) -> Object:
        """Return an object as stored. Raises ``KeyError``."""
        with self.lock:
            return self._objects[bucket, key]

    def _lapse(self) -> None:
        life = self.limits.session_life
        if life:
            born = self.now() - life
            self._uploads = {name: u for name, u in self._uploads.items() if u.at > born}

    def _keep_existing(self, headers: Headers, bucket: str, key: str) -> None:
        """Refuse to overwrite where that was forbidden."""
        if headers.get("x-oss-forbid-overwrite") == "true" and (bucket, key) in self._objects:
            raise Refusal(409, "FileAlreadyExists", "The object you specified already exists.")


def marked(body: Blob) -> Marked:
    """Return a body with its digests."""
    if isinstance(body, Marked):
        return body
    return Marked(body.chunks, body.digest("md5"), body.digest("crc64"))
