"""Files: made in one call, listed."""

from __future__ import annotations

import re

from .. import Answer, Call
from ..forms import form
from .contents import Contents
from .requests import Refusal, check_purpose


class Files(Contents):
    """The neighbours of an upload."""

    def _create_file(self, call: Call) -> Answer:
        fields = {each.name: each for each in form(call)}
        texts = {
            name: each.data.read(1000).decode("utf-8", "replace")
            for name, each in fields.items()
            if each.filename is None
        }
        known = {"file", "purpose", "expires_after[anchor]", "expires_after[seconds]"}
        if unknown := sorted(set(fields) - known):
            raise Refusal(400, f"Unrecognized request argument supplied: {unknown[0]}", unknown[0])
        given = fields.get("file")
        if given is None or given.filename is None:
            raise Refusal(400, "Missing required parameter: 'file'.", "file")
        if given.data.size > self.limits.max_file:
            raise Refusal(413, f"A file takes at most {self.limits.max_file} bytes.", "file")
        check_purpose(texts.get("purpose"))
        self._check_fit(texts["purpose"], given.filename, given.data.size)
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
            raise Refusal(400, "'order' is asc or desc.", "order")
        if not re.fullmatch(r"[0-9]{1,5}", limit) or not 1 <= int(limit) <= 10000:
            raise Refusal(400, "'limit' is between 1 and 10000.", "limit")
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
