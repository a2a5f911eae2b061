"""Objects that stand in a bucket already: asked for, linked to, deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ... import units
from ...answers import clean
from ...errors import InvalidUpload, ProtocolError
from ...model import FileInfo, Flow, Result
from ...wire import Response
from . import signing
from .addresses import query_text
from .answers import accept
from .calls import Calls


class Objects(Calls):
    """What can be done with an object that is there."""

    def existing(self, file: FileInfo) -> Flow[Result | None]:
        """Return the object that stands at the key; None when there is none, or no saying.

        Raises ``InvalidUpload`` when there is one and ``no_clobber`` keeps it.
        """
        target = self.for_file(file)
        response = yield from self._call("HEAD", target.key)
        if response.status in (403, 404):
            return None
        found = target._described(accept(response, "asking for the object", 200))
        if self.no_clobber:
            raise InvalidUpload(
                f"{target.url} exists already ({units.size(found.size)}), and --no-clobber keeps "
                "it: name another key, or leave --no-clobber out"
            )
        return found

    def look_up(self, result: Result) -> Flow[Result | None]:
        """Return the object if it stands there with the same size and CRC-64."""
        response = yield from self._call("HEAD", self.key)
        if response.status == 404:
            return None
        found = self._described(accept(response, "asking for the object", 200))
        if found.size != result.size or found.raw.get("crc64") != result.raw.get("crc64"):
            return None
        return replace(found, verified=("CRC-64 of the object",))

    def delete(self, result: Result) -> Flow[None]:
        """Delete the object. May be repeated."""
        prefix = f"oss://{self.bucket}/"
        if not result.id.startswith(prefix) or result.id == prefix:
            raise InvalidUpload(f"{clean(result.id, 100)} is no object of {prefix}")
        response = yield from self._call("DELETE", result.id.removeprefix(prefix))
        accept(response, "deleting the object", 200, 204, 404)

    def presigned_url(
        self,
        method: str = "GET",
        expires: int = 3600,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Return a URL that does one thing without a key. It is a password: don't show it.

        ``expires`` is in seconds, 1 to 604,800. ``headers`` must be sent exactly so.
        With temporary credentials it dies with them.
        """
        if self.holds_many:
            raise InvalidUpload(f"{self.url} is a folder; name the object")
        if not 1 <= expires <= signing.MAX_EXPIRES:
            raise InvalidUpload("a presigned URL lives 1 to 604,800 seconds (7 days)")
        call = signing.Call(method, self.bucket, self.key, tuple(query), headers or {})
        at = self._time()
        if self.signature == "v1":
            pairs = signing.presign_v1(call, self._keys, int(at) + expires)
        else:
            pairs = signing.presign_v4(call, self._keys, self.region, at, expires)
        return f"{self._address(self.key)}?{query_text(pairs)}"

    def _described(self, response: Response) -> Result:
        """Return the result that a HEAD of this very object describes."""
        length = response.headers.get("content-length", "")
        if not re.fullmatch(r"\d{1,18}", length):
            raise ProtocolError(f"{self._host} describes an object without a size")
        raw = {
            "bucket": self.bucket,
            "key": self.key,
            "etag": clean(response.headers.get("etag", ""), 200).strip('"'),
            "crc64": clean(response.headers.get("x-oss-hash-crc64ecma", ""), 30),
            "last_modified": clean(response.headers.get("last-modified", ""), 60),
            "storage_class": clean(response.headers.get("x-oss-storage-class", ""), 60),
            "version_id": clean(response.headers.get("x-oss-version-id", ""), 200),
        }
        raw = {name: value for name, value in raw.items() if value}
        return Result(id=self.url, url=self._address(self.key), size=int(length), raw=raw)
