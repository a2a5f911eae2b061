"""What calls may say, and how they are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import Call, No, random_key

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


class Refusal(No):
    """A refusal in OpenAI's words. ``param`` is the parameter that is wrong."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(status, code, message)
        self.param = param


def asked_of(
    call: Call, needed: Sequence[str] = (), allowed: Sequence[str] | None = ()
) -> dict[str, Any]:
    """Return the JSON object of a call; ``allowed`` None allows any more keys."""
    if not call.says_json:
        raise Refusal(415, "The Content-Type must be application/json.")
    try:
        asked = call.json()
    except (ValueError, RecursionError):
        raise Refusal(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(asked, dict):
        raise Refusal(400, "The JSON body must be an object.")
    for name in needed:
        if name not in asked:
            raise Refusal(400, f"Missing required parameter: '{name}'.", name)
    if allowed is not None and (unknown := sorted(set(asked) - set(needed) - set(allowed))):
        name = unknown[0][:80]
        raise Refusal(400, f"Unrecognized request argument supplied: {name}", name)
    return asked


def new_id(prefix: str) -> str:
    """Return an id such as OpenAI makes: random, with what it is for before it."""
    return random_key(prefix)[: len(prefix) + 24]


def check_purpose(purpose: Any) -> None:
    """Refuse a purpose that files cannot have."""
    if purpose not in PURPOSES:
        raise Refusal(400, f"'{str(purpose)[:80]}' is not one of {list(PURPOSES)}", "purpose")
