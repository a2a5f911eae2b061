"""What the sink's providers answer to everything that is not a part: run as a process.

``python -m tests.benchmarks.answers`` prints its port. It keeps no state: sizes travel
in the names and ids that it hands out itself.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from chunkup_jupyter.digests import combine_crc64, of

PATTERN = bytes((i * 167 + (i >> 8) * 31 + 13) & 255 for i in range(4096))
"""What the benchmark's files repeat, so that every part of one size is the same."""


class Answers(BaseHTTPRequestHandler):
    """OpenAI, OSS, S3 and TwelveLabs, as far as their clients ask."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        first, *rest = parts.path.strip("/").split("/")
        base = self.headers.get("X-Base", "")
        query = parse_qs(parts.query, keep_blank_values=True)
        if first == "openai":
            headers, content = {}, json.dumps(_openai(rest, body)).encode()
        elif first == "twelvelabs":
            headers, content = {}, json.dumps(_twelvelabs(base, rest, body)).encode()
        else:
            headers, content = _storage(self.command, parts.path, query, body)
        self.send_response(200)
        kind = "application/json" if content[:1] == b"{" else "application/xml"
        fields = {"Content-Type": kind, "x-oss-request-id": "0", **headers}
        fields["Content-Length"] = str(len(content))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _answer

    def log_message(self, *facts: object) -> None:
        """Say nothing."""


def _openai(rest: list[str], body: bytes) -> object:
    """``/openai/v1/uploads``, and its ``complete``. The upload's id holds the size."""
    opens = rest[-1] == "uploads"
    size = json.loads(body)["bytes"] if opens else int(rest[2].rpartition("_")[2])
    upload = {
        "id": f"upload_{size}",
        "object": "upload",
        "bytes": size,
        "created_at": 1_700_000_000,
        "expires_at": 4_000_000_000,
        "filename": "file.bin",
        "purpose": "user_data",
        "status": "pending",
    }
    if rest[-1] == "complete":
        file = {"id": "file-1", "object": "file", "status": "processed"}
        same = ("bytes", "created_at", "filename", "purpose")
        upload |= {"status": "completed", "file": file | {name: upload[name] for name in same}}
    return upload


def _twelvelabs(base: str, rest: list[str], body: bytes) -> object:
    """``/twelvelabs/PART_SIZE/assets/…``: the server decides the part size."""
    part_size, path = int(rest[0]), rest[1:]
    asked = json.loads(body) if body else {}

    def urls(start: int, many: int) -> list[dict[str, object]]:
        return [
            {"chunk_index": n, "url": f"{base}/part/{n}", "expires_at": "2096-01-01T00:00:00Z"}
            for n in range(start, start + many)
        ]

    if path == ["assets", "multipart-uploads"]:
        size = asked["total_size"]
        total = -(-size // part_size)
        return {
            "upload_id": f"u{size}",
            "asset_id": f"a{size}",
            "chunk_size": part_size,
            "total_chunks": total,
            "upload_urls": urls(1, min(50, total)),
            "expires_at": "2096-01-01T00:00:00Z",
            "upload_headers": {},
        }
    if path[1] != "multipart-uploads":
        return {"_id": path[1], "status": "ready", "size": int(path[1][1:])}
    if path[-1] == "presigned-urls":
        return {"upload_urls": urls(asked["start"], asked["count"])}
    if "completed_chunks" in asked:
        many = len(asked["completed_chunks"])
        return {"processed_chunks": many, "total_completed": many, "url": ""}
    size = int(path[2][1:])
    total = -(-size // part_size)
    return {
        "upload_id": path[2],
        "status": "completed",
        "chunks_completed": total,
        "chunks_failed": 0,
        "chunks_pending": 0,
        "total_size": size,
        "uploaded_size": size,
        "uploaded_chunks": [],
        "page_info": {"page": 1, "total_page": 1},
    }


def _storage(
    method: str, path: str, query: dict[str, list[str]], body: bytes
) -> tuple[dict[str, str], bytes]:
    """OSS and S3: initiate, list, complete. A key that ends in ``-SIZE.bin`` tells the CRC."""
    _, bucket, key = path.split("/", 2)
    place = f"<Bucket>{bucket}</Bucket><Key>{key}</Key>"
    if "uploads" in query:
        name = "InitiateMultipartUploadResult"
        return {}, f"<{name}>{place}<UploadId>U1</UploadId></{name}>".encode()
    if method == "GET" and "uploadId" in query:
        name = "ListPartsResult"
        none = "<IsTruncated>false</IsTruncated><NextPartNumberMarker>0</NextPartNumberMarker>"
        return {}, f"<{name}>{place}<UploadId>U1</UploadId>{none}</{name}>".encode()
    if method == "POST" and "uploadId" in query:
        name = "CompleteMultipartUploadResult"
        tag = "<ETag>&quot;0&quot;</ETag><Location>here</Location>"
        headers = {"ETag": '"0"'}
        if sized := re.search(r"-(\d+)\.bin$", key):
            headers["x-oss-hash-crc64ecma"] = str(crc64(int(sized[1])))
        return headers, f"<{name}>{place}{tag}</{name}>".encode()
    return {}, b""


@lru_cache
def crc64(size: int) -> int:
    """Return the CRC-64/XZ of ``size`` bytes of the pattern, a multiple of its length."""
    result, length, power = 0, len(PATTERN), int(of("crc64", PATTERN))
    while length <= size:
        if size & length:  # what repeats may be put together in any order
            result = combine_crc64(result, power, length)
        power, length = combine_crc64(power, power, length), length * 2
    return result


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
