"""Uploads: created, filled with parts, completed, cancelled."""

from __future__ import annotations

import re

from .. import Answer, Blob, Call
from ..forms import form
from .contents import Contents, Upload
from .requests import Refusal, asked_of, check_purpose, new_id


class Uploads(Contents):
    """The four calls of the Uploads API."""

    def _create(self, call: Call, azure: bool) -> Answer:
        asked = asked_of(
            call,
            needed=("bytes", "filename", "mime_type", "purpose"),
            allowed=("expires_after",),
        )
        size = asked["bytes"]
        if type(size) is not int or size < 1:
            raise Refusal(400, "'bytes' must be a positive integer.", "bytes")
        most = self.limits.azure_max_size if azure else self.limits.max_size
        if size > most:
            raise Refusal(400, f"An upload takes at most {most} bytes.", "bytes")
        for name in ("filename", "mime_type"):
            if not isinstance(asked[name], str) or not 0 < len(asked[name]) <= 1024:
                raise Refusal(400, f"'{name}' must be a string.", name)
        check_purpose(asked["purpose"])
        self._check_fit(asked["purpose"], asked["filename"], size)
        now = int(self.now())
        life = self.limits.azure_session_seconds if azure else self.limits.session_seconds
        upload = Upload(
            id=new_id("upload_"),
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

    def _add_part(self, call: Call, upload: Upload) -> Answer:
        parts = list(form(call))
        if len(parts) != 1 or parts[0].name != "data" or parts[0].filename is None:
            raise Refusal(400, "The form must hold one file named 'data'.", "data")
        data = parts[0].data
        if data.size == 0:
            raise Refusal(400, "A part must hold at least one byte.", "data")
        if data.size > self.limits.max_part:
            raise Refusal(413, f"A part takes at most {self.limits.max_part} bytes.", "data")
        part_id = new_id("part_")
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

    def _complete(self, call: Call, upload: Upload) -> Answer:
        asked = asked_of(call, needed=("part_ids",), allowed=("md5",))
        ids, md5 = asked["part_ids"], asked.get("md5")
        if not isinstance(ids, list) or not ids or not all(isinstance(each, str) for each in ids):
            raise Refusal(400, "'part_ids' must be a list of strings.", "part_ids")
        if len(set(ids)) != len(ids):
            raise Refusal(400, "'part_ids' names a part twice.", "part_ids")
        if unknown := [each for each in ids if each not in upload.parts]:
            raise Refusal(400, f"No such part: {unknown[0][:80]}", "part_ids")
        data = sum((upload.parts[each] for each in ids), Blob())
        counted = data.size
        if self.limits.count_duplicates:
            counted = sum(blob.size for blob in upload.parts.values())
        if counted != upload.size:
            raise Refusal(
                400, f"Expected {upload.size} bytes, but {counted} were uploaded.", "bytes"
            )
        if md5 is not None:
            if not isinstance(md5, str) or not re.fullmatch(r"[0-9a-fA-F]{32}", md5):
                raise Refusal(400, "'md5' must be 32 hexadecimal digits.", "md5")
            if data.digest("md5") != md5.lower():
                raise Refusal(400, "The md5 does not match the uploaded data.", "md5")
        upload.file = self._keep(data, upload.filename, upload.purpose, upload.keep)
        upload.status = "completed"
        upload.parts.clear()
        return self._ok("complete", upload.shown())

    def _cancel(self, upload: Upload) -> Answer:
        upload.status = "cancelled"
        upload.parts.clear()
        return self._ok("cancel", upload.shown())

    def _open(self, upload_id: str) -> Upload:
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise Refusal(404, f"No such Upload object: {upload_id[:80]}", "id")
        if upload.status != "pending":
            raise Refusal(400, f"Upload is {upload.status}.")
        return upload
