"""Uploads to TwelveLabs as flows: opened, filled, reported, finished."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ...answers import expect, problem, request_id
from ...errors import AuthError, IntegrityError, ProtocolError, Refused, SessionLost
from ...model import (
    Body,
    FileInfo,
    Flow,
    Held,
    NotYet,
    Part,
    PartReceipt,
    Result,
    Session,
    answered,
)
from ...plan import count, part_at
from ...wire import Request, is_loopback
from .addresses import allowed
from .answers import MOST_CHUNKS, accept, compared, etag_of, identifier, integer, worth_a_fresh_url
from .assets import POLL, Assets
from .sessions import UPLOADS
from .settings import metadata
from .urls import Urls

_TRIES = 8  # fresh URLs a part may cost in one go; as often as a request is attempted


class Uploads(Urls, Assets):
    """The verbs of an upload."""

    def create(self, file: FileInfo, part_size: int) -> Flow[Session]:
        """Open a session for 24 hours. ``part_size`` is ignored: the server decides."""
        body: dict[str, Any] = {
            "filename": file.name,
            "type": self.type,
            "total_size": file.size,
        }
        if self.hls:
            body["enable_hls"] = True
        if self.thumbnail:
            body["enable_thumbnail"] = True
        if meta := metadata(self.meta):
            body["user_metadata"] = meta
        doing = f"opening an upload of {file.name}"
        try:
            data = yield from self._ask("POST", UPLOADS, body, "upload_id", doing=doing)
        except AuthError as error:
            if error.status != 403:
                raise
            # 200 MB: SDK, assets/client.py
            raise AuthError(
                f"{error}. Multipart upload may be a preview that is not enabled for this "
                "account: ask TwelveLabs, or send files up to 200 MB directly",
                status=error.status,
                code=error.code,
                request_id=error.request_id,
                host=error.host,
            ) from error
        size = integer(data, "chunk_size", 1, 1 << 50)
        total = integer(data, "total_chunks", 1, MOST_CHUNKS)
        if total != count(file.size, size):
            raise ProtocolError(
                f"TwelveLabs answered {total:,} chunks of {size:,} bytes for a file of "
                f"{file.size:,} bytes"
            )
        session = Session(
            identifier(data, "upload_id"),
            file,
            size,
            {
                "asset_id": identifier(data, "asset_id"),
                "total_chunks": str(total),
                "upload_headers": json.dumps(allowed(data.get("upload_headers"))),
            },
            self._expiry(data),
        )
        self._keep_urls(session, data)
        return session

    def put_part(self, session: Session, part: Part, body: Body) -> Flow[PartReceipt]:
        """Send one part to its presigned URL, fetching fresh ones as they are needed.

        Raises ``IntegrityError`` when the storage's ETag is an MD5 and not that of the
        bytes just sent.
        """
        key = session.upload_id, part.number
        headers = allowed(json.loads(session.extra.get("upload_headers", "null")))
        doing = f"part {part.number}"
        tried = mismatches = 0
        while tried < _TRIES:
            tried += 1
            yield from self._more_urls(session, part.number)
            grant = self._urls.pop(key)  # "can be used once" (spec): never tried by a second flow
            response = yield Request(
                "PUT",
                grant.url.reveal(),
                headers,
                body,
                public_only=not is_loopback(self.base_url),
            )
            etag = etag_of(response)
            mismatches += problem(response)[0] == "SignatureDoesNotMatch"
            # Twice to fresh URLs: our headers are wrong, or somebody changes them.
            if mismatches == 2 or not worth_a_fresh_url(response, etag):
                break
        code, message = problem(response)
        host = response.host or "the storage"
        if response.status == 404 and code in ("NoSuchUpload", ""):
            raise SessionLost(f"{doing}: TwelveLabs' storage no longer knows this upload")
        if response.status == 403:
            raise Refused(
                f"{doing}: {host} refused {tried} fresh URLs: {code} {message}".rstrip(": "),
                status=403,
                code=code,
                request_id=request_id(response),
                host=response.host,
            )
        expect(response, doing=doing)
        if not etag:
            raise ProtocolError(
                f"{doing}: {host} answered {response.status} without an ETag, {tried} times",
                status=response.status,
                host=response.host,
            )
        return PartReceipt(part.number, part.size, etag, compared(response, etag, body, doing))

    def held(self, session: Session) -> Flow[Held]:
        """Say which parts were reported.

        The server does not give their ETags back, so these receipts have no token;
        ``complete`` needs none for them. A part that is in the storage and was not
        reported counts as missing: report the journal's receipts with ``acknowledge``
        before asking.
        """
        state = yield from self._state(session)
        return tuple(
            PartReceipt(number, part_at(number, session.file.size, session.part_size).size)
            for number in sorted(state.completed)
        )

    def acknowledge(self, session: Session, receipts: Sequence[PartReceipt]) -> Flow[None]:
        """Report finished parts. Repeats are counted by the server and change nothing.

        A batch that the server refuses is left to ``complete``, which looks at every
        part; so is a session that is gone because its last report finished it, and only
        the answer was lost. Raises ``SessionLost``.
        """
        try:
            for batch in self._batches(receipts):
                response = yield from self._report(session, batch)
                if response.status == 400:
                    yield from self._state(session, whole=False)
                else:
                    accept(response, "reporting parts")
        except SessionLost:
            if (yield from self._finished(session)) is None:
                raise

    def complete(
        self, session: Session, receipts: Sequence[PartReceipt], digest: str | None = None
    ) -> Flow[Result | NotYet]:
        """Look, report what the server does not know, and look again.

        The last report finishes the upload, so a lost answer costs nothing: reports
        may be repeated. Raises ``IntegrityError`` naming parts that have to be sent
        again, ``SessionLost``.
        """
        try:
            return (yield from self._conclude(session, receipts))
        except SessionLost:
            # Gone may mean completed, long ago or just now; then the asset can tell.
            finished = yield from self._finished(session)
            if finished is None:
                raise
            return finished

    def _conclude(self, session: Session, receipts: Sequence[PartReceipt]) -> Flow[Result | NotYet]:
        """Complete a session that the server knows."""
        state = yield from self._state(session, whole=False)
        # All reported, none failed: forty pages of chunks (10 GB) could tell no more.
        counted = state.raw.get("chunks_completed") == count(session.file.size, session.part_size)
        if not (state.done or counted):
            state = yield from self._state(session)
            unknown = [each for each in receipts if each.number not in state.completed]
            lost = {each.number for each in unknown if not each.token}
            if lost and not state.done:
                raise _resend(lost, state.why)
            # A failed part that was sent again stays failed until it is reported.
            for batch in self._batches(unknown):
                response = yield from self._report(session, batch)
                if response.status == 400:
                    numbers = {each.number for each in batch}
                    now = yield from self._state(session, whole=False)
                    if now.done:
                        break
                    code, message = problem(response)
                    raise _resend(numbers & state.failed or numbers, message or code)
                accept(response, "reporting parts")
            if unknown:
                state = yield from self._state(session, whole=False)
            if not state.done and state.raw.get("chunks_failed"):
                state = yield from self._state(session)
                if state.failed:
                    raise _resend(state.failed, state.why)
        if not state.done:
            return NotYet(POLL, "TwelveLabs is putting the parts together")
        self._forget(session)
        proved = sum(1 for each in receipts if each.checksum.startswith("md5:"))
        many = "every part" if proved == len(receipts) else f"{proved} of {len(receipts)} parts"
        words = f"MD5 of {many}, by the storage's ETags"
        return self._result(session, state.raw, (words,) if proved else ())

    def abort(self, session: Session) -> Flow[None]:
        """Forget the session's URLs. No call ends it: it lapses after 24 hours."""
        self._forget(session)
        return answered(None)

    def _batches(self, receipts: Sequence[PartReceipt]) -> Iterator[Sequence[PartReceipt]]:
        """Yield the receipts that can be reported, as many at a time as one report takes."""
        known, most = [each for each in receipts if each.token], self.rules.report_every
        for start in range(0, len(known), most):
            yield known[start : start + most]


def _resend(numbers: set[int], why: str) -> IntegrityError:
    named = ", ".join(str(number) for number in sorted(numbers)[:20])
    more = f" and {len(numbers) - 20} more" if len(numbers) > 20 else ""
    said = f" ({why})" if why else ""
    text = f"TwelveLabs does not accept part {named}{more} as it came{said}"
    return IntegrityError(text, parts=numbers)
