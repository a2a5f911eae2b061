"""Multipart uploads to OSS as flows: opened, filled, listed, given up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from ...answers import xml_text
from ...errors import AuthError, IntegrityError, InvalidUpload, ProtocolError
from ...model import Body, FileInfo, Flow, Held, Part, PartReceipt, Session
from ...wire import encoded
from .answers import accept, crc_of, listed, open_session
from .calls import TRIES
from .completion import Completion

_PAGE = 1000  # "ListParts", "ListMultipartUploads", OSS developer guide, read 2026-11
_PAGES = 1000  # ours: a listing of more than a million uploads is a server gone mad


class Uploads(Completion):
    """The verbs of an upload."""

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
        for _ in range(TRIES):
            response = yield from self._call("PUT", self._key_of(session), query, headers, body)
            etag = accept(response, doing, 200).headers.get("etag", "").strip()
            theirs, ours = crc_of(response), body.digest("crc64")
            if ours is not None and theirs is not None and int(ours) != theirs:
                raise IntegrityError(
                    f"part {part.number} did not arrive as it was sent: something between "
                    f"here and {self._host} changes bytes"
                )
            if re.fullmatch(r'"?[!#-~]{1,200}"?', etag):
                checksum = "" if ours is None else f"crc64:{ours}"
                return PartReceipt(part.number, part.size, etag.strip('"'), checksum)
        raise ProtocolError(f"{doing}: {self._host} answered 200 without an ETag, {TRIES} times")

    def held(self, session: Session) -> Flow[Held]:
        """List the parts OSS has, all pages of them; None to a key that may not ask.

        Uploading takes no such right (oss:ListParts, "Policy samples", read 2026-11).
        """
        receipts: list[PartReceipt] = []
        last, more = 0, True
        while more:
            query = [
                ("uploadId", session.upload_id),
                ("max-parts", str(_PAGE)),
                ("part-number-marker", str(last)),
            ]
            try:
                root = yield from self._ask("GET", self._key_of(session), query, "ListPartsResult")
            except AuthError as error:
                if error.code == "AccessDenied":
                    return None
                raise
            page = [listed(part) for part in root.iter("Part")]
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
        response = yield from self._call("DELETE", self._key_of(session), query)
        accept(response, "aborting the upload", 200, 204, 404)

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
            page = [open_session(upload, self.bucket, plain) for upload in root.iter("Upload")]
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


def _tag_text(tags: Mapping[str, str]) -> str:
    return "&".join(f"{encoded(k)}={encoded(v)}" for k, v in tags.items())
