"""OpenAI's uploads and files on this machine, under OpenAI's addresses and under Azure's.

What the API description (2026-08) leaves open is answered strictly: a second completion
is refused, and so is any key nobody documented. Whether parts that no list names count
towards the announced bytes is open too, so both readings are on offer.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..wire import Headers
from . import Answer, Blob, Call, Sandbox, Store, answer_json, random_key
from .forms import BadForm, form

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


@dataclass(frozen=True)
class Limits:
    """What the service documents (API reference, read 2026-08). Bytes and seconds.

    ``count_duplicates``: parts count towards the announced bytes even if the
    completion does not list them.
    """

    max_part: int = 64 << 20
    max_size: int = 8 << 30
    max_file: int = 512 << 20  # POST /files
    session_seconds: int = 3600
    azure_session_seconds: int = 7200
    min_expiry: int = 3600
    max_expiry: int = 2592000
    count_duplicates: bool = False


@dataclass
class _Upload:
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


class _No(Exception):
    """A refusal, in OpenAI's words: a status, a message, the parameter, a code."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


class OpenAISandbox(Sandbox):
    """Uploads, files, and just enough of what people do with a file next.

    ``api_key`` is the bearer key, and Azure's ``api-key`` as well.
    """

    name: ClassVar[str] = "openai"
    api: ClassVar[str] = "/v1"
    digests_of: ClassVar[tuple[str, ...]] = ("md5",)

    def __init__(
        self,
        *,
        api_key: str | None = None,
        limits: Limits | None = None,
        count_duplicates: bool | None = None,
        store: Store | None = None,
        now: Callable[[], float] = time.time,
        base: str = "http://127.0.0.1:1",
    ) -> None:
        super().__init__(store=store, now=now, base=base)
        self.api_key = api_key or random_key("sk-sandbox-")
        self.limits = limits or Limits()
        if count_duplicates is not None:
            self.shrink(count_duplicates=count_duplicates)
        self._uploads: dict[str, _Upload] = {}
        self._files: dict[str, tuple[dict[str, Any], Blob]] = {}
        self._made: dict[tuple[str, ...], dict[str, Any]] = {}

    # -- what others ask a sandbox

    def announce(self) -> Mapping[str, str]:
        """Return the key."""
        return {"api_key": self.api_key}

    def environment(self) -> Mapping[str, str]:
        """Return what points the official SDK and our providers here, Azure's too."""
        return {
            "OPENAI_API_KEY": self.api_key,
            "OPENAI_BASE_URL": self.base_url,
            "AZURE_OPENAI_API_KEY": self.api_key,
            "AZURE_OPENAI_ENDPOINT": self.base,
            "OPENAI_API_VERSION": "2024-10-21",
        }

    def finished(self) -> Mapping[str, Blob]:
        """Return the bytes of every file, by its id."""
        with self.lock:
            return {name: blob for name, (_, blob) in self._files.items()}

    def unfinished(self) -> Sequence[str]:
        """Return the ids of uploads that still take parts."""
        with self.lock:
            self._forget_expired()
            return [each.id for each in self._uploads.values() if each.status == "pending"]

    def answer(self, call: Call) -> Answer:
        """Answer one call; every answer carries a request id."""
        self._forget_expired()
        try:
            answer = self._route(call)
        except (_No, BadForm) as error:
            no = error if isinstance(error, _No) else _No(400, str(error))
            answer = answer_json(
                no.status,
                {
                    "error": {
                        "message": no.message,
                        "type": "invalid_request_error",
                        "param": no.param,
                        "code": no.code,
                    }
                },
            )
        fields = {**answer.headers, "x-request-id": _id("req_")}
        return Answer(answer.status, Headers(fields), answer.content, blob=answer.blob)

    # -- calls

    def _route(self, call: Call) -> Answer:
        steps = tuple(call.path.strip("/").split("/"))
        azure = steps[0] == "openai"
        if azure:
            steps = steps[1:]
            if steps[:1] == ("v1",):
                steps = steps[1:]
            elif call.get("api-version") is None:
                raise _No(404, "Resource not found", code="404")
        elif steps[0] == "v1":
            steps = steps[1:]
        else:
            raise _No(404, f"Invalid URL ({call.method} {call.path})")
        self._authorize(call, azure)
        match (call.method, *steps):
            case ("POST", "uploads"):
                return self._create(call, azure)
            case ("POST", "uploads", upload_id, "parts"):
                return self._add_part(call, self._open(upload_id))
            case ("POST", "uploads", upload_id, "complete"):
                return self._complete(call, self._open(upload_id))
            case ("POST", "uploads", upload_id, "cancel"):
                return self._cancel(self._open(upload_id))
            case ("GET", "files"):
                return self._list_files(call)
            case ("POST", "files"):
                return self._create_file(call)
            case ("GET", "files", file_id):
                return self._ok("files.get", self._file(file_id)[0])
            case ("GET", "files", file_id, "content"):
                self.count("files.content")
                binary = Headers({"content-type": "application/octet-stream"})
                return Answer(200, binary, blob=self._file(file_id)[1])
            case ("DELETE", "files", file_id):
                self._file(file_id)
                del self._files[file_id]
                return self._ok("files.delete", {"id": file_id, "object": "file", "deleted": True})
            case ("POST", "fine_tuning" | "batches" | "vector_stores", *_):
                return self._use(call, steps)
            case ("GET", *_) if steps in self._made:
                return self._ok("get", self._made[steps])
            case ("GET", "fine_tuning", "jobs", _, "events"):
                return self._ok("events", {"object": "list", "data": [], "has_more": False})
        raise _No(404, f"Invalid URL ({call.method} {call.path})")

    def _authorize(self, call: Call, azure: bool) -> None:
        kind, _, given = call.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = ""
        if azure:
            given = call.headers.get("api-key", given)
        if not hmac.compare_digest(given.strip().encode(), self.api_key.encode()):
            said = "Incorrect API key provided." if given else "You didn't provide an API key."
            raise _No(401, said, code="401" if azure else "invalid_api_key")

    def _create(self, call: Call, azure: bool) -> Answer:
        asked = _json(
            call,
            needed=("bytes", "filename", "mime_type", "purpose"),
            allowed=("expires_after",),
        )
        size = asked["bytes"]
        if type(size) is not int or size < 1:
            raise _No(400, "'bytes' must be a positive integer.", "bytes")
        if size > self.limits.max_size:
            raise _No(400, f"An upload takes at most {self.limits.max_size} bytes.", "bytes")
        for name in ("filename", "mime_type"):
            if not isinstance(asked[name], str) or not 0 < len(asked[name]) <= 1024:
                raise _No(400, f"'{name}' must be a string.", name)
        _check_purpose(asked["purpose"])
        now = int(self.now())
        life = self.limits.azure_session_seconds if azure else self.limits.session_seconds
        upload = _Upload(
            id=_id("upload_"),
            created=now,
            expires=now + life,
            size=size,
            filename=asked["filename"],
            purpose=asked["purpose"],
            keep=self._expiry(asked.get("expires_after")),
            azure=azure,
        )
        self._uploads[upload.id] = upload
        location = {"location": f"{self.base}/openai/uploads/{upload.id}"} if azure else None
        return self._ok("create", upload.shown(), location)

    def _add_part(self, call: Call, upload: _Upload) -> Answer:
        parts = list(form(call))
        if len(parts) != 1 or parts[0].name != "data" or parts[0].filename is None:
            raise _No(400, "The form must hold one file named 'data'.", "data")
        data = parts[0].data
        if data.size == 0:
            raise _No(400, "A part must hold at least one byte.", "data")
        if data.size > self.limits.max_part:
            raise _No(413, f"A part takes at most {self.limits.max_part} bytes.", "data")
        part_id = _id("part_")
        upload.parts[part_id] = data
        answer = {
            "id": part_id,
            "object": "upload.part",
            "created_at": int(self.now()),
            "upload_id": upload.id,
        }
        if upload.azure:
            answer["azure_block_id"] = part_id[-16:]
        return self._ok("part", answer)

    def _complete(self, call: Call, upload: _Upload) -> Answer:
        asked = _json(call, needed=("part_ids",), allowed=("md5",))
        ids, md5 = asked["part_ids"], asked.get("md5")
        if not isinstance(ids, list) or not ids or not all(isinstance(each, str) for each in ids):
            raise _No(400, "'part_ids' must be a list of strings.", "part_ids")
        if len(set(ids)) != len(ids):
            raise _No(400, "'part_ids' names a part twice.", "part_ids")
        if unknown := [each for each in ids if each not in upload.parts]:
            raise _No(400, f"No such part: {unknown[0][:80]}", "part_ids")
        data = sum((upload.parts[each] for each in ids), Blob())
        counted = data.size
        if self.limits.count_duplicates:
            counted = sum(blob.size for blob in upload.parts.values())
        if counted != upload.size:
            raise _No(400, f"Expected {upload.size} bytes, but {counted} were uploaded.", "bytes")
        if md5 is not None:
            if not isinstance(md5, str) or not re.fullmatch(r"[0-9a-fA-F]{32}", md5):
                raise _No(400, "'md5' must be 32 hexadecimal digits.", "md5")
            if not hmac.compare_digest(data.digest("md5"), md5.lower()):
                raise _No(400, "The md5 does not match the uploaded data.", "md5")
        upload.file = self._keep(data, upload.filename, upload.purpose, upload.keep)
        upload.status = "completed"
        upload.parts.clear()
        return self._ok("complete", upload.shown())

    def _cancel(self, upload: _Upload) -> Answer:
        upload.status = "cancelled"
        upload.parts.clear()
        return self._ok("cancel", upload.shown())

    def _create_file(self, call: Call) -> Answer:
        fields = {each.name: each for each in form(call)}
        texts = {
            name: each.data.read(1000).decode("utf-8", "replace")
            for name, each in fields.items()
            if each.filename is None
        }
        known = {"file", "purpose", "expires_after[anchor]", "expires_after[seconds]"}
        if unknown := sorted(set(fields) - known):
            raise _No(400, f"Unrecognized request argument supplied: {unknown[0]}", unknown[0])
        given = fields.get("file")
        if given is None or given.filename is None:
            raise _No(400, "Missing required parameter: 'file'.", "file")
        if given.data.size > self.limits.max_file:
            raise _No(413, f"A file takes at most {self.limits.max_file} bytes.", "file")
        _check_purpose(texts.get("purpose"))
        after = None
        if "expires_after[anchor]" in texts or "expires_after[seconds]" in texts:
            seconds = texts.get("expires_after[seconds]", "")
            after = {
                "anchor": texts.get("expires_after[anchor]"),
                "seconds": int(seconds) if re.fullmatch(r"[0-9]{1,9}", seconds) else None,
            }
        made = self._keep(given.data, given.filename, texts["purpose"], self._expiry(after))
        return self._ok("files.create", made)

    def _list_files(self, call: Call) -> Answer:
        order, limit = call.get("order") or "desc", call.get("limit") or "10000"
        if order not in ("asc", "desc"):
            raise _No(400, "'order' is asc or desc.", "order")
        if not re.fullmatch(r"[0-9]{1,5}", limit) or not 1 <= int(limit) <= 10000:
            raise _No(400, "'limit' is between 1 and 10000.", "limit")
        files = [shown for shown, _ in self._files.values()]  # in the order they were made
        if order == "desc":
            files.reverse()
        if after := call.get("after"):
            self._file(after)
            files = files[[shown["id"] for shown in files].index(after) + 1 :]
        if purpose := call.get("purpose"):
            files = [shown for shown in files if shown["purpose"] == purpose]
        page = files[: int(limit)]
        return self._ok(
            "files.list",
            {
                "object": "list",
                "data": page,
                "has_more": len(page) < len(files),
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
            },
        )

    def _use(self, call: Call, steps: tuple[str, ...]) -> Answer:
        """Pretend to begin what people do with a file: the file must be there and fit."""
        asked = _json(call, allowed=None)
        now, kind = int(self.now()), "/".join(steps)
        match steps:
            case ("fine_tuning", "jobs"):
                self._file_for(asked, "training_file", "fine-tune")
                made = _fine_tuning_job(asked, now)
            case ("batches",):
                self._file_for(asked, "input_file_id", "batch")
                made = _batch(asked, now)
            case ("vector_stores",):
                made = _vector_store(asked, now)
            case ("vector_stores", store, "files") if ("vector_stores", store) in self._made:
                _, blob = self._file_for(asked, "file_id")
                made, kind = _vector_store_file(asked, store, blob.size, now), "vector_stores/files"
            case _:
                raise _No(404, f"Invalid URL (POST {call.path})")
        self._made[(*steps, made["id"])] = made
        return self._ok(kind, made)

    # -- what they share

    def _ok(
        self, kind: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Answer:
        self.count(kind)
        return answer_json(200, body, headers)

    def _open(self, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise _No(404, f"No such Upload object: {upload_id[:80]}", "id")
        if upload.status != "pending":
            raise _No(400, f"Upload is {upload.status}.")
        return upload

    def _file(self, file_id: str) -> tuple[dict[str, Any], Blob]:
        found = self._files.get(file_id)
        if found is None:
            raise _No(404, f"No such File object: {file_id[:80]}", "id")
        return found

    def _file_for(
        self, asked: Mapping[str, Any], name: str, purpose: str | None = None
    ) -> tuple[dict[str, Any], Blob]:
        shown, blob = self._file(str(asked.get(name)))
        if purpose is not None and shown["purpose"] != purpose:
            raise _No(400, f"The file's purpose must be '{purpose}'.", name)
        return shown, blob

    def _keep(self, data: Blob, filename: str, purpose: str, keep: int | None) -> dict[str, Any]:
        now = int(self.now())
        shown: dict[str, Any] = {
            "id": _id("file-"),
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
            raise _No(400, "'expires_after' takes anchor and seconds.", "expires_after")
        if after["anchor"] != "created_at":
            raise _No(400, "The anchor must be 'created_at'.", "expires_after.anchor")
        seconds, least, most = after["seconds"], self.limits.min_expiry, self.limits.max_expiry
        if type(seconds) is not int or not least <= seconds <= most:
            raise _No(400, f"Between {least} and {most} seconds.", "expires_after.seconds")
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


def _json(
    call: Call, needed: Sequence[str] = (), allowed: Sequence[str] | None = ()
) -> dict[str, Any]:
    """Return the JSON object of a call; ``allowed`` None allows any more keys."""
    if call.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise _No(415, "The Content-Type must be application/json.")
    try:
        asked = call.json()
    except (ValueError, RecursionError):
        raise _No(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(asked, dict):
        raise _No(400, "The JSON body must be an object.")
    for name in needed:
        if name not in asked:
            raise _No(400, f"Missing required parameter: '{name}'.", name)
    if allowed is not None and (unknown := sorted(set(asked) - set(needed) - set(allowed))):
        name = unknown[0][:80]
        raise _No(400, f"Unrecognized request argument supplied: {name}", name)
    return asked


def _id(prefix: str) -> str:
    return random_key(prefix)[: len(prefix) + 24]


def _check_purpose(purpose: Any) -> None:
    if purpose not in PURPOSES:
        raise _No(400, f"'{str(purpose)[:80]}' is not one of {list(PURPOSES)}", "purpose")


def _fine_tuning_job(asked: Mapping[str, Any], now: int) -> dict[str, Any]:
    return {
        "id": _id("ftjob-"),
        "object": "fine_tuning.job",
        "created_at": now,
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "hyperparameters": {},
        "model": str(asked.get("model", "")),
        "organization_id": "org-sandbox",
        "result_files": [],
        "seed": 0,
        "status": "queued",
        "trained_tokens": None,
        "training_file": asked["training_file"],
        "validation_file": None,
    }


def _batch(asked: Mapping[str, Any], now: int) -> dict[str, Any]:
    return {
        "id": _id("batch_"),
        "object": "batch",
        "completion_window": str(asked.get("completion_window", "24h")),
        "created_at": now,
        "endpoint": str(asked.get("endpoint", "")),
        "input_file_id": asked["input_file_id"],
        "status": "validating",
    }


def _vector_store(asked: Mapping[str, Any], now: int) -> dict[str, Any]:
    counts = ("cancelled", "completed", "failed", "in_progress", "total")
    return {
        "id": _id("vs_"),
        "object": "vector_store",
        "created_at": now,
        "file_counts": dict.fromkeys(counts, 0),
        "last_active_at": now,
        "metadata": {},
        "name": str(asked.get("name") or ""),
        "status": "completed",
        "usage_bytes": 0,
    }


def _vector_store_file(asked: Mapping[str, Any], store: str, size: int, now: int) -> dict[str, Any]:
    return {
        "id": asked["file_id"],
        "object": "vector_store.file",
        "created_at": now,
        "last_error": None,
        "status": "completed",
        "usage_bytes": size,
        "vector_store_id": store,
    }
