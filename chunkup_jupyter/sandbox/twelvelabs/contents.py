"""What the server has: sessions with their chunks, and assets."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Unpack

from .. import Answer, Blob, Call, No, Sandbox, Setup, answer_json, random_key
from .requests import number_of


@dataclass(frozen=True)
class Limits:
    """What the service documents, and how eager this one is. Bytes and seconds.

    ``urls_first`` URLs come with a new session, ``urls_most`` and ``report_most`` are
    the most of one call. ``polls_completing`` and ``polls_processing`` are how many
    looks a finished session and its asset stay unfinished, ``seconds_processing`` how
    long the asset does. ``enabled`` False refuses new sessions as an account without
    the preview is refused. ``check_media`` looks whether files begin as their type does.
    """

    may_be_zero: ClassVar[tuple[str, ...]] = (
        "urls_first",
        "polls_completing",
        "polls_processing",
        "seconds_processing",
    )

    chunk_size: int = 5 << 20  # the API's samples; the real server chooses
    min_size: int = 1
    max_size: int = 10 * 10**9  # "10 GB", SDK; the description says 4 GiB
    max_image: int = 32 << 20  # "32 MB", SDK
    max_filename: int = 255
    session_seconds: float = 24 * 3600.0  # the description, expires_at
    url_seconds: float = 3600.0  # there, PresignedURLChunk
    urls_first: int = 10
    urls_most: int = 50  # these four: the description's request schemas
    report_most: int = 50
    page_most: int = 50
    page_default: int = 10
    polls_completing: int = 0
    polls_processing: int = 1
    seconds_processing: float = 0.0
    enabled: bool = True
    check_media: bool = False


@dataclass
class Grant:
    """A presigned URL: for which chunk, until when, and whether it did its work."""

    number: int
    expires: float
    used: bool = False


@dataclass
class Chunk:
    """A chunk in the storage. ``reported`` is when it was, None before."""

    blob: Blob
    etag: str
    reported: float | None = None


@dataclass
class Session:
    id: str
    asset: Asset
    size: int
    chunk_size: int
    created: float
    expires: float
    status: str = "active"
    polls: int = 0
    updated: float = 0
    grants: dict[str, Grant] = field(default_factory=dict)
    chunks: dict[int, Chunk] = field(default_factory=dict)
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
class Asset:
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


class Contents(Sandbox):
    """A sandbox's memory."""

    upload_headers: ClassVar[Mapping[str, str]] = {"Content-Type": "application/octet-stream"}
    """What the storage wants to see on every chunk, as a session announces it."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        limits: Limits | None = None,
        **setup: Unpack[Setup],
    ) -> None:
        super().__init__(**setup)
        self.api_key = api_key or random_key("tlk_sandbox_")
        self.limits: Limits = limits or Limits()
        self._sessions: dict[str, Session] = {}
        self._assets: dict[str, Asset] = {}
        self._made: dict[tuple[str, ...], dict[str, Any]] = {}

    def finished(self) -> Mapping[str, Blob]:
        """Return the bytes of every asset whose upload was completed, by its id."""
        with self.lock:
            return {each.id: each.blob for each in self._assets.values() if each.blob is not None}

    def unfinished(self) -> Sequence[str]:
        """Return the ids of sessions that still take chunks."""
        with self.lock:
            self._expire_sessions()
            return [each.id for each in self._sessions.values() if each.status == "active"]

    def _ok(self, kind: str, body: Any, status: int = 200) -> Answer:
        self.count(kind)
        return answer_json(status, body)

    def _asset(self, asset_id: str) -> Asset:
        asset = self._assets.get(asset_id)
        if asset is None:
            raise No(404, "resource_not_exist", f"Asset {asset_id} does not exist")
        return asset

    def _page(self, call: Call, items: Sequence[Any]) -> tuple[Sequence[Any], dict[str, int]]:
        """Return one page and its ``page_info``. Pages past the end are empty."""
        limits = self.limits
        page = number_of(call, "page", 1, None)
        many = number_of(call, "page_limit", limits.page_default, limits.page_most)
        info = {
            "limit_per_page": many,
            "page": page,
            "total_page": -(-len(items) // many),
            "total_results": len(items),
        }
        return items[(page - 1) * many : page * many], info

    def _expire_sessions(self) -> None:
        """End the sessions whose time is over, and drop what they stored."""
        for session in self._sessions.values():
            if session.status == "active" and self.now() >= session.expires:
                session.status = "expired"
                session.chunks.clear()
                session.grants.clear()
                session.asset.status = "failed"
                session.asset.error = "The upload was not completed in time"


def stamp(when: float) -> str:
    """Return Unix seconds as the API writes them."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
