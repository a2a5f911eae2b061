"""The end of an upload to OSS: joining the parts, and finding out what became of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element

from ...answers import clean, problem, request_id, xml_text
from ...digests import combine_crc64
from ...errors import (
    AnswerLost,
    ChunkupError,
    IntegrityError,
    OutcomeUnknown,
    ProtocolError,
    SessionLost,
    Unreachable,
)
from ...model import Flow, Held, NotYet, PartReceipt, Result, Session
from ...wire import Response
from .answers import accept, answer, crc_of, senseless
from .calls import TRIES
from .objects import Objects

_COMPLETIONS = 8  # as many as the transport makes of any other request
_PARTS, _SIZE = "CRC-64 of every part", "size of the object"


class Completion(Objects):
    """How an upload ends."""

    def complete(
        self, session: Session, receipts: Sequence[PartReceipt], digest: str | None = None
    ) -> Flow[Result | NotYet]:
        """Join the parts, and compare the CRC-64 of the whole with that of the parts.

        When the answer is lost or makes no sense, the object itself is asked before
        anything is repeated.

        Raises:
            IntegrityError: OSS has other bytes than were sent, or lacks some parts.
            SessionLost: OSS knows neither the upload nor the object.
            OutcomeUnknown: it knows the upload no longer, and the object may not be asked.
        """
        body, headers = self._completion(receipts)
        listed = False
        crc = whole_crc(receipts)
        key, query = self._key_of(session), [("uploadId", session.upload_id)]
        trouble: ChunkupError | None = None
        nonsense = 0
        for _ in range(_COMPLETIONS):
            try:
                response = yield from self._call("POST", key, query, headers, body, once=True)
            except AnswerLost as error:
                trouble = error
            else:
                code = problem(response)[0]
                if code == "NoSuchUpload":
                    # An earlier complete may have worked and its answer been lost: the
                    # upload id is gone either way, so ask the object itself.
                    return (yield from self._stands(session, crc, sure=False))
                if code == "InvalidPart" and not listed:
                    listed = True
                    held = yield from self.held(session)
                    body, headers = self._completion(_corrected(receipts, held))
                    continue
                if response.status == 409 and code == "FileAlreadyExists" and trouble:
                    return (yield from self._stands(session, crc, sure=False))
                if response.status == 203:
                    result = yield from self._stands(session, crc, sure=True)
                    note = f"stored, but its callback failed: {clean(problem(response)[1])}"
                    return replace(result, raw={**result.raw, "note": note})
                accept(response, "completing the upload", 200)
                done = answer(response, "CompleteMultipartUploadResult")
                if done is not None and xml_text(done, "ETag"):
                    return (yield from self._confirmed(session, crc, response, done))
                trouble = senseless(response, "completing the upload")
                nonsense += 1
            found, _ = yield from self._look(session, crc)
            # The same bytes may have stood there before: then the upload is still open,
            # and would stay and cost money.
            if found is not None and not (yield from self._is_open(session)):
                return found
            if nonsense == TRIES:
                break
        if isinstance(trouble, AnswerLost):
            raise Unreachable(
                f"completing the upload: {trouble}; the object is not there yet",
                attempts=trouble.attempts,
            ) from trouble
        raise trouble or ProtocolError("completing the upload: no answer")

    def _confirmed(
        self, session: Session, crc: int | None, response: Response, done: Element
    ) -> Flow[Result]:
        """Return the result of a completion that says yes, once its bytes are confirmed."""
        theirs = crc_of(response)
        raw = {
            "bucket": self.bucket,
            "key": self._key_of(session),
            "etag": clean(xml_text(done, "ETag"), 200).strip('"'),
            "crc64": "" if theirs is None else str(theirs),
            "version_id": clean(response.headers.get("x-oss-version-id", ""), 200),
            "location": clean(xml_text(done, "Location"), 2000),
            "request_id": request_id(response),
        }
        raw = {name: value for name, value in raw.items() if value}
        if crc is not None and theirs is not None:
            if crc != theirs:
                raise self._torn(session)
            return self._result(session, raw, (_PARTS, f"CRC-64 {crc} of the object"))
        found, looked = yield from self._look(session, crc)
        if looked and found is None:
            raise self._torn(session)
        return self._result(session, raw, () if found is None else found.verified)

    def _stands(self, session: Session, crc: int | None, *, sure: bool) -> Flow[Result]:
        """Return the object if it is what was sent; ``sure``: OSS says that it stored it."""
        found, looked = yield from self._look(session, crc)
        if found is not None:
            return found
        if not looked:
            if sure:
                return self._result(session, {}, ())
            raise OutcomeUnknown(
                f"{self._host} no longer knows the upload, and this key may not look at the "
                f"object; see whether {self.url} is there before uploading again"
            )
        if sure:
            raise self._torn(session)
        raise SessionLost(
            f"OSS no longer knows upload {clean(session.upload_id[:8])}…, and the object is "
            "not there; start it again to upload from the beginning",
            status=404,
            code="NoSuchUpload",
            host=self._host,
        )

    def _look(self, session: Session, crc: int | None) -> Flow[tuple[Result | None, bool]]:
        """Return the object if it is what was sent, and whether looking was allowed.

        Size and CRC-64 are compared; the size alone when either CRC is not known.
        """
        response = yield from self._call("HEAD", self._key_of(session))
        if response.status == 403:
            return None, False
        if response.status == 404 and problem(response)[0] in ("", "NoSuchKey"):
            return None, True
        found = self._described(accept(response, "looking at the object", 200))
        theirs = crc_of(response)
        if found.size != session.file.size or (None not in (crc, theirs) and crc != theirs):
            return None, True
        verified = (
            (_SIZE,) if None in (crc, theirs) else (_SIZE, _PARTS, f"CRC-64 {crc} of the object")
        )
        return self._result(session, found.raw, verified), True

    def _is_open(self, session: Session) -> Flow[bool]:
        """Say whether OSS still knows the upload; no is assumed when it may not be asked."""
        query = [("uploadId", session.upload_id), ("max-parts", "1")]
        response = yield from self._call("GET", self._key_of(session), query)
        return response.status == 200

    def _result(
        self, session: Session, raw: Mapping[str, Any], verified: tuple[str, ...]
    ) -> Result:
        key = self._key_of(session)
        return Result(
            id=f"oss://{self.bucket}/{key}",
            url=self._address(key),
            size=session.file.size,
            raw=raw,
            verified=verified,
        )

    def _completion(self, receipts: Sequence[PartReceipt]) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers that join these parts."""
        body = complete_body(receipts)
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        return body, {
            "Content-Type": "application/xml",
            "Content-MD5": base64.b64encode(digest).decode(),
            **({"x-oss-object-acl": self.acl} if self.acl else {}),
            **self._clobber(),
        }

    def _torn(self, session: Session) -> IntegrityError:
        return IntegrityError(
            f"OSS stored other bytes than those of {session.file.name}; delete the object and "
            "upload it again",
            final=self.no_clobber,  # otherwise sending it once more replaces them
        )


def complete_body(receipts: Sequence[PartReceipt]) -> bytes:
    """Return the list of parts that completion takes, in the order given."""
    parts = "".join(
        f'<Part><PartNumber>{r.number}</PartNumber><ETag>"{_escaped(r.token)}"</ETag></Part>'
        for r in receipts
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def whole_crc(receipts: Sequence[PartReceipt]) -> int | None:
    """Return the CRC-64 of all parts in a row; None when that of any is not known."""
    crc = 0
    for receipt in receipts:
        name, _, value = receipt.checksum.partition(":")
        if name != "crc64":
            return None
        crc = combine_crc64(crc, int(value), receipt.size)
    return crc


def _corrected(receipts: Sequence[PartReceipt], held: Held) -> Sequence[PartReceipt]:
    """Return the receipts with the ETags OSS lists for them.

    The parts' CRCs were compared as they came, so a wrong ETag may be all that is wrong:
    something in between changed a header. Raises ``IntegrityError`` for parts that OSS
    does not have as they were sent.
    """
    if held is None:
        return receipts
    assert not isinstance(held, int)
    listed = {receipt.number: receipt for receipt in held}
    lost = [ours.number for ours in receipts if not _same(ours, listed.get(ours.number))]
    if lost:
        named = ", ".join(map(str, lost[:20])) + (" and more" if len(lost) > 20 else "")
        raise IntegrityError(f"OSS does not have part {named} as it was sent", parts=lost)
    return [replace(ours, token=listed[ours.number].token) for ours in receipts]


def _same(ours: PartReceipt, theirs: PartReceipt | None) -> bool:
    if theirs is None or theirs.size != ours.size:
        return False
    if ours.checksum and theirs.checksum:
        return ours.checksum == theirs.checksum
    return ours.token == theirs.token


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
