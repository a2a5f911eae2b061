"""What people do next with an asset, pretended: indexes, search, analysis, embeddings."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from .. import Answer, Call, No
from .contents import Asset, Contents
from .requests import body_of, field_of


class NextSteps(Contents):
    """Just enough for a tutorial's last cells, and for the official SDK."""

    def _next_step(self, call: Call, steps: tuple[str, ...]) -> Answer:
        """Answer the calls of a first tutorial, just well enough for the official SDK."""
        match (call.method, *steps):
            case ("POST", "indexes"):
                body = body_of(call)
                made = {"_id": secrets.token_hex(12), **body, "video_count": 0}
                self._made["indexes", made["_id"]] = made
                return self._ok("make", {"_id": made["_id"]}, 201)
            case ("POST", "indexes", index_id, "indexed-assets"):
                if ("indexes", index_id) not in self._made:
                    raise No(404, "resource_not_exist", f"Index {index_id} does not exist")
                asset = self._usable(body_of(call).get("asset_id"))
                new = secrets.token_hex(12)
                self._made[*steps, new] = {"_id": new, "asset_id": asset.id, "status": "ready"}
                return self._ok("make", {"_id": new, "asset_id": asset.id}, 202)
            case ("GET", "indexes", *_) if steps in self._made:
                return self._ok("get", self._made[steps])
            case ("DELETE", "indexes", *_) if steps in self._made:
                for made_at in [each for each in self._made if each[: len(steps)] == steps]:
                    del self._made[made_at]
                self.count("delete")
                return Answer(204)
            case ("POST", "search"):
                index_id = field_of(call, "index_id")
                found = [
                    {"video_id": made["asset_id"], "start": 0.0, "end": 4.0, "rank": rank}
                    for rank, made in enumerate(self._indexed(index_id), start=1)
                ]
                return self._ok("use", {"data": found, "page_info": {"total_results": len(found)}})
            case ("POST", "analyze"):
                body = body_of(call)
                video = body.get("video")
                asset = self._usable(video.get("asset_id") if isinstance(video, dict) else None)
                said = f"This is a sandbox: it has {asset.filename} and cannot watch it."
                answer = {"id": secrets.token_hex(12), "data": said, "finish_reason": "stop"}
                return self._ok("use", answer)
            case ("POST", "embed-v2"):
                body = body_of(call)
                media = body.get(str(body.get("input_type")), {})
                source = media.get("media_source", {}) if isinstance(media, dict) else {}
                self._usable(source.get("asset_id") if isinstance(source, dict) else None)
                return self._ok("use", {"data": [{"embedding": [0.0] * 512}]})
        raise No(404, "api_not_exist", f"{call.method} {call.path} does not exist")

    def _usable(self, asset_id: object) -> Asset:
        asset = self._asset(str(asset_id))
        if asset.status != "ready":
            raise No(400, "parameter_invalid", f"Asset {asset.id} is {asset.status}")
        return asset

    def _indexed(self, index_id: str) -> Iterator[dict[str, Any]]:
        if ("indexes", index_id) not in self._made:
            raise No(404, "resource_not_exist", f"Index {index_id} does not exist")
        for steps, made in self._made.items():
            if steps[:3] == ("indexes", index_id, "indexed-assets"):
                yield made
