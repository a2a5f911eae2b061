"""The flows of TwelveLabs: exact requests, and every awkward answer."""

from __future__ import annotations

import ast
import asyncio
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkup_jupyter import digests, plan
from chunkup_jupyter.errors import (
    AuthError,
    CredentialsMissing,
    EmptyFile,
    InsecureConnection,
    IntegrityError,
    InvalidUpload,
    ProtocolError,
    Refused,
    SessionLost,
)
from chunkup_jupyter.model import (
    Body,
    FileInfo,
    Flow,
    NotYet,
    Part,
    PartReceipt,
    Result,
    Session,
    drive,
)
from chunkup_jupyter.providers.twelvelabs import TwelveLabs
from chunkup_jupyter.providers.twelvelabs.addresses import check_presigned
from chunkup_jupyter.providers.twelvelabs.settings import IMAGE_MOST, RULES
from chunkup_jupyter.sandbox.faults import Fault, Faulty, On
from chunkup_jupyter.sandbox.twelvelabs import TwelveLabsSandbox
from chunkup_jupyter.secrets import Secret
from chunkup_jupyter.transport import Transport
from chunkup_jupyter.wire import Headers, MemoryClient, Request, Response

KEY = "tlk_canary_5f1c"
API = "https://api.twelvelabs.io/v1.3"
NOW = 1_795_000_000.0
FILE = FileInfo("film.mp4", 25, "video/mp4")
MD5 = digests.of("md5", b"x" * 10)
SESSION = Session(
    "upl1",
    FILE,
    10,
    {
        "asset_id": "asset1",
        "total_chunks": "3",
        "upload_headers": '{"Content-Type": "application/octet-stream"}',
    },
    NOW + 86400,
)
MANY = replace(SESSION, file=replace(FILE, size=1200), part_size=10)
RECEIPTS = (
    PartReceipt(1, 10, "e1", f"md5:{MD5}"),
    PartReceipt(2, 10, "e2", f"md5:{MD5}"),
    PartReceipt(3, 5, "e3", f"md5:{MD5}"),
)


def stamp(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def made(**fields: Any) -> TwelveLabs:
    fields = {"type": "video", "api_key": Secret(KEY), "now": lambda: NOW, **fields}
    return TwelveLabs(**fields)


def url_of(number: int, generation: int = 1) -> str:
    return f"https://bucket.s3.amazonaws.com/upl1/{number}?X-Amz-Signature=canary{generation}"


def urls(*numbers: int, generation: int = 1, life: float = 3600) -> list[dict[str, Any]]:
    return [
        {"chunk_index": n, "url": url_of(n, generation), "expires_at": stamp(NOW + life)}
        for n in numbers
    ]


def created(**changes: Any) -> dict[str, Any]:
    answer = {
        "upload_id": "upl1",
        "asset_id": "asset1",
        "upload_urls": urls(1, 2, 3),
        "upload_headers": {"Content-Type": "application/octet-stream"},
        "chunk_size": 10,
        "total_chunks": 3,
        "expires_at": stamp(NOW + 86400),
        **changes,
    }
    return {name: value for name, value in answer.items() if value is not ...}


def said(body: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, Headers(headers), json.dumps(body).encode(), API)


def stored(etag: str | None = "e1", status: int = 200, **headers: str) -> Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, Headers({**fields, **({"etag": etag} if etag else {})}))


def no(status: int, code: str, message: str = "") -> Response:
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(status, content=text.encode(), url="https://bucket.s3.amazonaws.com/upl1/1")


EXPIRED = no(403, "AccessDenied", "Request has expired")


def status(state: str = "active", done: Any = (), page: int = 1, **changes: Any) -> Response:
    chunks = [{"index": n, "status": "completed"} for n in done]
    info = {"page": page, "total_page": 1, "limit_per_page": 50, "total_results": len(chunks)}
    answer = {"upload_id": "upl1", "status": state, "uploaded_chunks": chunks, "page_info": info}
    return said({**answer, **changes})


def play(flow: Flow[Any], *answers: Response) -> tuple[list[Request], Any]:
    """Give a flow these answers; return its requests and its value. All must be used."""
    asked, left = [], list(answers)
    try:
        request = next(flow)
        while True:
            asked.append(request)
            assert left, f"{request!r} was not expected"
            request = flow.send(left.pop(0))
    except StopIteration as end:
        assert not left, f"{len(left)} answers were not asked for"
        return asked, end.value


def pestered(flow: Flow[Any], answer: Callable[[int], Response]) -> int:
    """Answer a flow until it has enough; return how many requests that took."""
    next(flow)
    for asked in range(1, 1000):
        try:
            flow.send(answer(asked))
        except StopIteration:
            return asked
    raise AssertionError("it never had enough")


def opened(provider: TwelveLabs, **changes: Any) -> Session:
    return play(provider.create(FILE, 0), said(created(**changes), 201))[1]


def put(provider: TwelveLabs, session: Session, number: int = 1) -> Flow[PartReceipt]:
    part = plan.part_at(number, session.file.size, session.part_size)
    return provider.put_part(session, part, sent(b"x" * part.size))


def sent(data: bytes) -> Body:
    """Return a body that has gone over the wire."""
    body = Body.of(data)
    b"".join(body)
    return body


def more(*numbers: int, generation: int = 2, life: float = 3600) -> Response:
    return said(
        {"upload_id": "upl1", "upload_urls": urls(*numbers, generation=generation, life=life)}
    )


class TestWhere:
    def test_the_type_follows_the_colon(self):
        provider = TwelveLabs.from_url("twelvelabs:audio", api_key=Secret(KEY))

        assert (provider.type, provider.url, provider.kind) == (
            "audio",
            "twelvelabs:audio",
            "twelvelabs:audio",
        )

    def test_the_option_wins(self):
        assert TwelveLabs.from_url("twelvelabs:video", type="image").url == "twelvelabs:image"

    @pytest.mark.parametrize("url", ["twelvelabs:", "twelvelabs://", "twelvelabs:a/b"])
    def test_a_missing_type_lists_the_types(self, url):
        with pytest.raises(InvalidUpload, match=r"video, twelvelabs:audio, twelvelabs:image"):
            TwelveLabs.from_url(url, api_key=Secret(KEY))

    def test_an_unknown_type_passes_with_a_warning(self):
        provider = made(type="document")

        (warning,) = provider.check(FILE)

        assert "'document'" in warning
        request = next(provider.create(FILE, 0))
        assert json.loads(request.content)["type"] == "document"

    def test_keys_come_from_variables_of_its_own_only(self):
        names = [name for need in TwelveLabs.needs for name in need.variables if need.secret]

        assert names == ["TWELVELABS_API_KEY", "TWELVE_LABS_API_KEY", "TL_API_KEY"]

    @pytest.mark.parametrize("base", ["http://api.example/v1.3", "http://10.0.0.3:80/v1.3"])
    def test_plain_http_is_for_this_machine(self, base):
        with pytest.raises(InsecureConnection, match="https"):
            made(base_url=base)
        assert made(base_url=base, allow_insecure=True).base_url == base
        assert made(base_url="http://127.0.0.1:9/v1.3/").base_url == "http://127.0.0.1:9/v1.3"

    @pytest.mark.parametrize(
        "base", ["ftp://api.example", "api.example/v1.3", "https://u:p@a.example", "https://a.b?c"]
    )
    def test_a_base_url_is_an_address(self, base):
        with pytest.raises(InvalidUpload):
            made(base_url=base)

    def test_two_keys_are_two_accounts_and_neither_shows(self):
        one, other = made(), made(api_key=Secret("other"))

        assert one.account != other.account
        assert KEY not in one.account + repr(one)

    def test_another_server_is_another_account(self):
        one, other = made(), made(base_url="https://api.example/v1.3")

        assert one.account != other.account

    def test_a_key_given_as_text_is_hidden_too(self):
        assert KEY not in repr(made(api_key=KEY))

    def test_without_a_key_nothing_is_sent(self):
        with pytest.raises(CredentialsMissing, match="TWELVELABS_API_KEY"):
            next(made(api_key=Secret("")).create(FILE, 0))


class TestCheck:
    def test_a_good_file_has_no_warnings(self):
        assert not made().check(FILE)
        assert not plan.check_size(FILE, RULES)

    def test_a_file_has_at_least_one_byte(self):
        with pytest.raises(EmptyFile):
            plan.check_size(FileInfo("film.mp4", 0), RULES)

    def test_a_size_the_vendor_is_of_two_minds_about_is_a_warning(self):
        (warning,) = plan.check_size(FileInfo("film.mp4", (4 << 30) + 1), RULES)

        assert "4 GB" in warning
        assert "10 GB" in warning
        assert "2026-02" in warning

    def test_a_part_size_is_refused_because_the_server_decides(self):
        with pytest.raises(InvalidUpload, match="server decides"):
            plan.check_part_size(1 << 20, 1 << 30, RULES)

    def test_a_large_image_is_a_warning(self):
        assert not made(type="image").check(FileInfo("a.png", IMAGE_MOST))
        assert "32 MB" in made(type="image").check(FileInfo("a.png", IMAGE_MOST + 1))[0]

    @pytest.mark.parametrize("name", ["", "x" * 256])
    def test_a_name_has_1_to_255_characters(self, name):
        with pytest.raises(InvalidUpload, match="255"):
            made().check(FileInfo(name, 3))

    @pytest.mark.parametrize("value", [{"a": 1}, [1], float("nan"), b"x"])
    def test_metadata_it_cannot_take_is_refused_before_any_request(self, value):
        with pytest.raises(InvalidUpload, match="metadata"):
            made(meta={"k": value}).check(FILE)


class TestCreate:
    def test_the_request(self):
        request = next(made().create(FILE, 99))

        assert (request.method, request.url) == ("POST", f"{API}/assets/multipart-uploads")
        assert request.headers["x-api-key"] == KEY
        assert request.headers["Content-Type"] == "application/json"
        assert json.loads(request.content) == {
            "filename": "film.mp4",
            "type": "video",
            "total_size": 25,
        }
        assert not request.once

    def test_its_options(self):
        meta = {"a": "b", "n": 3, "wide": 1 << 53, "tags": ("x", "y"), "none": None, "empty": ""}

        request = next(made(hls=True, thumbnail=True, meta=meta).create(FILE, 0))

        body = json.loads(request.content)
        assert body["enable_hls"] is True
        assert body["enable_thumbnail"] is True
        assert body["user_metadata"] == {
            "a": "b",
            "n": 3,
            "wide": "9007199254740992",
            "tags": ["x", "y"],
        }

    @pytest.mark.parametrize("code", [200, 201, 202])
    def test_the_session(self, code):
        _, session = play(made().create(FILE, 99), said(created(), code))

        assert session == SESSION

    def test_the_session_holds_no_url(self):
        provider = made()

        session = opened(provider)

        assert "canary" not in json.dumps(session.to_json())
        assert "canary" not in repr(provider) + repr(vars(provider))
        with pytest.raises(TypeError):
            pickle.dumps(vars(provider)["_urls"])

    def test_what_may_be_missing(self):
        session = opened(made(), upload_urls=..., upload_headers=..., expires_at=...)

        assert session == SESSION

    @pytest.mark.parametrize(
        "changes",
        [
            {"upload_id": None},
            {"upload_id": "../.."},
            {"upload_id": ".."},
            {"upload_id": "a/b"},
            {"upload_id": "a\r\nb"},
            {"upload_id": "x" * 300},
            {"upload_id": 7},
            {"asset_id": ""},
            {"asset_id": "a?b"},
            {"chunk_size": 0},
            {"chunk_size": -5},
            {"chunk_size": 10**18, "total_chunks": 1},
            {"chunk_size": 10.0},
            {"chunk_size": True, "total_chunks": 25},
            {"chunk_size": "10"},
            {"chunk_size": float("nan")},
            {"total_chunks": 2},
            {"total_chunks": 4},
            {"total_chunks": None},
            {"expires_at": "soon"},
            {"expires_at": 17},
            {"expires_at": stamp(NOW - 100)},
            {"upload_urls": {"1": "https://a.example"}},
            {"upload_urls": ["https://a.example"]},
            {"upload_urls": urls(1, 1)},
            {"upload_urls": urls(0)},
            {"upload_urls": urls(4)},
            {"upload_urls": [{"chunk_index": 1, "url": None}]},
            {"upload_urls": [{"chunk_index": 1, "url": "https://169.254.169.254/canary"}]},
            {"upload_urls": [{"chunk_index": 1, "url": url_of(1), "expires_at": "NaN"}]},
            {"upload_headers": ["a"]},
            {"upload_headers": {"Content-Type": "a\r\nx: y"}},
            {"upload_headers": {"Content-Type": 3}},
        ],
        ids=str,
    )
    def test_nonsense_is_a_protocol_error(self, changes):
        answer = said(created(**changes), 201)

        with pytest.raises(ProtocolError) as error:
            play(made().create(FILE, 0), answer, answer, answer)

        assert "canary" not in str(error.value)

    def test_a_chunk_size_that_makes_millions_of_parts_is_nonsense(self):
        big = FileInfo("film.mp4", 4_000_000)

        with pytest.raises(ProtocolError, match="total_chunks"):
            play(made().create(big, 0), said(created(chunk_size=1, total_chunks=4_000_000)))

    def test_a_403_says_that_it_may_be_a_preview(self):
        answer = said({"code": "not_authorized", "message": "No access"}, 403)

        with pytest.raises(AuthError, match="preview that is not enabled") as error:
            play(made().create(FILE, 0), answer)

        assert (error.value.status, error.value.code) == (403, "not_authorized")
        assert "No access" in str(error.value)
        assert not error.value.expired

    def test_a_401_may_be_mended_by_another_key(self):
        with pytest.raises(AuthError, match="api_key_invalid") as error:
            play(made().create(FILE, 0), said({"code": "api_key_invalid", "message": ""}, 401))

        assert error.value.expired

    @pytest.mark.parametrize(
        "body",
        [
            {"code": "video_filesize_too_large", "message": "Too large"},
            {"error": {"code": "video_filesize_too_large", "message": "Too large"}},
        ],
    )
    def test_both_shapes_of_errors_are_read(self, body):
        with pytest.raises(Refused, match="video_filesize_too_large: Too large"):
            play(made().create(FILE, 0), said(body, 400))

    @pytest.mark.parametrize(
        "odd",
        [
            Response(200),
            Response(200, content=b"<html>busy</html>"),
            Response(200, content=b"[1]"),
            said({"error": {"code": "internal", "message": "oops"}}),
        ],
        ids=["empty", "html", "list", "an error"],
    )
    def test_a_200_without_an_answer_is_asked_again_and_never_success(self, odd):
        asked, session = play(made().create(FILE, 0), odd, odd, said(created(), 201))
        assert session == SESSION
        assert len(asked) == 3

        with pytest.raises(ProtocolError):
            play(made().create(FILE, 0), odd, odd, odd)

    def test_a_wrong_clock_is_put_right_by_the_servers(self):
        """A laptop a day ahead: the session is alive, and ends in a day by our clock."""
        wrong = made(now=lambda: NOW + 90_000)
        answer = said(created(), 201, date=formatdate(NOW, usegmt=True))

        _, session = play(wrong.create(FILE, 0), answer)

        assert session.expires_at == pytest.approx(NOW + 90_000 + 86_400)
        assert next(put(wrong, session)).url == url_of(1)  # and its URLs are fresh


class TestPutPart:
    def test_the_request_goes_to_the_presigned_url_without_the_key(self):
        provider = made()
        session = opened(provider)
        body = sent(b"x" * 10)

        request = next(provider.put_part(session, Part(1, 0, 10), body))

        assert (request.method, request.url) == ("PUT", url_of(1))
        assert dict(request.headers) == {"Content-Type": "application/octet-stream"}
        assert request.content is body
        assert request.public_only
        assert KEY not in str(vars(request))

    def test_a_sandbox_on_this_machine_may_name_itself(self):
        provider = made(base_url="http://127.0.0.1:9/v1.3")
        here = [{"chunk_index": 1, "url": "http://127.0.0.1:9/storage/1?s=1"}]
        session = opened(provider, upload_urls=here)

        assert not next(put(provider, session)).public_only

    def test_the_sessions_headers_are_sent_but_for_those_that_must_not(self):
        provider = made()
        forbidden = {
            "Authorization": "Bearer x",
            "HOST": "evil.example",
            "cookie": "a=b",
            "X-Api-Key": "x",
            "Transfer-Encoding": "chunked",
            "Content-Length": "5",
            "Connection": "close",
            "Content-Encoding": "gzip",
        }
        wanted = {"content-type": "video/mp4", "x-amz-server-side-encryption": "AES256"}
        session = opened(provider, upload_headers={**forbidden, **wanted})

        assert next(put(provider, session)).headers == wanted

    @pytest.mark.parametrize("etag", [f'"{MD5}"', MD5, f'W/"{MD5}"', f'"{MD5.upper()}"'])
    def test_the_etag_is_the_receipt_and_the_md5_its_proof(self, etag):
        provider = made()
        session = opened(provider)

        _, receipt = play(put(provider, session), stored(etag))

        token = etag.removeprefix("W/").strip('"')
        assert receipt == PartReceipt(1, 10, token, f"md5:{MD5}")

    def test_other_bytes_are_an_integrity_error(self):
        provider = made()
        session = opened(provider)

        with pytest.raises(IntegrityError, match="part 1") as error:
            play(put(provider, session), stored(f'"{digests.of("md5", b"other")}"'))

        assert not error.value.final
        assert "--verify none" in str(error.value)

    @pytest.mark.parametrize(
        ("etag", "headers"),
        [
            ("0x8DB5C-2", {}),
            ("f" * 32, {"x_amz_server_side_encryption": "aws:kms"}),
            ("f" * 32, {"x_amz_server_side_encryption_customer_algorithm": "AES256"}),
        ],
    )
    def test_an_etag_that_is_no_md5_proves_nothing(self, etag, headers):
        provider = made()
        session = opened(provider)

        _, receipt = play(put(provider, session), stored(etag, **headers))

        assert (receipt.token, receipt.checksum) == (etag, "")

    def test_without_a_digest_nothing_is_claimed(self):
        provider = made()
        session = opened(provider)
        flow = provider.put_part(session, Part(1, 0, 10), Body.of(b"x" * 10, ()))

        _, receipt = play(flow, stored("f" * 32))

        assert receipt.checksum == ""

    def test_a_missing_url_is_fetched_with_those_after_it(self):
        provider = made()

        asked, _ = play(put(provider, MANY, 7), more(*range(7, 57)), stored())

        assert asked[0].method == "POST"
        assert asked[0].url == f"{API}/assets/multipart-uploads/upl1/presigned-urls"
        assert json.loads(asked[0].content) == {"start": 7, "count": 50}
        assert asked[0].headers["x-api-key"] == KEY
        assert asked[1].url == url_of(7, 2)

    def test_no_more_urls_are_asked_for_than_there_are_parts(self):
        asked, _ = play(put(made(), MANY, 118), more(118, 119, 120), stored())

        assert json.loads(asked[0].content) == {"start": 118, "count": 3}

    def test_the_next_fifty_are_fetched_by_one_part_before_they_are_missed(self):
        provider = made()
        play(put(provider, MANY, 1), more(*range(1, 51)), stored())
        play(put(provider, MANY, 2), stored())

        ahead = put(provider, MANY, 40)
        request = next(ahead)
        assert json.loads(request.content) == {"start": 51, "count": 50}
        # Another worker does not ask the same while that is in the air …
        assert next(put(provider, MANY, 41)).method == "PUT"
        # … and the part itself goes to the URL it had.
        assert ahead.send(more(*range(51, 101))).url == url_of(40, 2)
        assert next(put(provider, MANY, 100)).method == "POST"

    def test_an_url_is_not_used_beyond_four_fifths_of_its_life(self):
        clock = [NOW]
        provider = made(now=lambda: clock[0])
        session = opened(provider)
        clock[0] = NOW + 0.79 * 3600
        assert next(put(provider, session, 1)).method == "PUT"

        clock[0] = NOW + 0.81 * 3600
        request = next(put(provider, session, 2))

        assert json.loads(request.content) == {"start": 2, "count": 2}

    def test_an_url_that_comes_stale_is_tried_not_fetched_for_ever(self):
        asked, _ = play(put(made(), SESSION), more(1, life=-50), stored())

        assert [each.method for each in asked] == ["POST", "PUT"]

    def test_an_url_is_never_used_twice(self):
        provider = made()
        session = opened(provider)
        play(put(provider, session), stored())

        asked, _ = play(put(provider, session), more(1, 2, 3), stored())

        assert asked[1].url == url_of(1, 2)

    @pytest.mark.parametrize(
        "refusal",
        [
            EXPIRED,
            no(403, "SignatureDoesNotMatch"),
            Response(403),
            no(400, "ExpiredToken"),
            no(400, "RequestTimeout"),
            stored(None),
            stored('""'),
            Response(200, Headers({"etag": "e"}), b"<?xml?><Error><Code>InternalError</Code>"),
        ],
        ids=["expired", "signature", "bare", "token", "timeout", "no etag", "empty", "error"],
    )
    def test_what_a_fresh_url_may_mend_costs_one(self, refusal):
        provider = made()
        session = opened(provider)

        asked, receipt = play(put(provider, session), refusal, more(1, 2, 3), stored())

        assert [each.method for each in asked] == ["PUT", "POST", "PUT"]
        assert asked[2].url == url_of(1, 2)
        assert receipt.token == "e1"

    def test_it_is_mended_up_to_eight_times(self):
        provider = made()
        session = opened(provider)
        seven = [EXPIRED, more(1)] * 7

        play(put(provider, session), *seven, stored())

        session = opened(provider)
        with pytest.raises(Refused, match="refused 8 fresh URLs: AccessDenied Request has expired"):
            play(put(provider, session), *seven, EXPIRED)

    def test_a_signature_that_never_matches_is_no_matter_of_urls(self):
        provider = made()
        session = opened(provider)
        refusal = no(403, "SignatureDoesNotMatch", "look at the headers")

        with pytest.raises(Refused, match="refused 2 fresh URLs: SignatureDoesNotMatch look at"):
            play(put(provider, session), refusal, more(1), refusal)

    def test_a_storage_that_never_gives_an_etag_is_an_error(self):
        provider = made()
        session = opened(provider)

        with pytest.raises(ProtocolError, match=r"part 1: .* without an ETag"):
            play(put(provider, session), stored(None), *[more(1), stored(None)] * 7)

    def test_a_storage_that_forgot_the_upload_means_a_new_session(self):
        provider = made()
        session = opened(provider)

        with pytest.raises(SessionLost):
            play(put(provider, session), no(404, "NoSuchUpload"))

    @pytest.mark.parametrize(
        "refusal", [no(400, "EntityTooSmall"), no(411, "MissingContentLength"), no(501, "No")]
    )
    def test_our_own_mistakes_are_not_repeated(self, refusal):
        provider = made()
        session = opened(provider)

        with pytest.raises(Refused, match="part 1"):
            play(put(provider, session), refusal)

    def test_no_redirect_is_taken_for_success(self):
        provider = made()
        session = opened(provider)
        elsewhere = Response(307, Headers({"location": "https://evil.example/"}))

        with pytest.raises(Refused, match="307"):
            play(put(provider, session), elsewhere)

    def test_no_error_shows_the_url(self):
        provider = made()
        session = opened(provider)
        refused = Response(400, content=b"<Error><Code>X</Code></Error>", url=url_of(1))

        with pytest.raises(Refused) as error:
            play(put(provider, session), refused)

        assert "canary" not in str(error.value)
        assert error.value.host == "bucket.s3.amazonaws.com"

    def test_an_answer_without_the_url_that_was_asked_for_is_an_error(self):
        with pytest.raises(ProtocolError, match="URL of part 1"):
            play(put(made(), SESSION), more(2, 3))

    @pytest.mark.parametrize("code", [404, 410])
    def test_a_session_that_is_gone_is_told_apart(self, code):
        with pytest.raises(SessionLost):
            play(put(made(), SESSION), said({"code": "resource_not_exist"}, code))

    def test_a_refused_range_asks_whether_the_session_is_over(self):
        bad = said({"code": "parameter_invalid", "message": "expired"}, 400)

        with pytest.raises(SessionLost, match="expired"):
            play(put(made(), SESSION), bad, status("expired"))
        with pytest.raises(Refused, match="parameter_invalid"):
            play(put(made(), SESSION), bad, status("active"))

    @pytest.mark.parametrize("fault", [Fault.DROP_AFTER, Fault.LOSE_ANSWER, Fault.REFUSE])
    def test_an_expired_url_is_renewed_even_when_the_renewals_answer_is_lost(self, fault):
        sandbox = TwelveLabsSandbox()
        sandbox.shrink(chunk_size=10)
        script = [On(Fault.EXPIRE_URLS, "PUT", "/storage/"), On(fault, "POST", "/presigned-urls")]
        client = MemoryClient(Faulty(sandbox, script=script).handle)
        provider = made(base_url=sandbox.base_url, api_key=Secret(sandbox.api_key), now=sandbox.now)
        session = drive(provider.create(FILE, 0), sandbox.handle)

        async def nap(seconds: float) -> None:
            pass

        transport = Transport(client, provider.rules, sleep=nap)
        receipt = asyncio.run(transport.run(put(provider, session), 1))

        assert receipt == PartReceipt(1, 10, MD5, f"md5:{MD5}")

    def test_a_part_whose_answer_is_lost_is_sent_again_to_a_fresh_url(self):
        """The URL worked once, so the transport's own repetition meets a 403."""
        sandbox = TwelveLabsSandbox()
        sandbox.shrink(chunk_size=10)
        faulty = Faulty(sandbox, script=[On(Fault.DROP_AFTER, "PUT")])
        provider = made(base_url=sandbox.base_url, api_key=Secret(sandbox.api_key), now=sandbox.now)
        session = drive(provider.create(FILE, 0), sandbox.handle)

        async def nap(seconds: float) -> None:
            pass

        transport = Transport(MemoryClient(faulty.handle), provider.rules, sleep=nap)
        asyncio.run(transport.run(put(provider, session), 1))

        assert sandbox.seen["put"] == 2
        assert sandbox.seen["presigned-urls"] == 1


def spellings(address: IPv4Address) -> Iterator[str]:
    """Yield the ways to write an IPv4 address that resolvers understand."""
    number = int(address)
    a, b, c, d = address.packed
    yield from (f"{address}", f"{address}.", f"{number}", f"{number:#x}", f"0{number:o}")
    yield from (f"{a}.{number & 0xFFFFFF}", f"{a:#x}.{b}.{number & 0xFFFF}", f"0{a:o}.{b}.{c}.{d}")
    yield from (f"[::ffff:{address}]", f"[::ffff:{number >> 16:x}:{number & 0xFFFF:x}]")
    yield from (f"[64:ff9b::{address}]", f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::]")


PRIVATE = ("127.0.0.0", "10.0.0.0", "172.16.0.0", "192.168.0.0", "169.254.0.0", "100.64.0.0")


class TestPresignedUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "https://bucket.s3.amazonaws.com/a/b?X-Amz-Signature=1",
            "https://storage.googleapis.com/b/o?sig=1",
            "https://8.8.8.8/b",
            "https://[2600:1f14::1]:9000/b",
            "https://bucket.example:8443/b",
        ],
    )
    def test_public_storage_is_fine(self, url):
        assert check_presigned(url, API) == url

    @pytest.mark.parametrize(
        "url",
        [
            None,
            7,
            "",
            "not a url",
            "//host.example/x",
            "http://bucket.example/x",
            "file:///etc/passwd",
            "ftp://bucket.example/x",
            "https://key:secret@bucket.example/x",
            "https://@bucket.example/x",
            "https://bucket.example/x#fragment",
            "https:///x",
            "https://bucket.example:99999/x",
            "https://bucket.example/a b",
            "https://bucket.example/\r\nHost: evil",
            "https://bucket.example\\@evil.example/",
            "https://bücket.example/x",
            "https://%31%32%37.0.0.1/x",
            "https://localhost/x",
            "https://localhost./x",
            "https://a.localhost/x",
            "https://metadata.google.internal/x",
            "https://intranet/x",
            "https://0/x",
            "https://0.0.0.0/x",
            "https://127.1/x",
            "https://[::1]/x",
            "https://[::]/x",
            "https://[::127.0.0.1]/x",
            "https://[fe80::1]/x",
            "https://[fe80::1%25eth0]/x",
            "https://[fd00::1]/x",
            "https://[fec0::1]/x",
            "https://[ff02::1]/x",
            "https://224.0.0.1/x",
            "https://240.0.0.1/x",
            "https://256.256.256.256/x",
            "https://1.2.3.4.5/x",
            "https://0x/x",
            "https://bucket.example/" + "x" * 9000,
        ],
    )
    def test_anything_else_is_refused_and_not_quoted(self, url):
        with pytest.raises(ProtocolError, match="storage address") as error:
            check_presigned(url, API)

        assert "secret" not in str(error.value)

    @given(st.sampled_from(PRIVATE), st.integers(0, 0xFFFF), st.data())
    def test_a_private_address_is_refused_in_every_spelling(self, network, low, data):
        address = IPv4Address(int(IPv4Address(network)) + low)

        host = data.draw(st.sampled_from(list(spellings(address))))

        with pytest.raises(ProtocolError):
            check_presigned(f"https://{host}/x", API)

    @given(st.sampled_from(["8.8.8.8", "52.95.110.1", "93.184.216.34"]), st.data())
    def test_a_public_one_is_not(self, address, data):
        host = data.draw(st.sampled_from(list(spellings(IPv4Address(address)))))

        assert check_presigned(f"https://{host}/x", API)

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1:7/x", "http://localhost:7/x", "http://[::1]/x"]
    )
    def test_an_api_on_this_machine_may_have_its_storage_here(self, url):
        assert check_presigned(url, "http://127.0.0.1:9/v1.3") == url
        with pytest.raises(ProtocolError):
            check_presigned("http://169.254.169.254/x", "http://127.0.0.1:9/v1.3")
        with pytest.raises(ProtocolError):
            check_presigned("file:///etc/passwd", "http://127.0.0.1:9/v1.3")


def page(number: int, of: int, chunks: Any, **changes: Any) -> Response:
    return status(
        uploaded_chunks=[{"index": n, "status": s} for n, s in chunks],
        page_info={"page": number, "total_page": of},
        **changes,
    )


class TestHeld:
    def test_all_pages_are_read(self):
        first = page(1, 3, [(n, "completed") for n in range(1, 51)])
        second = page(2, 3, [(n, "pending") for n in range(51, 101)])
        third = page(3, 3, [(119, "failed"), (120, "completed")])

        asked, held = play(made().held(MANY), first, second, third)

        assert [each.query for each in asked] == [f"page={n}&page_limit=50" for n in (1, 2, 3)]
        assert asked[0].path == "/v1.3/assets/multipart-uploads/upl1"
        assert [(each.number, each.size, each.token) for each in held] == [
            *((n, 10, "") for n in range(1, 51)),
            (120, 10, ""),
        ]

    def test_the_last_part_is_as_long_as_it_is(self):
        _, held = play(made().held(SESSION), status(done=[3]))

        assert held == (PartReceipt(3, 5),)

    def test_pages_end_at_an_empty_one(self):
        first = page(1, 99, [(1, "completed")])

        asked, held = play(made().held(MANY), first, page(2, 99, []))

        assert len(held) == 1
        assert len(asked) == 2

    def test_pages_end_at_one_that_was_there_already(self):
        again = page(1, 10**9, [(n, "pending") for n in range(1, 11)])

        asked, _ = play(made().held(MANY), again, again)

        assert len(asked) == 2

    def test_pages_end_though_the_server_never_says_so(self):
        """An endless listing costs at most one request more than there can be pages."""
        asked = pestered(made().held(MANY), lambda n: page(n, 10**9, [(min(n, 120), "completed")]))

        assert asked == 121

    def test_pages_that_shrink_do_not_make_more_of_them(self):
        def answer(n: int) -> Response:
            chunks = range(1, 51) if n == 1 else [49 + n]
            return page(n, 10**9, [(each, "completed") for each in chunks])

        assert pestered(made().held(MANY), answer) == 4

    @pytest.mark.parametrize(
        "bad",
        [
            {"uploaded_chunks": 3},
            {"uploaded_chunks": [3]},
            {"uploaded_chunks": [{"index": 0}]},
            {"uploaded_chunks": [{"index": 121}]},
            {"uploaded_chunks": [{"index": "1"}]},
            {"uploaded_chunks": [{"index": 1e300}]},
        ],
    )
    def test_nonsense_is_a_protocol_error(self, bad):
        with pytest.raises(ProtocolError):
            play(made().held(MANY), status(**bad))

    @pytest.mark.parametrize("state", ["expired", "failed"])
    def test_a_session_that_is_over_is_lost(self, state):
        with pytest.raises(SessionLost, match=state):
            play(made().held(SESSION), status(state, done=[1]))

    @pytest.mark.parametrize("code", [404, 410])
    def test_so_is_an_unknown_one(self, code):
        with pytest.raises(SessionLost, match="no longer knows"):
            play(made().held(SESSION), said({"code": "resource_not_exist", "message": ""}, code))


class TestAcknowledge:
    def test_the_report(self):
        asked, _ = play(made().acknowledge(SESSION, RECEIPTS[:2]), said({"total_completed": 2}))

        (request,) = asked
        assert request.method == "POST"
        assert request.url == f"{API}/assets/multipart-uploads/upl1"
        assert json.loads(request.content) == {
            "completed_chunks": [
                {"chunk_index": 1, "proof": "e1", "proof_type": "etag", "chunk_size": 10},
                {"chunk_index": 2, "proof": "e2", "proof_type": "etag", "chunk_size": 10},
            ]
        }

    def test_at_most_fifty_go_in_one(self):
        receipts = [PartReceipt(n, 10, f"e{n}") for n in range(1, 121)]

        asked, _ = play(made().acknowledge(MANY, receipts), *[said({})] * 3)

        sizes = [len(json.loads(each.content)["completed_chunks"]) for each in asked]
        assert sizes == [50, 50, 20]
        assert RULES.report_every == 50

    def test_parts_the_server_named_itself_are_not_reported_back(self):
        asked, _ = play(made().acknowledge(SESSION, [PartReceipt(1, 10)]))

        assert not asked

    def test_a_refused_batch_is_left_to_the_completion(self):
        refused = said({"code": "parameter_invalid", "message": "proof"}, 400)

        play(made().acknowledge(SESSION, RECEIPTS), refused, status("active"))

    def test_but_not_when_the_session_is_over(self):
        refused = said({"code": "parameter_invalid", "message": "expired"}, 400)

        with pytest.raises(SessionLost):
            play(made().acknowledge(SESSION, RECEIPTS), refused, status("expired"), said({}, 404))
        for code in (404, 410):
            with pytest.raises(SessionLost):
                play(made().acknowledge(SESSION, RECEIPTS), said({}, code), said({}, 404))

    @pytest.mark.parametrize(
        "gone",
        [
            [said({}, 404)],
            [said({}, 410)],
            [said({"code": "parameter_invalid", "message": ""}, 400), status("expired")],
        ],
    )
    def test_a_session_that_its_last_report_ended_is_not_lost(self, gone):
        """The report was carried out, its answer lost, and it was repeated in vain."""
        asset = said({"_id": "asset1", "status": "ready", "size": 25})

        asked, _ = play(made().acknowledge(SESSION, RECEIPTS), *gone, asset)

        assert asked[-1].url == f"{API}/assets/asset1"

    def test_any_other_no_is_an_error(self):
        with pytest.raises(AuthError, match="reporting parts"):
            play(made().acknowledge(SESSION, RECEIPTS), said({}, 401))


class TestComplete:
    def test_all_reported_means_one_look(self):
        flow = made().complete(SESSION, RECEIPTS)
        raw = {"chunks_completed": 3, "uploaded_size": 25}

        asked, result = play(flow, status("completed", done=[1, 2, 3], **raw))

        assert [each.method for each in asked] == ["GET"]
        assert result.id == "asset1"
        assert result.size == 25
        assert result.url == f"{API}/assets/asset1"
        assert result.raw["uploaded_size"] == 25
        assert result.raw["asset_id"] == "asset1"
        assert result.verified == ("MD5 of every part, by the storage's ETags",)

    def test_what_the_server_does_not_know_is_reported(self):
        flow = made().complete(SESSION, RECEIPTS)
        look = status("active", done=[2])

        asked, result = play(flow, look, look, said({"url": "u"}), status("completed"))

        assert [each.method for each in asked] == ["GET", "GET", "POST", "GET"]
        numbers = [each["chunk_index"] for each in json.loads(asked[2].content)["completed_chunks"]]
        assert numbers == [1, 3]
        assert isinstance(result, Result)

    def test_a_server_that_is_not_done_is_asked_later(self):
        known = status("active", done=[1, 2, 3])

        _, answer = play(made().complete(SESSION, RECEIPTS), known, known)

        assert isinstance(answer, NotYet)
        assert answer.retry_after > 0

    def test_one_look_tells_that_all_is_reported(self):
        """10 GB have forty pages of chunks, which nobody needs every two seconds."""
        pages = {"page": 1, "total_page": 40}

        asked, answer = play(
            made().complete(SESSION, RECEIPTS),
            status("active", chunks_completed=3, page_info=pages),
        )

        assert len(asked) == 1
        assert isinstance(answer, NotYet)

    def test_parts_without_a_proof_need_none_when_the_server_knows_them(self):
        receipts = [PartReceipt(1, 10), *RECEIPTS[1:]]
        look = status("active", done=[1])

        asked, result = play(
            made().complete(SESSION, receipts), look, look, said({}), status("completed")
        )

        assert len(json.loads(asked[2].content)["completed_chunks"]) == 2
        assert result.verified == ("MD5 of 2 of 3 parts, by the storage's ETags",)

    def test_and_have_to_be_sent_again_when_it_does_not(self):
        look = status("active", done=[2, 3])

        with pytest.raises(IntegrityError, match="part 1") as error:
            play(made().complete(SESSION, [PartReceipt(1, 10), *RECEIPTS[1:]]), look, look)

        assert not error.value.final

    def test_parts_that_failed_have_to_be_sent_again(self):
        chunks = [{"index": 2, "status": "failed", "error": "bad\x1b[31m disk"}]
        look = status("active", uploaded_chunks=chunks, chunks_failed=1)

        with pytest.raises(IntegrityError, match=r"part 2 as it came \(bad \[31m disk\)") as error:
            play(made().complete(SESSION, RECEIPTS), look, look, said({}), look, look)

        assert error.value.parts == {2}

    def test_those_that_failed_are_named_when_their_report_is_refused(self):
        chunks = [{"index": 2, "status": "failed"}]
        look = status("active", uploaded_chunks=chunks, chunks_failed=1)
        bad = said({"code": "x", "message": "not uploaded"}, 400)

        with pytest.raises(IntegrityError, match=r"part 2 as it came \(not uploaded\)"):
            play(made().complete(SESSION, RECEIPTS), look, look, bad, look)

    def test_so_have_those_whose_proof_is_refused(self):
        look, bad = status("active"), said({"code": "x", "message": "wrong proof"}, 400)

        with pytest.raises(IntegrityError, match=r"1, 2, 3 .*wrong proof") as error:
            play(made().complete(SESSION, RECEIPTS), look, look, bad, status("active"))

        assert error.value.parts == {1, 2, 3}

    def test_a_conflict_is_asked_about_once_more(self):
        conflict = said({"code": "x", "message": "busy"}, 409)
        done = status("completed")

        _, result = play(made().complete(SESSION, RECEIPTS), conflict, done)
        assert result.id == "asset1"

        with pytest.raises(Refused, match="409"):
            play(made().complete(SESSION, RECEIPTS), conflict, conflict)
        look = status("active")
        play(made().acknowledge(SESSION, RECEIPTS), conflict, said({}))
        with pytest.raises(Refused, match="409"):
            play(made().complete(SESSION, RECEIPTS), look, look, conflict, conflict)

    def test_a_part_that_was_lost_is_named_sent_again_and_accepted(self):
        sandbox = TwelveLabsSandbox()
        sandbox.shrink(chunk_size=10)
        provider = made(base_url=sandbox.base_url, api_key=Secret(sandbox.api_key), now=sandbox.now)
        session = drive(provider.create(FILE, 0), sandbox.handle)
        receipts = [drive(put(provider, session, n), sandbox.handle) for n in (1, 2, 3)]
        drive(provider.acknowledge(session, receipts[:2]), sandbox.handle)
        sandbox.fail_chunk(session.upload_id, 2)
        with pytest.raises(IntegrityError, match="part 2"):
            drive(provider.complete(session, receipts), sandbox.handle)

        receipts[1] = drive(put(provider, session, 2), sandbox.handle)
        result = drive(provider.complete(session, receipts), sandbox.handle)

        assert isinstance(result, Result)
        assert sandbox.finished()[result.id].read() == b"x" * 25

    def test_a_refused_report_of_a_completed_session_is_success(self):
        """The earlier report worked and its answer was lost."""
        look, bad = status("active"), said({"code": "x", "message": "not active"}, 400)
        done = status("completed")

        _, result = play(made().complete(SESSION, RECEIPTS), look, look, bad, done, done)

        assert isinstance(result, Result)

    def test_a_report_that_was_only_said_to_work_is_no_success(self):
        look = status("active")

        _, answer = play(made().complete(SESSION, RECEIPTS), look, look, said({}), look)

        assert isinstance(answer, NotYet)

    def test_a_200_with_an_error_in_it_is_no_success(self):
        odd = said({"error": {"code": "internal", "message": "oops"}})

        _, result = play(made().complete(SESSION, RECEIPTS), odd, odd, status("completed"))
        assert isinstance(result, Result)

        with pytest.raises(ProtocolError, match="without status"):
            play(made().complete(SESSION, RECEIPTS), odd, odd, odd)

    def test_a_session_that_is_gone_may_have_been_completed(self):
        gone = said({"code": "resource_not_exist"}, 404)
        asset = {"_id": "asset1", "status": "ready", "size": 25}

        _, result = play(made().complete(SESSION, RECEIPTS), gone, said(asset))

        assert result.id == "asset1"

    def test_so_may_one_that_goes_while_it_is_reported_to(self):
        look, asset = status("active", done=[2]), {"status": "ready", "size": 25}

        flow = made().complete(SESSION, RECEIPTS)
        _, result = play(flow, look, look, said({}, 404), said(asset))

        assert result.id == "asset1"

    @pytest.mark.parametrize(
        "answer",
        [
            said({"code": "resource_not_exist"}, 404),
            said({"status": "processing"}),
            said({"status": "ready", "size": 24}),
            Response(200, content=b"<html>"),
        ],
    )
    def test_or_not(self, answer):
        with pytest.raises(SessionLost):
            play(made().complete(SESSION, RECEIPTS), status("expired"), answer)

    def test_its_urls_are_forgotten(self):
        provider = made()
        session = opened(provider)

        play(provider.complete(session, RECEIPTS), status("completed"))

        assert not vars(provider)["_urls"]


class TestReady:
    RESULT = Result("asset1", f"{API}/assets/asset1", 25, {"upload_id": "upl1"}, ("MD5",))

    def test_a_ready_asset_is_compared_by_size(self):
        asset = {"_id": "asset1", "status": "ready", "size": 25, "duration": 4.0}

        asked, result = play(made().ready(self.RESULT), said(asset))

        assert asked[0].url == f"{API}/assets/asset1"
        assert result.raw["duration"] == 4.0
        assert result.raw["upload_id"] == "upl1"
        assert result.verified == ("MD5", "size of the asset, by TwelveLabs")

    def test_another_size_is_an_integrity_error(self):
        with pytest.raises(IntegrityError, match="24 bytes") as error:
            play(made().ready(self.RESULT), said({"status": "ready", "size": 24}))

        assert error.value.final

    def test_a_size_that_is_not_told_is_not_claimed(self):
        _, result = play(made().ready(self.RESULT), said({"status": "ready"}))

        assert result.verified == ("MD5",)

    def test_an_asset_in_the_works_is_asked_later(self):
        _, answer = play(made().ready(self.RESULT), said({"status": "processing"}))

        assert isinstance(answer, NotYet)

    @pytest.mark.parametrize(
        ("error", "words"),
        [({"message": "no video in it"}, "no video in it"), (None, "no reason"), (3, "no reason")],
    )
    def test_a_failed_one_says_why(self, error, words):
        with pytest.raises(Refused, match=words):
            play(made().ready(self.RESULT), said({"status": "failed", "error": error}))

    @pytest.mark.parametrize("state", ["sleeping", 3, ["ready"]])
    def test_an_unknown_status_is_a_protocol_error(self, state):
        with pytest.raises(ProtocolError, match="unknown status"):
            play(made().ready(self.RESULT), said({"status": state}))


class TestCleanUp:
    RESULT = TestReady.RESULT

    @pytest.mark.parametrize("code", [200, 204, 404])
    def test_deleting_may_be_repeated(self, code):
        asked, _ = play(made().delete(self.RESULT), Response(code))

        assert (asked[0].method, asked[0].url) == ("DELETE", f"{API}/assets/asset1")

    def test_an_asset_in_use_is_not_deleted(self):
        with pytest.raises(Refused, match="index"):
            play(made().delete(self.RESULT), said({"code": "x"}, 409))

    def test_any_other_no_is_an_error(self):
        with pytest.raises(AuthError):
            play(made().delete(self.RESULT), said({}, 403))

    def test_aborting_sends_nothing_and_forgets_the_urls(self):
        provider = made()
        session = opened(provider)

        asked, _ = play(provider.abort(session))

        assert not asked
        assert not vars(provider)["_urls"]

    @staticmethod
    def listed(number: int, of: int, *ids: str) -> Response:
        data = [
            {
                "upload_id": each,
                "status": "active",
                "total_size": 25,
                "chunk_size": 10,
                "total_chunks": 3,
                "created_at": stamp(NOW),
                "expires_at": stamp(NOW + 60),
            }
            for each in ids
        ]
        return said({"data": data, "page_info": {"page": number, "total_page": of}})

    def test_unfinished_sessions_are_listed_page_by_page(self):
        asked, found = play(made().list_open(), self.listed(1, 2, "a", "b"), self.listed(2, 2, "c"))

        assert [each.query for each in asked] == ["page=1&page_limit=50", "page=2&page_limit=50"]
        assert asked[0].path == "/v1.3/assets/multipart-uploads"
        assert [each.upload_id for each in found] == ["a", "b", "c"]
        assert found[0].file.size == 25
        assert found[0].part_size == 10
        assert found[0].expires_at == NOW + 60
        assert found[0].extra["created_at"] == str(int(NOW))

    def test_listing_ends(self):
        _, found = play(made().list_open(), self.listed(1, 9, "a"), self.listed(2, 9))
        assert len(found) == 1
        _, found = play(made().list_open(), self.listed(1, 9, "a"), self.listed(2, 9, "a"))
        assert len(found) == 1

        asked = pestered(made().list_open(), lambda n: self.listed(n, 10**9, f"id{n}"))
        assert asked == 200

    def test_nonsense_is_a_protocol_error(self):
        with pytest.raises(ProtocolError):
            play(made().list_open(), self.listed(1, 1, "../.."))
        with pytest.raises(ProtocolError):
            play(made().list_open(), said({"data": [3]}))


@pytest.mark.parametrize("kind", ["video", "audio", "image", "document"])
def test_the_next_cell_is_python_that_names_the_asset(kind):
    code = made(type=kind).next_cell(Result("asset1"))

    ast.parse(code)
    assert 'asset_id = "asset1"' in code
    assert KEY not in code
