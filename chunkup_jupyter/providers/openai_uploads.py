"""OpenAI's Uploads API as flows, whoever's address it stands at.

The API has four calls (create, add a part, complete, cancel) and no way to ask about
an upload: which parts are held is known from the receipts alone, and what became of a
completion whose answer was lost is looked for in the list of files.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..answers import clean, expect, json_of, problem, request_id
from ..errors import (
    AnswerLost,
    IntegrityError,
    OutcomeUnknown,
    ProtocolError,
    ProviderError,
    Refused,
    SessionLost,
)
from ..model import Body, FileInfo, Flow, NotYet, Part, PartReceipt, Result, Session
from ..plan import check_size
from ..wire import Request, Response, encoded, shown
from .openai_settings import Settings, check_name

_COMPLETIONS = 6  # how often completion is asked for before its outcome is unknown
_PAGES = 20  # of 100 files: how far back a finished file is looked for


@dataclass(frozen=True, kw_only=True, repr=False)
class Uploads(Settings):
    """The verbs, and what the answers mean."""

    @property
    def states_digest(self) -> bool:
        """Whether ``md5`` was given: it is compared with ours, whatever else is checked."""
        return self.md5 is not None

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
            raise _error(
                Refused,
                response,
                f"{doing}: {response.host} answered 404: {message or 'not found'}. There are no "
                f"uploads at {shown(self._base)}; {self._address_hint}",
            )
        upload = json_of(self._expect(response, doing))
        size = upload.get("bytes", file.size)
        if size != file.size or upload.get("status", "pending") != "pending":
            raise _error(
                ProtocolError,
                response,
                f"{doing}: {response.host} opened one of {clean(size, 40)} bytes that is "
                f"{clean(upload.get('status'), 40)}, not one of {file.size:,} bytes",
            )
        created = _number(upload.get("created_at"), response, "created_at")
        expires = upload.get("expires_at")
        if expires is None:
            expires = created + int(self.rules.life or 0)
        end = _number(expires, response, "expires_at")
        if end <= created:
            raise _error(ProtocolError, response, f"{doing}: it expires before it was created")
        return Session(
            upload_id=_identifier(upload.get("id"), response, "upload"),
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
            raise _error(SessionLost, response, f"{doing}: {reason}; it has to begin anew")
        if response.status == 413:
            raise _error(
                Refused,
                response,
                f"{doing}: {response.host} answered 413, {part.size:,} bytes are too many; "
                "begin anew with a smaller --part-size",
            )
        answer = json_of(self._expect(response, doing))
        if answer.get("upload_id", session.upload_id) != session.upload_id:
            raise _error(ProtocolError, response, f"{doing}: stored in another upload")
        return PartReceipt(part.number, part.size, _identifier(answer.get("id"), response, "part"))

    def complete(
        self, session: Session, receipts: Sequence[PartReceipt], digest: str | None = None
    ) -> Flow[Result | NotYet]:
        """Put the parts together; the server compares the MD5 and the size.

        Raises:
            IntegrityError: the MD5 differs, here or there, or the file's size does.
            SessionLost: the upload is gone, or its bytes were counted wrongly.
            OutcomeUnknown: the answer was lost, and the file is not found.
        """
        if self.md5 and digest and self.md5 != digest:
            raise IntegrityError(
                f"{session.file.name} has the MD5 {digest}, not {self.md5} as stated; "
                "nothing was completed",
                final=True,
            )
        ids = [receipt.token for receipt in receipts]
        if not all(ids) or len(set(ids)) != len(ids):
            raise ProtocolError(f"{self.title} gave the same id to two parts")
        digest = digest or self.md5
        request = self._json(
            f"/uploads/{encoded(session.upload_id)}/complete",
            {"part_ids": ids, **({"md5": digest} if digest else {})},
            once=True,
        )
        lost: Exception | None = None
        for _ in range(_COMPLETIONS):
            try:
                response = yield from self._ask(request)
            except AnswerLost as error:
                known, lost = lost is not None, error
                if not known:
                    continue  # once more: "is completed" is an answer too
            else:
                if not 200 <= response.status < 300:
                    return (yield from self._refused(session, response, digest, lost))
                upload = _object(response)
                if isinstance(made := upload.get("file"), dict):
                    return self._result(session, upload, made, digest, response)
                lost = _error(ProtocolError, response, f"{response.host} named no file")
            found = yield from self._find(session, digest)
            if found is not None:
                return found
        raise self._unknown(session) from lost

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

    def _expect(self, response: Response, doing: str) -> Response:
        return expect(response, doing=doing)

    def _ask(self, request: Request) -> Flow[Response]:
        """Return the answer, without the key that OpenAI's refusals repeat in part."""
        response = yield request
        if response.status < 400:
            return response
        content = re.sub(rb"\bsk-[\w*.-]+", b"***", response.content)
        for need in self.needs:
            if need.secret and (secret := getattr(self, need.field)):
                content = content.replace(secret.reveal().encode(), b"***")
        return replace(response, content=content)

    def _gone(self, response: Response, session: Session) -> str:
        """Say how the server no longer knows the upload, "" when it does."""
        name = f"upload {session.upload_id[:12]}…"
        if response.status in (404, 410):
            return f"{self.title} does not know {name}"
        if response.status not in (400, 422):
            return ""
        if found := re.search(r"\b(expired|cancell?ed|completed)\b", _words(response)):
            return f"{self.title} says that {name} is {found[1]}"
        date = email.utils.parsedate_tz(response.headers.get("date", ""))
        if date and session.expires_at and email.utils.mktime_tz(date) >= session.expires_at:
            return f"{name} has expired at {self.title}"
        return ""

    def _refused(
        self, session: Session, response: Response, digest: str | None, lost: Exception | None
    ) -> Flow[Result]:
        """Say what a refused completion means; raises unless the file is found after all."""
        words = _words(response) if response.status in (400, 422) else ""
        _, message = problem(response)
        said = f"{response.host} answered {response.status}: {message}"
        if re.search(r"\bmd5\b|checksum|\bdigest\b|\bhash\b", words):
            raise IntegrityError(
                f"{self.title} holds other bytes than were sent, and cannot say in which part "
                f"({said}); the whole file has to be sent again"
            ) from lost
        gone = self._gone(response, session)
        certain = re.search(r"\b(expired|cancell?ed)\b", words)
        if re.search(r"\bbytes?\b|\bsizes?\b|\blength\b", words) and not certain:
            # Parts that no list names may be counted by some servers; which ones is
            # documented nowhere. Only a new upload gets rid of them.
            yield from self.abort(session)
            raise _error(
                SessionLost,
                response,
                f"completing: {said}. A part whose answer was lost is held twice there, and "
                f"{self.title} seems to count both; the upload has to begin anew",
            )
        completed = "completed" in words
        if lost is not None or completed:
            found = None if certain else (yield from self._find(session, digest))
            if found is not None:
                return found
            if not certain and (response.status in (400, 404, 410, 422)):
                raise self._unknown(session, said) from lost
        if gone or re.search(r"\bparts?", words):
            reason = gone or f"{self.title} does not know its parts any more ({said})"
            raise _error(SessionLost, response, f"completing: {reason}; it has to begin anew")
        self._expect(response, "completing the upload")
        raise _error(ProtocolError, response, f"completing: {said}")

    def _find(self, session: Session, digest: str | None) -> Flow[Result | None]:
        """Look for the one file that this upload can have made, None when there is none.

        Raises:
            OutcomeUnknown: several files could be it.
        """
        matches: dict[str, Mapping[str, Any]] = {}
        query = {"purpose": self.purpose, "order": "desc", "limit": "100"}
        last = None
        for _ in range(_PAGES):
            last = response = yield from self._ask(self._request("GET", "/files", query))
            page = _object(response) if response.status == 200 else {}
            items = page.get("data")
            listed = (
                [item for item in items if isinstance(item, dict)]
                if isinstance(items, list)
                else []
            )
            matches |= {str(item.get("id")): item for item in listed if self._made(item, session)}
            after = listed[-1].get("id") if listed else None
            old = not any(_since(item, session) for item in listed)
            if not page.get("has_more") or old or not _is_id(after) or after == query.get("after"):
                break
            query = {**query, "after": str(after)}
        if len(matches) > 1:
            raise self._unknown(session, f"any of these may be it: {', '.join(sorted(matches))}")
        for made in matches.values():
            assert last is not None
            upload = {"id": session.upload_id, "object": "upload", "file": made}
            return self._result(session, upload, made, digest, last)
        return None

    def _made(self, item: Mapping[str, Any], session: Session) -> bool:
        return (
            item.get("filename") == session.file.name
            and item.get("bytes") == session.file.size
            and item.get("purpose", self.purpose) == self.purpose
            and _since(item, session)
            and _is_id(item.get("id"))
        )

    def _result(
        self,
        session: Session,
        upload: Mapping[str, Any],
        made: Mapping[str, Any],
        digest: str | None,
        response: Response,
    ) -> Result:
        file_id = _identifier(made.get("id"), response, "file")
        if made.get("bytes") != session.file.size:
            raise IntegrityError(
                f"{response.host} made {file_id} of {clean(made.get('bytes'), 40)} bytes from "
                f"{session.file.size:,} bytes; do not use it"
            )
        expires = made.get("expires_at")
        verified = [f"size, as {self.title} counts it"]
        if digest:
            verified.append(f"MD5 {digest}, given to {self.title} to compare")
        return Result(
            id=file_id,
            url=shown(f"{self._base}/files/{encoded(file_id)}"),
            size=session.file.size,
            raw=dict(upload),
            verified=tuple(verified),
            expires_at=None if expires is None else float(_number(expires, response, "expires_at")),
        )

    def _unknown(self, session: Session, said: str = "") -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self.title} may have completed upload {session.upload_id[:12]}…, but its answer was "
            f"lost{f' ({said})' if said else ''}, and no single file named "
            f"{clean(session.file.name, 80)} of {session.file.size:,} bytes tells. Look at the "
            "list of files; if it is not there, upload again with --fresh"
        )


def _is_id(value: object) -> bool:
    """Say whether a server's id may stand in a path."""
    return isinstance(value, str) and bool(
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.~=:-]{0,255}", value)
    )


def _identifier(value: object, response: Response, what: str) -> str:
    if not _is_id(value):
        raise _error(
            ProtocolError, response, f"{response.host} gave the {what} no id that can be used"
        )
    return str(value)


def _number(value: object, response: Response, what: str) -> int:
    """Return a time in Unix seconds as a server wrote it."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise _error(ProtocolError, response, f"{response.host}: {clean(value, 40)} is no {what}")
    return value


def _since(item: Mapping[str, Any], session: Session) -> bool:
    created = item.get("created_at")
    return isinstance(created, int) and created >= int(session.extra.get("created_at", 0))


def _object(response: Response) -> dict[str, Any]:
    """Return the JSON object of an answer, an empty one when it is none."""
    try:
        return json_of(response)
    except ProtocolError:
        return {}


def _words(response: Response) -> str:
    return " ".join(problem(response)).lower()


def _error(kind: type[ProviderError], response: Response, text: str) -> ProviderError:
    return kind(
        text,
        status=response.status,
        code=problem(response)[0] if response.status >= 400 else "",
        request_id=request_id(response),
        host=response.host,
    )
