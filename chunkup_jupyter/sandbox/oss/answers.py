"""Answers as OSS writes them: XML, and errors that tell what to do."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

from ...wire import Headers
from .. import Answer, Call
from .signing import Refusal

_QUOTE = {'"': "&quot;"}
Elements = tuple[tuple[str, Any], ...]


def xml(root: str, *children: tuple[str, Any], status: int = 200) -> Answer:
    """Return an answer that holds one XML element."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>'
    body += f"{elements(children)}</{root}>"
    return Answer(status, Headers({"content-type": "application/xml"}), body.encode())


def elements(children: Elements) -> str:
    """Return elements as text; a tuple as a value holds elements itself."""
    text = ""
    for name, value in children:
        inner = elements(value) if isinstance(value, tuple) else escape(str(value), _QUOTE)
        text += f"<{name}>{inner}</{name}>"
    return text


def refused(call: Call, no: Refusal, request_id: str) -> Answer:
    """Return a refusal as OSS answers it; to HEAD in a header, for it has no body."""
    fields = {
        "Code": no.code,
        "Message": no.message,
        "RequestId": request_id,
        "HostId": urlsplit(call.url).hostname or "",
        **no.more,
        "EC": no.ec,
        "RecommendDoc": f"https://api.aliyun.com/troubleshoot?q={no.ec}",
    }
    answer = xml("Error", *fields.items(), status=no.status)
    headers = {**answer.headers, "x-oss-ec": no.ec}
    if call.method != "HEAD":
        return replace(answer, headers=Headers(headers))
    headers["x-oss-err"] = base64.b64encode(answer.content).decode()
    return Answer(no.status, Headers(headers))


def encoding(call: Call) -> list[tuple[str, str]]:
    """Return how the names in a list are written."""
    return [("EncodingType", "url")] if call.get("encoding-type") == "url" else []


def name_of(call: Call, text: str) -> str:
    """Return a key as lists write it."""
    return quote(text, safe="") if call.get("encoding-type") == "url" else text


def truth(value: bool) -> str:
    """Return a truth value as XML writes it."""
    return "true" if value else "false"


def stamp(at: float) -> str:
    """Return Unix seconds as lists write them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def entry_of(
    call: Call, key: str, name: str, fields: Callable[[Any], Elements], found: Any
) -> tuple[str, Elements]:
    """Return one line of a list: a thing itself, or the folder that stands for several."""
    if found is None:
        return "CommonPrefixes", (("Prefix", name_of(call, key)),)
    return name, (("Key", name_of(call, key)), *fields(found))


def folder_of(key: str, prefix: str, delimiter: str) -> str:
    """Return the common prefix a key falls under, "" when it stands for itself."""
    if not delimiter:
        return ""
    head, found, _ = key[len(prefix) :].partition(delimiter)
    return prefix + head + found if found else ""
