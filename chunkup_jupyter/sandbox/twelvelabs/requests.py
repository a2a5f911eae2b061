"""What calls may say, and how they are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .. import Call, No


def body_of(call: Call) -> dict[str, Any]:
    """Return the JSON object that a call carries."""
    if not call.says_json:
        raise No(415, "parameter_invalid", "The body must be application/json")
    try:
        body = call.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise No(400, "parameter_invalid", "The body must be a JSON object")
    return body


def field_of(call: Call, name: str) -> str:
    """Return one field of a form, of either kind."""
    body = call.body.read(64 << 10).decode("utf-8", "replace")
    pattern = rf'name="{name}"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)|(?:^|&){name}=([^&]*)'
    found = re.search(pattern, body)
    return (found[1] or found[2] or "") if found else ""


def text(data: Mapping[str, Any], name: str, least: int, most: int) -> str:
    """Return a text of a body, of so many characters."""
    value = data.get(name)
    if value is None:
        raise No(400, "parameter_not_provided", f"{name} is required")
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise No(400, "parameter_invalid", f"{name} must have {least} to {most} characters")
    return value


def integer(data: Mapping[str, Any], name: str, least: int, most: int | None) -> int:
    """Return a whole number of a body."""
    value = data.get(name)
    fits = isinstance(value, int) and least <= value and (most is None or value <= most)
    if not fits or isinstance(value, bool):
        upper = "" if most is None else f" and at most {most}"
        raise No(400, "parameter_invalid", f"{name} must be at least {least}{upper}")
    return int(value or 0)


def number_of(call: Call, name: str, default: int | None, most: int | None) -> int:
    """Return a whole number from 1 in the query."""
    text = call.get(name)
    if text is None:
        return default or 1
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text) or (most is not None and int(text) > most):
        raise No(400, "parameter_invalid", f"{name} is invalid")
    return int(text)


def metadata(value: object) -> Mapping[str, Any]:
    """Return an asset's metadata without what is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise No(400, "parameter_invalid", "user_metadata must be an object")
    for key, each in value.items():
        texts = isinstance(each, list) and all(isinstance(text, str) for text in each)
        if not (texts or each is None or isinstance(each, str | int | float)):
            raise No(400, "parameter_invalid", f"user_metadata {key} is invalid")
    return {key: each for key, each in value.items() if each not in (None, "", [])}
