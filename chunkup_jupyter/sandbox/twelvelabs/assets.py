"""Assets: what completed sessions made, processed, shown, deleted."""

from __future__ import annotations

import re
from typing import Any

from ...wire import Headers
from .. import Answer, Call, No
from .contents import Asset, Contents, stamp

_MEDIA = {"video": "video/mp4", "audio": "audio/mpeg", "image": "image/jpeg"}
# How files of each type begin: MP4 and MOV, Matroska and WebM, AVI and WAV, MPEG, …
_BEGINNINGS = {
    "video": rb"....(ftyp|moov|mdat|free)|\x1aE\xdf\xa3|RIFF....AVI |\x00\x00\x01[\xb3\xba]|FLV",
    "audio": rb"ID3|\xff[\xe0-\xff]|RIFF....WAVE|OggS|fLaC|....ftyp",
    "image": rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM",
}


class Assets(Contents):
    """Assets, as far as an upload and its first use need them."""

    def _process(self, asset: Asset) -> None:
        """Let a look at an asset move it on."""
        if asset.status != "processing" or asset.blob is None or asset.arrived is None:
            return
        asset.polls += 1
        limits = self.limits
        if asset.polls <= limits.polls_processing:
            return
        if self.now() < asset.arrived + limits.seconds_processing:
            return
        asset.status = "ready"
        if limits.check_media:
            begins = re.compile(_BEGINNINGS[asset.type], re.DOTALL)
            if not begins.match(asset.blob.read(64)):
                asset.status = "failed"
                asset.error = f"The file is no {asset.type} that can be read"

    def _shown(self, asset: Asset) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "_id": asset.id,
            "method": "multipart",
            "status": asset.status,
            "filename": asset.filename,
            "file_type": _MEDIA[asset.type],
            "created_at": stamp(asset.created),
        }
        if asset.user_metadata:
            shown["user_metadata"] = asset.user_metadata
        if asset.status == "failed":
            shown["error"] = {"message": asset.error}
        if asset.status == "ready" and asset.blob is not None:
            shown["size"] = asset.blob.size
            shown["url"] = self._content_url(asset)
            shown["technical_metadata"] = {
                "file_size_bytes": asset.blob.size,
                "file_mime_type": _MEDIA[asset.type],
            }
            if asset.hls:
                shown["hls"] = {"status": "ready", "manifest_url": self._content_url(asset)}
            if asset.thumbnail:
                shown["thumbnail"] = {"status": "ready"}
        return shown

    def _list_assets(self, call: Call) -> Answer:
        wanted = {value for name, value in call.query if name == "asset_ids"}
        kinds = {value for name, value in call.query if name == "asset_types"}
        part = (call.get("filename") or "").lower()
        found = [
            each
            for each in reversed(self._assets.values())
            if (not wanted or each.id in wanted)
            and (not kinds or each.type in kinds)
            and part in each.filename.lower()
        ]
        assets, info = self._page(call, found)
        return self._ok(
            "assets", {"data": [self._shown(each) for each in assets], "page_info": info}
        )

    def _delete(self, asset: Asset, call: Call) -> Answer:
        uses = [
            steps
            for steps, made in self._made.items()
            if steps[2:3] == ("indexed-assets",) and made["asset_id"] == asset.id
        ]
        if uses and call.get("force") != "true":
            raise No(409, "resource_in_use", "Indexed assets reference this asset")
        for steps in uses:
            del self._made[steps]
        del self._assets[asset.id]
        self.count("delete")
        return Answer(204)

    def _content_url(self, asset: Asset) -> str:
        """Return where the bytes can be had without a key."""
        return f"{self.base}/storage/assets/{asset.id}/{asset.secret}"

    def _content(self, asset: Asset) -> Answer:
        if asset.blob is None:
            raise No(404, "resource_not_exist", f"Asset {asset.id} has no content yet")
        self.count("content")
        return Answer(200, Headers({"content-type": _MEDIA[asset.type]}), blob=asset.blob)
