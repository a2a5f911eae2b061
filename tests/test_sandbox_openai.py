"""The official SDK is content with the sandbox, and the sandbox with nobody's mistakes."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from clock import Clock
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import FileObject, Upload
from openai.types.uploads import UploadPart

from chunkup_jupyter.model import Body, FileInfo, Flow, Result, drive
from chunkup_jupyter.plan import parts
from chunkup_jupyter.providers.openai import AzureOpenAI, OpenAI
from chunkup_jupyter.sandbox import Answer, Blob, Call, Store
from chunkup_jupyter.sandbox.forms import form
from chunkup_jupyter.sandbox.openai import OpenAISandbox
from chunkup_jupyter.sandbox.server import serve
from chunkup_jupyter.transport import Transport
from chunkup_jupyter.wire import Headers, Request
from chunkup_jupyter.wire.client import HttpClient

DATA = bytes(range(256)) * 10
VECTORS = Path(__file__).parent / "data" / "vectors.json"


@pytest.fixture(scope="module")
def served() -> Iterator[OpenAISandbox]:
    """One server for all who do not change it."""
    sandbox = OpenAISandbox()
    with serve(sandbox):
        yield sandbox


@pytest.fixture
def clock() -> Clock:
    return Clock(1_795_000_000.5)


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[OpenAISandbox]:
    """A server of one's own, with a clock that can be moved."""
    sandbox = OpenAISandbox(now=clock)
    with serve(sandbox):
        yield sandbox


def client(sandbox: OpenAISandbox, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(
        api_key=sandbox.api_key, base_url=sandbox.base_url, max_retries=0, **options
    )


def begin(sdk: openai.OpenAI, size: int = len(DATA), purpose: Any = "user_data") -> Upload:
    return sdk.uploads.create(
        bytes=size, filename="data.bin", mime_type="application/octet-stream", purpose=purpose
    )


# The official SDK


def test_the_sdk_uploads_a_file_in_chunks(served: OpenAISandbox, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(DATA)

    with client(served) as sdk:
        upload = sdk.uploads.upload_file_chunked(
            file=path,
            mime_type="application/jsonl",
            purpose="fine-tune",
            part_size=1000,
            md5=hashlib.md5(DATA).hexdigest(),
        )
        assert upload.file is not None
        content = sdk.files.content(upload.file.id).read()

    assert upload.status == "completed"
    assert content == DATA
    assert served.finished()[upload.file.id].read() == DATA


def test_the_async_sdk_uploads_bytes_in_chunks(served: OpenAISandbox) -> None:
    async def upload() -> tuple[Upload, bytes]:
        async with openai.AsyncOpenAI(
            api_key=served.api_key, base_url=served.base_url, max_retries=0
        ) as sdk:
            made = await sdk.uploads.upload_file_chunked(
                file=DATA,
                filename="a.txt",
                bytes=len(DATA),
                mime_type="text/plain",
                purpose="assistants",
                part_size=999,
            )
            assert made.file is not None
            return made, (await sdk.files.content(made.file.id)).read()

    made, content = asyncio.run(upload())

    assert content == DATA
    assert made.file is not None
    assert (made.file.bytes, made.file.filename) == (len(DATA), "a.txt")


def test_the_order_of_the_ids_is_the_order_of_the_bytes(served: OpenAISandbox) -> None:
    with client(served) as sdk:
        upload = begin(sdk)
        late = sdk.uploads.parts.create(upload.id, data=DATA[1000:])
        early = sdk.uploads.parts.create(upload.id, data=DATA[:1000])
        done = sdk.uploads.complete(upload.id, part_ids=[early.id, late.id])
        assert done.file is not None

    assert served.finished()[done.file.id].read() == DATA


def test_a_wrong_md5_is_refused_and_a_right_one_then_taken(served: OpenAISandbox) -> None:
    with client(served) as sdk:
        upload = begin(sdk)
        part = sdk.uploads.parts.create(upload.id, data=DATA)
        for wrong in (hashlib.md5(b"other").hexdigest(), "no md5", "5d41402abc4b2a76b9719d91101"):
            with pytest.raises(openai.BadRequestError, match="md5"):
                sdk.uploads.complete(upload.id, part_ids=[part.id], md5=wrong)

        done = sdk.uploads.complete(
            upload.id, part_ids=[part.id], md5=hashlib.md5(DATA).hexdigest()
        )

    assert done.file is not None


def test_a_cancelled_upload_takes_nothing_more(served: OpenAISandbox) -> None:
    with client(served) as sdk:
        upload = begin(sdk)
        part = sdk.uploads.parts.create(upload.id, data=DATA)

        assert sdk.uploads.cancel(upload.id).status == "cancelled"

        with pytest.raises(openai.BadRequestError, match="cancelled"):
            sdk.uploads.parts.create(upload.id, data=DATA)
        with pytest.raises(openai.BadRequestError, match="cancelled"):
            sdk.uploads.complete(upload.id, part_ids=[part.id])
        with pytest.raises(openai.BadRequestError, match="cancelled"):
            sdk.uploads.cancel(upload.id)
    assert upload.id not in served.unfinished()


def test_an_upload_is_completed_once(served: OpenAISandbox) -> None:
    with client(served) as sdk:
        upload = begin(sdk)
        part = sdk.uploads.parts.create(upload.id, data=DATA)
        sdk.uploads.complete(upload.id, part_ids=[part.id])

        with pytest.raises(openai.BadRequestError, match="Upload is completed"):
            sdk.uploads.complete(upload.id, part_ids=[part.id])
        with pytest.raises(openai.BadRequestError, match="Upload is completed"):
            sdk.uploads.cancel(upload.id)


def test_an_upload_closes_after_its_hour(sandbox: OpenAISandbox, clock: Clock) -> None:
    with client(sandbox) as sdk:
        upload = begin(sdk)
        assert upload.expires_at - upload.created_at == 3600
        clock.time += 3599
        part = sdk.uploads.parts.create(upload.id, data=DATA)
        clock.time += 1

        with pytest.raises(openai.BadRequestError, match="expired"):
            sdk.uploads.complete(upload.id, part_ids=[part.id])
    assert sandbox.unfinished() == []
    assert sandbox.store.used < len(DATA)


def test_a_file_is_gone_after_its_time(sandbox: OpenAISandbox, clock: Clock) -> None:
    with client(sandbox) as sdk:
        upload = sdk.uploads.create(
            bytes=3,
            filename="a",
            mime_type="text/plain",
            purpose="user_data",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        part = sdk.uploads.parts.create(upload.id, data=b"abc")
        made = sdk.uploads.complete(upload.id, part_ids=[part.id]).file
        assert made is not None
        assert made.expires_at == made.created_at + 3600
        clock.time += 3600

        with pytest.raises(openai.NotFoundError):
            sdk.files.retrieve(made.id)


def test_files_are_made_listed_read_and_deleted(sandbox: OpenAISandbox, clock: Clock) -> None:
    with client(sandbox) as sdk:
        made = []
        for number in range(5):
            clock.time += 1
            made.append(
                sdk.files.create(
                    file=(f"{number}.jsonl", DATA[number:]),
                    purpose="batch" if number % 2 else "fine-tune",
                    expires_after={"anchor": "created_at", "seconds": 3600},
                )
            )
        newest_first = [each.id for each in reversed(made)]

        assert [each.id for each in sdk.files.list(limit=2)] == newest_first
        assert [each.id for each in sdk.files.list(order="asc")] == newest_first[::-1]
        assert [each.id for each in sdk.files.list(purpose="batch", limit=1)] == [
            made[3].id,
            made[1].id,
        ]
        assert sdk.files.retrieve(made[2].id) == made[2]
        assert sdk.files.content(made[2].id).read() == DATA[2:]
        assert sdk.files.delete(made[2].id).deleted
        for gone in (sdk.files.retrieve, sdk.files.delete, sdk.files.content):
            with pytest.raises(openai.NotFoundError):
                gone(made[2].id)
    assert made[2].id not in sandbox.finished()


@pytest.mark.parametrize("with_token", [False, True])
def test_the_azure_client_uploads_too(served: OpenAISandbox, with_token: bool) -> None:
    key = {"azure_ad_token": served.api_key} if with_token else {"api_key": served.api_key}
    with openai.AzureOpenAI(
        azure_endpoint=served.base, api_version="2024-10-21", max_retries=0, **key
    ) as sdk:
        upload = sdk.uploads.upload_file_chunked(
            file=DATA,
            filename="a.jsonl",
            bytes=len(DATA),
            mime_type="application/jsonl",
            purpose="fine-tune",
            part_size=1000,
        )
        assert upload.file is not None
        assert sdk.files.content(upload.file.id).read() == DATA
    assert upload.expires_at - upload.created_at == 7200


def test_the_newer_azure_address_takes_the_plain_client(served: OpenAISandbox) -> None:
    with openai.OpenAI(
        api_key=served.api_key, base_url=f"{served.base}/openai/v1/", max_retries=0
    ) as sdk:
        part = sdk.uploads.parts.create(begin(sdk).id, data=DATA)

    assert part.to_dict()["azure_block_id"]


def test_a_wrong_key_is_refused_everywhere(served: OpenAISandbox) -> None:
    with openai.OpenAI(api_key="sk-wrong", base_url=served.base_url, max_retries=0) as sdk:
        for ask in (begin, lambda sdk: sdk.files.list(), lambda sdk: sdk.uploads.cancel("x")):
            with pytest.raises(openai.AuthenticationError) as caught:
                ask(sdk)
            assert caught.value.request_id
            assert served.api_key not in str(caught.value)
    with openai.AzureOpenAI(
        azure_endpoint=served.base, api_version="2024-10-21", api_key="wrong", max_retries=0
    ) as sdk:
        with pytest.raises(openai.AuthenticationError):
            begin(sdk)


def test_a_file_can_be_used(served: OpenAISandbox) -> None:
    """Training, batch and search begin with a file that is there and made for it."""
    with client(served) as sdk:
        tuning = sdk.files.create(file=("a.jsonl", DATA), purpose="fine-tune")
        batching = sdk.files.create(file=("b.jsonl", DATA), purpose="batch")

        job = sdk.fine_tuning.jobs.create(model="gpt-4.1-mini", training_file=tuning.id)
        batch = sdk.batches.create(
            input_file_id=batching.id, endpoint="/v1/responses", completion_window="24h"
        )
        store = sdk.vector_stores.create(name="shelf")
        held = sdk.vector_stores.files.create_and_poll(batching.id, vector_store_id=store.id)

        assert sdk.fine_tuning.jobs.retrieve(job.id).training_file == tuning.id
        assert list(sdk.fine_tuning.jobs.list_events(job.id)) == []
        assert sdk.batches.retrieve(batch.id).status == "validating"
        assert (held.status, held.usage_bytes) == ("completed", len(DATA))
        with pytest.raises(openai.NotFoundError):
            sdk.fine_tuning.jobs.create(model="m", training_file="file-none")
        with pytest.raises(openai.BadRequestError, match="purpose"):
            sdk.batches.create(
                input_file_id=tuning.id, endpoint="/v1/responses", completion_window="24h"
            )
        with pytest.raises(openai.NotFoundError):
            sdk.vector_stores.files.create(vector_store_id="vs_none", file_id=tuning.id)


# Our providers, over the same port


@pytest.mark.parametrize("purpose", ["openai:fine-tune", "azure-openai:fine-tune"])
def test_our_providers_upload_over_a_real_port(served: OpenAISandbox, purpose: str) -> None:
    environment = served.environment()
    provider: OpenAI | AzureOpenAI
    if purpose.startswith("openai"):
        provider = OpenAI.from_url(
            purpose,
            api_key=environment["OPENAI_API_KEY"],
            base_url=environment["OPENAI_BASE_URL"],
            expires_after="2h",
        )
    else:
        provider = AzureOpenAI.from_url(
            purpose,
            api_key=environment["AZURE_OPENAI_API_KEY"],
            endpoint=environment["AZURE_OPENAI_ENDPOINT"],
            api_version=environment["OPENAI_API_VERSION"],
        )

    async def upload() -> Result:
        wire = HttpClient()
        transport = Transport(client=wire, rules=provider.rules)
        try:
            # A name of its own: another file of that name and size would do as well.
            file = FileInfo(f"{provider.scheme}.jsonl", len(DATA), "application/jsonl")
            session = await transport.run(provider.create(file, 1000))
            receipts = [
                await transport.run(
                    provider.put_part(
                        session, part, Body.of(DATA[part.start : part.start + part.size])
                    )
                )
                for part in parts(session)
            ]
            digest = hashlib.md5(DATA).hexdigest()
            result = await transport.run(provider.complete(session, receipts, digest))
            assert isinstance(result, Result)
            again = await transport.run(provider.complete(session, receipts, digest))
            assert isinstance(again, Result)
            assert again.id == result.id
            await transport.run(provider.abort(session))
            assert served.finished()[result.id].read() == DATA
            await transport.run(provider.delete(result))
            await transport.run(provider.delete(result))
            return result
        finally:
            await wire.close()

    result = asyncio.run(upload())

    assert result.id not in served.finished()
    Upload.model_validate(result.raw, strict=True)


# What it refuses, without a port


def call(
    sandbox: OpenAISandbox, method: str, path: str, body: Any = None, key: str | None = None
) -> Answer:
    headers = {"Authorization": f"Bearer {sandbox.api_key if key is None else key}"}
    content = b""
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return sandbox.handle(Request(method, sandbox.base + path, headers, content))


CREATE = {"bytes": 3, "filename": "a.txt", "mime_type": "text/plain", "purpose": "user_data"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": -1}, "bytes"),
        ({"bytes": True}, "bytes"),
        ({"bytes": "3"}, "bytes"),
        ({"bytes": 3.0}, "bytes"),
        ({"bytes": (8 << 30) + 1}, "bytes"),
        ({"filename": ""}, "filename"),
        ({"filename": 7}, "filename"),
        ({"mime_type": None}, "mime_type"),
        ({"purpose": "telepathy"}, "purpose"),
        ({"purpose": ["batch"]}, "purpose"),
        ({"purpose": "fine-tune", "filename": "train.csv"}, "file"),
        ({"purpose": "batch", "filename": "tasks.json"}, "file"),
        ({"purpose": "batch", "filename": "t.jsonl", "bytes": (200 << 20) + 1}, "file"),
        ({"note": 1}, "note"),
        ({"expires_after": 3600}, "expires_after"),
        ({"expires_after": {"anchor": "created_at", "days": 7}}, "expires_after"),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 3599}},
            "expires_after.seconds",
        ),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 2592001}},
            "expires_after.seconds",
        ),
        (
            {"expires_after": {"anchor": "last_used_at", "seconds": 3600}},
            "expires_after.anchor",
        ),
    ],
)
def test_a_creation_that_is_not_as_documented_is_refused(
    change: dict[str, Any], param: str
) -> None:
    sandbox = OpenAISandbox()

    answer = call(sandbox, "POST", "/v1/uploads", {**CREATE, **change})

    assert answer.status == 400
    assert answer.json()["error"]["param"] == param
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    assert sandbox.unfinished() == []


@pytest.mark.parametrize("missing", CREATE)
def test_a_creation_that_lacks_something_is_refused(missing: str) -> None:
    body = {name: value for name, value in CREATE.items() if name != missing}

    answer = call(OpenAISandbox(), "POST", "/v1/uploads", body)

    assert (answer.status, answer.json()["error"]["param"]) == (400, missing)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    assert call(OpenAISandbox(), "POST", "/v1/uploads", body).status == 400


def test_json_must_say_that_it_is_json() -> None:
    assert call(OpenAISandbox(), "POST", "/v1/uploads").status == 415


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/uploads"),
        ("GET", "/v1/uploads/upload_1"),
        ("PUT", "/v1/files"),
        ("POST", "/v1/nothing"),
        ("GET", "/"),
        ("GET", "/v2/files"),
        ("GET", "/openai/files"),
        ("GET", "/openai/deployments/gpt/files?api-version=2024-10-21"),
        ("GET", "/v1/files/../../etc/passwd"),
        ("GET", "/v1/files/%00"),
        ("POST", "/v1/uploads/none/parts"),
        ("POST", "/v1/uploads/none/cancel"),
    ],
)
def test_what_is_not_there_is_not_found(method: str, path: str) -> None:
    answer = call(OpenAISandbox(), method, path)

    assert answer.status == 404
    assert answer.json()["error"]["message"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("key", ["", "sk-wrong", "ü"])
def test_a_key_is_asked_for_before_anything_else(key: str) -> None:
    for path in ("/v1/uploads", "/v1/files", "/openai/v1/uploads", "/v1/nothing"):
        assert call(OpenAISandbox(), "POST", path, CREATE, key=key).status == 401


def test_two_sandboxes_have_two_keys() -> None:
    one, two = OpenAISandbox(), OpenAISandbox()

    assert one.api_key != two.api_key
    assert one.announce() == {"api_key": one.api_key}
    assert OpenAISandbox(api_key="sk-mine").environment()["OPENAI_API_KEY"] == "sk-mine"
    assert len(one.api_key) > 40


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=10001", "limit=x", "limit=-1", "order=up", "limit=1e3"]
)
def test_a_list_asked_for_wrongly_is_refused(query: str) -> None:
    assert call(OpenAISandbox(), "GET", f"/v1/files?{query}").status == 400


def begun(sandbox: OpenAISandbox, size: int = 3) -> str:
    made = call(sandbox, "POST", "/v1/uploads", {**CREATE, "bytes": size}).json()
    return str(made["id"])


def put(sandbox: OpenAISandbox, upload_id: str, data: bytes, head: str | None = None) -> Answer:
    head = 'Content-Disposition: form-data; name="data"; filename="f"' if head is None else head
    return post_form(
        sandbox,
        f"/v1/uploads/{upload_id}/parts",
        b"--B\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n--B--\r\n",
    )


def post_form(
    sandbox: OpenAISandbox, path: str, body: bytes, kind: str = "multipart/form-data; boundary=B"
) -> Answer:
    headers = {"Authorization": f"Bearer {sandbox.api_key}", "Content-Type": kind}
    return sandbox.handle(Request("POST", sandbox.base + path, headers, body))


def complete(sandbox: OpenAISandbox, upload_id: str, body: Any) -> Answer:
    return call(sandbox, "POST", f"/v1/uploads/{upload_id}/complete", body)


def test_a_form_that_the_official_sdk_made_is_understood() -> None:
    sandbox = OpenAISandbox()
    case = json.loads(VECTORS.read_text("utf-8"))["openai"]["part_body"]
    upload_id = begun(sandbox, size=5)

    kind, body = case["content_type"], case["body"].encode()
    part = post_form(sandbox, f"/v1/uploads/{upload_id}/parts", body, kind).json()

    made = complete(sandbox, upload_id, {"part_ids": [part["id"]]}).json()["file"]
    assert sandbox.finished()[made["id"]].read() == case["data_utf8"].encode()


def test_a_part_that_is_too_large_or_empty_is_refused_and_harms_nothing() -> None:
    sandbox = OpenAISandbox()
    sandbox.shrink(max_part=3)
    upload_id = begun(sandbox)
    part_id = put(sandbox, upload_id, b"abc").json()["id"]

    assert put(sandbox, upload_id, b"abcd").status == 413
    assert put(sandbox, upload_id, b"").status == 400

    made = complete(sandbox, upload_id, {"part_ids": [part_id]}).json()["file"]
    assert sandbox.finished()[made["id"]].read() == b"abc"


@pytest.mark.parametrize(
    "head",
    [
        'Content-Disposition: form-data; name="data"',
        'Content-Disposition: form-data; name="file"; filename="f"',
        'Content-Disposition: attachment; name="data"; filename="f"',
        "Content-Type: text/plain",
        "",
    ],
)
def test_a_part_must_be_one_file_field_called_data(head: str) -> None:
    sandbox = OpenAISandbox()
    upload_id = begun(sandbox)

    answer = put(sandbox, upload_id, b"abc", head)

    assert answer.status == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"part_ids": []},
        {"part_ids": "P"},
        {"part_ids": [1]},
        {"part_ids": ["P", "P"]},
        {"part_ids": ["part_none"]},
        {"part_ids": ["P", "part_none"]},
        {"part_ids": ["P"], "md5": 7},
        {"part_ids": ["P"], "md5": "kAFQmDzST7DWlj99KOF/cg=="},
        {"part_ids": ["P"], "sha256": "x"},
        {"part_ids": ["P", "Q"]},
    ],
)
def test_a_completion_that_is_not_as_documented_is_refused_and_harms_nothing(body: Any) -> None:
    sandbox = OpenAISandbox()
    upload_id = begun(sandbox)
    one, two = (put(sandbox, upload_id, b"abc").json()["id"] for _ in range(2))
    text = json.dumps(body).replace('"P"', f'"{one}"').replace('"Q"', f'"{two}"')

    assert complete(sandbox, upload_id, text.encode()).status == 400

    assert sandbox.finished() == {}
    right = {"part_ids": [two], "md5": hashlib.md5(b"abc").hexdigest().upper()}
    assert complete(sandbox, upload_id, right).json()["status"] == "completed"


@pytest.mark.parametrize(("count_duplicates", "status"), [(False, 200), (True, 400)])
def test_a_part_that_was_sent_twice_counts_once_or_twice(
    count_duplicates: bool, status: int
) -> None:
    """The vendor's words allow both, so both can be learned from."""
    sandbox = OpenAISandbox(count_duplicates=count_duplicates)
    upload_id = begun(sandbox)
    put(sandbox, upload_id, b"abc")
    part_id = put(sandbox, upload_id, b"abc").json()["id"]

    assert complete(sandbox, upload_id, {"part_ids": [part_id]}).status == status


def test_a_part_is_listed_once_even_where_the_sum_would_fit() -> None:
    sandbox = OpenAISandbox()
    upload_id = begun(sandbox, 6)
    part_id = put(sandbox, upload_id, b"abc").json()["id"]

    assert complete(sandbox, upload_id, {"part_ids": [part_id, part_id]}).status == 400


def test_a_part_of_another_upload_is_not_taken() -> None:
    sandbox = OpenAISandbox()
    mine, other = begun(sandbox), begun(sandbox)
    part_id = put(sandbox, other, b"abc").json()["id"]

    assert complete(sandbox, mine, {"part_ids": [part_id]}).status == 400


def test_bytes_that_nobody_can_use_any_more_are_given_back() -> None:
    sandbox = OpenAISandbox()
    cancelled, completed = begun(sandbox, 1000), begun(sandbox, 1000)
    put(sandbox, cancelled, b"x" * 1000)
    put(sandbox, completed, b"y" * 1000)
    part_id = put(sandbox, completed, b"z" * 1000).json()["id"]

    call(sandbox, "POST", f"/v1/uploads/{cancelled}/cancel")
    made = complete(sandbox, completed, {"part_ids": [part_id]}).json()["file"]
    assert 1000 <= sandbox.store.used < 1200  # the file and what framed it

    call(sandbox, "DELETE", f"/v1/files/{made['id']}")
    assert sandbox.store.used == 0


def test_an_azure_creation_says_where_it_is() -> None:
    sandbox = OpenAISandbox()

    answer = call(sandbox, "POST", "/openai/uploads?api-version=2024-10-21", CREATE)

    assert answer.headers["location"].startswith(f"{sandbox.base}/openai/uploads/upload_")


@pytest.mark.parametrize(("size", "status"), [(9 << 30, 200), ((9 << 30) + 1, 400)])
def test_azure_takes_a_gigabyte_more(size: int, status: int) -> None:
    path = "/openai/uploads?api-version=2024-10-21"

    assert call(OpenAISandbox(), "POST", path, {**CREATE, "bytes": size}).status == status


@pytest.mark.parametrize("purpose", [None, "nonsense"])
def test_a_small_file_needs_a_purpose(purpose: str | None) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nabc\r\n'
    if purpose:
        body += (
            f'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'.encode()
        )

    assert post_form(OpenAISandbox(), "/v1/files", body + b"--B--").status == 400


def test_a_small_file_that_is_too_large_is_refused() -> None:
    sandbox = OpenAISandbox()
    sandbox.shrink(max_file=100)

    with serve(sandbox), client(sandbox) as sdk:
        with pytest.raises(openai.APIStatusError) as caught:
            sdk.files.create(file=("a", bytes(101)), purpose="user_data")
        assert sdk.files.create(file=("a", bytes(100)), purpose="user_data").bytes == 100
    assert caught.value.status_code == 413


def test_a_small_file_fits_its_purpose(served: OpenAISandbox) -> None:
    with client(served) as sdk:
        with pytest.raises(openai.BadRequestError, match=r"takes \.jsonl files"):
            sdk.files.create(file=("tasks.csv", b"{}"), purpose="batch")
        assert sdk.files.create(file=("tasks.jsonl", b"{}"), purpose="batch").purpose == "batch"


# Strict models: the vendor's own types, with nothing they do not know


@pytest.mark.parametrize(
    ("model", "ask"),
    [
        (Upload, lambda box: call(box, "POST", "/v1/uploads", CREATE).json()),
        (UploadPart, lambda box: put(box, begun(box), b"abc").json()),
        (Upload, lambda box: finish(box)),
        (FileObject, lambda box: finish(box)["file"]),
        (Upload, lambda box: call(box, "POST", f"/v1/uploads/{begun(box)}/cancel").json()),
    ],
)
def test_answers_are_the_vendors_own_objects(
    model: Any, ask: Callable[[OpenAISandbox], dict[str, Any]]
) -> None:
    answer = ask(OpenAISandbox())

    model.model_validate(answer, strict=True)
    assert set(answer) <= set(model.model_fields)


def finish(sandbox: OpenAISandbox) -> dict[str, Any]:
    upload_id = begun(sandbox)
    part_id = put(sandbox, upload_id, b"abc").json()["id"]
    done: dict[str, Any] = complete(sandbox, upload_id, {"part_ids": [part_id]}).json()
    return done


# Forms


def formed(body: Blob, kind: str = "multipart/form-data; boundary=B") -> list[bytes]:
    headers = Headers({"content-type": kind})
    asked = Call("POST", "http://x/", "/", "", "/", (), headers, body)
    return [each.data.read() for each in form(asked)]


HEAD = b'--B\r\nContent-Disposition: form-data; name="data"; filename="f"\r\n\r\n'


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"B", b"x", b"\0"])))
@settings(max_examples=300)
def test_any_bytes_arrive_that_do_not_hold_the_boundary(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    # Where the boundary's line does stand in it, nobody can tell data from form.
    if b"\r\n--B" in b"\r\n" + data:
        data = data.replace(b"B", b"C")

    assert formed(Blob.of(HEAD + data + b"\r\n--B--\r\n")) == [data]


def test_a_word_that_begins_like_the_boundary_is_data() -> None:
    data = b"a\r\n--BC\r\nb"

    assert formed(Blob.of(HEAD + data + b"\r\n--B--")) == [data]


@pytest.mark.parametrize("shift", range(-12, 4))
def test_a_boundary_is_found_across_blocks_of_a_stored_body(shift: int, tmp_path: Path) -> None:
    """Bodies are read in blocks of 1 MiB; the data stays where it is."""
    store = Store(tmp_path)
    data = b"x" * ((1 << 20) - len(HEAD) + shift)
    path = store.new_path()
    body = HEAD + data + b"\r\n--B--\r\n"
    path.write_bytes(body)
    stored = store.adopt(path, len(body))
    headers = Headers({"content-type": "multipart/form-data; boundary=B"})

    (field,) = form(Call("POST", "http://x/", "/", "", "/", (), headers, stored))

    assert field.data.chunks == ((path, len(HEAD), len(data)),)
    assert field.data.read() == data


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (HEAD + b"abc\r\n--B--", "application/json"),
        (HEAD + b"abc\r\n--B--", "multipart/form-data"),
        (HEAD + b"abc\r\n--B--", "multipart/form-data; boundary=C"),
        (HEAD + b"abc\r\n--B\r\n", "multipart/form-data; boundary=B"),
        (HEAD + b"abc", "multipart/form-data; boundary=B"),
        (HEAD, "multipart/form-data; boundary=B"),
        (b"", "multipart/form-data; boundary=B"),
        (b"--B", "multipart/form-data; boundary=B"),
        (b"--B--", "multipart/form-data; boundary=B"),
        (HEAD + b"abc\r\n" + HEAD + b"abc\r\n--B--", "multipart/form-data; boundary=B"),
        (b"--B\r\n\r\n\r\n--B--", "multipart/form-data; boundary=B"),
    ],
)
def test_a_form_that_is_broken_is_refused(body: bytes, kind: str) -> None:
    sandbox = OpenAISandbox()
    path = f"/v1/uploads/{begun(sandbox)}/parts"

    assert post_form(sandbox, path, body, kind).status == 400


def test_a_quoted_boundary_is_understood() -> None:
    assert formed(Blob.of(HEAD + b"abc\r\n--B--"), 'multipart/form-data; boundary="B"') == [b"abc"]


# Together


@given(st.binary(min_size=1, max_size=400), st.integers(1, 150), st.randoms())
@settings(max_examples=100)
def test_any_file_arrives_whole_in_parts_of_any_size_and_order(
    data: bytes, part_size: int, rng: Any
) -> None:
    sandbox = OpenAISandbox()
    provider = OpenAI.from_url(
        "openai:user_data", api_key=sandbox.api_key, base_url=sandbox.base_url
    )

    def run(flow: Flow[Any]) -> Any:
        return drive(flow, sandbox.handle)

    session = run(provider.create(FileInfo("a.bin", len(data)), part_size))
    todo = list(parts(session))
    rng.shuffle(todo)
    receipts = [
        run(provider.put_part(session, part, Body.of(data[part.start : part.start + part.size])))
        for part in todo
    ]
    receipts.sort(key=lambda receipt: receipt.number)
    result = run(provider.complete(session, receipts, hashlib.md5(data).hexdigest()))

    assert sandbox.finished()[result.id].read() == data
    assert sandbox.unfinished() == []
