"""What the server has: uploads with their parts, files, and what was made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

from .. import Answer, Blob, Sandbox, Setup, answer_json, random_key
from .requests import Refusal, new_id


@dataclass(frozen=True)
class Limits:
    """What the service documents (API reference, read 2026-08). Bytes and seconds.

    ``count_duplicates``: parts count towards the announced bytes even if the
    completion does not list them.
    """

    max_part: int = 64 << 20
    max_size: int = 8 << 30
    azure_max_size: int = 9 << 30  # Upload File - Add Part, Azure OpenAI REST 2024-10-21
    max_file: int = 512 << 20  # POST /files
    max_batch: int = 200 << 20  # the same: a batch's input
    session_seconds: int = 3600
    azure_session_seconds: int = 7200
    min_expiry: int = 3600
    max_expiry: int = 2592000
    count_duplicates: bool = False


@dataclass
class Upload:
    """An upload session, with its parts by id."""

    id: str
    created: int
    expires: int
    size: int
    filename: str
    purpose: str
    keep: int | None
    azure: bool
    status: str = "pending"
    parts: dict[str, Blob] = field(default_factory=dict)
    file: dict[str, Any] | None = None

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "upload",
            "bytes": self.size,
            "created_at": self.created,
            "expires_at": self.expires,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": self.status,
            "file": self.file,
        }


class Contents(Sandbox):
    """A sandbox's memory."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        limits: Limits | None = None,
        count_duplicates: bool | None = None,
        **setup: Unpack[Setup],
    ) -> None:
        super().__init__(**setup)
        self.api_key = api_key or random_key("sk-sandbox-")
        self.limits = limits or Limits()
        if count_duplicates is not None:
            self.shrink(count_duplicates=count_duplicates)
        self._uploads: dict[str, Upload] = {}
        self._files: dict[str, tuple[dict[str, Any], Blob]] = {}
        self._made: dict[tuple[str, ...], dict[str, Any]] = {}

    def finished(self) -> Mapping[str, Blob]:
        """Return the bytes of every file, by its id."""
        with self.lock:
            return {name: blob for name, (_, blob) in self._files.items()}

    def unfinished(self) -> Sequence[str]:
        """Return the ids of uploads that still take parts."""
        with self.lock:
            self._forget_expired()
            return [each.id for each in self._uploads.values() if each.status == "pending"]

    def _ok(
        self, kind: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Answer:
        self.count(kind)
        return answer_json(200, body, headers)

    def _file(self, file_id: str) -> tuple[dict[str, Any], Blob]:
        found = self._files.get(file_id)
        if found is None:
            raise Refusal(404, f"No such File object: {file_id[:80]}", "id")
        return found

    def _check_fit(self, purpose: str, filename: str, size: int) -> None:
        """Refuse a file that its purpose has no use for."""
        if purpose not in ("fine-tune", "batch"):
            return
        if not filename.endswith(".jsonl"):
            raise Refusal(400, f"Invalid extension: '{purpose}' takes .jsonl files.", "file")
        if purpose == "batch" and size > self.limits.max_batch:
            raise Refusal(400, f"A batch takes at most {self.limits.max_batch} bytes.", "file")

    def _file_for(
        self, asked: Mapping[str, Any], name: str, purpose: str | None = None
    ) -> tuple[dict[str, Any], Blob]:
        shown, blob = self._file(str(asked.get(name)))
        if purpose is not None and shown["purpose"] != purpose:
            raise Refusal(400, f"The file's purpose must be '{purpose}'.", name)
        return shown, blob

    def _keep(self, data: Blob, filename: str, purpose: str, keep: int | None) -> dict[str, Any]:
        now = int(self.now())
        shown: dict[str, Any] = {
            "id": new_id("file-"),
            "object": "file",
            "bytes": data.size,
            "created_at": now,
            "filename": filename,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
            "expires_at": None if keep is None else now + keep,
        }
        self._files[shown["id"]] = shown, data
        return shown

    def _expiry(self, after: Any) -> int | None:
        if after is None:
            return None
        if not isinstance(after, dict) or set(after) != {"anchor", "seconds"}:
            raise Refusal(400, "'expires_after' takes anchor and seconds.", "expires_after")
        if after["anchor"] != "created_at":
            raise Refusal(400, "The anchor must be 'created_at'.", "expires_after.anchor")
        seconds, least, most = after["seconds"], self.limits.min_expiry, self.limits.max_expiry
        if type(seconds) is not int or not least <= seconds <= most:
            raise Refusal(400, f"Between {least} and {most} seconds.", "expires_after.seconds")
        return seconds

    def _forget_expired(self) -> None:
        now = self.now()
        for upload in self._uploads.values():
            if upload.status == "pending" and now >= upload.expires:
                upload.status = "expired"
                upload.parts.clear()
        for name, (shown, _) in list(self._files.items()):
            if shown["expires_at"] is not None and now >= shown["expires_at"]:
                del self._files[name]
