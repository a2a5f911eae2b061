"""Multipart uploads: opened, filled, completed, aborted, listed."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import replace
from itertools import pairwise
from urllib.parse import quote

from ...digests import combine_crc64
from ...wire import Headers
from .. import Answer, Blob, Call
from .answers import Elements, encoding, entry_of, folder_of, name_of, stamp, truth, xml
from .contents import Contents, Stored, Upload, marked
from .requests import (
    ACLS,
    check_length,
    check_made,
    check_md5,
    check_traffic,
    listed_parts,
    number_of,
    page_of,
)
from .signing import Refusal


class Uploads(Contents):
    """The calls of a multipart upload."""

    def _initiate(self, call: Call, bucket: str, key: str) -> Answer:
        check_made(call, self.limits.tags)
        self._keep_existing(call.headers, bucket, key)
        upload = Upload(
            secrets.token_hex(16).upper(),
            bucket,
            key,
            self.now(),
            call.headers,
            call.get("sequential") is not None,
        )
        self._uploads[upload.id] = upload
        self.count("initiate")
        return xml(
            "InitiateMultipartUploadResult",
            *encoding(call),
            ("Bucket", bucket),
            ("Key", name_of(call, key)),
            ("UploadId", upload.id),
        )

    def _put_part(self, call: Call, bucket: str, key: str) -> Answer:
        upload = self._upload(call, bucket, key)
        if "x-oss-copy-source" in call.headers:
            raise Refusal(501, "NotImplemented", "Copying parts is not part of the sandbox.")
        if any(name.startswith("x-oss-server-side-encryption") for name in call.headers):
            raise Refusal(400, "InvalidArgument", "Encryption belongs to the initiation.")
        number = number_of(call, "partNumber", 0)
        if not 1 <= number <= self.limits.max_parts:
            raise Refusal(
                400,
                "InvalidArgument",
                f"Part number must be an integer between 1 and {self.limits.max_parts}.",
                ArgumentName="partNumber",
                ArgumentValue=str(number),
            )
        check_length(call)
        check_traffic(call)
        if call.body.size > self.limits.max_part:
            raise Refusal(400, "EntityTooLarge", "The part exceeds the maximum allowed size.")
        if upload.sequential and number != max(upload.parts, default=0) + 1:
            raise Refusal(409, "PartNotSequential", "Parts of this upload go in order.")
        body = marked(call.body)
        check_md5(call, body.md5)
        blob = Blob(body.chunks)
        upload.parts[number] = Stored(blob, body.md5.upper(), int(body.crc), self.now())
        self.count("part")
        fields = {"etag": f'"{body.md5.upper()}"', "x-oss-hash-crc64ecma": body.crc}
        fields["content-md5"] = base64.b64encode(bytes.fromhex(body.md5)).decode()
        return Answer(200, Headers(fields))

    def _complete(self, call: Call, bucket: str, key: str) -> Answer:
        if self.limits.repeat_complete and (call.get("uploadId") or "") in self._completed:
            return self._completed[call.get("uploadId") or ""]
        upload = self._upload(call, bucket, key)
        check_md5(call, marked(call.body).md5)
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
        if acl not in ACLS:
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
        answer = xml(
            "CompleteMultipartUploadResult",
            *encoding(call),
            ("Location", f"{self.base}/{bucket}/{quote(key)}"),
            ("Bucket", bucket),
            ("Key", name_of(call, key)),
            ("ETag", f'"{etag}"'),
        )
        fields = {**answer.headers, "etag": f'"{etag}"', "x-oss-hash-crc64ecma": str(crc)}
        answer = replace(answer, headers=Headers(fields))
        self._completed[upload.id] = answer
        if "x-oss-callback" in call.headers:
            raise Refusal(203, "CallbackFailed", "The sandbox calls nobody back.")
        return answer

    def _chosen(self, call: Call, upload: Upload) -> list[Stored]:
        """Return the parts that the body of a completion names."""
        listed = listed_parts(call)
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
        after = number_of(call, "part-number-marker", 0)
        most = page_of(call, "max-parts", self.limits.page, self.limits.page)
        numbers = [number for number in sorted(upload.parts) if number > after]
        page = numbers[:most]
        self.count("list-parts")
        return xml(
            "ListPartsResult",
            *encoding(call),
            ("Bucket", bucket),
            ("Key", name_of(call, key)),
            ("UploadId", upload.id),
            ("StorageClass", upload.headers.get("x-oss-storage-class", "Standard")),
            ("PartNumberMarker", after),
            ("NextPartNumberMarker", page[-1] if page else ""),
            ("MaxParts", most),
            ("IsTruncated", truth(len(numbers) > most)),
            *(("Part", _part_fields(number, upload.parts[number])) for number in page),
        )

    def _list_uploads(self, call: Call, bucket: str) -> Answer:
        prefix, delimiter = call.get("prefix") or "", call.get("delimiter") or ""
        after, after_id = call.get("key-marker") or "", call.get("upload-id-marker") or ""
        most = page_of(call, "max-uploads", self.limits.page, self.limits.page)
        entries: dict[tuple[str, str], Upload | None] = {}
        for upload in self._uploads.values():
            if upload.bucket != bucket or not upload.key.startswith(prefix):
                continue
            folder = folder_of(upload.key, prefix, delimiter)
            entry = (folder, "") if folder else (upload.key, upload.id)
            same = entry[0] == after and bool(after_id) and entry[1] > after_id
            if not after or entry[0] > after or same:
                entries[entry] = None if folder else upload
        page = sorted(entries)[:most]
        self.count("list-uploads")
        return xml(
            "ListMultipartUploadsResult",
            *encoding(call),
            ("Bucket", bucket),
            ("KeyMarker", name_of(call, after)),
            ("UploadIdMarker", after_id),
            ("NextKeyMarker", name_of(call, page[-1][0]) if page else ""),
            ("NextUploadIdMarker", page[-1][1] if page else ""),
            ("Delimiter", name_of(call, delimiter)),
            ("Prefix", name_of(call, prefix)),
            ("MaxUploads", most),
            ("IsTruncated", truth(len(entries) > most)),
            *(
                entry_of(call, key, "Upload", _upload_fields, entries[key, name])
                for key, name in page
            ),
        )

    def _upload(self, call: Call, bucket: str, key: str) -> Upload:
        upload = self._uploads.get(call.get("uploadId") or "")
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise Refusal(
                404,
                "NoSuchUpload",
                "The specified upload does not exist. It may have been aborted or completed.",
                UploadId=call.get("uploadId") or "",
            )
        return upload


def _part_fields(number: int, part: Stored) -> Elements:
    return (
        ("PartNumber", number),
        ("LastModified", stamp(part.at)),
        ("ETag", f'"{part.md5}"'),
        ("HashCrc64ecma", part.crc),
        ("Size", part.blob.size),
    )


def _upload_fields(upload: Upload) -> Elements:
    return (
        ("UploadId", upload.id),
        ("StorageClass", "Standard"),
        ("Initiated", stamp(upload.at)),
    )
