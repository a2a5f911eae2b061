"""What OSS is told: where the object goes and what it is to be; checked at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, urlsplit

from ...answers import clean
from ...errors import InsecureConnection, InvalidUpload
from ...model import FileInfo, Provider, Rules, option, utc_now
from ...plan import check_size
from ...secrets import Need, Secret
from ...wire import is_loopback
from . import addresses

# Limits: "Multipart upload and resumable upload" and "Terms", OSS developer guide,
# read 2026-11. 48.8 TB there is 10,000 parts of 5 GB; all are binary units.
RULES = Rules(
    max_size=10_000 * (5 << 30),
    min_part=100 << 10,  # the last part may be smaller
    max_part=5 << 30,
    max_parts=10_000,
    part_digests=("crc64",),
)
_TRAFFIC = (819_200, 838_860_800)  # bits a second; "Single-connection bandwidth throttling"
_TAGS = 10  # "Object tagging", as above
# "PutObjectACL" and "Storage classes", as above
_ACLS = ("default", "private", "public-read", "public-read-write")
_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_STYLES = ("virtual", "path", "cname")


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
class Settings(Provider):
    """A destination: bucket, key, keys and wishes. No verb yet."""

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
    now: Callable[[], float] = field(default=utc_now, repr=False, compare=False)
    rules: Rules = RULES
    skew: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        addresses.check_bucket(self.bucket)
        if self.key:
            addresses.check_key(self.key.removesuffix("/") or "/")
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
        origin = addresses.origin(self.endpoint.strip(), region, self.bucket)
        if origin.startswith("http:") and not is_loopback(origin) and not self.allow_insecure:
            raise InsecureConnection(
                f"{urlsplit(origin).hostname} would get the file over plain http; "
                "use https, or --allow-insecure if nobody can listen"
            )
        region = region or addresses.region_of(origin)
        if not region and self.signature == "v4":
            raise InvalidUpload(
                "OSS needs --region (or OSS_REGION), such as cn-hangzhou: signatures name the "
                "bucket's region, and this endpoint does not tell it"
            )
        _check_extras(self)
        object.__setattr__(self, "region", region)
        object.__setattr__(self, "endpoint", origin)

    @classmethod
    def from_url(cls, url: str, **fields: Any) -> Self:
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

    def for_file(self, file: FileInfo) -> Self:
        """Return the object's own destination: a folder appends the file's name."""
        if not self.holds_many:
            return self
        addresses.check_key(file.name)
        addresses.check_key(self.key + file.name)
        return replace(self, key=self.key + file.name)

    def check(self, file: FileInfo) -> Sequence[str]:
        """Return warnings about the file's size and about an endpoint that looks wrong."""
        target = self.for_file(file)
        if target.holds_many:
            raise InvalidUpload("the file has no name to append; write oss://bucket/folder/name")
        warnings = list(check_size(file, self.rules))
        host = urlsplit(self.endpoint).hostname or ""
        implied = addresses.region_of(self.endpoint)
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
        return self.addressing or ("path" if addresses.is_bare(self.endpoint) else "virtual")

    def _address(self, key: str) -> str:
        """Return the URL of an object, or of the bucket when ``key`` is ""."""
        scheme, _, host = self.endpoint.partition("://")
        path = addresses.path_text(key)
        match self._style:
            case "path":
                return f"{scheme}://{host}/{self.bucket}/{path}"
            case "cname":
                return f"{scheme}://{host}/{path}"
            case _:
                return f"{scheme}://{self.bucket}.{host}/{path}"


def _check_extras(given: Settings) -> None:
    """Refuse what cannot be sent as a header."""
    if not re.fullmatch(r"[A-Za-z-]{0,40}", given.storage_class):
        raise InvalidUpload("--storage-class is one word")
    for name, value in given.meta.items():
        if not re.fullmatch(r"[A-Za-z0-9-]{1,200}", name):
            raise InvalidUpload(f"--meta {clean(name, 40)!r}: letters, digits and hyphens only")
        if not re.fullmatch(r"[!-~]([ -~]*[!-~])?|", value):
            raise InvalidUpload(
                f"--meta {name}: its value travels as a header, so ASCII without line breaks; "
                "percent-encode anything else"
            )
    if len(given.tagging) > _TAGS:
        raise InvalidUpload(f"an object has at most {_TAGS} tags")
    limit = given.traffic_limit
    if limit is not None and not _TRAFFIC[0] <= limit <= _TRAFFIC[1]:
        raise InvalidUpload(f"--traffic-limit is {_TRAFFIC[0]:,} to {_TRAFFIC[1]:,} bits a second")
