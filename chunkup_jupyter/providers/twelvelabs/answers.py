"""What the API and the storage behind it say; nonsense is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ...answers import clean, expect, problem
from ...errors import AuthError, IntegrityError, ProtocolError
from ...model import Body
from ...wire import Response

MOST_CHUNKS = 100_000  # ten times what S3 takes; keeps a nonsensical chunk size from the engine


def accept(response: Response, doing: str) -> None:
    """Raise what a status means; a key that is not known may have been replaced meanwhile."""
    try:
        expect(response, doing=doing)
    except AuthError as error:
        error.expired = error.status == 401
        raise


def etag_of(response: Response) -> str:
    """Return the ETag of a success without ``W/`` and quotes, "" when it makes no sense."""
    if not 200 <= response.status < 300 or b"<Error>" in response.content[:1024]:
        return ""
    etag = response.headers.get("etag", "").removeprefix("W/").strip('"')
    return etag if re.fullmatch(r"[!-~]{1,200}", etag) else ""


def worth_a_fresh_url(response: Response, etag: str) -> bool:
    """Say whether the same part should be sent again at once, to a new URL."""
    match response.status:
        case 403:  # the URL expired between issue and use, or was used by a lost attempt
            return True
        case 400:  # the session behind the signature ended; the body came too slowly
            return problem(response)[0] in ("ExpiredToken", "RequestTimeout")
        case status:
            return 200 <= status < 300 and not etag


def compared(response: Response, etag: str, body: Body, doing: str) -> str:
    """Return the checksum for a receipt: the ETag, if it is the MD5 of what was sent.

    S3's ETag of a part is its MD5, unless the bucket encrypts with keys of its own
    (Common Response Headers, S3 API reference): then nothing can be compared.
    """
    ours = body.digest("md5")
    encrypted = "kms" in response.headers.get("x-amz-server-side-encryption", "").lower()
    customer = "x-amz-server-side-encryption-customer-algorithm" in response.headers
    if ours is None or encrypted or customer or not re.fullmatch(r"[0-9a-fA-F]{32}", etag):
        return ""
    if etag.lower() != ours:
        raise IntegrityError(
            f"{doing}: the storage received other bytes than were sent, by its ETag; if its "
            "ETags are no MD5, --verify none does not compare them"
        )
    return f"md5:{ours}"


def is_integer(value: object) -> bool:
    """Say whether a value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def integer(data: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return a whole number of an answer. Raises ``ProtocolError`` for any other."""
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ProtocolError(f"TwelveLabs answered {name} {clean(value, 40)}, which makes no sense")
    return value


def identifier(data: Mapping[str, Any], name: str) -> str:
    """Return an id of an answer. Raises ``ProtocolError`` for what may not stand in a path."""
    value = data.get(name)
    # Goes into paths: no slash, and not "..".
    if not isinstance(value, str) or not re.fullmatch(r"(?!\.+$)[\w.~:=+@-]{1,256}", value, re.A):
        raise ProtocolError(f"TwelveLabs answered {name} {clean(value, 40)}, which makes no sense")
    return value


def objects(data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a list of objects of an answer, an empty one when there is none."""
    value = data.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ProtocolError(f"TwelveLabs answered {name} that is no list of objects")
    return value


def pages_of(data: Mapping[str, Any]) -> int:
    """Return how many pages a listing has; very many when it does not tell."""
    info = data.get("page_info")
    total = info.get("total_page") if isinstance(info, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) else MOST_CHUNKS


def instant(value: object, otherwise: float) -> float:
    """Return RFC 3339 as Unix seconds; ``otherwise`` when there is none."""
    if value is None:
        return otherwise
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]  # refused below
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        raise ProtocolError(f"TwelveLabs answered the time {clean(value, 40)}") from None
