"""The object storage behind the API: presigned URLs, no key, S3's XML."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from ...wire import Headers
from .. import Answer, Call, No, same
from .assets import Assets
from .contents import Chunk


class Storage(Assets):
    """Where chunks go, and where finished files can be had."""

    def _storage(self, call: Call) -> Answer:
        """Answer one call, refusals in XML."""
        try:
            return self._stored(call)
        except No as no:
            text = f"<Code>{escape(no.code or '')}</Code><Message>{escape(no.message)}</Message>"
            xml = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{text}</Error>'
            return Answer(no.status, Headers({"content-type": "application/xml"}), xml.encode())

    def _stored(self, call: Call) -> Answer:
        # S3 takes a request signed in its URL or in a header, never both.
        if any(name in call.headers for name in ("x-api-key", "authorization")):
            raise No(400, "InvalidArgument", "Only one auth mechanism allowed")
        match (call.method, *call.path.removeprefix("/storage/").split("/")):
            case ("PUT", upload_id, number) if re.fullmatch(r"[1-9][0-9]{0,8}", number):
                return self._put(call, upload_id, int(number))
            case ("GET", "assets", asset_id, token):
                asset = self._assets.get(asset_id)
                if asset is None or not same(token, asset.secret):
                    raise No(403, "AccessDenied", "Access Denied")
                return self._content(asset)
        raise No(405, "MethodNotAllowed", "This method is not allowed here")

    def _put(self, call: Call, upload_id: str, number: int) -> Answer:
        """Store a chunk. What is refused leaves the chunk that was there before."""
        session = self._sessions.get(upload_id)
        if session is None or session.status != "active":
            raise No(404, "NoSuchUpload", "The upload may have been aborted or completed")
        grant = session.grants.get(call.get("X-Amz-Signature") or "")
        if grant is None or grant.number != number:
            raise No(403, "SignatureDoesNotMatch", "The signature does not match")
        if grant.used or self.now() >= grant.expires:
            raise No(403, "AccessDenied", "Request has expired")
        for name, value in self.upload_headers.items():
            if call.headers.get(name) != value:
                raise No(403, "SignatureDoesNotMatch", "The signature does not match")
        if "chunked" in call.headers.get("transfer-encoding", "").lower():
            raise No(501, "NotImplemented", "Transfer-Encoding is not implemented")
        expected = session.size_of(number)
        if call.body.size < expected:
            raise No(400, "EntityTooSmall", f"The chunk has {expected} bytes")
        if call.body.size > expected:
            raise No(400, "EntityTooLarge", f"The chunk has {expected} bytes")
        etag = call.body.digest("md5")
        before = session.chunks.get(number)
        if before is None or before.etag != etag:  # other bytes have to be reported again
            session.chunks[number] = Chunk(call.body, etag)
        grant.used = True
        self.count("put")
        return Answer(200, Headers({"etag": f'"{etag}"'}))
