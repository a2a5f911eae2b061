"""OpenAI's Uploads API as flows, whoever's address it stands at.

The API has four calls (create, add a part, complete, cancel) and no way to ask about
an upload: which parts are held is known from the receipts alone, and what became of a
completion whose answer was lost is looked for in the list of files.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import replace
from typing import Any

from ...answers import clean, json_of, problem
from ...errors import ProtocolError, Refused, SessionLost
from ...model import Body, FileInfo, Flow, Part, PartReceipt, Result, Session
from ...plan import check_size
from ...wire import Request, encoded, shown
from .answers import failure, identifier, number
from .completion import Completion
from .next_cell import cell
from .settings import check_name


class Uploads(Completion):
    """The verbs of an upload, and of the file it made."""

    def create(self, file: FileInfo, part_size: int) -> Flow[Session]:
        """Open an upload for exactly ``file.size`` bytes."""
        check_size(file, self.rules)
        check_name(file)
        body: dict[str, Any] = {
            "bytes": file.size,
            "filename": file.name,
            "mime_type": file.media_type,
            "purpose": self.purpose,
        }
        if self.expires_after is not None:
            body["expires_after"] = {"anchor": "created_at", "seconds": self.expires_after}
        doing = f"opening an upload at {self.title}"
        response = yield from self._ask(self._json("/uploads", {**body, **self.extra_body}))
        if response.status == 404:
            _, message = problem(response)
            raise failure(
                Refused,
                response,
                f"{doing}: {response.host} answered 404: {message or 'not found'}. There are no "
                f"uploads at {shown(self._base)}; {self._address_hint}",
            )
        upload = json_of(self._expect(response, doing))
        size = upload.get("bytes", file.size)
        if size != file.size or upload.get("status", "pending") != "pending":
            raise failure(
                ProtocolError,
                response,
                f"{doing}: {response.host} opened one of {clean(size, 40)} bytes that is "
                f"{clean(upload.get('status'), 40)}, not one of {file.size:,} bytes",
            )
        created = number(upload.get("created_at"), response, "created_at")
        expires = upload.get("expires_at")
        if expires is None:
            expires = created + int(self.rules.life or 0)
        end = number(expires, response, "expires_at")
        if end <= created:
            raise failure(ProtocolError, response, f"{doing}: it expires before it was created")
        return Session(
            upload_id=identifier(upload.get("id"), response, "upload"),
            file=file,
            part_size=part_size,
            extra={"created_at": str(created)},
            expires_at=float(end),
        )

    def put_part(self, session: Session, part: Part, body: Body) -> Flow[PartReceipt]:
        """Send one part as a form of one file field, streamed.

        A part whose answer was lost is stored twice by sending it again; only the id
        of the last answer is completed.
        """
        # Cannot stand in the file by accident or on purpose: the server chose the
        # upload's id after the file was written. The same again when sent again.
        seed = f"{session.upload_id}/{part.number}".encode()
        boundary = "chunkup-" + hashlib.sha256(seed).hexdigest()[:40]
        prefix = (
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="data"; filename="part"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"  # Azure refuses a part without it
        )
        request = Request(
            "POST",
            self._address(f"/uploads/{encoded(session.upload_id)}/parts"),
            {**self._headers(), "Content-Type": f"multipart/form-data; boundary={boundary}"},
            (prefix.encode(), body, f"\r\n--{boundary}--\r\n".encode()),
            within=self.timeout,
        )
        response = yield from self._ask(request)
        doing = f"part {part.number}"
        if reason := self._gone(response, session):
            raise failure(SessionLost, response, f"{doing}: {reason}; it has to begin anew")
        if response.status == 413:
            raise failure(
                Refused,
                response,
                f"{doing}: {response.host} answered 413, {part.size:,} bytes are too many; "
                "begin anew with a smaller --part-size",
            )
        answer = json_of(self._expect(response, doing))
        if answer.get("upload_id", session.upload_id) != session.upload_id:
            raise failure(ProtocolError, response, f"{doing}: stored in another upload")
        return PartReceipt(part.number, part.size, identifier(answer.get("id"), response, "part"))

    def abort(self, session: Session) -> Flow[None]:
        """Cancel the upload; one that is gone, cancelled or completed is left alone."""
        path = f"/uploads/{encoded(session.upload_id)}/cancel"
        response = yield from self._ask(self._request("POST", path))
        if response.status not in (400, 404, 410):
            self._expect(response, "cancelling the upload")

    def delete(self, result: Result) -> Flow[None]:
        """Delete the file; one that is gone already is fine."""
        response = yield from self._ask(self._request("DELETE", f"/files/{encoded(result.id)}"))
        if response.status != 404:
            self._expect(response, "deleting the file")

    def look_up(self, result: Result) -> Flow[Result | None]:
        """Return the file that stands under the id, None when there is none of that size."""
        response = yield from self._ask(self._request("GET", f"/files/{encoded(result.id)}"))
        if response.status == 404:
            return None
        data = json_of(self._expect(response, "asking for the file"))
        if data.get("bytes") != result.size:
            return None
        return replace(result, raw=data, verified=("size, as OpenAI counts it",))

    def next_cell(self, result: Result) -> str:
        """Return a cell that uses the file with the official SDK."""
        return cell(self._client_code(), self.purpose, result)

    @abstractmethod
    def _client_code(self) -> str:
        """Return the code that makes the SDK's client, called ``client``."""
