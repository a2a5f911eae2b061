"""One call of the API: with the key, repeated when its answer makes no sense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...answers import date_of, json_of, request_id
from ...errors import CredentialsMissing, ProtocolError
from ...model import Flow
from ...wire import Request, Response, json_request
from .answers import accept, instant
from .settings import SESSION_LIFE, Settings


@dataclass(frozen=True, kw_only=True)
class Calls(Settings):
    """How the API is asked, and what its clock says."""

    _clock: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def _request(self, method: str, path: str, body: Any = None) -> Request:
        """Return a call of the API, with the key; ``path`` follows the base URL."""
        if not self.api_key:
            raise CredentialsMissing("TwelveLabs needs an API key: set TWELVELABS_API_KEY")
        headers = {"x-api-key": self.api_key.reveal(), "Accept": "application/json"}
        if body is None:
            return Request(method, self.base_url + path, headers)
        return json_request(method, self.base_url + path, body, headers)

    def _call(self, method: str, path: str, body: Any = None) -> Flow[Response]:
        """Return the answer to one call, after a 409 to the second.

        What a 409 means here is documented nowhere; the SDK (1.3.6) repeats it.
        """
        response = yield self._request(method, path, body)
        if response.status == 409:
            response = yield self._request(method, path, body)
        self._note_time(response)
        return response

    def _ask(
        self, method: str, path: str, body: Any, *wanted: str, doing: str
    ) -> Flow[dict[str, Any]]:
        """Return a JSON answer that has one of ``wanted``.

        A 2xx without it (a proxy's page, an error in disguise) is no success: it is
        asked again, three times in all. Every call here may be repeated.
        """
        for left in (2, 1, 0):
            response = yield from self._call(method, path, body)
            accept(response, doing)
            try:
                data = json_of(response)
            except ProtocolError:
                if not left:
                    raise
                continue
            if any(data.get(name) is not None for name in wanted):
                return data
        raise ProtocolError(
            f"{doing}: {response.host} answered {response.status} without {' or '.join(wanted)}",
            status=response.status,
            request_id=request_id(response),
            host=response.host,
        )

    def _time(self) -> float:
        """Return the server's time: ours, put right when the two are far apart."""
        return self.now() + (self._clock[0] if self._clock else 0.0)

    def _note_time(self, response: Response) -> None:
        """Compare the clocks. Below a minute apart they count as the same."""
        theirs = date_of(response)
        if theirs is not None:
            apart = theirs - self.now()
            self._clock[:] = [apart if abs(apart) > 60 else 0.0]

    def _expiry(self, data: Mapping[str, Any]) -> float:
        """Return when a session ends, by our own clock."""
        now = self._time()
        ends = instant(data.get("expires_at"), now + SESSION_LIFE)
        if ends <= now:
            raise ProtocolError("TwelveLabs answered with a session that has expired already")
        return ends - (now - self.now())
