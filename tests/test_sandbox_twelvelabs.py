"""The TwelveLabs sandbox: what it refuses, and whether the official SDK is content."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from clock import Clock
from twelvelabs import AsyncTwelveLabs, CompletedChunk, TwelveLabs
from twelvelabs.core.api_error import ApiError

from chunkup_jupyter import digests
from chunkup_jupyter.model import Result
from chunkup_jupyter.providers.twelvelabs import TwelveLabs as OurTwelveLabs
from chunkup_jupyter.sandbox import Answer, Store, load
from chunkup_jupyter.sandbox.server import Served, serve
from chunkup_jupyter.sandbox.twelvelabs import TwelveLabsSandbox
from chunkup_jupyter.wire import Request

NOW = 1_795_000_000.0
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def sandbox(clock: Clock) -> TwelveLabsSandbox:
    made = TwelveLabsSandbox(now=clock)
    made.shrink(chunk_size=10, urls_first=2)
    return made


def call(
    sandbox: TwelveLabsSandbox, method: str, path: str, body: Any = None, key: str | None = ""
) -> Answer:
    headers = {} if key is None else {"x-api-key": key or sandbox.api_key}
    if body is not None:
        headers["Content-Type"] = "application/json"
    content = b"" if body is None else json.dumps(body).encode()
    return sandbox.handle(Request(method, sandbox.base_url + path, headers, content))


def create(sandbox: TwelveLabsSandbox, size: int = 25, **more: Any) -> dict[str, Any]:
    body = {"filename": "film.mp4", "type": "video", "total_size": size, **more}
    answer = call(sandbox, "POST", "/assets/multipart-uploads", body)
    assert answer.status == 201, answer.text
    return answer.json()


def url_of(sandbox: TwelveLabsSandbox, upload_id: str, number: int) -> str:
    body = {"start": number, "count": 1}
    answer = call(sandbox, "POST", f"/assets/multipart-uploads/{upload_id}/presigned-urls", body)
    assert answer.status == 200, answer.text
    return answer.json()["upload_urls"][0]["url"]


def put(sandbox: TwelveLabsSandbox, url: str, data: bytes, **headers: str) -> Answer:
    fields = {**OCTETS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return sandbox.handle(Request("PUT", url, fields, data))


def item(number: int, data: bytes, **changes: Any) -> dict[str, Any]:
    return {
        "chunk_index": number,
        "proof": digests.of("md5", data),
        "proof_type": "etag",
        "chunk_size": len(data),
        **changes,
    }


def report(sandbox: TwelveLabsSandbox, upload_id: str, *items: dict[str, Any]) -> Answer:
    path = f"/assets/multipart-uploads/{upload_id}"
    return call(sandbox, "POST", path, {"completed_chunks": list(items)})


def status(sandbox: TwelveLabsSandbox, upload_id: str, query: str = "") -> dict[str, Any]:
    return call(sandbox, "GET", f"/assets/multipart-uploads/{upload_id}{query}").json()


def upload(sandbox: TwelveLabsSandbox, data: bytes, **more: Any) -> dict[str, Any]:
    """Upload ``data`` and return the session's answer to create."""
    session = create(sandbox, len(data), **more)
    upload_id, size = session["upload_id"], session["chunk_size"]
    for number in range(1, session["total_chunks"] + 1):
        piece = data[(number - 1) * size : number * size]
        assert put(sandbox, url_of(sandbox, upload_id, number), piece).status == 200
        assert report(sandbox, upload_id, item(number, piece)).status == 200
    return session


class TestKeys:
    @pytest.mark.parametrize("key", [None, "wrong", "ключ"])
    def test_without_the_key_nothing_is_answered(self, sandbox, key):
        answer = call(sandbox, "GET", "/assets", key=key)

        assert answer.status == 401
        assert answer.json()["code"] == "api_key_invalid"

    def test_every_run_has_a_key_of_its_own(self):
        one, other = TwelveLabsSandbox(), TwelveLabsSandbox()

        assert one.api_key != other.api_key
        assert len(one.api_key) >= 32
        assert one.announce() == {"api_key": one.api_key}

    def test_its_environment_points_our_provider_and_the_sdk_here(self, sandbox):
        assert sandbox.environment() == {
            "TWELVELABS_API_KEY": sandbox.api_key,
            "TWELVE_LABS_API_KEY": sandbox.api_key,
            "TWELVELABS_BASE_URL": "http://127.0.0.1:1/v1.3",
        }
        assert load("twelvelabs") is TwelveLabsSandbox

    @pytest.mark.parametrize("header", ["x_api_key", "authorization"])
    def test_the_storage_refuses_a_request_that_carries_a_key(self, sandbox, header):
        session = create(sandbox)

        answer = put(sandbox, session["upload_urls"][0]["url"], b"x" * 10, **{header: "k"})

        assert answer.status == 400
        assert b"<Code>InvalidArgument</Code>" in answer.content


class TestCreate:
    def test_the_server_chooses_the_chunks(self, sandbox):
        session = create(sandbox, 25)

        assert session["chunk_size"] == 10
        assert session["total_chunks"] == 3
        assert session["upload_headers"] == OCTETS
        assert [each["chunk_index"] for each in session["upload_urls"]] == [1, 2]
        assert datetime.fromisoformat(session["expires_at"]).timestamp() == NOW + 86400
        ends = datetime.fromisoformat(session["upload_urls"][0]["expires_at"]).timestamp()
        assert ends == NOW + 3600
        assert sandbox.unfinished() == [session["upload_id"]]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"filename": ""}, "parameter_invalid"),
            ({"filename": "x" * 256}, "parameter_invalid"),
            ({"filename": None}, "parameter_not_provided"),
            ({"type": "document"}, "parameter_invalid"),
            ({"type": None}, "parameter_invalid"),
            ({"total_size": 0}, "parameter_invalid"),
            ({"total_size": -1}, "parameter_invalid"),
            ({"total_size": "25"}, "parameter_invalid"),
            ({"total_size": True}, "parameter_invalid"),
            ({"total_size": 10**10 + 1}, "video_filesize_too_large"),
            ({"type": "image", "total_size": (32 << 20) + 1}, "video_filesize_too_large"),
            ({"enable_hls": "yes"}, "parameter_invalid"),
            ({"user_metadata": [1]}, "parameter_invalid"),
            ({"user_metadata": {"a": {"b": 1}}}, "parameter_invalid"),
            ({"chunk_size": 5}, "parameter_unknown"),
        ],
    )
    def test_what_is_not_documented_is_refused(self, sandbox, change, code):
        body = {"filename": "film.mp4", "type": "video", "total_size": 25, **change}

        answer = call(sandbox, "POST", "/assets/multipart-uploads", body)

        assert (answer.status, answer.json()["code"]) == (400, code)

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"[" * 100_000])
    def test_a_body_that_is_no_object_is_refused(self, sandbox, content):
        headers = {"x-api-key": sandbox.api_key, "Content-Type": "application/json"}
        url = sandbox.base_url + "/assets/multipart-uploads"

        assert sandbox.handle(Request("POST", url, headers, content)).status == 400
        del headers["Content-Type"]
        assert sandbox.handle(Request("POST", url, headers, b"{}")).status == 415

    def test_an_account_without_the_preview_gets_403(self, sandbox):
        sandbox.shrink(enabled=False)

        answer = call(sandbox, "POST", "/assets/multipart-uploads", {})

        assert answer.status == 403


class TestStorage:
    def test_a_chunk_is_answered_with_its_md5(self, sandbox):
        session = create(sandbox)

        answer = put(sandbox, session["upload_urls"][0]["url"], b"x" * 10)

        assert answer.status == 200
        assert answer.headers["etag"] == f'"{digests.of("md5", b"x" * 10)}"'

    def test_an_url_works_once(self, sandbox):
        url = create(sandbox)["upload_urls"][0]["url"]
        assert put(sandbox, url, b"short").status == 400  # what is refused uses nothing up
        assert put(sandbox, url, b"x" * 10).status == 200

        answer = put(sandbox, url, b"x" * 10)

        assert answer.status == 403
        assert b"<Code>AccessDenied</Code><Message>Request has expired" in answer.content

    def test_an_url_lasts_an_hour(self, sandbox, clock):
        first, second = (each["url"] for each in create(sandbox)["upload_urls"])
        clock.time = NOW + 3599
        assert put(sandbox, first, b"x" * 10).status == 200

        clock.time = NOW + 3600

        assert put(sandbox, second, b"x" * 10).status == 403

    def test_urls_can_be_made_void(self, sandbox):
        url = create(sandbox)["upload_urls"][0]["url"]

        sandbox.expire_urls()

        assert put(sandbox, url, b"x" * 10).status == 403

    def test_an_url_is_for_one_chunk_of_one_upload(self, sandbox):
        one, other = create(sandbox), create(sandbox)
        url = one["upload_urls"][0]["url"]
        elsewhere = [
            url.replace("/1?", "/2?"),
            url.replace(one["upload_id"], other["upload_id"]),
            url[:-1] + ("0" if url[-1] != "0" else "1"),
            url.partition("?")[0],
        ]

        codes = [put(sandbox, each, b"x" * 10).status for each in elsewhere]

        assert codes == [403, 403, 403, 403]

    @pytest.mark.parametrize(
        ("data", "headers", "code"),
        [
            (b"x" * 9, {}, b"EntityTooSmall"),
            (b"x" * 11, {}, b"EntityTooLarge"),
            (b"x" * 10, {"content_type": "text/plain"}, b"SignatureDoesNotMatch"),
            (b"x" * 10, {"transfer_encoding": "chunked"}, b"NotImplemented"),
        ],
    )
    def test_a_chunk_comes_as_it_was_signed(self, sandbox, data, headers, code):
        session = create(sandbox)
        before = url_of(sandbox, session["upload_id"], 1)
        put(sandbox, before, b"y" * 10)
        url = session["upload_urls"][0]["url"]
        fields = {name.replace("_", "-"): value for name, value in headers.items()}

        answer = sandbox.handle(
            Request("PUT", url, {"content-type": OCTETS["Content-Type"], **fields}, data)
        )

        assert b"<Code>" + code + b"</Code>" in answer.content
        # A refused chunk does not destroy the stored one.
        assert report(sandbox, session["upload_id"], item(1, b"y" * 10)).status == 200

    def test_the_last_chunk_is_the_rest(self, sandbox):
        session = create(sandbox, 25)

        assert put(sandbox, url_of(sandbox, session["upload_id"], 3), b"x" * 10).status == 400
        assert put(sandbox, url_of(sandbox, session["upload_id"], 3), b"x" * 5).status == 200

    def test_only_put_is_known(self, sandbox):
        url = create(sandbox)["upload_urls"][0]["url"]

        assert sandbox.handle(Request("GET", url)).status == 405
        assert (
            sandbox.handle(Request("PUT", sandbox.base + "/storage/../../x", OCTETS)).status >= 400
        )


class TestMoreUrls:
    def test_a_range_is_handed_out(self, sandbox):
        session = create(sandbox, 1200)
        path = f"/assets/multipart-uploads/{session['upload_id']}/presigned-urls"

        answer = call(sandbox, "POST", path, {"start": 11, "count": 50}).json()

        assert [each["chunk_index"] for each in answer["upload_urls"]] == list(range(11, 61))
        assert (answer["start_index"], answer["count"]) == (11, 50)

    @pytest.mark.parametrize(
        "body",
        [
            {"start": 0, "count": 1},
            {"start": 121, "count": 1},
            {"start": 1, "count": 0},
            {"start": 1, "count": 51},
            {"start": 1},
            {"page": 1, "limit": 10},
        ],
    )
    def test_the_range_is_checked(self, sandbox, body):
        session = create(sandbox, 1200)
        path = f"/assets/multipart-uploads/{session['upload_id']}/presigned-urls"

        assert call(sandbox, "POST", path, body).status == 400

    def test_an_unknown_upload_is_not_found(self, sandbox):
        path = "/assets/multipart-uploads/nobody"

        assert call(sandbox, "GET", path).status == 404
        assert call(sandbox, "POST", path, {}).status == 404
        assert call(sandbox, "POST", path + "/presigned-urls", {}).status == 404


class TestReport:
    def test_repeats_are_counted_and_change_nothing(self, sandbox):
        session = create(sandbox, 20)
        upload_id = session["upload_id"]
        for number, each in enumerate(session["upload_urls"]):
            put(sandbox, each["url"], bytes([number]) * 10)
        one, two = item(1, b"\0" * 10), item(2, b"\1" * 10)

        first = report(sandbox, upload_id, one, one).json()
        second = report(sandbox, upload_id, two, one).json()
        third = report(sandbox, upload_id, two).json()

        counts = ("processed_chunks", "duplicate_chunks", "total_completed")
        assert [first[name] for name in counts] == [1, 1, 1]
        assert [second[name] for name in counts] == [1, 1, 2]
        assert [third[name] for name in counts] == [0, 1, 2]
        assert "url" not in first
        assert second["url"] == third["url"]
        assert sandbox.finished()[session["asset_id"]].read() == b"\0" * 10 + b"\1" * 10
        assert not sandbox.unfinished()

    @pytest.mark.parametrize(
        "change",
        [
            {"proof": "0" * 32},
            {"proof": ""},
            {"proof": 3},
            {"proof_type": "md5"},
            {"chunk_size": 9},
            {"chunk_index": 0},
            {"chunk_index": 2},
            {"chunk_index": 4},
            {"chunk_index": "1"},
        ],
    )
    def test_a_wrong_item_refuses_the_batch(self, sandbox, change):
        session = create(sandbox, 30)
        upload_id = session["upload_id"]
        put(sandbox, session["upload_urls"][0]["url"], b"x" * 10)
        put(sandbox, url_of(sandbox, upload_id, 3), b"z" * 10)

        answer = report(sandbox, upload_id, item(3, b"z" * 10), item(1, b"x" * 10, **change))

        assert (answer.status, answer.json()["code"]) in (
            (400, "parameter_invalid"),
            (400, "parameter_not_provided"),
        )
        assert status(sandbox, upload_id)["chunks_completed"] == 0

    @pytest.mark.parametrize("many", [0, 51])
    def test_a_batch_has_1_to_50_chunks(self, sandbox, many):
        session = create(sandbox)

        assert report(sandbox, session["upload_id"], *[item(1, b"x")] * many).status == 400

    def test_the_etag_of_a_replaced_chunk_is_refused(self, sandbox):
        session = create(sandbox)
        upload_id = session["upload_id"]
        put(sandbox, session["upload_urls"][0]["url"], b"old" + b"x" * 7)
        put(sandbox, url_of(sandbox, upload_id, 1), b"new" + b"x" * 7)

        assert report(sandbox, upload_id, item(1, b"old" + b"x" * 7)).status == 400
        assert report(sandbox, upload_id, item(1, b"new" + b"x" * 7)).status == 200

    def test_a_reported_chunk_that_is_replaced_has_to_be_reported_again(self, sandbox):
        session = create(sandbox)
        upload_id = session["upload_id"]
        put(sandbox, session["upload_urls"][0]["url"], b"x" * 10)
        report(sandbox, upload_id, item(1, b"x" * 10))
        put(sandbox, url_of(sandbox, upload_id, 1), b"x" * 10)
        assert status(sandbox, upload_id)["chunks_completed"] == 1

        put(sandbox, url_of(sandbox, upload_id, 1), b"y" * 10)

        assert status(sandbox, upload_id)["chunks_completed"] == 0


class TestStatus:
    def test_it_is_paged_as_documented(self, sandbox):
        session = create(sandbox, 25)
        put(sandbox, session["upload_urls"][1]["url"], b"x" * 10)
        report(sandbox, session["upload_id"], item(2, b"x" * 10))

        first = status(sandbox, session["upload_id"], "?page=1&page_limit=2")
        past = status(sandbox, session["upload_id"], "?page=3&page_limit=2")

        chunks = first["uploaded_chunks"]
        assert [(each["index"], each["status"]) for each in chunks] == [
            (1, "pending"),
            (2, "completed"),
        ]
        assert chunks[0]["uploaded_at"] is None
        assert first["page_info"] == {
            "limit_per_page": 2,
            "page": 1,
            "total_page": 2,
            "total_results": 3,
        }
        assert (first["chunks_completed"], first["chunks_pending"]) == (1, 2)
        assert (first["total_size"], first["uploaded_size"]) == (25, 10)
        assert past["uploaded_chunks"] == []
        assert not {"asset_id", "chunk_size", "total_chunks", "filename"} & first.keys()

    def test_ten_are_on_a_page_and_fifty_at_most(self, sandbox):
        upload_id = create(sandbox, 1200)["upload_id"]
        path = f"/assets/multipart-uploads/{upload_id}"

        assert len(status(sandbox, upload_id)["uploaded_chunks"]) == 10
        assert len(status(sandbox, upload_id, "?page_limit=50")["uploaded_chunks"]) == 50
        for query in ("page_limit=51", "page_limit=0", "page=0", "page=-1", "page=x"):
            assert call(sandbox, "GET", f"{path}?{query}").status == 400

    def test_a_failed_chunk_is_named_until_it_is_sent_again(self, sandbox):
        session = create(sandbox, 25)
        upload_id = session["upload_id"]
        put(sandbox, session["upload_urls"][0]["url"], b"x" * 10)
        report(sandbox, upload_id, item(1, b"x" * 10))

        sandbox.fail_chunk(upload_id, 1, "disk full")

        failed = status(sandbox, upload_id)
        assert failed["chunks_failed"] == 1
        assert failed["uploaded_chunks"][0]["error"] == "disk full"
        put(sandbox, url_of(sandbox, upload_id, 1), b"x" * 10)
        report(sandbox, upload_id, item(1, b"x" * 10))
        assert status(sandbox, upload_id)["chunks_failed"] == 0

    def test_completion_may_take_a_few_looks(self, sandbox):
        sandbox.shrink(polls_completing=2)
        upload_id = upload(sandbox, b"x" * 10)["upload_id"]

        states = [status(sandbox, upload_id)["status"] for _ in range(3)]

        assert states == ["active", "active", "completed"]

    def test_a_session_lasts_a_day(self, sandbox, clock):
        session = create(sandbox)
        upload_id = session["upload_id"]
        put(sandbox, session["upload_urls"][0]["url"], b"x" * 10)
        clock.time = NOW + 86399
        url = url_of(sandbox, upload_id, 2)

        clock.time = NOW + 86400

        assert put(sandbox, url, b"x" * 10).status == 404
        assert status(sandbox, upload_id)["status"] == "expired"
        assert report(sandbox, upload_id, item(1, b"x" * 10)).status == 400
        path = f"/assets/multipart-uploads/{upload_id}/presigned-urls"
        assert call(sandbox, "POST", path, {"start": 1, "count": 1}).status == 400
        assert call(sandbox, "GET", f"/assets/{session['asset_id']}").json()["status"] == "failed"
        assert not sandbox.unfinished()

    def test_incomplete_sessions_are_listed(self, sandbox):
        upload(sandbox, b"x" * 10)
        ids = [create(sandbox)["upload_id"] for _ in range(3)]

        first = call(sandbox, "GET", "/assets/multipart-uploads?page_limit=2").json()
        past = call(sandbox, "GET", "/assets/multipart-uploads?page=3&page_limit=2").json()

        assert [each["upload_id"] for each in first["data"]] == [ids[2], ids[1]]
        assert first["page_info"]["total_page"] == 2
        assert first["data"][0].keys() == {
            "upload_id",
            "status",
            "total_size",
            "chunk_size",
            "total_chunks",
            "created_at",
            "expires_at",
        }
        assert past["data"] == []


class TestAssets:
    def test_an_asset_is_checked_before_it_is_ready(self, sandbox, clock):
        sandbox.shrink(polls_processing=2, seconds_processing=60)
        session = upload(sandbox, b"x" * 25, user_metadata={"a": 1}, enable_hls=True)
        path = f"/assets/{session['asset_id']}"

        for _ in range(3):
            asset = call(sandbox, "GET", path).json()
            assert asset["status"] == "processing"
            assert "size" not in asset
        clock.time += 60
        asset = call(sandbox, "GET", path).json()

        assert (asset["status"], asset["size"], asset["_id"]) == ("ready", 25, session["asset_id"])
        assert asset["method"] == "multipart"
        assert asset["user_metadata"] == {"a": 1}
        assert asset["hls"]["status"] == "ready"

    def test_an_asset_without_its_bytes_stays_in_the_works(self, sandbox):
        path = f"/assets/{create(sandbox)['asset_id']}"

        states = {call(sandbox, "GET", path).json()["status"] for _ in range(5)}

        assert states == {"processing"}
        assert call(sandbox, "GET", path + "/content").status == 404

    @pytest.mark.parametrize(
        ("kind", "data", "state"),
        [
            ("video", b"\0\0\0\x18ftypisom" + b"\0" * 30, "ready"),
            ("video", b"this is a text, and not a short one", "failed"),
            ("audio", b"ID3\4" + b"\0" * 30, "ready"),
            ("image", b"\x89PNG\r\n" + b"\0" * 30, "ready"),
            ("image", b"ID3\4" + b"\0" * 30, "failed"),
        ],
    )
    def test_files_can_be_looked_into(self, sandbox, kind, data, state):
        sandbox.shrink(check_media=True, polls_processing=0)
        session = upload(sandbox, data, type=kind)

        asset = call(sandbox, "GET", f"/assets/{session['asset_id']}").json()

        assert asset["status"] == state
        assert ("error" in asset) == (state == "failed")

    def test_the_bytes_can_be_had_with_the_key_or_by_the_assets_url(self, sandbox):
        sandbox.shrink(polls_processing=0)
        data = bytes(range(25))
        session = upload(sandbox, data)
        path = f"/assets/{session['asset_id']}"
        url = call(sandbox, "GET", path).json()["url"]

        with_key, by_url = (
            call(sandbox, "GET", path + "/content"),
            sandbox.handle(Request("GET", url)),
        )

        assert with_key.blob is not None
        assert by_url.blob is not None
        assert with_key.blob.read() == by_url.blob.read() == data
        assert sandbox.handle(Request("GET", url[:-1] + "x")).status == 403

    def test_a_deleted_asset_is_gone(self, sandbox):
        session = upload(sandbox, b"x" * 25)
        path = f"/assets/{session['asset_id']}"

        assert call(sandbox, "DELETE", path).status == 204
        assert call(sandbox, "GET", path).status == 404
        assert call(sandbox, "DELETE", path).status == 404
        assert not sandbox.finished()

    def test_assets_are_listed_newest_first_and_filtered(self, sandbox):
        one = upload(sandbox, b"x" * 5, filename="one.mp4")["asset_id"]
        two = upload(sandbox, b"x" * 5, filename="two.mp4", type="audio")["asset_id"]

        def ids(query: str) -> list[str]:
            return [each["_id"] for each in call(sandbox, "GET", f"/assets?{query}").json()["data"]]

        assert ids("") == [two, one]
        assert ids("filename=ONE") == [one]
        assert ids("asset_types=audio") == [two]
        assert ids(f"asset_ids={one}&asset_ids={two}") == [two, one]
        assert ids("page=2") == []

    def test_the_store_gets_back_what_nobody_needs(self, clock):
        sandbox = TwelveLabsSandbox(now=clock, store=Store(quota=1 << 20))
        sandbox.shrink(chunk_size=1000)
        session = create(sandbox, 3000)
        put(sandbox, session["upload_urls"][0]["url"], b"x" * 1000)
        put(sandbox, session["upload_urls"][1]["url"], b"x" * 500)  # refused
        assert 1000 <= sandbox.store.used < 1500

        clock.time += 86400
        call(sandbox, "GET", "/assets")

        assert sandbox.store.used == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nothing"), ("PATCH", "/assets"), ("POST", "/search"), ("GET", "/indexes/x")],
)
def test_what_is_not_there_is_not_found(sandbox, method, path):
    assert call(sandbox, method, path).status == 404
    assert sandbox.handle(Request(method, "http://127.0.0.1:1" + path)).status == 404


# -- the official SDK, over a real port


@pytest.fixture
def served() -> Iterator[Served]:
    sandbox = TwelveLabsSandbox(store=Store.on_disk())
    sandbox.shrink(chunk_size=50_000, polls_processing=1)
    with serve(sandbox) as running:
        yield running


@pytest.fixture
def sdk(served: Served) -> Iterator[TwelveLabs]:
    with httpx.Client(trust_env=False) as client:
        yield TwelveLabs(
            api_key=served.sandbox.api_key, base_url=served.base_url, httpx_client=client
        )


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(random.Random(1).randbytes(1_234_567))
    return path


class TestOfficialSdk:
    """Nobody here wrote these clients: if they are content, so may our readers be."""

    def test_its_helper_uploads_a_file(self, served, sdk, film):
        seen = []

        result = sdk.multipart_upload.upload_file(film, progress_callback=seen.append)

        stored = served.sandbox.finished()[result.asset_id]
        assert stored.read() == film.read_bytes()
        assert httpx.get(result.asset_url, trust_env=False).content == film.read_bytes()
        assert seen[-1].completed_chunks == 25
        assert sdk.assets.retrieve(result.asset_id).status == "processing"
        asset = sdk.assets.retrieve(result.asset_id)
        assert (asset.status, asset.size, asset.filename) == ("ready", 1_234_567, "film.mp4")
        assert [each.id for each in sdk.assets.list()] == [result.asset_id]
        sdk.assets.delete(result.asset_id)
        assert not served.sandbox.finished()

    def test_its_async_helper_does(self, served, film):
        async def run() -> str:
            async with httpx.AsyncClient(trust_env=False) as client:
                sdk = AsyncTwelveLabs(
                    api_key=served.sandbox.api_key, base_url=served.base_url, httpx_client=client
                )
                result = await sdk.multipart_upload.upload_file(film, file_type="audio")
                return str(result.asset_id)

        asset_id = asyncio.run(run())

        assert served.sandbox.finished()[asset_id].read() == film.read_bytes()

    def test_its_raw_calls_step_by_step(self, served, sdk, film):
        data = film.read_bytes()[:180_000]
        session = sdk.multipart_upload.create(
            filename="film.mp4",
            type="video",
            total_size=len(data),
            enable_thumbnail=True,
            user_metadata={"course": "physics", "year": 2026, "tags": ["a"]},
        )
        waiting = list(sdk.multipart_upload.list_incomplete_uploads(page_limit=1))
        assert [each.upload_id for each in waiting] == [session.upload_id]
        assert (session.chunk_size, session.total_chunks) == (50_000, 4)

        more = sdk.multipart_upload.get_additional_presigned_urls(
            session.upload_id, start=1, count=4
        )
        chunks = []
        for each in more.upload_urls:
            piece = data[(each.chunk_index - 1) * 50_000 : each.chunk_index * 50_000]
            put = httpx.put(
                each.url, content=piece, headers=session.upload_headers, trust_env=False
            )
            etag = put.headers["ETag"].strip('"')
            chunks.append(
                CompletedChunk(
                    chunk_index=each.chunk_index,
                    proof=etag,
                    proof_type="etag",
                    chunk_size=len(piece),
                )
            )
        first = sdk.multipart_upload.report_chunk_batch(
            session.upload_id, completed_chunks=chunks[:3]
        )
        assert (first.total_completed, first.url) == (3, None)
        told = sdk.multipart_upload.get_status(session.upload_id, page_limit=2)
        assert [each.status for each in told] == ["completed"] * 3 + ["pending"]
        last = sdk.multipart_upload.report_chunk_batch(
            session.upload_id, completed_chunks=chunks[2:]
        )
        assert (last.processed_chunks, last.duplicate_chunks, last.total_completed) == (1, 1, 4)
        assert last.url
        state = sdk.multipart_upload.wait_for_upload_completion(
            session.upload_id, sleep_interval=0.01, max_wait_time=10
        )
        assert state.status == "completed"
        assert not list(sdk.multipart_upload.list_incomplete_uploads())
        assert served.sandbox.finished()[session.asset_id].read() == data

    def test_it_reads_our_errors(self, served, sdk):
        with pytest.raises(ApiError) as error:
            sdk.multipart_upload.create(filename="a", type="video", total_size=0)
        assert (error.value.status_code, error.value.body["code"]) == (400, "parameter_invalid")
        with pytest.raises(ApiError) as error:
            sdk.assets.retrieve("nobody")
        assert error.value.status_code == 404
        with httpx.Client(trust_env=False) as client:
            wrong = TwelveLabs(api_key="wrong", base_url=served.base_url, httpx_client=client)
            with pytest.raises(ApiError) as error:
                wrong.assets.retrieve("x")
        assert error.value.status_code == 401

    @pytest.mark.parametrize("kind", ["video", "audio", "image"])
    def test_the_next_cell_runs_here(self, served, sdk, film, kind, monkeypatch, capsys):
        """Ask, search and embed: the code that a finished upload offers, word for word."""
        for name, value in served.sandbox.environment().items():
            monkeypatch.setenv(name, value)
        served.sandbox.shrink(polls_processing=0)
        asset_id = sdk.multipart_upload.upload_file(film, file_type=kind).asset_id
        sdk.assets.retrieve(asset_id)

        code = OurTwelveLabs(type=kind).next_cell(Result(str(asset_id)))
        scope: dict[str, Any] = {}
        exec(compile(code, "next cell", "exec"), scope)
        scope["client"]._client_wrapper.httpx_client.httpx_client.close()

        assert "1 embeddings of 512 numbers" in capsys.readouterr().out
        if kind == "video":
            with pytest.raises(ApiError) as error:
                sdk.assets.delete(asset_id)
            assert error.value.status_code == 409
        sdk.assets.delete(asset_id, force=True)
        assert not served.sandbox.finished()
