"""The end of an upload to OpenAI: completing it, and finding out what became of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...answers import clean, date_of, problem
from ...errors import AnswerLost, IntegrityError, OutcomeUnknown, ProtocolError, SessionLost
from ...model import Flow, NotYet, PartReceipt, Result, Session
from ...wire import Response, encoded, shown
from .answers import failure, identifier, is_id, number, object_of, words_of
from .calls import Calls

_COMPLETIONS = 6  # how often completion is asked for before its outcome is unknown
_PAGES = 20  # of 100 files: how far back a finished file is looked for


class Completion(Calls):
    """How an upload ends."""

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
                upload = object_of(response)
                if isinstance(made := upload.get("file"), dict):
                    return self._result(session, upload, made, digest, response)
                lost = failure(ProtocolError, response, f"{response.host} named no file")
            found = yield from self._find(session, digest)
            if found is not None:
                return found
        raise self._unknown(session) from lost

    def _gone(self, response: Response, session: Session) -> str:
        """Say how the server no longer knows the upload, "" when it does."""
        name = f"upload {session.upload_id[:12]}…"
        if response.status in (404, 410):
            return f"{self.title} does not know {name}"
        if response.status not in (400, 422):
            return ""
        if found := re.search(r"\b(expired|cancell?ed|completed)\b", words_of(response)):
            return f"{self.title} says that {name} is {found[1]}"
        date = date_of(response)
        if date is not None and session.expires_at and date >= session.expires_at:
            return f"{name} has expired at {self.title}"
        return ""

    def _refused(
        self, session: Session, response: Response, digest: str | None, lost: Exception | None
    ) -> Flow[Result]:
        """Say what a refused completion means; raises unless the file is found after all."""
        words = words_of(response) if response.status in (400, 422) else ""
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
            raise failure(
                SessionLost,
                response,
                f"completing: {said}. A part whose answer was lost is held twice there, and "
                f"{self.title} seems to count both; the upload has to begin anew",
            )
        completed = "completed" in words
        # Gone may mean completed: by an attempt whose answer was lost, or an earlier process.
        if (gone or completed or lost is not None) and not certain:
            found = yield from self._find(session, digest)
            if found is not None:
                return found
            if (completed or lost is not None) and response.status in (400, 404, 410, 422):
                raise self._unknown(session, said) from lost
        if gone or re.search(r"\bparts?", words):
            reason = gone or f"{self.title} does not know its parts any more ({said})"
            raise failure(SessionLost, response, f"completing: {reason}; it has to begin anew")
        self._expect(response, "completing the upload")
        raise failure(ProtocolError, response, f"completing: {said}")

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
            page = object_of(response) if response.status == 200 else {}
            items = page.get("data")
            listed = (
                [item for item in items if isinstance(item, dict)]
                if isinstance(items, list)
                else []
            )
            matches |= {str(item.get("id")): item for item in listed if self._made(item, session)}
            after = listed[-1].get("id") if listed else None
            old = not any(_since(item, session) for item in listed)
            if not page.get("has_more") or old or not is_id(after) or after == query.get("after"):
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
            and is_id(item.get("id"))
        )

    def _result(
        self,
        session: Session,
        upload: Mapping[str, Any],
        made: Mapping[str, Any],
        digest: str | None,
        response: Response,
    ) -> Result:
        file_id = identifier(made.get("id"), response, "file")
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
            expires_at=None if expires is None else float(number(expires, response, "expires_at")),
        )

    def _unknown(self, session: Session, said: str = "") -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self.title} may have completed upload {session.upload_id[:12]}…, but its answer was "
            f"lost{f' ({said})' if said else ''}, and no single file named "
            f"{clean(session.file.name, 80)} of {session.file.size:,} bytes tells. Look at the "
            "list of files; if it is not there, upload again with --fresh"
        )


def _since(item: Mapping[str, Any], session: Session) -> bool:
    created = item.get("created_at")
    return isinstance(created, int) and created >= int(session.extra.get("created_at", 0))
