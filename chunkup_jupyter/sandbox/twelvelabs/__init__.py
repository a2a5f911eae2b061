"""TwelveLabs' multipart uploads and assets on this machine, with the storage behind them.

The API answers under ``/v1.3``; presigned URLs lead to ``/storage`` at the same port,
which speaks S3's XML and wants no key. Where the API description (openapi-1.3.yaml of
2026-02-17) and the SDK (twelvelabs 1.3.6) disagree, the SDK is followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .. import Answer, Call, No, answer_json, same
from .contents import Limits
from .next_steps import NextSteps
from .requests import body_of
from .sessions import Sessions
from .storage import Storage

__all__ = ["Limits", "TwelveLabsSandbox"]


class TwelveLabsSandbox(Sessions, Storage, NextSteps):
    """Multipart uploads, assets, and a little of what people do with an asset next.

    ``api_key`` is what calls of the API carry as ``x-api-key``.
    """

    name: ClassVar[str] = "twelvelabs"
    api: ClassVar[str] = "/v1.3"

    def announce(self) -> Mapping[str, str]:
        """Return the key."""
        return {"api_key": self.api_key}

    def environment(self) -> Mapping[str, str]:
        """Return what points our provider and the official SDK here."""
        return {
            "TWELVELABS_API_KEY": self.api_key,
            "TWELVE_LABS_API_KEY": self.api_key,
            "TWELVELABS_BASE_URL": self.base_url,
        }

    def expire_urls(self) -> None:
        """Make every presigned URL handed out so far void."""
        with self.lock:
            for session in self._sessions.values():
                for grant in session.grants.values():
                    grant.expires = self.now()

    def fail_chunk(self, upload_id: str, number: int, why: str = "storage error") -> None:
        """Lose a chunk: the session's status calls it failed until it is sent again."""
        with self.lock:
            session = self._sessions[upload_id]
            session.chunks.pop(number, None)
            session.failed[number] = why

    def answer(self, call: Call) -> Answer:
        """Answer one call of the API or of the storage."""
        self._expire_sessions()
        if call.path.startswith("/storage/"):
            return self._storage(call)
        try:
            return self._route(call)
        except No as no:
            return answer_json(no.status, {"code": no.code, "message": no.message})

    def _route(self, call: Call) -> Answer:
        if not call.path.startswith(self.api + "/"):
            raise No(404, "api_not_exist", f"{call.method} {call.path} does not exist")
        given = call.headers.get("x-api-key", "")
        if not same(given, self.api_key):
            raise No(401, "api_key_invalid", "The API key is missing or invalid")
        steps = tuple(call.path.removeprefix(self.api + "/").split("/"))
        match (call.method, *steps):
            case ("POST", "assets", "multipart-uploads"):
                return self._create(body_of(call))
            case ("GET", "assets", "multipart-uploads"):
                return self._list(call)
            case ("POST", "assets", "multipart-uploads", upload_id):
                return self._report(self._session(upload_id), body_of(call))
            case ("GET", "assets", "multipart-uploads", upload_id):
                return self._status(self._session(upload_id), call)
            case ("POST", "assets", "multipart-uploads", upload_id, "presigned-urls"):
                return self._more_urls(self._session(upload_id), body_of(call))
            case ("GET", "assets"):
                return self._list_assets(call)
            case ("GET", "assets", asset_id):
                asset = self._asset(asset_id)
                self._process(asset)
                return self._ok("asset", self._shown(asset))
            case ("GET", "assets", asset_id, "content"):
                return self._content(self._asset(asset_id))
            case ("DELETE", "assets", asset_id):
                return self._delete(self._asset(asset_id), call)
        return self._next_step(call, steps)
