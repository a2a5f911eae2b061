"""One request to OpenAI: addressed, with its key, and its refusal without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...answers import expect
from ...errors import AuthError
from ...model import Flow
from ...wire import Request, Response, encoded, json_request
from .settings import Settings


class Calls(Settings):
    """How the API is asked."""

    def _headers(self) -> dict[str, str]:
        # In one spelling, so that none goes out twice.
        extra = {name.title(): value for name, value in self.extra_headers.items()}
        return {**extra, **self._auth()}

    def _address(self, path: str, query: Mapping[str, str] | None = None) -> str:
        extra = {name: str(value) for name, value in self.extra_query.items()}
        pairs = {**extra, **(query or {}), **self._query}
        text = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in pairs.items())
        return self._base + path + (f"?{text}" if text else "")

    def _request(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Request:
        return Request(method, self._address(path, query), self._headers(), within=self.timeout)

    def _json(self, path: str, body: Mapping[str, Any], *, once: bool = False) -> Request:
        made = json_request("POST", self._address(path), body, self._headers(), once=once)
        return replace(made, within=self.timeout)

    def _expect(self, response: Response, doing: str) -> Response:
        """Raise what a status means; a key that is not known may have been replaced meanwhile."""
        try:
            return expect(response, doing=doing)
        except AuthError as error:
            error.expired = error.status == 401
            raise

    def _ask(self, request: Request) -> Flow[Response]:
        """Return the answer, without the key that OpenAI's refusals repeat in part."""
        response = yield request
        if response.status < 400:
            return response
        content = re.sub(rb"\bsk-[\w*.-]+", b"***", response.content)
        for need in self.needs:
            if need.secret and (secret := getattr(self, need.field)):
                content = content.replace(secret.reveal().encode(), b"***")
        return replace(response, content=content)
