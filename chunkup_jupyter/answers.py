"""What a server's answer means: the one place where a status becomes an error."""

from __future__ import annotations

import json
import re
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from .errors import AuthError, ProtocolError, Refused
from .wire import Response


def expect(response: Response, *codes: int, doing: str = "the request") -> Response:
    """Return the response if its status is one of ``codes`` (any 2xx when none is given).

    The one place where a status becomes an error. Raises ``AuthError`` for 401 and
    403, ``Refused`` for any other status.
    """
    if response.status in codes or (not codes and 200 <= response.status < 300):
        return response
    code, message = problem(response)
    kind = AuthError if response.status in (401, 403) else Refused
    where = response.host or "the server"
    text = f"{doing}: {where} answered {response.status}"
    if code:
        text += f" {code}"
    if message:
        text += f": {message}"
    if 300 <= response.status < 400:
        elsewhere = urlsplit(response.headers.get("location", "")).hostname or "elsewhere"
        text += f"; it points to {clean(elsewhere, 100)}, and no redirect is followed"
    raise kind(
        text,
        status=response.status,
        code=code,
        request_id=request_id(response),
        host=response.host,
    )


def request_id(response: Response) -> str:
    """Return the id the provider's support asks for, "" when there is none."""
    for name in ("x-request-id", "x-oss-request-id", "x-amz-request-id", "apim-request-id"):
        if value := response.headers.get(name):
            return clean(value, 100)
    return ""


def date_of(response: Response) -> float | None:
    """Return the server's time by its ``Date``, in Unix seconds; None when it tells none."""
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def problem(response: Response) -> tuple[str, str]:
    """Return (code, message) of an error answer, each "" when it has none.

    Knows ``{"error": {"code", "message"}}``, ``{"code", "message"}`` and
    ``<Error><Code/><Message/></Error>``; an HTML page is named, not quoted.
    """
    body = response.content[: 64 << 10]
    start = body.lstrip()[:1]
    if start == b"{":
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return "", ""
        inner = data.get("error", data)
        if isinstance(inner, str):
            return "", clean(inner)
        if not isinstance(inner, dict):
            return "", ""
        return clean(inner.get("code") or inner.get("type") or "", 80), clean(
            inner.get("message") or ""
        )
    if start == b"<":
        lowered = body[:512].lower()
        if b"<html" in lowered or b"<!doctype" in lowered:
            return "", "an HTML page; a proxy in between may have refused"
        try:
            root = parse_xml(body)
        except ProtocolError:
            return "", ""
        return clean(xml_text(root, "Code"), 80), clean(xml_text(root, "Message"))
    return "", clean(body[:500].decode("utf-8", "replace"))


def clean(text: object, limit: int = 500) -> str:
    """Return text from a server fit to be shown: no control characters, one line, capped."""
    flat = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+", " ", str(text)).strip()
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def unsigned(value: Any) -> Any:
    """Return a value of an answer, its URLs without their queries: those may be passwords."""
    match value:
        case str():
            return re.sub(
                r"([a-z][a-z0-9+.-]*://[^\s?#\"'<>]*)[?#][^\s\"'<>]*", r"\1", value, flags=re.I
            )
        case dict():
            return {name: unsigned(inner) for name, inner in value.items()}
        case list():
            return [unsigned(inner) for inner in value]
    return value


def json_of(response: Response) -> dict[str, Any]:
    """Return the body as a JSON object. Raises ``ProtocolError`` when it is not one."""
    try:
        data = response.json()
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ProtocolError(
            f"{response.host or 'the server'} answered {response.status} without a JSON object",
            status=response.status,
            request_id=request_id(response),
            host=response.host,
        )
    return data


def parse_xml(body: bytes) -> ElementTree.Element:
    """Return the root of an XML body, namespaces dropped from its tags.

    Raises ``ProtocolError`` for anything that declares a DOCTYPE or an ENTITY (an
    answer that needs one is an attack) and for what is not XML.
    """
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", body, re.IGNORECASE) or b"\x00" in body:
        raise ProtocolError("the server's XML declares a document type; refused")
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ProtocolError("the server's XML cannot be read") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def xml_text(root: ElementTree.Element, name: str, default: str = "") -> str:
    """Return the text of the child of that name."""
    return root.findtext(name) or default
