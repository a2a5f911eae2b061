"""What becomes of a file after its last byte: assets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...answers import clean, json_of
from ...errors import IntegrityError, ProtocolError, Refused
from ...model import Flow, NotYet, Result, Session
from ...wire import encoded
from .answers import accept, is_integer
from .calls import Calls

POLL = 2.0  # seconds between two looks at what the server is working on


class Assets(Calls):
    """Assets looked at, awaited, deleted."""

    def _result(
        self, session: Session, raw: Mapping[str, Any], verified: tuple[str, ...] = ()
    ) -> Result:
        asset = session.extra["asset_id"]
        url = f"{self.base_url}/assets/{encoded(asset)}"
        return Result(asset, url, session.file.size, {**raw, "asset_id": asset}, verified)

    def _finished(self, session: Session) -> Flow[Result | None]:
        """Return the result of a session that is gone, None if it was never completed."""
        asset = session.extra["asset_id"]
        response = yield self._request("GET", f"/assets/{encoded(asset)}")
        if response.status != 200:
            return None
        try:
            data = json_of(response)
        except ProtocolError:
            return None
        if data.get("status") != "ready" or data.get("size") != session.file.size:
            return None
        return self._result(session, {}, ("size of the asset, by TwelveLabs",))

    def ready(self, result: Result) -> Flow[Result | NotYet]:
        """Say whether the asset was checked, and compare its size with the file's."""
        data = yield from self._ask(
            "GET", f"/assets/{encoded(result.id)}", None, "status", doing=f"asset {result.id}"
        )
        match data["status"]:
            case "processing":
                return NotYet(POLL, "TwelveLabs is checking the file")
            case "failed":
                error = data.get("error")
                said = clean(error.get("message", "")) if isinstance(error, dict) else ""
                raise Refused(
                    f"TwelveLabs took the file and could not use it: {said or 'no reason given'} "
                    f"(asset {result.id})"
                )
            case "ready":
                pass
            case other:
                raise ProtocolError(f"asset {result.id} has the unknown status {clean(other, 40)}")
        size, verified = data.get("size"), result.verified
        if is_integer(size) and result.size:
            if size != result.size:
                raise IntegrityError(
                    f"asset {result.id} has {size:,} bytes, the file {result.size:,}", final=True
                )
            verified = (*verified, "size of the asset, by TwelveLabs")
        return Result(result.id, result.url, result.size, {**result.raw, **data}, verified)

    def look_up(self, result: Result) -> Flow[Result | None]:
        """Return the asset if it is still there, of the same size and usable."""
        response = yield self._request("GET", f"/assets/{encoded(result.id)}")
        if response.status == 404:
            return None
        accept(response, f"asset {result.id}")
        data: dict[str, Any] = json_of(response)
        size = data.get("size")
        if data.get("status") == "failed" or (is_integer(size) and size != result.size):
            return None
        return replace(result, raw=data, verified=("size",) if is_integer(size) else ())

    def delete(self, result: Result) -> Flow[None]:
        """Delete the asset. May be repeated."""
        response = yield self._request("DELETE", f"/assets/{encoded(result.id)}")
        if response.status == 409:
            raise Refused(
                f"asset {result.id} is used by an index; delete it there first",
                status=409,
                host=response.host,
            )
        if response.status != 404:
            accept(response, f"deleting asset {result.id}")
