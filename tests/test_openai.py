"""The flows of OpenAI and Azure OpenAI: exact requests, and every awkward answer."""

from __future__ import annotations

import ast
import asyncio
import json
import pickle
from collections.abc import Callable, Iterable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

import chunkup_jupyter
from chunkup_jupyter.errors import (
    AnswerLost,
    AuthError,
    CredentialsMissing,
    EmptyFile,
    InsecureConnection,
    IntegrityError,
    InvalidUpload,
    OutcomeUnknown,
    ProtocolError,
    Refused,
    SessionLost,
)
from chunkup_jupyter.model import Body, FileInfo, Flow, Part, PartReceipt, Result, Session, drive
from chunkup_jupyter.plan import check_size
from chunkup_jupyter.providers.openai import AzureOpenAI, OpenAI
from chunkup_jupyter.providers.openai.settings import PURPOSES
from chunkup_jupyter.secrets import Secret
from chunkup_jupyter.transport import Transport
from chunkup_jupyter.wire import Headers, MemoryClient, Request, Response

KEY = "sk-canary-5f1c"
VECTORS = json.loads((Path(__file__).parent / "data" / "vectors.json").read_text("utf-8"))["openai"]
MD5 = VECTORS["md5_hex_hello"]
FILE = FileInfo("train.jsonl", 5, "application/jsonl")
CREATED = 1_795_000_000
SESSION = Session("upload_abc", FILE, 4, {"created_at": str(CREATED)}, CREATED + 3600.0)
RECEIPTS = (PartReceipt(1, 4, "part_a"), PartReceipt(2, 1, "part_b"))
UPLOAD = {
    "id": "upload_abc",
    "object": "upload",
    "bytes": 5,
    "created_at": CREATED,
    "expires_at": CREATED + 3600,
    "filename": "train.jsonl",
    "purpose": "fine-tune",
    "status": "pending",
}
MADE = {
    "id": "file-abc",
    "object": "file",
    "bytes": 5,
    "created_at": CREATED + 60,
    "filename": "train.jsonl",
    "purpose": "fine-tune",
}
DONE = {**UPLOAD, "status": "completed", "file": MADE}
LOST = AnswerLost("the connection broke")


def openai(**fields: Any) -> OpenAI:
    return OpenAI.from_url("openai:fine-tune", **{"api_key": Secret(KEY), **fields})


def azure(**fields: Any) -> AzureOpenAI:
    given = {"api_key": Secret(KEY), "endpoint": "https://res.openai.azure.com", **fields}
    return AzureOpenAI.from_url("azure-openai:fine-tune", **given)


def says(
    body: Any = None, status: int = 200, message: str = "", headers: dict[str, str] | None = None
) -> Response:
    if message:
        body = {"error": {"message": message, "type": "invalid_request_error", "code": None}}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"x-request-id": "req_1", **(headers or {})}
    return Response(status, Headers(fields), content, "https://api.openai.com/v1/uploads")


class Script:
    """Answers requests from a list; an exception in it is raised. Keeps what was asked."""

    def __init__(self, *answers: Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def lines(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.asked]


def complete(*answers: Response | Exception, **fields: Any) -> tuple[Result, Script]:
    script = Script(*answers)
    result = drive(openai(**fields).complete(SESSION, RECEIPTS, MD5), script)
    assert isinstance(result, Result)
    return result, script


def ends(error: type[Exception], flow: Flow[Any], *answers: Response | Exception) -> Any:
    """Run a flow that must end in an error, with every answer used up."""
    script = Script(*answers)
    with pytest.raises(error) as caught:
        drive(flow, script)
    assert not script.answers
    assert type(caught.value) is error
    return caught.value


def completing(error: type[Exception], *answers: Response | Exception, **fields: Any) -> Any:
    return ends(error, openai(**fields).complete(SESSION, RECEIPTS, MD5), *answers)


# Where to


def test_a_missing_purpose_is_refused_with_all_six() -> None:
    for kind, fields in ((OpenAI, {}), (AzureOpenAI, {"endpoint": "https://res.example"})):
        with pytest.raises(InvalidUpload) as caught:
            kind.from_url("openai:", api_key=Secret(KEY), **fields)
        assert all(purpose in str(caught.value) for purpose in PURPOSES)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_purpose_of_the_sdk_is_passed_on_without_a_word(purpose: str) -> None:
    provider = OpenAI.from_url(f"openai:{purpose}", api_key=Secret(KEY))

    body = json.loads(next(provider.create(FILE, 4)).content)

    assert body["purpose"] == purpose
    assert provider.check(FILE) == ()
    assert (provider.url, provider.kind) == (f"openai:{purpose}", f"openai:{purpose}")


def test_an_unknown_purpose_is_passed_on_with_a_warning() -> None:
    provider = OpenAI.from_url("openai:telepathy", api_key=Secret(KEY))

    (warning,) = provider.check(FILE)

    assert "telepathy" in warning
    assert "fine-tune" in warning
    assert json.loads(next(provider.create(FILE, 4)).content)["purpose"] == "telepathy"


def test_a_purpose_given_as_an_option_wins() -> None:
    assert openai(purpose="batch").url == "openai:batch"


@pytest.mark.parametrize("text", ["a b", "x/../y", "é", "p?q=1", "x" * 65])
def test_a_purpose_that_is_no_word_is_refused(text: str) -> None:
    with pytest.raises(InvalidUpload, match="there are assistants"):
        openai(purpose=text)


def test_an_unknown_field_is_refused_with_what_is_possible() -> None:
    with pytest.raises(InvalidUpload, match=r"no colour; there are .*expires_after"):
        openai(colour="red")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("7d", 604800), ("30d", 2592000), (3600, 3600), ("86400", 86400)],
)
def test_an_expiry_is_sent_in_seconds(text: str | int, seconds: int) -> None:
    body = json.loads(next(openai(expires_after=text).create(FILE, 4)).content)

    assert body["expires_after"] == {"anchor": "created_at", "seconds": seconds}


@pytest.mark.parametrize("text", ["59m", "31d", 3599, 2592001, "0", "soon", "-1d"])
def test_an_expiry_out_of_range_is_refused_before_any_request(text: str | int) -> None:
    with pytest.raises(InvalidUpload):
        openai(expires_after=text)


@pytest.mark.parametrize("base", ["http://api.example/v1", "http://10.0.0.5:8000/v1"])
def test_plain_http_is_refused_unless_it_is_allowed_by_name(base: str) -> None:
    with pytest.raises(InsecureConnection):
        openai(base_url=base)
    with pytest.raises(InsecureConnection):
        azure(endpoint=base)

    assert next(openai(base_url=base, allow_insecure=True).abort(SESSION)).url.startswith(base)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:1", "[::1]:99"])
def test_plain_http_to_this_machine_is_fine(host: str) -> None:
    request = next(openai(base_url=f"http://{host}/v1/").abort(SESSION))

    assert request.url == f"http://{host}/v1/uploads/upload_abc/cancel"


@pytest.mark.parametrize(
    "base",
    [
        "api.openai.com/v1",
        "ftp://api.openai.com/v1",
        "https://user:pa55word@api.openai.com/v1",
        "https://api.openai.com/v1?key=pa55word",
        "https://api.openai.com/v1#pa55word",
        "https://api.openai.com:port/v1",
        "https://api open.ai/v1",
        "https://[::1/v1",
        "https://",
        "https://bücher.example/v1",
    ],
)
def test_an_address_that_is_none_is_refused_and_no_password_is_repeated(base: str) -> None:
    with pytest.raises(InvalidUpload) as caught:
        openai(base_url=base)
    assert "pa55word" not in str(caught.value)


def test_an_empty_setting_counts_as_none() -> None:
    assert next(openai(base_url="", organization="").abort(SESSION)).host == "api.openai.com"


def test_accounts_are_told_apart_and_no_key_is_told() -> None:
    accounts = {
        openai().account,
        openai(api_key=Secret("sk-other")).account,
        openai(organization="org-1").account,
        openai(project="proj_1").account,
        openai(base_url="https://eu.api.openai.com/v1").account,
        azure().account,
        azure(endpoint="https://other.openai.azure.com").account,
        azure(ad_token=Secret("eyJ")).account,
    }

    assert len(accounts) == 8
    assert not any(KEY in account for account in accounts)
    assert azure(ad_token=Secret("eyJ")).account == azure(ad_token=Secret("eyK")).account


def test_the_key_is_in_no_repr_and_in_no_pickle() -> None:
    for provider in (openai(extra_headers={"X-Gateway": KEY}), azure(ad_token=Secret(KEY))):
        assert KEY not in repr(provider)
        assert KEY not in f"{provider}"
        with pytest.raises(TypeError):
            pickle.dumps(provider)
        assert KEY not in repr(next(provider.abort(SESSION)))


def test_a_line_break_around_a_key_is_dropped_and_one_inside_is_refused() -> None:
    request = next(openai(api_key=Secret(f" {KEY}\n")).abort(SESSION))

    assert request.headers["Authorization"] == f"Bearer {KEY}"
    with pytest.raises(InvalidUpload) as caught:
        openai(api_key=Secret(f"{KEY}\r\nX-Evil: 1"))
    assert KEY not in str(caught.value)


def test_a_provider_can_be_a_key_of_a_dictionary() -> None:
    assert len({openai(extra_body={"a": 1}), openai(extra_body={"a": 1})}) == 1


# Extras


@pytest.mark.parametrize(
    "name",
    (
        "Authorization API-KEY x-api-key cookie OpenAI-Organization openai-project Host "
        "Content-Length content-type Transfer-Encoding Proxy-Authorization"
    ).split(),
)
def test_extra_headers_never_replace_a_credential_or_the_framing(name: str) -> None:
    with pytest.raises(InvalidUpload, match="may not replace"):
        openai(extra_headers={name: "x"})
    with pytest.raises(InvalidUpload, match="may not replace"):
        azure(extra_headers={name: "x"})


@pytest.mark.parametrize(("name", "value"), [("X-A", "1\r\nX-B: 2"), ("X A", "1"), ("", "1")])
def test_extra_headers_that_cannot_be_sent_are_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidUpload, match="cannot be sent"):
        openai(extra_headers={name: value})


def test_extras_go_with_every_request_and_more_keys_with_the_creation() -> None:
    provider = openai(
        extra_headers={"X-Trace": "t"}, extra_query={"tier": "a b"}, extra_body={"note": "n"}
    )

    flows: list[Flow[Any]] = [
        provider.create(FILE, 4),
        provider.put_part(SESSION, Part(1, 0, 4), Body.of(b"hell")),
        provider.complete(SESSION, RECEIPTS, MD5),
        provider.abort(SESSION),
        provider.delete(Result("file-abc")),
    ]
    asked = [next(flow) for flow in flows]

    assert {each.headers["X-Trace"] for each in asked} == {"t"}
    assert {each.query for each in asked} == {"tier=a%20b"}
    assert json.loads(asked[0].content)["note"] == "n"
    assert "note" not in json.loads(asked[2].content)


@pytest.mark.parametrize("name", ["bytes", "filename", "purpose"])
def test_extra_keys_never_replace_what_the_upload_is_known_by(name: str) -> None:
    with pytest.raises(InvalidUpload, match=name):
        openai(extra_body={name: 1})


def test_an_extra_query_never_replaces_the_version() -> None:
    with pytest.raises(InvalidUpload, match="api-version"):
        azure(extra_query={"api-version": "1"})


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_a_positive_number(timeout: float) -> None:
    assert openai(timeout=12.5).timeout == 12.5
    with pytest.raises(InvalidUpload):
        openai(timeout=timeout)


# Create


def test_the_creation_is_exactly_as_documented() -> None:
    request = next(openai(organization="org-1", project="proj_1").create(FILE, 4))

    assert (request.method, request.url) == ("POST", "https://api.openai.com/v1/uploads")
    assert dict(request.headers) == {
        "Authorization": f"Bearer {KEY}",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj_1",
        "Content-Type": "application/json",
    }
    assert json.loads(request.content) == {
        "bytes": 5,
        "filename": "train.jsonl",
        "mime_type": "application/jsonl",
        "purpose": "fine-tune",
    }


def test_a_session_remembers_when_it_was_created_and_when_it_ends() -> None:
    session = drive(openai().create(FILE, 4), Script(says(UPLOAD)))

    assert session == SESSION
    assert Session.from_json(json.loads(json.dumps(session.to_json()))) == session
    assert KEY not in json.dumps(session.to_json())


def test_a_session_without_an_end_lives_as_long_as_documented() -> None:
    bare = {key: value for key, value in UPLOAD.items() if key != "expires_at"}

    assert drive(openai().create(FILE, 4), Script(says(bare))).expires_at == CREATED + 3600
    assert drive(azure().create(FILE, 4), Script(says(bare))).expires_at == CREATED + 7200


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": ""},
        {"id": "../../etc"},
        {"id": "a/b"},
        {"id": "a\r\nb"},
        {"id": ".."},
        {"id": "x" * 257},
        {"id": 7},
        {"bytes": 6},
        {"status": "cancelled"},
        {"created_at": -1},
        {"created_at": "soon"},
        {"created_at": 1e30},
        {"created_at": True},
        {"expires_at": 1 << 60},
        {"expires_at": CREATED},
    ],
)
def test_a_session_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    error = ends(ProtocolError, openai().create(FILE, 4), says({**UPLOAD, **change}))

    assert error.request_id == "req_1"
    assert error.host == "api.openai.com"


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>hello</html>", b"[]", b'{"id": "upl', b"\xff", b'{"a":' * 90_000],
    ids=["empty", "page", "list", "truncated", "garbage", "bottomless"],
)
def test_a_200_that_is_no_upload_is_no_success(body: bytes) -> None:
    ends(ProtocolError, openai().create(FILE, 4), says(body))


def test_a_404_at_creation_blames_the_address() -> None:
    assert "/v1" in str(ends(Refused, openai().create(FILE, 4), says(status=404, message="no")))
    error = ends(Refused, azure().create(FILE, 4), says(status=404, message="Resource not found"))
    assert "openai.azure.com" in str(error)
    assert "api-version" not in str(error)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_an_auth_error_without_the_key(status: int) -> None:
    error = ends(AuthError, openai().create(FILE, 4), says(status=status, message="Incorrect key"))

    assert (error.status, error.request_id) == (status, "req_1")
    assert error.expired == (status == 401), "there may be a fresh one; a permission stays denied"
    assert "Incorrect key" in str(error)
    assert KEY not in str(error)


@pytest.mark.parametrize("echo", [KEY, "sk-proj-5f1c*****wxyz", f"'{KEY}'. Find yours at …"])
def test_a_key_that_a_refusal_repeats_is_not_repeated_by_us(echo: str) -> None:
    message = f"Incorrect API key provided: {echo}"
    for flow in (openai().create(FILE, 4), put(), openai().abort(SESSION)):
        error = ends(AuthError, flow, says(status=401, message=message))
        assert "5f1c" not in str(error)
    azures = azure(api_key=Secret("0f5f1c0e")).create(FILE, 4)
    error = ends(AuthError, azures, says(status=401, message="0f5f1c0e is no key"))
    assert "5f1c" not in str(error)
    error = ends(
        IntegrityError,
        openai().complete(SESSION, RECEIPTS),
        says(status=400, message=f"md5 {echo}"),
    )
    assert "5f1c" not in str(error)


@pytest.mark.parametrize(
    "provider", [openai(), azure(), azure(ad_token=Secret("eyJ"))], ids=["openai", "key", "token"]
)
def test_an_expired_key_or_token_says_that_a_fresh_one_may_help(provider: Any) -> None:
    expired = says(status=401, message="token expired")

    for flow in (provider.create(FILE, 4), provider.complete(SESSION, RECEIPTS, MD5)):
        assert ends(AuthError, flow, expired).expired


def test_an_empty_file_is_refused_before_any_request() -> None:
    ends(EmptyFile, openai().create(FileInfo("a.jsonl", 0), 4))


def test_a_file_above_the_limit_is_refused_and_one_near_it_is_a_warning() -> None:
    ends(InvalidUpload, openai().create(FileInfo("a.jsonl", (8 << 30) + 1), 64 << 20))
    ends(InvalidUpload, azure().create(FileInfo("a.jsonl", (9 << 30) + 1), 64 << 20))

    assert check_size(FileInfo("a.jsonl", 8 * 10**9), openai().rules) == ()
    assert "8 GB" in check_size(FileInfo("a.jsonl", 8 << 30), openai().rules)[0]
    assert check_size(FileInfo("a.jsonl", 9 * 10**9), azure().rules) == ()


@pytest.mark.parametrize("name", ["", "a\x00b", "\udcff.jsonl"])
def test_a_name_that_cannot_be_sent_is_refused_before_any_request(name: str) -> None:
    ends(InvalidUpload, openai().create(FileInfo(name, 5), 4))
    with pytest.raises(InvalidUpload):
        openai().check(FileInfo(name, 5))


def test_an_odd_name_is_json_like_any_other() -> None:
    name = 'ü "x"\r\n\\😀.jsonl'

    assert json.loads(next(openai().create(FileInfo(name, 5), 4)).content)["filename"] == name


# Parts


def put(provider: OpenAI | AzureOpenAI | None = None) -> Flow[PartReceipt]:
    return (provider or openai()).put_part(SESSION, Part(1, 0, 5), Body.of(b"hello"))


def test_a_part_is_the_form_that_the_official_sdk_sends() -> None:
    """Its bytes were captured from openai 3.52; boundary and file name are ours."""
    case = VECTORS["part_body"]
    request = next(put())

    kind, _, boundary = request.headers["Content-Type"].partition("; boundary=")
    data = case["data_utf8"].encode()
    body = b"".join(piece if isinstance(piece, bytes) else data for piece in request.pieces)
    assert (request.method, request.path) == ("POST", "/v1/uploads/upload_abc/parts")
    assert f"{kind}; boundary={case['boundary']}" == case["content_type"]
    assert request.size == len(body)
    ours = body.decode().replace(boundary, case["boundary"])
    assert ours.replace('filename="part"', 'filename="upload"') == case["body"]


def test_a_part_is_streamed_and_never_held() -> None:
    body = Body.of(b"hello")

    request = next(openai().put_part(SESSION, Part(1, 0, 5), body))

    assert request.pieces[1] is body
    assert sum(len(piece) for piece in request.pieces if isinstance(piece, bytes)) < 300


def test_a_boundary_stays_when_a_part_is_sent_again_and_is_another_for_each_upload() -> None:
    def boundary(upload_id: str, number: int) -> str:
        session = Session(upload_id, FILE, 4)
        request = next(openai().put_part(session, Part(number, 0, 5), Body.of(b"hello")))
        return request.headers["Content-Type"].partition("boundary=")[2]

    seen = {boundary(upload_id, number) for upload_id in ("a", "b", "c") for number in (1, 2)}

    assert boundary("a", 1) == boundary("a", 1)
    assert len(seen) == 6
    assert all(len(each) <= 70 for each in seen)  # RFC 2046


def test_a_part_id_is_the_receipt() -> None:
    answer = {"id": "uplprt-1", "object": "upload.part", "upload_id": "upload_abc", "x": 1}

    assert drive(put(), Script(says(answer))) == PartReceipt(1, 5, "uplprt-1")


@pytest.mark.parametrize(
    "answer",
    [{}, {"id": "a/../b"}, {"id": "a\nb"}, {"id": "part_a", "upload_id": "upload_other"}, []],
)
def test_a_part_answer_that_makes_no_sense_is_no_receipt(answer: Any) -> None:
    ends(ProtocolError, put(), says(answer))


@pytest.mark.parametrize(
    "answer",
    [
        says(status=404, message="No such Upload object: upload_abc"),
        says(status=410, message="gone"),
        says(status=400, message="Upload has expired."),
        says(status=400, message="Upload is cancelled."),
        says(status=400, message="The upload was canceled"),
        says(status=400, message="Upload is completed."),
        says(status=400, message="no", headers={"date": formatdate(CREATED + 3600, usegmt=True)}),
    ],
)
def test_a_part_for_an_upload_that_is_gone_begins_it_anew(answer: Response) -> None:
    ends(SessionLost, put(), answer)


def test_a_part_refused_for_another_reason_is_refused() -> None:
    early = {"date": formatdate(CREATED + 3599, usegmt=True)}

    assert ends(Refused, put(), says(status=400, message="bad form", headers=early)).status == 400
    assert "--part-size" in str(ends(Refused, put(), says(status=413, message="large")))
    ends(AuthError, put(), says(status=401, message="Incorrect API key"))


def test_a_quota_that_is_used_up_is_not_retried() -> None:
    asked = []

    def handle(request: Request) -> Response:
        asked.append(request)
        body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
        return says(body, status=429)

    provider = openai()
    transport = Transport(client=MemoryClient(handle), rules=provider.rules)
    with pytest.raises(Refused, match="insufficient_quota"):
        asyncio.run(transport.run(put(provider)))
    assert len(asked) == 1


@pytest.mark.parametrize("provider", [openai(), azure()], ids=["openai", "azure"])
def test_a_lock_timeout_is_waited_for_as_the_sdk_does(provider: OpenAI | AzureOpenAI) -> None:
    answers = [says(status=409, message="lock timeout"), says({"id": "part_a"})]

    async def sleep(seconds: float) -> None:
        pass

    client = MemoryClient(lambda request: answers.pop(0))
    transport = Transport(client=client, rules=provider.rules, sleep=sleep)

    assert asyncio.run(transport.run(put(provider))).token == "part_a"


# Complete


def test_the_completion_is_exactly_as_documented() -> None:
    request = next(openai().complete(SESSION, RECEIPTS, MD5))

    assert (request.method, request.path) == ("POST", "/v1/uploads/upload_abc/complete")
    assert json.loads(request.content) == {"part_ids": ["part_a", "part_b"], "md5": MD5}
    assert request.once


def test_the_result_is_the_file_with_the_upload_as_answered() -> None:
    kept = {**DONE, "file": {**MADE, "expires_at": CREATED + 99}, "new_field": 1}

    result, _ = complete(says(kept))

    assert (result.id, result.size, result.expires_at) == ("file-abc", 5, CREATED + 99)
    assert result.raw == kept
    assert result.url == "https://api.openai.com/v1/files/file-abc"
    assert any(MD5 in line for line in result.verified)


def test_without_a_digest_none_is_sent_and_none_is_claimed() -> None:
    script = Script(says(DONE))

    result = drive(openai().complete(SESSION, RECEIPTS), script)

    assert isinstance(result, Result)
    assert json.loads(script.asked[0].content) == {"part_ids": ["part_a", "part_b"]}
    assert not any("MD5" in line for line in result.verified)


def test_a_callers_own_md5_is_compared_before_completing() -> None:
    error = completing(IntegrityError, md5="0" * 32)
    result, _ = complete(says(DONE), md5=MD5.upper())

    assert error.final
    assert MD5 in str(error)
    assert result.id == "file-abc"
    with pytest.raises(InvalidUpload):
        openai(md5="hello")


def test_a_callers_own_md5_is_sent_when_none_was_computed() -> None:
    request = next(openai(md5=MD5).complete(SESSION, RECEIPTS))

    assert json.loads(request.content)["md5"] == MD5


def test_one_id_for_two_parts_is_never_completed() -> None:
    same = (PartReceipt(1, 4, "part_a"), PartReceipt(2, 1, "part_a"))

    ends(ProtocolError, openai().complete(SESSION, same, MD5))


def test_an_md5_that_differs_is_an_integrity_error_worth_another_try() -> None:
    error = completing(IntegrityError, says(status=400, message="The md5 of the bytes differs"))

    assert not error.final


def test_a_byte_count_that_differs_cancels_and_begins_anew() -> None:
    """Some servers count a part twice that was sent twice: only a new upload mends that."""
    refusal = says(status=400, message="Expected 5 bytes, but 9 were uploaded.")
    script = Script(refusal, says({**UPLOAD, "status": "cancelled"}))

    with pytest.raises(SessionLost, match="twice"):
        drive(openai().complete(SESSION, RECEIPTS, MD5), script)

    assert script.lines[1] == "POST /v1/uploads/upload_abc/cancel"


@pytest.mark.parametrize(
    "answer",
    [
        says(status=400, message="Upload has expired before all bytes came."),
        says(status=400, message="Upload is cancelled."),
        says(status=400, message="No such part: part_b"),
    ],
)
def test_completing_an_upload_that_is_gone_begins_it_anew(answer: Response) -> None:
    completing(SessionLost, answer)


@pytest.mark.parametrize("status", [404, 410])
def test_one_that_is_not_known_begins_anew_when_it_made_no_file(status: int) -> None:
    gone = says(status=status, message="No such Upload object")

    completing(SessionLost, gone, says(NOTHING))
    completing(SessionLost, gone, says(status=403, message="missing scope"))


def test_another_refusal_of_the_completion_is_refused() -> None:
    assert completing(Refused, says(status=400, message="mime type not allowed")).status == 400
    completing(AuthError, says(status=403, message="no permission"))


def test_a_file_of_another_size_is_never_a_success() -> None:
    wrong = {**DONE, "file": {**MADE, "bytes": 4}}

    assert "file-abc" in str(completing(IntegrityError, says(wrong)))
    completing(IntegrityError, says({**DONE, "file": {"id": "file-abc"}}))


# A lost answer

LISTED = {"object": "list", "data": [MADE], "has_more": False}
NOTHING = {"object": "list", "data": [], "has_more": False}


def test_a_lost_answer_is_asked_for_once_more() -> None:
    result, script = complete(LOST, says(DONE))

    assert result.id == "file-abc"
    assert script.lines == ["POST /v1/uploads/upload_abc/complete"] * 2


@pytest.mark.parametrize(
    "refusal",
    [
        says(status=400, message="Upload is completed."),
        says(status=400, message="whatever"),
        says(status=404, message="No such Upload object"),
        says(status=422, message="no"),
    ],
)
def test_a_lost_answer_is_looked_for_among_the_files(refusal: Response) -> None:
    result, script = complete(LOST, refusal, says(LISTED))

    assert result.id == "file-abc"
    assert result.raw["file"] == MADE
    assert script.asked[-1].url == (
        "https://api.openai.com/v1/files?purpose=fine-tune&order=desc&limit=100"
    )


@pytest.mark.parametrize(
    "refusal",
    [
        says(status=400, message="Upload is completed."),
        says(status=404, message="No such Upload object"),
        says(status=410, message="Gone"),
    ],
)
def test_a_completed_upload_is_found_by_another_process_too(refusal: Response) -> None:
    result, _ = complete(refusal, says(LISTED))

    assert result.id == "file-abc"


def test_a_200_without_a_file_is_looked_into() -> None:
    for odd in (says(b""), says({"error": {"message": "oops"}}), says({**DONE, "file": None})):
        result, _ = complete(odd, says(LISTED))
        assert result.id == "file-abc"


@pytest.mark.parametrize(
    "change",
    [
        {"filename": "other.jsonl"},
        {"bytes": 4},
        {"created_at": CREATED - 1},
        {"purpose": "batch"},
        {"created_at": None},
        {"id": "a/b"},
    ],
)
def test_a_file_that_this_upload_cannot_have_made_is_not_taken_for_it(
    change: dict[str, Any],
) -> None:
    listed = {**LISTED, "data": [{**MADE, **change}, "nonsense"]}

    error = completing(
        OutcomeUnknown, LOST, says(status=400, message="Upload is completed."), says(listed)
    )

    assert "--fresh" in str(error)


def test_two_files_that_fit_are_not_guessed_between() -> None:
    listed = {**LISTED, "data": [MADE, {**MADE, "id": "file-two"}]}

    error = completing(OutcomeUnknown, LOST, says(status=404, message="no"), says(listed))

    assert "file-abc" in str(error)
    assert "file-two" in str(error)


def test_a_key_that_may_not_list_files_leaves_the_outcome_unknown() -> None:
    completing(
        OutcomeUnknown,
        LOST,
        says(status=400, message="Upload is completed."),
        says(status=403, message="missing scope"),
    )


def test_the_list_of_files_is_read_page_by_page() -> None:
    other = {**MADE, "id": "file-x", "filename": "x"}
    first = {"data": [other], "has_more": True}

    result, script = complete(LOST, says(status=404, message="no"), says(first), says(LISTED))

    assert result.id == "file-abc"
    assert script.asked[-1].query.endswith("&after=file-x")


def test_the_list_of_files_ends_when_the_server_does_not_end_it() -> None:
    def endless(number: int) -> Response:
        item = {**MADE, "id": f"file-{number}", "filename": "x"}
        return says({"data": [item], "has_more": True})

    gone = says(status=404, message="no")
    completing(OutcomeUnknown, LOST, gone, *(endless(number) for number in range(20)))
    completing(OutcomeUnknown, LOST, gone, endless(1), endless(1))
    completing(OutcomeUnknown, LOST, gone, says({"data": [], "has_more": True}))
    for nonsense in (5, {"a": 1}, "abc", [[]], None):
        completing(OutcomeUnknown, LOST, gone, says({"data": nonsense, "has_more": True}))
    old = says({"data": [{**MADE, "created_at": 1}], "has_more": True})
    completing(OutcomeUnknown, LOST, gone, old)


def test_an_answer_lost_again_and_again_is_looked_for_in_between() -> None:
    found, script = complete(LOST, LOST, says(NOTHING), LOST, says(LISTED))

    assert found.id == "file-abc"
    assert [line.split()[0] for line in script.lines] == ["POST", "POST", "GET", "POST", "GET"]


def test_an_answer_lost_for_good_leaves_the_outcome_unknown() -> None:
    answers: list[Response | Exception] = [LOST]
    for _ in range(5):
        answers += [LOST, says(NOTHING)]

    error = completing(OutcomeUnknown, *answers)

    assert error.__cause__ is LOST


def test_a_refusal_that_settles_it_is_believed_after_a_lost_answer() -> None:
    completing(SessionLost, LOST, says(status=400, message="Upload has expired."))
    completing(IntegrityError, LOST, says(status=400, message="md5 mismatch"))


# Afterwards


@pytest.mark.parametrize("status", [200, 400, 404, 410])
def test_cancelling_may_be_repeated(status: int) -> None:
    script = Script(says({}, status=status))

    drive(openai().abort(SESSION), script)

    assert script.lines == ["POST /v1/uploads/upload_abc/cancel"]
    assert script.asked[0].size == 0
    ends(AuthError, openai().abort(SESSION), says(status=401, message="no"))


@pytest.mark.parametrize("status", [200, 404])
def test_deleting_may_be_repeated(status: int) -> None:
    script = Script(says({}, status=status))

    drive(openai().delete(Result("file-abc")), script)

    assert script.lines == ["DELETE /v1/files/file-abc"]
    ends(AuthError, openai().delete(Result("file-abc")), says(status=403, message="no"))


def test_the_server_is_not_asked_what_it_cannot_tell() -> None:
    script = Script()

    assert drive(openai().held(SESSION), script) is None
    assert drive(openai().existing(FILE), script) is None
    assert drive(openai().list_open(), script) == ()


@pytest.mark.parametrize("purpose", [*PURPOSES, "something"])
@pytest.mark.parametrize("make", [openai, azure])
def test_the_next_cell_is_python_that_uses_the_file(
    make: Callable[..., OpenAI | AzureOpenAI], purpose: str
) -> None:
    cell = make(purpose=purpose).next_cell(Result("file-abc"))

    ast.parse(cell)
    assert "file-abc" in cell
    assert KEY not in cell
    assert max(map(len, cell.splitlines())) < 100


@pytest.mark.parametrize(
    ("purpose", "call"),
    [
        ("fine-tune", "fine_tuning.jobs.create"),
        ("batch", "batches.create"),
        ("assistants", "vector_stores.files.create"),
        ("vision", "responses.create"),
    ],
)
def test_the_next_cell_fits_the_purpose(purpose: str, call: str) -> None:
    assert call in openai(purpose=purpose).next_cell(Result("file-abc"))


def test_the_next_cell_goes_where_the_file_went() -> None:
    cell = openai(base_url="https://eu.api.openai.com/v1", organization="org-1").next_cell(
        Result("file-abc")
    )

    assert 'OpenAI(base_url="https://eu.api.openai.com/v1", organization="org-1")' in cell
    assert "OpenAI()" in openai().next_cell(Result("file-abc"))


# Azure


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://res.openai.azure.com/openai/uploads?api-version=2024-10-21"),
        (
            {"api_version": "2025-04-01-preview"},
            "https://res.openai.azure.com/openai/uploads?api-version=2025-04-01-preview",
        ),
        (
            {"endpoint": "https://res.openai.azure.com/openai/"},
            "https://res.openai.azure.com/openai/uploads?api-version=2024-10-21",
        ),
        ({"url_style": "v1"}, "https://res.openai.azure.com/openai/v1/uploads"),
        ({"api_version": "v1"}, "https://res.openai.azure.com/openai/v1/uploads"),
        (
            {"api_version": "preview"},
            "https://res.openai.azure.com/openai/v1/uploads?api-version=preview",
        ),
        (
            {"endpoint": "https://res.openai.azure.com/openai/v1/"},
            "https://res.openai.azure.com/openai/v1/uploads",
        ),
        (
            {"endpoint": "https://res.openai.azure.com/openai/v1", "url_style": "dated"},
            "https://res.openai.azure.com/openai/uploads?api-version=2024-10-21",
        ),
    ],
)
def test_azure_has_two_kinds_of_addresses(fields: dict[str, str], url: str) -> None:
    assert next(azure(**fields).create(FILE, 4)).url == url


def test_azure_sends_its_version_with_every_call() -> None:
    provider = azure()
    flows: Iterable[Flow[Any]] = (
        provider.create(FILE, 4),
        put(provider),
        provider.complete(SESSION, RECEIPTS, MD5),
        provider.abort(SESSION),
        provider.delete(Result("file-abc")),
    )

    assert {next(flow).query for flow in flows} == {"api-version=2024-10-21"}


def test_azure_takes_a_key_or_a_token() -> None:
    by_key = next(azure().abort(SESSION)).headers
    by_token = next(azure(api_key=None, ad_token=Secret("eyJ")).abort(SESSION)).headers

    assert dict(by_key) == {"api-key": KEY}
    assert dict(by_token) == {"Authorization": "Bearer eyJ"}
    assert dict(next(azure(ad_token=Secret("eyJ")).abort(SESSION)).headers) == dict(by_token)


def test_azure_without_a_key_or_an_address_says_what_it_looked_for() -> None:
    with pytest.raises(CredentialsMissing, match=r"AZURE_OPENAI_API_KEY and AZURE_OPENAI_AD_TOKEN"):
        azure(api_key=None)
    with pytest.raises(InvalidUpload, match="AZURE_OPENAI_ENDPOINT"):
        azure(endpoint=None)
    with pytest.raises(InvalidUpload, match="dated and v1"):
        azure(url_style="old")
    with pytest.raises(InvalidUpload, match="no API version"):
        azure(api_version="1&api-key=x")


def test_every_setting_comes_from_the_variables_of_the_official_sdk() -> None:
    names = {need.field: need.variables for kind in (OpenAI, AzureOpenAI) for need in kind.needs}

    assert {name for each in names.values() for name in each} == {
        "OPENAI_BASE_URL",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_AD_TOKEN",
        "AZURE_OPENAI_ENDPOINT",
        "OPENAI_API_VERSION",
    }
    assert OpenAI.needs[0].variables == ("OPENAI_API_KEY",)
    assert all(
        need.secret == ("key" in need.field or "token" in need.field)
        for kind in (OpenAI, AzureOpenAI)
        for need in kind.needs
    )


def test_a_timeout_of_ones_own_goes_with_every_request() -> None:
    one = openai(timeout=7)
    flows: list[Flow[Any]] = [
        one.create(FILE, 100),
        one.put_part(SESSION, Part(1, 0, 5), Body.of(b"abcde")),
        one.complete(SESSION, [PartReceipt(1, 5, "part_1")]),
        one.abort(SESSION),
    ]

    assert [next(flow).within for flow in flows] == [7, 7, 7, 7]


def test_an_md5_of_ones_own_is_compared_even_when_nothing_else_is() -> None:
    with pytest.raises(IntegrityError, match="nothing was completed"):
        chunkup_jupyter.upload(
            b"hello", "openai:user_data", name="x", md5="0" * 32, verify="none", sandbox=True
        )
