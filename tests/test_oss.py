"""OSS, asked by hand: signatures, exact requests, every awkward answer, every address."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkup_jupyter import digests, plan
from chunkup_jupyter.errors import (
    AnswerLost,
    AuthError,
    CredentialsMissing,
    InsecureConnection,
    IntegrityError,
    InvalidUpload,
    OutcomeUnknown,
    ProtocolError,
    Refused,
    SessionLost,
    Unreachable,
)
from chunkup_jupyter.model import Body, FileInfo, Part, PartReceipt, Result, Session
from chunkup_jupyter.providers import load
from chunkup_jupyter.providers.oss import OSS, signing
from chunkup_jupyter.providers.oss.addresses import path_text
from chunkup_jupyter.providers.oss.completion import complete_body, whole_crc
from chunkup_jupyter.secrets import Secret
from chunkup_jupyter.wire import Headers, Request, Response

VECTORS = json.loads((Path(__file__).parent / "data" / "vectors.json").read_text("utf-8"))
META = VECTORS["_meta"]
NOW = META["fixed_time_unix"]
TOKEN = META["credentials"]["security_token"]
FILE = FileInfo("data.bin", 9, "text/csv")
UPLOAD = "0004B9895DBBB6EC98E36A1B2C3D4E5F"
SESSION = Session(UPLOAD, FILE, 5, {"bucket": "bucket", "key": "dir/key"})
CHECK = 11051210869376104954  # CRC-64/XZ of 123456789
PARTS = (
    PartReceipt(1, 5, "A" * 32, f"crc64:{digests.of('crc64', b'12345')}"),
    PartReceipt(2, 4, "B" * 32, f"crc64:{digests.of('crc64', b'6789')}"),
)


def named(cases: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case["name"])


def keys(case: dict[str, Any]) -> signing.Keys:
    given = META["credentials"]
    token = Secret(given["security_token"]) if case["use_security_token"] else None
    return signing.Keys(Secret(given["access_key_id"]), Secret(given["access_key_secret"]), token)


def call(case: dict[str, Any]) -> signing.Call:
    headers = case.get("headers_before_signing", case.get("headers"))
    query = tuple((name, value) for name, value in case["query"])
    return signing.Call(case["method"], case["bucket"], case["key"] or "", query, headers)


def oss(url: str = "oss://bucket/dir/key", **fields: Any) -> OSS:
    defaults: dict[str, Any] = {
        "access_key_id": Secret("LTAI-id"),
        "access_key_secret": Secret("canary-secret"),
        "region": "cn-hangzhou",
        "now": lambda: NOW,
    }
    return OSS.from_url(url, **{**defaults, **fields})


def ok(root: str = "", *, status: int = 200, **headers: str) -> Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, Headers(fields), root.encode(), "https://bucket.example/x?Signature=y")


def no(status: int, code: str, message: str = "No.", more: str = "", **headers: str) -> Response:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    return ok(body, status=status, x_oss_request_id="5C3D", **headers)


def hidden(status: int, code: str) -> Response:
    """Return an error as HEAD answers carry it."""
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return ok(status=status, x_oss_err=base64.b64encode(body).decode())


def answer(flow: Any, *answers: Response | Exception) -> tuple[list[Request], Any]:
    """Run a flow on scripted answers; return its requests and what it came to.

    Every answer must be used, and no request may be left without one.
    """
    requests = [next(flow)]
    for index, each in enumerate(answers):
        try:
            if isinstance(each, Exception):
                requests.append(flow.throw(each))
            else:
                requests.append(flow.send(each))
        except StopIteration as end:
            assert index == len(answers) - 1, "it ended before the script did"
            return requests, end.value
    raise AssertionError(f"it asks for more: {requests[-1]!r}")


def fails(flow: Any, error: type[Exception], *answers: Response | Exception) -> Any:
    with pytest.raises(error) as caught:
        answer(flow, *answers)
    return caught.value


def query(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.query, keep_blank_values=True))


DONE = '<CompleteMultipartUploadResult xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com">\
<Location>l</Location><Bucket>bucket</Bucket><Key>k</Key><ETag>"E-2"</ETag>\
</CompleteMultipartUploadResult>'
STANDS = {"content_length": "9", "x_oss_hash_crc64ecma": str(CHECK), "etag": '"E-2"'}
GONE = no(404, "NoSuchUpload")
LOST = AnswerLost("the connection broke", attempts=1)


# signatures


@named(VECTORS["oss_v4_header"])
def test_version_4_headers_are_those_of_the_vendors_sdk(case):
    who, what, region = keys(case), call(case), case["region"]

    fields = signing.sign_v4(what, who, region, NOW, case["additional_headers"])

    whole = signing.Call(what.method, what.bucket, what.key, what.query, {**what.headers, **fields})
    del whole.headers["Authorization"]
    canonical = signing.canonical_v4(whole, case["additional_headers"])
    stamp = case["x_oss_date"]
    assert canonical == case["canonical_request"]
    assert signing.string_v4(canonical, stamp, region) == case["string_to_sign"]
    assert signing.key_v4(who.secret, stamp, region).hex() == case["signing_key_hex"]
    assert fields["Authorization"] == case["authorization"]
    for name, value in case["headers_added"].items():
        assert name == "Date" or fields[name] == value


@named(VECTORS["oss_v4_presigned"])
def test_version_4_urls_are_those_of_the_vendors_sdk(case):
    pairs = signing.presign_v4(
        call(case), keys(case), case["region"], NOW, case["expires_seconds"],
        case["additional_headers"],
    )  # fmt: skip

    assert dict(pairs)["x-oss-signature"] == case["signature"]
    signed = parse_qsl(urlsplit(case["signed_url"]).query, keep_blank_values=True)
    assert sorted(pairs) == sorted(signed)


@named(VECTORS["oss_v1_header"])
def test_version_1_headers_are_those_of_the_vendors_sdk(case):
    what, who = call(case), keys(case)

    fields = signing.sign_v1(what, who, NOW)

    whole = signing.Call(what.method, what.bucket, what.key, what.query, {**what.headers, **fields})
    assert fields["Date"] == case["date"]
    assert signing.string_v1(whole, case["date"]) == case["string_to_sign"]
    assert fields["Authorization"] == case["authorization"]


@named(VECTORS["oss_v1_presigned"])
def test_version_1_urls_are_those_of_the_vendors_sdk(case):
    pairs = signing.presign_v1(call(case), keys(case), case["expires_unix"])

    signed = parse_qsl(urlsplit(case["signed_url"]).query, keep_blank_values=True)
    assert dict(pairs)["Signature"] == case["signature"]
    assert sorted(pairs) == sorted(signed)


def test_the_published_version_1_example_holds():
    case = VECTORS["oss_v1_published_example"]

    signature = signing.signature_v1(case["string_to_sign"], Secret(case["access_key_secret"]))

    assert signature == case["signature"]


def test_the_body_of_a_completion_is_that_of_the_vendors_sdk():
    case = VECTORS["oss_complete_body"]
    receipts = (
        PartReceipt(1, 1, "5D41402ABC4B2A76B9719D911017C592"),
        PartReceipt(2, 1, "7D793037A0760186574B0282F2F435E7"),
    )

    body = complete_body(receipts)

    assert body.decode() == case["body"]
    assert len(body) == case["length"]
    request = next(oss().complete(SESSION, receipts))
    assert request.headers["Content-MD5"] == case["content_md5"]


@named(VECTORS["crc64_ecma"]["single"])
def test_the_crc_of_known_bytes_is_known(case):
    data = {
        "zeros_1024": bytes(1024),
        "bytes_0_255": bytes(range(256)),
        "ff_64": b"\xff" * 64,
        "zeros_1MiB": bytes(1 << 20),
    }.get(case["name"], (case["input_utf8"] or "").encode())

    assert len(data) == case["length"]
    assert digests.of("crc64", data) == case["crc64_decimal"]


@named(VECTORS["crc64_ecma"]["combine"])
def test_crcs_of_neighbours_combine(case):
    combined = digests.combine_crc64(
        int(case["crc_first"]), int(case["crc_second"]), case["length_second"]
    )

    assert combined == int(case["combined"])


def test_the_crcs_of_all_parts_combine_to_that_of_the_object():
    case = VECTORS["crc64_ecma"]["three_parts"]
    receipts = [
        PartReceipt(number, each["length"], "", f"crc64:{each['crc64']}")
        for number, each in enumerate(case["parts"], 1)
    ]

    assert whole_crc(receipts) == int(case["combined"])
    assert whole_crc([*receipts, PartReceipt(4, 1)]) is None
    assert whole_crc([]) == 0


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_a_key_is_found_again_in_its_path(key):
    path = path_text(key)

    assert unquote(path) == key
    assert path.isascii()
    assert "//" not in path
    assert not set(path) & set(' ?#\\"<>')


# exact requests


def test_a_session_is_opened_with_everything_that_was_asked_for():
    provider = oss(
        storage_class="IA",
        meta={"Owner": "me"},
        tagging={"a b": "c/d", "e": ""},
        no_clobber=True,
        acl="private",
    )

    requests, session = answer(
        provider.create(FILE, 5),
        ok(f"<InitiateMultipartUploadResult><UploadId>{UPLOAD}</UploadId>"
           "</InitiateMultipartUploadResult>"),
    )  # fmt: skip

    (request,) = requests
    assert request.method == "POST"
    assert request.url == "https://bucket.oss-cn-hangzhou.aliyuncs.com/dir/key?uploads"
    assert {n: v for n, v in request.headers.items() if n != "Authorization"} == {
        "Content-Type": "text/csv",
        "x-oss-storage-class": "IA",
        "x-oss-tagging": "a%20b=c%2Fd&e=",
        "x-oss-meta-owner": "me",
        "x-oss-forbid-overwrite": "true",
        "x-oss-date": "20250102T030405Z",
        "x-oss-content-sha256": "UNSIGNED-PAYLOAD",
    }
    assert request.content == b""
    assert not request.once
    assert session == SESSION
    assert Session.from_json(json.loads(json.dumps(session.to_json()))) == session


def test_a_part_is_put_as_it_is_read():
    body = Body.of(b"12345")
    flow = oss(traffic_limit=819_200).put_part(SESSION, Part(1, 0, 5), body)
    request = next(flow)
    assert b"".join(request.content) == b"12345"

    with pytest.raises(StopIteration) as end:
        flow.send(ok(etag=f'"{"A" * 32}"', x_oss_hash_crc64ecma=body.digest("crc64")))

    assert end.value.value == PARTS[0]
    assert request.method == "PUT"
    assert request.path == "/dir/key"
    assert request.query == f"partNumber=1&uploadId={UPLOAD}"
    assert request.content is body
    assert request.headers["x-oss-traffic-limit"] == "819200"
    assert "Content-Type" not in request.headers
    assert "Content-MD5" not in request.headers


def test_completing_names_every_part_and_is_sent_once():
    provider = oss(acl="public-read", no_clobber=True)

    requests, result = answer(
        provider.complete(SESSION, PARTS),
        ok(DONE, x_oss_hash_crc64ecma=str(CHECK), x_oss_version_id="V1", x_oss_request_id="R"),
    )

    (request,) = requests
    assert (request.method, request.once) == ("POST", True)
    assert request.query == f"uploadId={UPLOAD}"
    assert request.content == complete_body(PARTS)
    assert request.headers["x-oss-object-acl"] == "public-read"
    assert request.headers["x-oss-forbid-overwrite"] == "true"
    assert result.id == "oss://bucket/dir/key"
    assert result.url == "https://bucket.oss-cn-hangzhou.aliyuncs.com/dir/key"
    assert result.size == 9
    assert result.raw == {
        "bucket": "bucket",
        "key": "dir/key",
        "etag": "E-2",
        "crc64": str(CHECK),
        "version_id": "V1",
        "location": "l",
        "request_id": "R",
    }
    assert result.verified == ("CRC-64 of every part", f"CRC-64 {CHECK} of the object")


def test_temporary_credentials_bring_their_token():
    for signature in ("v4", "v1"):
        request = next(oss(session_token=Secret(TOKEN), signature=signature).abort(SESSION))
        assert request.headers["x-oss-security-token"] == TOKEN


def test_version_1_signs_the_date():
    request = next(oss(signature="v1", region="", endpoint="oss.private.example").abort(SESSION))

    assert request.headers["Date"] == "Thu, 02 Jan 2025 03:04:05 GMT"
    assert request.headers["Authorization"].startswith("OSS LTAI-id:")
    assert request.url.startswith("https://bucket.oss.private.example/dir/key?uploadId=")


@pytest.mark.parametrize("reply", [ok(status=204), ok(status=200), GONE])
def test_aborting_may_be_repeated(reply):
    (request,), nothing = answer(oss().abort(SESSION), reply)

    assert nothing is None
    assert (request.method, request.query) == ("DELETE", f"uploadId={UPLOAD}")


def test_verbs_go_to_the_key_of_the_session_not_to_that_of_the_provider():
    folder = oss("oss://bucket/dir/")

    assert next(folder.abort(SESSION)).path == "/dir/key"


def test_deleting_asks_for_the_object_by_its_id():
    (request,), _ = answer(oss().delete(Result("oss://bucket/other key")), ok(status=204))

    assert (request.method, request.path, request.query) == ("DELETE", "/other%20key", "")
    for wrong in ("oss://other/key", "oss://bucket/", "file-123"):
        with pytest.raises(InvalidUpload):
            next(oss().delete(Result(wrong)))


def test_what_stands_there_is_described():
    (request,), found = answer(oss().existing(FILE), ok(**STANDS, x_oss_storage_class="IA"))

    assert request.method == "HEAD"
    assert (found.id, found.size) == ("oss://bucket/dir/key", 9)
    assert found.raw["crc64"] == str(CHECK)


@pytest.mark.parametrize("reply", [hidden(404, "NoSuchKey"), hidden(403, "AccessDenied")])
def test_nothing_stands_there_or_nobody_may_say(reply):
    assert answer(oss().existing(FILE), reply)[1] is None


# parts that went wrong


def put(*answers: Response, verify: bool = True, data: bytes = b"12345") -> Any:
    body = Body.of(data, ("crc64",) if verify else ())
    flow = oss().put_part(SESSION, Part(1, 0, len(data)), body)
    request = next(flow)
    for each in answers:
        list(request.content)
        try:
            request = flow.send(each)
        except StopIteration as end:
            return end.value
    raise AssertionError("it asks for more")


def test_a_part_that_arrived_otherwise_is_no_success():
    with pytest.raises(IntegrityError, match="part 1") as caught:
        put(ok(etag='"A"', x_oss_hash_crc64ecma="1"))

    assert not caught.value.final  # sending it once more may help


def test_a_server_without_crc_is_borne():
    receipt = put(ok(etag='"A"'))

    assert receipt.checksum == PARTS[0].checksum


def test_without_verification_nothing_is_compared_or_claimed():
    receipt = put(ok(etag='"A"', x_oss_hash_crc64ecma="1"), verify=False)

    assert receipt == PartReceipt(1, 5, "A", "")


def test_an_answer_without_an_etag_is_asked_for_again():
    good = ok(etag='"A"')

    assert put(ok(), ok(etag='""'), good).token == "A"
    with pytest.raises(ProtocolError, match="without an ETag"):
        put(ok(), ok(), ok())


@pytest.mark.parametrize("crc", ["-1", "abc", "1e9", str(1 << 64), "9" * 30])
def test_a_crc_that_is_no_number_makes_no_sense(crc):
    with pytest.raises(ProtocolError):
        put(ok(etag='"A"', x_oss_hash_crc64ecma=crc))


def test_a_part_of_a_session_that_is_gone_says_so():
    with pytest.raises(SessionLost):
        put(GONE)


@pytest.mark.parametrize("code", ["RequestTimeout", "BadRequest", "InvalidDigest"])
def test_a_passing_400_is_asked_again_but_not_for_ever(code):
    assert put(no(400, code), no(400, code), ok(etag='"A"')).token == "A"
    with pytest.raises(Refused, match=code):
        put(no(400, code), no(400, code), no(400, code))


def test_any_other_400_is_final():
    with pytest.raises(Refused, match="InvalidArgument"):
        put(no(400, "InvalidArgument"))


# the clock


def test_a_wrong_clock_is_set_by_the_servers_and_stays_set():
    provider = oss(now=lambda: NOW - 7200)
    late = no(403, "RequestTimeTooSkewed", date="Thu, 02 Jan 2025 03:04:05 GMT")

    requests, _ = answer(provider.abort(SESSION), late, ok(status=204))

    assert [r.headers["x-oss-date"] for r in requests] == ["20250102T010405Z", "20250102T030405Z"]
    assert next(provider.abort(SESSION)).headers["x-oss-date"] == "20250102T030405Z"
    folder = oss("oss://bucket/dir/", now=lambda: NOW - 7200)
    folder.skew["offset"] = 7200.0
    assert next(folder.for_file(FILE).abort(SESSION)).headers["x-oss-date"] == "20250102T030405Z"


def test_an_error_of_head_is_read_from_its_header():
    body = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
    late = ok(
        status=403,
        x_oss_err=base64.b64encode(body).decode(),
        date="Thu, 02 Jan 2025 04:04:05 GMT",
    )

    requests, found = answer(oss().existing(FILE), late, ok(**STANDS))

    assert requests[1].headers["x-oss-date"] == "20250102T040405Z"
    assert found is not None


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Foo 2025 03:04:05 GMT"])
def test_a_clock_that_cannot_be_set_is_an_error(date):
    error = fails(oss().abort(SESSION), AuthError, no(403, "RequestTimeTooSkewed", date=date))

    assert "set this machine's clock" in str(error)


def test_a_clock_that_is_never_right_is_not_set_for_ever():
    late = no(403, "RequestTimeTooSkewed", date="Thu, 02 Jan 2025 03:04:05 GMT")

    fails(oss().abort(SESSION), AuthError, late, late, late)


# answers to the opening that make no sense


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<Initiate",
        "<Error><Code>InternalError</Code></Error>",
        "<html></html>",
        '<!DOCTYPE x [<!ENTITY a "b">]><InitiateMultipartUploadResult/>',
    ],
)
def test_a_200_that_opens_nothing_is_no_success(body):
    good = ok(
        "<InitiateMultipartUploadResult><UploadId>U1</UploadId></InitiateMultipartUploadResult>"
    )

    assert answer(oss().create(FILE, 5), ok(body), good)[1].upload_id == "U1"
    fails(oss().create(FILE, 5), ProtocolError, ok(body), ok(body), ok(body))


@pytest.mark.parametrize("upload_id", ["", "a b", "x" * 1025, "a\nb", "ü"])
def test_an_upload_id_that_cannot_be_one_is_refused(upload_id):
    body = f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId>"

    fails(oss().create(FILE, 5), ProtocolError, ok(body + "</InitiateMultipartUploadResult>"))


# completion


def test_other_bytes_than_were_sent_are_never_a_success():
    error = fails(
        oss().complete(SESSION, PARTS), IntegrityError, ok(DONE, x_oss_hash_crc64ecma="1")
    )

    assert not error.final
    refused = oss(no_clobber=True).complete(SESSION, PARTS)
    assert fails(refused, IntegrityError, ok(DONE, x_oss_hash_crc64ecma="1")).final


def test_a_completion_without_crc_is_checked_by_looking():
    requests, result = answer(oss().complete(SESSION, PARTS), ok(DONE), ok(content_length="9"))

    assert [r.method for r in requests] == ["POST", "HEAD"]
    assert result.verified == ("size of the object",)
    fails(oss().complete(SESSION, PARTS), IntegrityError, ok(DONE), ok(content_length="8"))
    fails(oss().complete(SESSION, PARTS), IntegrityError, ok(DONE), hidden(404, "NoSuchKey"))


def test_a_key_that_may_not_look_completes_without_proof():
    _, result = answer(oss().complete(SESSION, PARTS), ok(DONE), hidden(403, "AccessDenied"))

    assert result.verified == ()


def test_a_lost_answer_is_looked_into_and_found():
    requests, result = answer(oss().complete(SESSION, PARTS), LOST, ok(**STANDS), GONE)

    assert [r.method for r in requests] == ["POST", "HEAD", "GET"]
    assert f"CRC-64 {CHECK} of the object" in result.verified


def test_a_lost_answer_with_nothing_there_is_repeated():
    requests, result = answer(
        oss().complete(SESSION, PARTS),
        LOST,
        hidden(404, "NoSuchKey"),
        ok(DONE, x_oss_hash_crc64ecma=str(CHECK)),
    )

    assert [r.method for r in requests] == ["POST", "HEAD", "POST"]
    assert result.id == "oss://bucket/dir/key"


def test_the_same_bytes_from_earlier_do_not_leave_the_upload_open():
    """They stood there before; the upload is still known, so it is completed."""
    requests, _ = answer(
        oss().complete(SESSION, PARTS),
        LOST,
        ok(**STANDS),
        ok("<ListPartsResult/>"),
        ok(DONE, x_oss_hash_crc64ecma=str(CHECK)),
    )

    assert [r.method for r in requests] == ["POST", "HEAD", "GET", "POST"]


@pytest.mark.parametrize(
    "stands",
    [
        {**STANDS, "content_length": "10"},
        {**STANDS, "x_oss_hash_crc64ecma": "1"},
    ],
)
def test_an_older_object_is_not_taken_for_ours(stands):
    fails(oss().complete(SESSION, PARTS), SessionLost, LOST, ok(**stands), GONE, ok(**stands))


def test_an_upload_that_is_gone_was_completed_if_the_object_is_there():
    requests, result = answer(oss().complete(SESSION, PARTS), GONE, ok(**STANDS))

    assert [r.method for r in requests] == ["POST", "HEAD"]
    assert result.raw["etag"] == "E-2"


def test_an_upload_that_is_gone_with_no_object_is_lost():
    error = fails(oss().complete(SESSION, PARTS), SessionLost, GONE, hidden(404, "NoSuchKey"))

    assert "start it again" in str(error)


def test_an_upload_that_is_gone_and_no_leave_to_look_is_not_guessed():
    error = fails(oss().complete(SESSION, PARTS), OutcomeUnknown, GONE, hidden(403, "AccessDenied"))

    assert "oss://bucket/dir/key" in str(error)


def test_trouble_while_looking_is_not_a_lost_session():
    fails(oss().complete(SESSION, PARTS), Refused, GONE, ok(status=503))
    fails(oss().complete(SESSION, PARTS), Refused, GONE, hidden(404, "NoSuchBucket"))
    fails(oss().complete(SESSION, PARTS), ProtocolError, GONE, ok())


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<Error><Code>InternalError</Code><Message>Try again.</Message></Error>",
        "<CompleteMultipartUploadResult><Bucket>b</Bucket></CompleteMultipartUploadResult>",
        DONE[:-20],
        "<html>ok</html>",
    ],
)
def test_a_200_that_completes_nothing_is_looked_into_and_repeated(body):
    nothing = hidden(404, "NoSuchKey")
    good = ok(DONE, x_oss_hash_crc64ecma=str(CHECK))

    requests, _ = answer(oss().complete(SESSION, PARTS), ok(body), nothing, good)

    assert [r.method for r in requests] == ["POST", "HEAD", "POST"]
    again = (ok(body), nothing) * 3
    fails(oss().complete(SESSION, PARTS), ProtocolError, *again)


def test_a_completion_that_never_answers_is_unreachable_not_lost():
    script = (LOST, hidden(404, "NoSuchKey")) * 8

    error = fails(oss().complete(SESSION, PARTS), Unreachable, *script)

    assert not isinstance(error, AnswerLost)
    assert "not there yet" in str(error)


def test_not_to_overwrite_our_own_completed_object_is_no_failure():
    flow = oss(no_clobber=True).complete(SESSION, PARTS)

    _, result = answer(
        flow, LOST, hidden(404, "NoSuchKey"), no(409, "FileAlreadyExists"), ok(**STANDS)
    )

    assert result.id == "oss://bucket/dir/key"


def test_an_object_that_was_there_is_left_as_it_was():
    error = fails(
        oss(no_clobber=True).complete(SESSION, PARTS), Refused, no(409, "FileAlreadyExists")
    )

    assert "--no-clobber" in str(error)


def test_a_failed_callback_is_a_success_with_a_note():
    reply = no(203, "CallbackFailed", "Error status : 502.")

    _, result = answer(oss().complete(SESSION, PARTS), reply, ok(**STANDS))

    assert "Error status : 502." in result.raw["note"]
    assert f"CRC-64 {CHECK} of the object" in result.verified
    answer(oss().complete(SESSION, PARTS), reply, hidden(403, "AccessDenied"))
    fails(oss().complete(SESSION, PARTS), IntegrityError, reply, hidden(404, "NoSuchKey"))


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (400, "InvalidPartOrder", ""),
        (400, "EntityTooSmall", "larger parts"),
        (400, "EntityTooLarge", "smaller parts"),
        (409, "PartNotSequential", ""),
        (409, "FileImmutable", ""),
        (411, "MissingContentLength", ""),
        (404, "NoSuchBucket", "the bucket's name"),
    ],
)
def test_a_completion_that_is_refused_says_what_to_do(status, code, advice):
    error = fails(oss().complete(SESSION, PARTS), Refused, no(status, code))

    assert (error.status, error.code, error.request_id) == (status, code, "5C3D")
    assert code in str(error)
    assert advice in str(error)


def held_as(*parts: PartReceipt) -> Response:
    """Return a listing of these parts."""
    listed = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>{part.token}</ETag>"
        f"<Size>{part.size}</Size>"
        f"<HashCrc64ecma>{part.checksum.removeprefix('crc64:')}</HashCrc64ecma></Part>"
        for part in parts
    )
    return ok(f"<ListPartsResult>{listed}</ListPartsResult>")


def test_a_wrong_etag_is_looked_up_before_a_completion_is_given_up():
    """What lies in between may change a header; size and CRC-64 say that it is the part."""
    theirs = held_as(PARTS[0], replace(PARTS[1], token="C"))

    flow = oss().complete(SESSION, PARTS)
    requests = [next(flow), flow.send(no(400, "InvalidPart")), flow.send(theirs)]

    assert [request.method for request in requests] == ["POST", "GET", "POST"]
    assert b'<ETag>"C"</ETag>' in requests[2].content
    assert f'<ETag>"{PARTS[0].token}"</ETag>'.encode() in requests[2].content
    with pytest.raises(Refused, match="run it again with --fresh"):
        flow.send(no(400, "InvalidPart"))


@pytest.mark.parametrize(
    "theirs",
    [
        (),
        (replace(PARTS[1], size=3),),
        (replace(PARTS[1], checksum="crc64:1"),),
        (replace(PARTS[1], checksum="", token="C"),),
    ],
    ids=["missing", "another size", "other bytes", "unknown bytes of another ETag"],
)
def test_parts_that_oss_does_not_have_as_they_were_sent_are_named(theirs):
    with pytest.raises(IntegrityError, match="part 2 as it was sent") as error:
        answer(oss().complete(SESSION, PARTS), no(400, "InvalidPart"), held_as(PARTS[0], *theirs))

    assert error.value.parts == {2}
    assert not error.value.final


def test_a_key_that_may_not_list_leaves_an_invalid_part_unexplained():
    refusals = no(400, "InvalidPart"), no(403, "AccessDenied"), no(400, "InvalidPart")

    fails(oss().complete(SESSION, PARTS), Refused, *refusals)


# listing


def listed(*numbers: int, more: bool = False, size: str = "5", etag: str = "&quot;E&quot;") -> str:
    parts = "".join(
        f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag><Size>{size}</Size></Part>"
        for n in numbers
    )
    return (
        f"<ListPartsResult><IsTruncated>{str(more).lower()}</IsTruncated>{parts}</ListPartsResult>"
    )


def test_all_pages_of_parts_are_read():
    requests, held = answer(
        oss().held(SESSION),
        ok(listed(1, 3, more=True)),
        ok(listed(4, 9, more=True)),
        ok(listed(10)),
    )

    assert [r.number for r in held] == [1, 3, 4, 9, 10]
    assert held[0] == PartReceipt(1, 5, "E")
    assert [query(r)["part-number-marker"] for r in requests] == ["0", "3", "9"]
    assert query(requests[0])["max-parts"] == "1000"


def test_the_crc_of_a_listed_part_is_kept():
    body = listed(1).replace("</Part>", "<HashCrc64ecma>00017</HashCrc64ecma></Part>")

    assert answer(oss().held(SESSION), ok(body))[1] == [PartReceipt(1, 5, "E", "crc64:17")]


def test_no_parts_are_no_parts():
    assert answer(oss().held(SESSION), ok(listed()))[1] == []
    assert answer(oss().held(SESSION), ok(listed(more=True)))[1] == []


@pytest.mark.parametrize(
    "pages",
    [
        [listed(2, 1)],
        [listed(1, 1)],
        [listed(0)],
        [listed(10_001)],
        [listed(1, more=True), listed(1, more=True)],
        [listed(1, size="-1")],
        [listed(1, size="1e3")],
        [listed(1, size="")],
        [listed(1, size="9" * 14)],
        [listed(1, etag="")],
        [listed(1, etag="a\tb")],
        [listed(1).replace("<PartNumber>1<", "<PartNumber>one<")],
    ],
)
def test_a_list_of_parts_that_makes_no_sense_ends(pages):
    fails(oss().held(SESSION), ProtocolError, *map(ok, pages))


def test_parts_of_an_upload_that_is_gone_cannot_be_listed():
    error = fails(oss().held(SESSION), SessionLost, GONE)

    assert error.code == "NoSuchUpload"


def uploads(*entries: tuple[str, str], more: str = "") -> str:
    items = "".join(
        f"<Upload><Key>{k}</Key><UploadId>{u}</UploadId>"
        "<Initiated>2025-01-02T03:04:05.000Z</Initiated></Upload>"
        for k, u in entries
    )
    key, _, upload = more.partition("|")
    return (
        f"<ListMultipartUploadsResult><EncodingType>url</EncodingType>"
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated><NextKeyMarker>{key}"
        f"</NextKeyMarker><NextUploadIdMarker>{upload}</NextUploadIdMarker>{items}"
        "</ListMultipartUploadsResult>"
    )


def test_all_pages_of_unfinished_uploads_are_read():
    requests, found = answer(
        oss("oss://bucket/dir/").list_open(),
        ok(uploads(("dir/a%20b", "U1"), more="dir%2Fa%20b|U1")),
        ok(uploads(("dir/%E6%95%B0", "U2"))),
    )

    assert [(s.upload_id, s.extra["key"]) for s in found] == [("U1", "dir/a b"), ("U2", "dir/数")]
    assert found[0].extra["created_at"] == str(NOW)
    assert query(requests[0])["prefix"] == "dir/"
    assert query(requests[1])["key-marker"] == "dir/a b"
    assert query(requests[1])["upload-id-marker"] == "U1"
    assert requests[0].path == "/"


def test_uploads_to_other_keys_with_the_same_beginning_are_not_ours():
    page = ok(uploads(("dir/key", "U1"), ("dir/key2", "U2")))

    assert [s.upload_id for s in answer(oss().list_open(), page)[1]] == ["U1"]


def test_a_whole_bucket_is_listed_without_a_prefix():
    request = next(oss("oss://bucket/").list_open())

    assert request.query == "uploads&max-uploads=1000&encoding-type=url"


def test_endless_pages_of_uploads_end():
    same = ok(uploads(("dir/key", "U1"), more="dir/key|U1"))

    _, found = answer(oss().list_open(), same, same)

    assert {s.upload_id for s in found} == {"U1"}
    assert answer(oss().list_open(), ok(uploads(more="a|b")))[1] == []


def test_an_upload_listed_without_an_id_makes_no_sense():
    fails(oss().list_open(), ProtocolError, ok(uploads(("dir/key", ""))))


# refusals


def test_a_key_that_may_not_list_parts_cannot_say_what_is_held():
    """Uploading takes no right to list: a resumed upload goes by its journal."""
    assert answer(oss().held(SESSION), no(403, "AccessDenied"))[1] is None


@pytest.mark.parametrize(
    ("code", "expired"),
    [
        ("SecurityTokenExpired", True),
        ("InvalidSecurityToken", True),
        ("AccessKeyIdAndSecurityTokenNotMatch", True),
        ("InvalidAccessKeyId", True),
        ("SignatureDoesNotMatch", False),
        ("AccessDenied", False),
    ],
)
def test_a_403_says_whether_fresh_credentials_would_help(code, expired):
    error = fails(oss().abort(SESSION), AuthError, no(403, code))

    assert error.expired is expired
    assert AuthError.expired is False


@pytest.mark.parametrize(
    ("ec", "advice"),
    [
        ("0002-00000080", "leave --signature out"),
        ("0002-00000226", "check --region"),
        ("0002-00000228", "check --region"),
    ],
)
def test_errors_of_one_code_are_told_apart(ec, advice):
    in_header = fails(oss().abort(SESSION), AuthError, no(403, "AccessDenied", x_oss_ec=ec))
    in_body = fails(oss().abort(SESSION), AuthError, no(403, "AccessDenied", more=f"<EC>{ec}</EC>"))

    assert advice in str(in_header)
    assert advice in str(in_body)


def test_the_endpoint_a_bucket_lives_at_is_passed_on():
    reply = no(403, "AccessDenied", more="<Endpoint>oss-cn-beijing.aliyuncs.com</Endpoint>")

    assert "--endpoint oss-cn-beijing.aliyuncs.com" in str(
        fails(oss().abort(SESSION), AuthError, reply)
    )


def test_what_oss_would_have_signed_is_shown_unless_it_holds_a_token():
    scope = "20250102/cn-beijing/oss/aliyun_v4_request"
    new = f"<StringToSign>OSS4-HMAC-SHA256\n20250102T030405Z\n{scope}\nabc</StringToSign>"
    old = f"<StringToSign>PUT\n\n\nx-oss-security-token:{TOKEN}\n</StringToSign>".replace("&", "")

    shown = str(fails(oss().held(SESSION), AuthError, no(403, "SignatureDoesNotMatch", more=new)))
    kept = str(fails(oss().held(SESSION), AuthError, no(403, "SignatureDoesNotMatch", more=old)))

    assert scope in shown
    assert "CAIS" not in kept


def test_a_redirect_is_named_and_not_followed():
    error = fails(
        oss().held(SESSION), Refused, ok(status=307, location="https://evil.example/x?k=v")
    )

    assert "evil.example" in str(error)
    assert "k=v" not in str(error)


def test_an_html_page_is_named_not_quoted():
    error = fails(oss().held(SESSION), Refused, ok("<html><script>x</script></html>", status=502))

    assert "HTML page" in str(error)
    assert "script" not in str(error)


def test_no_secret_is_in_any_text():
    provider = oss(session_token=Secret("canary-token"))
    error = fails(provider.abort(SESSION), AuthError, no(403, "AccessDenied"))
    request = next(provider.held(SESSION))

    shown = [repr(provider), str(provider), provider.url, provider.account, repr(error), str(error)]
    shown += [repr(request), repr(SESSION), provider.next_cell(Result("oss://bucket/dir/key"))]
    assert not any("canary" in text or "Signature=" in text for text in shown)
    assert copy.copy(provider) == provider
    with pytest.raises(TypeError):
        pickle.dumps(provider)


def test_without_a_key_nothing_is_asked():
    for field in ("access_key_id", "access_key_secret"):
        with pytest.raises(CredentialsMissing, match="OSS_ACCESS_KEY_ID"):
            next(oss(**{field: Secret("")}).create(FILE, 5))


# addresses


@pytest.mark.parametrize(
    ("endpoint", "region", "expected"),
    [
        ("", "cn-hangzhou", "https://bucket.oss-cn-hangzhou.aliyuncs.com/dir/key"),
        ("", "oss-CN-hangzhou", "https://bucket.oss-cn-hangzhou.aliyuncs.com/dir/key"),
        ("internal", "us-west-1", "https://bucket.oss-us-west-1-internal.aliyuncs.com/dir/key"),
        ("dualstack", "us-west-1", "https://bucket.us-west-1.oss.aliyuncs.com/dir/key"),
        ("accelerate", "us-west-1", "https://bucket.oss-accelerate.aliyuncs.com/dir/key"),
        (
            "accelerate-overseas",
            "us-west-1",
            "https://bucket.oss-accelerate-overseas.aliyuncs.com/dir/key",
        ),
        ("oss-cn-beijing.aliyuncs.com", "", "https://bucket.oss-cn-beijing.aliyuncs.com/dir/key"),
        (
            "https://bucket.oss-cn-beijing-internal.aliyuncs.com/",
            "",
            "https://bucket.oss-cn-beijing-internal.aliyuncs.com/dir/key",
        ),
        ("cn-beijing.oss.aliyuncs.com", "", "https://bucket.cn-beijing.oss.aliyuncs.com/dir/key"),
        ("http://127.0.0.1:8080", "r1", "http://127.0.0.1:8080/bucket/dir/key"),
        ("localhost:8080", "r1", "http://localhost:8080/bucket/dir/key"),
        ("http://[::1]:8080", "r1", "http://[::1]:8080/bucket/dir/key"),
        ("https://10.0.0.7", "r1", "https://10.0.0.7/bucket/dir/key"),
        ("http://storage.localhost:80", "r1", "http://bucket.storage.localhost:80/dir/key"),
    ],
)
def test_an_endpoint_becomes_an_address(endpoint, region, expected):
    provider = oss(endpoint=endpoint, region=region)

    assert next(provider.existing(FILE)).url == expected


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("oss-cn-beijing.aliyuncs.com", "cn-beijing"),
        ("oss-cn-beijing-internal.aliyuncs.com", "cn-beijing"),
        ("us-east-1.oss.aliyuncs.com", "us-east-1"),
    ],
)
def test_the_region_is_read_from_an_endpoint_that_names_it(endpoint, region):
    assert oss(endpoint=endpoint, region="").region == region


@pytest.mark.parametrize("endpoint", ["", "internal", "accelerate", "files.example.com"])
def test_version_4_needs_a_region_that_the_endpoint_does_not_tell(endpoint):
    with pytest.raises(InvalidUpload, match="--region"):
        oss(endpoint=endpoint, region="")


def test_every_style_signs_the_same_path():
    signatures = set()
    for style, url in {
        "virtual": "https://bucket.files.example/dir/key",
        "path": "https://files.example/bucket/dir/key",
        "cname": "https://files.example/dir/key",
    }.items():
        request = next(oss(endpoint="files.example", addressing=style).existing(FILE))
        assert request.url == url
        signatures.add(request.headers["Authorization"])

    assert len(signatures) == 1


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://user:pw@host.example",
        "https://host.example/path",
        "https://host.example?x=y",
        "https://host.example#x",
        "ftp://host.example",
        "host example",
        "host.example\r\nX: y",
        "https://",
        "https://host.example:99999",
        "-x.example",
    ],
)
def test_an_endpoint_is_a_host_and_nothing_else(endpoint):
    with pytest.raises(InvalidUpload, match="endpoint is a host"):
        oss(endpoint=endpoint)


def test_plain_http_goes_to_this_machine_only_unless_asked_for():
    with pytest.raises(InsecureConnection, match="--allow-insecure"):
        oss(endpoint="http://oss-cn-hangzhou.aliyuncs.com")
    with pytest.raises(InsecureConnection):
        oss(endpoint="http://10.0.0.7")

    assert oss(endpoint="http://10.0.0.7", allow_insecure=True).endpoint == "http://10.0.0.7"
    assert oss(endpoint="http://127.0.0.1:1").endpoint == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "bucket",
    [
        "ab",
        "-abc",
        "abc-",
        "Abc",
        "a.b.c",
        "a_b_c",
        "evil.com#",
        "a" * 64,
        "",
        "bücket",
        "a/../b@c",
    ],
)
def test_a_bucket_cannot_become_another_host(bucket):
    with pytest.raises(InvalidUpload, match="bucket"):
        OSS(bucket=bucket, key="k", region="cn-hangzhou")


def test_a_key_written_into_the_address_is_not_repeated():
    with pytest.raises(InvalidUpload) as caught:
        OSS.from_url("oss://LTAI:canary@bucket/key", region="cn-hangzhou")

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "/absolute", "\\absolute", ".", "..", "a/../b", "a/./b", "../b", "a/..", "./a", "a/../",
        "a\nb", "a\x00b", "a\x7f", "x" * 1024, "数" * 342, "\ud800",
    ],
)  # fmt: skip
def test_a_key_that_would_not_arrive_as_named_is_refused(key):
    with pytest.raises(InvalidUpload):
        oss(f"oss://bucket/{key}")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a b", "/a%20b"),
        ("a?b#c%d&e=f+g;h'i\"j", "/a%3Fb%23c%25d%26e%3Df%2Bg%3Bh%27i%22j"),
        ("%2F", "/%252F"),
        ("e\u0301", "/e%CC%81"),
        ("\u00e9", "/%C3%A9"),
        ("\U0001f600", "/%F0%9F%98%80"),
        ("a//b", "/a/%2Fb"),
        ("a///b", "/a/%2F%2Fb"),
        (".a/..b/c.", "/.a/..b/c."),
        ("...", "/..."),
        ("~-_.", "/~-_."),
    ],
)
def test_a_key_is_sent_as_named(key, path):
    request = next(oss(f"oss://bucket/{key}").existing(FILE))

    assert request.path == path
    assert unquote(request.path[1:]) == key


def test_the_longest_key_is_1023_bytes():
    assert oss("oss://bucket/" + "数" * 341).key == "数" * 341


def test_a_folder_takes_the_name_of_the_file():
    for url, key in (("oss://bucket/dir/", "dir/data.bin"), ("oss://bucket/", "data.bin")):
        provider = oss(url)
        assert provider.holds_many
        assert provider.for_file(FILE).key == key
        assert not provider.for_file(FILE).holds_many
        assert next(provider.existing(FILE)).path == f"/{key}"
        with pytest.raises(InvalidUpload, match="folder"):
            next(provider.create(FILE, 5))
    assert oss().for_file(FILE) is not None
    assert not oss().holds_many


@pytest.mark.parametrize("name", ["..", ".", "../../etc/passwd", "/etc/passwd", "a\nb"])
def test_a_file_name_cannot_lead_out_of_the_folder(name):
    with pytest.raises(InvalidUpload):
        oss("oss://bucket/dir/").for_file(FileInfo(name, 1)).check(FileInfo(name, 1))


def test_a_destination_is_found_by_its_scheme():
    assert load("oss://bucket/key") is OSS
    assert OSS.from_url("oss://bucket/a/b", region="cn-hangzhou").url == "oss://bucket/a/b"
    for wrong in ("oss:bucket/key", "oss:/bucket/key", "oss:"):
        with pytest.raises(InvalidUpload, match="oss://bucket/key"):
            OSS.from_url(wrong, region="cn-hangzhou")


def test_two_servers_are_told_apart_but_not_two_keys_of_one():
    assert oss().account == oss(endpoint="accelerate", access_key_id=Secret("x")).account == ""
    assert oss(endpoint="http://127.0.0.1:1").account == "127.0.0.1:1"
    assert oss(endpoint="files.example", addressing="cname").account == "files.example"


# options and warnings


@pytest.mark.parametrize(
    "fields",
    [
        {"addressing": "virtual-host"},
        {"signature": "v2"},
        {"acl": "private\r\nX: y"},
        {"storage_class": "IA\n"},
        {"meta": {"a b": "x"}},
        {"meta": {"a": "x\r\nX-Evil: y"}},
        {"meta": {"a": " x"}},
        {"meta": {"a": "größe"}},
        {"meta": {"": "x"}},
        {"tagging": {str(n): "" for n in range(11)}},
        {"traffic_limit": 819_199},
        {"traffic_limit": 838_860_801},
        {"region": "cn hangzhou"},
        {"region": "cn-hangzhou/oss"},
    ],
)
def test_an_option_that_cannot_be_sent_is_refused_before_any_request(fields):
    with pytest.raises(InvalidUpload):
        oss(**fields)


def test_options_are_parsed_with_a_sentence():
    options = {f.name: f.metadata for f in OSS.__dataclass_fields__.values() if f.metadata}

    assert options["tagging"]["parse"]("team=a%20b&x=") == {"team": "a b", "x": ""}
    assert options["traffic_limit"]["parse"]("819200") == 819_200
    for name, text in (("tagging", "team"), ("traffic_limit", "8M"), ("traffic_limit", "-1")):
        with pytest.raises(ValueError, match="is no"):
            options[name]["parse"](text)
    assert set(options) == {
        "region", "endpoint", "acl", "storage_class", "meta", "tagging", "no_clobber",
        "traffic_limit", "addressing", "signature", "allow_insecure",
    }  # fmt: skip


def test_keys_are_never_options():
    for need in OSS.needs:
        field = OSS.__dataclass_fields__[need.field]
        assert not (need.secret and field.metadata.get("option"))


def test_sizes_keep_within_what_oss_takes():
    rules = oss().rules

    assert plan.choose_part_size(rules.max_size, 16 << 20, rules) == 5 << 30
    assert plan.choose_part_size(1 << 40, 16 << 20, rules) * 10_000 >= 1 << 40
    for part_size in (102_399, (5 << 30) + 1):
        with pytest.raises(InvalidUpload):
            plan.check_part_size(part_size, 1 << 30, rules)
    with pytest.raises(InvalidUpload, match="the most"):
        oss().check(FileInfo("huge", rules.max_size + 1))


def test_an_endpoint_that_looks_wrong_is_warned_about():
    def warnings(**fields: Any) -> str:
        return " ".join(oss(**fields).check(FILE))

    assert warnings() == ""
    assert "cn-beijing" in warnings(endpoint="oss-cn-beijing.aliyuncs.com")
    assert "inside Alibaba Cloud" in warnings(endpoint="internal")
    assert "--addressing cname" in warnings(endpoint="files.example.com")
    assert warnings(endpoint="files.example.com", addressing="cname") == ""


# presigned URLs and the next cell


def test_a_presigned_url_carries_its_signature_and_no_more():
    for signature, name in (("v4", "x-oss-signature"), ("v1", "Signature")):
        provider = oss(signature=signature, session_token=Secret(TOKEN))

        url = provider.presigned_url(expires=60, query=[("response-content-type", "text/plain")])

        pairs = dict(parse_qsl(urlsplit(url).query))
        assert urlsplit(url).path == "/dir/key"
        assert pairs["response-content-type"] == "text/plain"
        assert name in pairs
        assert "canary-secret" not in url


@pytest.mark.parametrize("expires", [0, -1, 604_801])
def test_a_presigned_url_lives_a_week_at_most(expires):
    with pytest.raises(InvalidUpload, match="7 days"):
        oss().presigned_url(expires=expires)
    with pytest.raises(InvalidUpload, match="folder"):
        oss("oss://bucket/").presigned_url()


@pytest.mark.parametrize(
    ("key", "fields", "lines"),
    [
        ("a.csv", {}, ["pd.read_csv(", "config.region = 'cn-hangzhou'"]),
        ("a.jsonl", {"endpoint": "http://127.0.0.1:1"}, ["lines=True", "use_path_style = True"]),
        ("a.parquet", {"endpoint": "f.example", "addressing": "cname"}, ["use_cname = True"]),
        ("a.tar", {}, ["get_object(request)", "presign(request)"]),
    ],
)
def test_the_next_cell_is_python_that_reads_the_object(key, fields, lines):
    provider = oss(f"oss://bucket/{key}", **fields)

    cell = provider.next_cell(Result(provider.url))

    compile(cell, "cell", "exec")
    assert all(line in cell for line in [*lines, repr(key)])
    assert ("pandas" in cell) == (key != "a.tar")
