"""What OpenAI says: its ids, its times, the words of its refusals."""

from __future__ import annotations

import re
from typing import Any

from ...answers import clean, json_of, problem, request_id
from ...errors import ProtocolError, ProviderError
from ...wire import Response


def is_id(value: object) -> bool:
    """Say whether a server's id may stand in a path."""
    return isinstance(value, str) and bool(
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.~=:-]{0,255}", value)
    )


def identifier(value: object, response: Response, what: str) -> str:
    """Return a server's id. Raises ``ProtocolError`` for what may not stand in a path."""
    if not is_id(value):
        raise failure(
            ProtocolError, response, f"{response.host} gave the {what} no id that can be used"
        )
    return str(value)


def number(value: object, response: Response, what: str) -> int:
    """Return a time in Unix seconds as a server wrote it."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise failure(ProtocolError, response, f"{response.host}: {clean(value, 40)} is no {what}")
    return value


def object_of(response: Response) -> dict[str, Any]:
    """Return the JSON object of an answer, an empty one when it is none."""
    try:
        return json_of(response)
    except ProtocolError:
        return {}


def words_of(response: Response) -> str:
    """Return code and message of a refusal in lower case: no list of either is published."""
    return " ".join(problem(response)).lower()


def failure(kind: type[ProviderError], response: Response, text: str) -> ProviderError:
    """Return an error that carries what the server's support asks for."""
    return kind(
        text,
        status=response.status,
        code=problem(response)[0] if response.status >= 400 else "",
        request_id=request_id(response),
        host=response.host,
    )
