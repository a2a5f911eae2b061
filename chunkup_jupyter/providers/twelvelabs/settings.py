"""What TwelveLabs is told: what the file is, and what becomes of it; checked at once.

"SDK" and "spec", where facts come from, are named at the top of the package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from ...errors import InsecureConnection, InvalidUpload
from ...model import FileInfo, Provider, Rules, option, utc_now
from ...secrets import Need, Secret
from ...wire import is_loopback
from .answers import is_integer

TYPES = ("video", "audio", "image")  # SDK, create_asset_upload_request_type.py; spec: video only
MOST_REPORTED = 50  # chunks in one report; spec, ReportChunkBatchRequest
SESSION_LIFE = 24 * 3600.0  # seconds; spec, CreateAssetUploadResponse.expires_at
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


@dataclass(frozen=True, kw_only=True)
class Settings(Provider):
    """A destination: an account, and what kind of file goes there. No verb yet."""

    title: ClassVar[str] = "TwelveLabs"
    form: ClassVar[str] = "twelvelabs:video|audio|image"
    needs: ClassVar[tuple[Need, ...]] = (
        Need("api_key", ("TWELVELABS_API_KEY", "TWELVE_LABS_API_KEY", "TL_API_KEY")),
        # Undocumented; the SDK reads it (client.py).
        Need("base_url", ("TWELVELABS_BASE_URL",), secret=False, required=False),
    )
    waits_ready: ClassVar[bool] = True
    lapses: ClassVar[bool] = True  # no call is documented; SDK and spec have none

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
    now: Callable[[], float] = field(default=utc_now, repr=False, compare=False)
    """The clock, in Unix seconds."""

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

    @classmethod
    def from_url(cls, url: str, **fields: Any) -> Self:
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
        """Which key, and whose server unless it is TwelveLabs' own."""
        usual = type(self).__dataclass_fields__["base_url"].default
        there = "" if self.base_url == usual else f"{self.base_url} "
        return there + self.api_key.identity()

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
        metadata(self.meta)
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


def metadata(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata as it is sent; empty values mean nothing there and are left out."""
    kept: dict[str, Any] = {}
    for key, value in meta.items():
        plain = isinstance(value, str | bool | int | float)
        if not (plain or value is None or is_text_list(value)) or value != value:
            raise InvalidUpload(f"metadata {key!r} is a text, a number, true or false, or texts")
        if is_integer(value) and abs(value) >= 1 << 53:
            value = str(value)  # "ints wider than 53 bits as text", SDK
        if value is not None and value != "" and value != []:
            kept[key] = list(value) if isinstance(value, tuple) else value
    return kept


def is_text_list(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
