"""What OSS says: its XML, its error codes, its checksums."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from xml.etree.ElementTree import Element

from ...answers import clean, expect, parse_xml, problem, request_id, xml_text
from ...errors import AuthError, ProtocolError, ProviderError, SessionLost
from ...model import FileInfo, PartReceipt, Session
from ...wire import Response

# Errors that the same request may not meet with fresh credentials.
_STALE = frozenset(
    "SecurityTokenExpired InvalidSecurityToken AccessKeyIdAndSecurityTokenNotMatch "
    "InvalidAccessKeyId ExpiredToken".split()
)
_ADVICE = {
    "SignatureDoesNotMatch": "check OSS_ACCESS_KEY_SECRET, and that no proxy rewrites requests",
    "InvalidAccessKeyId": "check OSS_ACCESS_KEY_ID, and that the key is enabled",
    "SecurityTokenExpired": "get new temporary credentials; the upload can then be continued",
    "RequestTimeTooSkewed": "set this machine's clock; OSS allows 15 minutes",
    "SecondLevelDomainForbidden": "leave --addressing path out; OSS wants the bucket in the host",
    "TransferAccelerationDisabled": "enable transfer acceleration for the bucket first",
    "NoSuchBucket": "check the bucket's name and --region",
    "FileAlreadyExists": "--no-clobber keeps it: name another key, or leave --no-clobber out",
    "EntityTooSmall": "run it again with --fresh and larger parts",
    "EntityTooLarge": "run it again with --fresh and smaller parts",
    "InvalidPart": "run it again with --fresh: this upload cannot be completed",
    # Error codes that are the same for several mistakes are told apart by their EC.
    "0002-00000080": "signature version 1 is closed for this account; leave --signature out",
    "0002-00000226": "check --region: it must be the bucket's own, such as cn-hangzhou",
    "0002-00000228": "check --region: it must be the bucket's own, such as cn-hangzhou",
}


def readable(response: Response) -> Response:
    """Return an answer to HEAD with the error that OSS hides in a header as its body."""
    hidden = response.headers.get("x-oss-err", "")
    if response.content or response.status < 400 or not 0 < len(hidden) < 16 << 10:
        return response
    try:
        return replace(response, content=base64.b64decode(hidden, validate=True))
    except (binascii.Error, ValueError):
        return response


def accept(response: Response, doing: str, *codes: int) -> Response:
    """Return the response if its status is one of ``codes``, else raise what it means.

    Raises ``SessionLost`` for an unknown upload; ``AuthError`` with ``expired`` set when
    the same request may work with fresh credentials.
    """
    try:
        return expect(response, *codes, doing=doing)
    except ProviderError as error:
        kind = SessionLost if error.code == "NoSuchUpload" else type(error)
        better = kind(
            "; ".join([str(error).rstrip("."), *_advice(response, error.code)]),
            status=error.status,
            code=error.code,
            request_id=error.request_id,
            host=error.host,
        )
        if isinstance(better, AuthError):
            better.expired = error.code in _STALE
        raise better from None


def _advice(response: Response, code: str) -> list[str]:
    """Return sentences on what to do about an error, from its code, EC and endpoint."""
    ec, endpoint, signed = response.headers.get("x-oss-ec", ""), "", ""
    try:
        root = parse_xml(response.content)
    except ProtocolError:
        pass
    else:
        ec = ec or xml_text(root, "EC")
        endpoint = clean(xml_text(root, "Endpoint"), 100)
        signed = xml_text(root, "StringToSign")
    told = [_ADVICE[name] for name in (ec, code) if name in _ADVICE][:1]
    if endpoint:
        told.append(f"the bucket answers at --endpoint {endpoint}")
    if signed.startswith("OSS4-HMAC-SHA256\n"):  # version 1 strings may hold an STS token
        told.append(f"OSS expected a signature of {clean(signed, 300)}")
    return told


def answer(response: Response, name: str) -> Element | None:
    """Return the XML of a 200 if it is the one that was asked for."""
    try:
        root = parse_xml(response.content)
    except ProtocolError:
        return None
    return root if root.tag == name else None


def senseless(response: Response, doing: str) -> ProtocolError:
    """Return the error for a success that does not hold what was asked for."""
    code, message = problem(response)
    said = f"{code} {message}".strip() or "nothing that can be read"
    return ProtocolError(
        f"{doing}: {response.host or 'OSS'} answered {response.status}, but with {said}",
        status=response.status,
        code=code,
        request_id=request_id(response),
        host=response.host,
    )


def crc_of(response: Response) -> int | None:
    """Return the CRC-64 that OSS computed, None when it sent none."""
    text = response.headers.get("x-oss-hash-crc64ecma", "").strip()
    if not text:
        return None
    if not re.fullmatch(r"\d{1,20}", text) or int(text) >= 1 << 64:
        raise ProtocolError(f"{response.host or 'OSS'} sent a CRC-64 that is none")
    return int(text)


def listed(part: Element) -> PartReceipt:
    """Return the receipt of a listed part."""
    number, size = xml_text(part, "PartNumber"), xml_text(part, "Size")
    etag, crc = xml_text(part, "ETag").strip().strip('"'), xml_text(part, "HashCrc64ecma")
    if not (
        re.fullmatch(r"\d{1,5}", number)
        and re.fullmatch(r"\d{1,13}", size)
        and re.fullmatch(r"[!#-~]{1,200}", etag)
        and re.fullmatch(r"\d{0,20}", crc)
    ):
        raise ProtocolError("OSS lists a part that makes no sense")
    return PartReceipt(int(number), int(size), etag, f"crc64:{int(crc)}" if crc else "")


def open_session(upload: Element, bucket: str, plain: Callable[[str], str]) -> Session:
    """Return the session of a listed upload; of its file only the name is known."""
    key, upload_id = plain(xml_text(upload, "Key")), xml_text(upload, "UploadId")
    if not key or not re.fullmatch(r"[!-~]{1,1024}", upload_id):
        raise ProtocolError("OSS lists an upload that makes no sense")
    extra = {"bucket": bucket, "key": key}
    try:
        begun = datetime.fromisoformat(xml_text(upload, "Initiated"))
        extra["created_at"] = str(int(begun.timestamp()))
    except (ValueError, OverflowError):
        pass
    return Session(upload_id, FileInfo(key, 0), 0, extra)
