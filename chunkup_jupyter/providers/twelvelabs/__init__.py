"""TwelveLabs: multipart upload of assets, through presigned URLs of its storage.

The server chooses the part size. Parts go to presigned URLs, never with the API key;
their ETags are reported in batches; the last report finishes the upload, and the
platform then checks the asset until it is ready. What is said here about the service
was read 2026-11 in its Python SDK (twelvelabs 1.3.6, "SDK" below) and its OpenAPI
description (openapi-1.3.yaml of 2026-02-17, "spec").
"""

from __future__ import annotations

from ...model import Result
from .uploads import Uploads


class TwelveLabs(Uploads):
    """An account at TwelveLabs: ``twelvelabs:TYPE``.

    ``type`` says what the file is: video, audio or image. The server decides how large
    parts are and keeps a session open for 24 hours (OpenAPI description); how
    large a file may be its pages do not agree on: 4 GiB there, 10 GB in SDK 1.3.6 (both
    read 2026-11). ``meta`` is kept with the asset.

    Raises ``InvalidUpload`` for settings that cannot be sent, ``InsecureConnection`` for
    plain http to anything but this machine.
    """

    def next_cell(self, result: Result) -> str:
        """Return a cell that uses the asset with TwelveLabs' own SDK."""
        usual = type(self).__dataclass_fields__["base_url"].default
        there = "" if self.base_url == usual else f', base_url="{self.base_url}"'
        head = (
            "import os\n"
            "from twelvelabs import TwelveLabs\n\n"
            f'client = TwelveLabs(api_key=os.environ["TWELVELABS_API_KEY"]{there})\n'
            f'asset_id = "{result.id}"\n'
        )
        return head + _NEXT.get(self.type, _NEXT["video"])


_EMBED = """
from twelvelabs import MediaSource, {kind}InputRequest

made = client.embed.v_2.create(
    input_type="{small}",
    model_name="marengo3.0",
    {small}={kind}InputRequest(media_source=MediaSource(asset_id=asset_id)),
)
print(len(made.data), "embeddings of", len(made.data[0].embedding), "numbers")
"""

_NEXT = {
    "image": _EMBED.format(kind="Image", small="image"),
    "audio": _EMBED.format(kind="Audio", small="audio"),
    "video": """
# Ask about it
from twelvelabs import VideoContext_AssetId

answer = client.analyze(
    model_name="pegasus1.5",
    video=VideoContext_AssetId(asset_id=asset_id),
    prompt="What happens in this video? Give times.",
)
print(answer.data)

# Search in it
import time
from twelvelabs.indexes import IndexesCreateRequestModelsItem

index = client.indexes.create(
    index_name=f"chunkup-{asset_id}",
    models=[
        IndexesCreateRequestModelsItem(
            model_name="marengo3.0", model_options=["visual", "audio"]
        )
    ],
)
indexed = client.indexes.indexed_assets.create(index.id, asset_id=asset_id)
while client.indexes.indexed_assets.retrieve(index.id, indexed.id).status not in (
    "ready",
    "failed",
):
    time.sleep(5)
for clip in client.search.query(
    index_id=index.id, query_text="people talking", search_options=["visual", "audio"]
):
    print(clip.start, clip.end, clip.rank)

# Embed it
"""
    + _EMBED.format(kind="Video", small="video").lstrip(),
}
