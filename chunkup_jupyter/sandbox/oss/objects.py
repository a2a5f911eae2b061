"""Objects: put in one request, read, listed, deleted."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from ...wire import Headers
from .. import Answer, Blob, Call
from .answers import Elements, encoding, entry_of, folder_of, name_of, stamp, truth, xml
from .contents import Contents, Object, marked
from .requests import check_length, check_made, check_md5, page_of, range_of
from .signing import Refusal


class Objects(Contents):
    """The calls that concern whole objects."""

    def _put_object(self, call: Call, bucket: str, key: str) -> Answer:
        if "x-oss-copy-source" in call.headers:
            raise Refusal(501, "NotImplemented", "Copying is not part of the sandbox.")
        check_length(call)
        check_made(call, self.limits.tags)
        if call.body.size > self.limits.max_put:
            raise Refusal(400, "EntityTooLarge", "The object exceeds the maximum allowed size.")
        body = marked(call.body)
        check_md5(call, body.md5)
        self._keep_existing(call.headers, bucket, key)
        acl = call.headers.get("x-oss-object-acl", "default")
        etag, blob = body.md5.upper(), Blob(body.chunks)
        self._objects[bucket, key] = self._made(
            call.headers, blob, etag, int(body.crc), "Normal", acl
        )
        self.count("put")
        fields = {"etag": f'"{etag}"', "x-oss-hash-crc64ecma": body.crc}
        return Answer(200, Headers(fields))

    def _get_object(self, call: Call, bucket: str, key: str) -> Answer:
        found = self._objects.get((bucket, key))
        if found is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.", Key=key)
        fields = {
            "content-type": "application/octet-stream",
            **found.fields,
            "etag": f'"{found.etag}"',
            "last-modified": datetime.fromtimestamp(found.at, UTC).strftime(
                "%a, %d %b %Y %H:%M:%S GMT"
            ),
            "accept-ranges": "bytes",
            "x-oss-hash-crc64ecma": str(found.crc),
            "x-oss-object-type": found.kind,
            "x-oss-storage-class": found.storage_class,
        }
        if found.tags:
            fields["x-oss-tagging-count"] = str(len(found.tags))
        for name, value in call.query:
            if name.startswith("response-"):
                fields[name.removeprefix("response-")] = value
        self.count(call.method.lower())
        if call.method == "HEAD":
            return Answer(200, Headers({**fields, "content-length": str(found.blob.size)}))
        wanted = range_of(call.headers.get("range", ""), found.blob.size)
        if wanted is None:
            return Answer(200, Headers(fields), blob=found.blob)
        start, end = wanted
        fields["content-range"] = f"bytes {start}-{end - 1}/{found.blob.size}"
        return Answer(206, Headers(fields), blob=found.blob.slice(start, end - start))

    def _delete_object(self, bucket: str, key: str) -> Answer:
        self._objects.pop((bucket, key), None)
        self.count("delete")
        return Answer(204)

    def _list_objects(self, call: Call, bucket: str) -> Answer:
        second = call.get("list-type") == "2"
        prefix, delimiter = call.get("prefix") or "", call.get("delimiter") or ""
        if second:
            after = _after(call.get("continuation-token")) or call.get("start-after") or ""
        else:
            after = call.get("marker") or ""
        most = page_of(call, "max-keys", 100, self.limits.page)
        entries: dict[str, Object | None] = {}
        for (where, key), found in sorted(self._objects.items()):
            if where == bucket and key.startswith(prefix):
                folder = folder_of(key, prefix, delimiter)
                if (folder or key) > after:
                    entries[folder or key] = None if folder else found
        page = list(entries)[:most]
        truncated = len(entries) > most
        if second:
            marks = [
                ("ContinuationToken", call.get("continuation-token") or ""),
                ("StartAfter", name_of(call, call.get("start-after") or "")),
                ("KeyCount", str(len(page))),
            ]
            following = ("NextContinuationToken", _token_of(page[-1]) if truncated else "")
        else:
            marks = [("Marker", name_of(call, after))]
            following = ("NextMarker", name_of(call, page[-1]) if truncated else "")
        self.count("list-objects")
        return xml(
            "ListBucketResult",
            *encoding(call),
            ("Name", bucket),
            ("Prefix", name_of(call, prefix)),
            *marks,
            ("MaxKeys", most),
            ("Delimiter", name_of(call, delimiter)),
            ("IsTruncated", truth(truncated)),
            *([following] if truncated else []),
            *(entry_of(call, key, "Contents", _object_fields, entries[key]) for key in page),
        )


def _object_fields(found: Object) -> Elements:
    return (
        ("LastModified", stamp(found.at)),
        ("ETag", f'"{found.etag}"'),
        ("Type", found.kind),
        ("Size", found.blob.size),
        ("StorageClass", found.storage_class),
        ("Owner", (("ID", "sandbox"), ("DisplayName", "sandbox"))),
    )


def _token_of(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _after(token: str | None) -> str:
    try:
        return base64.b64decode(token or "", altchars=b"-_", validate=True).decode()
    except ValueError:
        raise Refusal(400, "InvalidArgument", "The continuation token is not valid.") from None
