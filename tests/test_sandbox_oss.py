"""The OSS sandbox: every documented limit, and the vendor's own clients on a real port."""

from __future__ import annotations

import base64
import gc
import hashlib
import importlib
import io
import json
import random
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from xml.etree import ElementTree

import pytest
from clock import Clock

from chunkup_jupyter import digests
from chunkup_jupyter.errors import AuthError, IntegrityError, Refused, SessionLost
from chunkup_jupyter.model import Body, FileInfo, Part, PartReceipt, Session, drive
from chunkup_jupyter.plan import parts
from chunkup_jupyter.providers.oss import OSS
from chunkup_jupyter.sandbox import Answer, Blob, Store, load
from chunkup_jupyter.sandbox.oss import Limits, OSSSandbox
from chunkup_jupyter.sandbox.server import serve
from chunkup_jupyter.secrets import Secret
from chunkup_jupyter.transport import Transport
from chunkup_jupyter.wire import Headers, Request
from chunkup_jupyter.wire.client import HttpClient

VECTORS = json.loads((Path(__file__).parent / "data" / "vectors.json").read_text("utf-8"))
META = VECTORS["_meta"]
NOW = META["fixed_time_unix"]
GIVEN = META["credentials"]
FILE = FileInfo("data.bin", 25)
DATA = bytes(range(65, 90))
AWKWARD = "dir with space/数据 +&=%~'文件#?;.bin"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> OSSSandbox:
    made = OSSSandbox(now=clock)
    made.shrink(min_part=10, max_part=20, max_parts=5, page=2, max_object=60, max_put=30)
    return made


def provider(sandbox: OSSSandbox, url: str = "oss://sandbox/key", **fields: Any) -> OSS:
    token = sandbox.security_token
    defaults: dict[str, Any] = {
        "access_key_id": Secret(sandbox.access_key_id),
        "access_key_secret": Secret(sandbox.access_key_secret),
        "session_token": Secret(token) if token else None,
        "region": sandbox.region,
        "endpoint": sandbox.base_url,
        "now": sandbox.now,
    }
    return OSS.from_url(url, **{**defaults, **fields})


def ask(
    sandbox: OSSSandbox,
    method: str,
    path: str = "/sandbox/key",
    body: bytes = b"",
    **headers: str,
) -> Answer:
    """Ask with a signature of our own making, whatever is asked."""
    given = provider(sandbox, "oss://sandbox/x")
    path, _, text = path.partition("?")
    bucket, _, key = path[1:].partition("/")
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    asker = OSS.from_url(
        f"oss://{bucket}/x",
        access_key_id=given.access_key_id,
        access_key_secret=given.access_key_secret,
        session_token=given.session_token,
        region=sandbox.region,
        endpoint=sandbox.base_url,
        now=sandbox.now,
    )
    pairs = parse_qsl(text, keep_blank_values=True)
    return sandbox.handle(next(asker._call(method, key, pairs, fields, body)))


def code(answer: Answer) -> str:
    content = answer.content or base64.b64decode(answer.headers.get("x-oss-err", ""))
    return ElementTree.fromstring(content).findtext("Code", "") if content else ""


def texts(answer: Answer, name: str) -> list[str]:
    root = ElementTree.fromstring(answer.content)
    return [e.text or "" for e in root.iter() if e.tag.rpartition("}")[2] == name]


def opened(sandbox: OSSSandbox, key: str = "key", **headers: str) -> str:
    return texts(ask(sandbox, "POST", f"/sandbox/{key}?uploads", **headers), "UploadId")[0]


def put(sandbox: OSSSandbox, upload: str, number: int, data: bytes, **headers: str) -> Answer:
    path = f"/sandbox/key?partNumber={number}&uploadId={upload}"
    return ask(sandbox, "PUT", path, data, **headers)


def complete(sandbox: OSSSandbox, upload: str, *listed: tuple[int, str], **headers: str) -> Answer:
    items = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in listed)
    body = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()
    return ask(sandbox, "POST", f"/sandbox/key?uploadId={upload}", body, **headers)


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest().upper()}"'


def whole(sandbox: OSSSandbox, made: OSS, data: bytes = DATA, part_size: int = 10) -> str:
    """Upload bytes with our provider; return the id."""
    file = FileInfo("data.bin", len(data))
    session = drive(made.create(file, part_size), sandbox.handle)
    receipts = [
        drive(
            made.put_part(session, part, Body.of(data[part.start : part.start + part.size])),
            sandbox.handle,
        )
        for part in parts(session)
    ]
    return drive(made.complete(session, receipts), sandbox.handle).id


# signatures


def vector_sandbox(case: dict[str, Any]) -> OSSSandbox:
    return OSSSandbox(
        access_key_id=GIVEN["access_key_id"],
        access_key_secret=GIVEN["access_key_secret"],
        security_token=GIVEN["security_token"] if case["use_security_token"] else None,
        now=lambda: NOW,
    )


def vector_request(case: dict[str, Any], authorization: str) -> Request:
    headers = {**case["headers_before_signing"], **case.get("headers_added", {})}
    if "date" in case:
        headers["Date"] = case["date"]
        if case["use_security_token"]:
            headers["x-oss-security-token"] = GIVEN["security_token"]
    pairs = [f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in reversed(case["query"])]
    path = quote(case["key"] or "", safe="")
    url = f"http://127.0.0.1/{case['bucket']}/{path}?{'&'.join(pairs)}"
    return Request(case["method"], url, {**headers, "Authorization": authorization})


@pytest.mark.parametrize(
    "case", VECTORS["oss_v4_header"] + VECTORS["oss_v1_header"], ids=lambda case: case["name"]
)
def test_signatures_of_the_vendors_sdk_are_accepted_in_any_form(case):
    """In any order of the query, with slashes escaped, with or without spaces."""
    forms = {case["authorization"], case.get("oss2_authorization_form") or case["authorization"]}

    for form in forms:
        answer = vector_sandbox(case).handle(vector_request(case, form))
        assert answer.status != 403, answer.text
        assert code(answer) in ("", "NoSuchUpload", "MalformedXML", "NoSuchKey", "InvalidDigest")
    wrong = case["authorization"][:-3] + "xyz"
    refused = vector_sandbox(case).handle(vector_request(case, wrong))
    assert (refused.status, code(refused)) == (403, "SignatureDoesNotMatch")
    assert texts(refused, "StringToSign") == [case["string_to_sign"]]


@pytest.mark.parametrize(
    "case",
    VECTORS["oss_v4_presigned"] + VECTORS["oss_v1_presigned"],
    ids=lambda case: case["name"],
)
def test_urls_of_the_vendors_sdk_are_accepted_until_they_expire(case):
    sandbox = vector_sandbox(case)
    headers = dict(case["headers"])
    if "host" in case.get("additional_headers", []):
        headers["Host"] = urlsplit(case["signed_url"]).hostname or ""
    request = Request(case["method"], case["signed_url"], headers)

    assert sandbox.handle(request).status != 403
    sandbox.now = lambda: NOW + 3601
    expired = sandbox.handle(request)
    assert (expired.status, code(expired)) == (403, "AccessDenied")
    assert "expired" in expired.text
    sandbox.now = lambda: NOW
    added = Request(case["method"], case["signed_url"], {**headers, "x-oss-meta-a": "b"})
    assert code(sandbox.handle(added)) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("signature", ["v4", "v1"])
@pytest.mark.parametrize("token", [None, "CAIS+a/b=="])
@pytest.mark.parametrize(
    ("endpoint", "style"),
    [
        ("http://127.0.0.1:1", ""),
        ("http://localhost:1", ""),
        ("http://oss.localhost:1", "virtual"),
        ("", ""),
        ("internal", ""),
        ("dualstack", ""),
        ("accelerate", ""),
        ("files.example.com", "cname"),
    ],
)
def test_our_provider_and_the_sandbox_agree_in_every_style(signature, token, endpoint, style):
    sandbox = OSSSandbox(security_token=token)
    sandbox.shrink(min_part=10)
    made = provider(
        sandbox, f"oss://sandbox/{AWKWARD}", endpoint=endpoint, addressing=style,
        signature=signature, meta={"a": "b"}, tagging={"k e": "v/"}, acl="private",
    )  # fmt: skip

    name = whole(sandbox, made)

    assert sandbox.finished()[name].read() == DATA
    url = made.presigned_url()
    assert b"".join(sandbox.handle(Request("GET", url)).blob.blocks()) == DATA
    assert sandbox.handle(Request("PUT", url)).status == 403


@pytest.mark.parametrize("signature", ["v4", "v1"])
@pytest.mark.parametrize(
    ("wrong_by", "fine"), [(899, True), (-899, True), (901, False), (-901, False)]
)
def test_a_clock_may_be_a_quarter_of_an_hour_off(sandbox, clock, signature, wrong_by, fine):
    made = provider(sandbox, signature=signature, now=lambda: clock.time + wrong_by)

    answer = sandbox.handle(next(made.existing(FILE)))

    assert code(answer) == ("NoSuchKey" if fine else "RequestTimeTooSkewed")
    assert drive(made.existing(FILE), sandbox.handle) is None  # the clock is set, then asked again
    assert bool(made.skew) is not fine


def test_another_region_is_refused(sandbox):
    made = provider(sandbox, region="cn-beijing")

    answer = sandbox.handle(next(made.held(Session("U", FILE, 10))))
    presigned = sandbox.handle(Request("GET", made.presigned_url()))

    assert (answer.status, answer.headers["x-oss-ec"]) == (400, "0002-00000228")
    assert (presigned.status, presigned.headers["x-oss-ec"]) == (400, "0002-00000226")
    with pytest.raises(Refused, match="check --region"):
        drive(made.create(FILE, 10), sandbox.handle)


def test_keys_are_checked(sandbox):
    for field, expected in (
        ("access_key_id", "InvalidAccessKeyId"),
        ("access_key_secret", "SignatureDoesNotMatch"),
    ):
        for signature in ("v4", "v1"):
            made = provider(sandbox, signature=signature, **{field: Secret("wrong")})
            with pytest.raises(AuthError, match=expected):
                drive(made.create(FILE, 10), sandbox.handle)


def test_an_unsigned_request_is_refused(sandbox):
    for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
        answer = sandbox.handle(Request(method, f"{sandbox.base}/sandbox/key"))
        assert (answer.status, code(answer)) == (403, "AccessDenied")


def test_a_signature_stands_in_one_place(sandbox):
    made = provider(sandbox)
    signed = next(made.existing(FILE))

    both = Request("HEAD", made.presigned_url("HEAD"), signed.headers)

    assert code(sandbox.handle(both)) == "InvalidArgument"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda h: {**h, "Authorization": "Bearer x"}, 400),
        (lambda h: {**h, "Authorization": "OSS4-HMAC-SHA256 Credential=x"}, 400),
        (lambda h: {**h, "x-oss-content-sha256": "0" * 64}, 400),
        (lambda h: {**h, "x-oss-date": "yesterday"}, 400),
        (lambda h: {**h, "Authorization": h["Authorization"].replace("/oss/", "/s3/")}, 400),
        (lambda h: {**h, "Authorization": h["Authorization"].replace("/2027", "/2026")}, 400),
        (lambda h: {**h, "x-oss-meta-a": "added"}, 403),
        (lambda h: {**h, "Content-Type": "added/later"}, 403),
        (lambda h: {**h, "Authorization": "OSS x:y"}, 403),
    ],
)
def test_a_signature_covers_what_it_says(sandbox, change, status):
    signed = next(provider(sandbox).held(Session("U", FILE, 10)))

    answer = sandbox.handle(Request(signed.method, signed.url, change(signed.headers)))

    assert answer.status == status
    assert sandbox.handle(signed).status == 404


@pytest.mark.parametrize("expires", ["0", "604801", "x", "-1", ""])
def test_a_presigned_url_lives_a_week_at_most(sandbox, expires):
    url = provider(sandbox).presigned_url(expires=60)

    answer = sandbox.handle(Request("GET", url.replace("expires=60", f"expires={expires}")))

    assert (answer.status, answer.headers["x-oss-ec"]) == (400, "0002-00000232")


def test_a_presigned_url_is_not_good_before_its_time(sandbox, clock):
    url = provider(sandbox, now=lambda: clock.time + 3600).presigned_url()

    assert sandbox.handle(Request("GET", url)).status == 403


def test_temporary_credentials_run_out_and_are_renewed(clock):
    sandbox = OSSSandbox(security_token="T1", now=clock)
    sandbox.shrink(min_part=10)
    old = provider(sandbox)
    session = drive(old.create(FILE, 25), sandbox.handle)
    body = Body.of(DATA)

    sandbox.expire_token()
    with pytest.raises(AuthError, match="SecurityTokenExpired") as caught:
        drive(old.put_part(session, Part(1, 0, 25), body), sandbox.handle)
    assert caught.value.expired
    sandbox.renew_token("T2")
    with pytest.raises(AuthError, match="InvalidSecurityToken"):
        drive(old.put_part(session, Part(1, 0, 25), body), sandbox.handle)

    fresh = provider(sandbox)
    receipt = drive(fresh.put_part(session, Part(1, 0, 25), body), sandbox.handle)
    assert drive(fresh.complete(session, [receipt]), sandbox.handle).size == 25
    with pytest.raises(AuthError, match="InvalidAccessKeyId"):
        drive(provider(sandbox, session_token=None).create(FILE, 25), sandbox.handle)


def test_a_token_that_belongs_to_no_key_is_refused(sandbox):
    made = provider(sandbox, session_token=Secret("T"))

    with pytest.raises(AuthError, match="AccessKeyIdAndSecurityTokenNotMatch"):
        drive(made.create(FILE, 10), sandbox.handle)


def test_version_1_can_be_closed_as_for_new_accounts(sandbox):
    sandbox.shrink(signature_v1=False)
    made = provider(sandbox, signature="v1")

    with pytest.raises(AuthError, match="leave --signature out"):
        drive(made.create(FILE, 10), sandbox.handle)
    assert sandbox.handle(Request("GET", made.presigned_url())).status == 403


# parts


def test_a_part_is_answered_with_its_digests(sandbox):
    answer = put(sandbox, opened(sandbox), 1, DATA[:20])

    assert answer.status == 200
    assert answer.headers["etag"] == etag(DATA[:20])
    assert answer.headers["x-oss-hash-crc64ecma"] == digests.of("crc64", DATA[:20])


@pytest.mark.parametrize("number", ["0", "6", "-1", "x", "", "1.5", "10000000000"])
def test_part_numbers_have_bounds(sandbox, number):
    upload = opened(sandbox)

    answer = ask(sandbox, "PUT", f"/sandbox/key?partNumber={number}&uploadId={upload}", b"x")

    assert (answer.status, code(answer)) == (400, "InvalidArgument")
    assert put(sandbox, upload, 5, b"x").status == 200


def test_a_part_has_a_greatest_size(sandbox):
    upload = opened(sandbox)

    assert code(put(sandbox, upload, 1, bytes(21))) == "EntityTooLarge"
    assert put(sandbox, upload, 1, bytes(20)).status == 200


def test_a_refused_part_leaves_the_stored_one_alone(sandbox):
    upload = opened(sandbox)
    put(sandbox, upload, 1, b"kept")

    assert code(put(sandbox, upload, 1, bytes(21))) == "EntityTooLarge"
    assert code(put(sandbox, upload, 1, b"x", content_md5="AAAA")) == "InvalidDigest"

    assert complete(sandbox, upload, (1, etag(b"kept"))).status == 200
    assert sandbox.finished()["oss://sandbox/key"].read() == b"kept"


def test_a_part_sent_again_replaces_the_first_and_voids_its_etag(sandbox):
    upload = opened(sandbox)
    put(sandbox, upload, 1, b"first")
    put(sandbox, upload, 1, b"second")

    assert code(complete(sandbox, upload, (1, etag(b"first")))) == "InvalidPart"
    assert complete(sandbox, upload, (1, etag(b"second"))).status == 200
    assert sandbox.finished()["oss://sandbox/key"].read() == b"second"


def test_content_md5_is_compared(sandbox):
    upload = opened(sandbox)
    good = base64.b64encode(hashlib.md5(b"data").digest()).decode()

    assert put(sandbox, upload, 1, b"data", content_md5=good).status == 200
    assert code(put(sandbox, upload, 2, b"dato", content_md5=good)) == "InvalidDigest"


def test_encryption_is_said_at_the_beginning_only(sandbox):
    answer = put(sandbox, opened(sandbox), 1, b"x", x_oss_server_side_encryption="AES256")

    assert code(answer) == "InvalidArgument"


@pytest.mark.parametrize(
    ("limit", "fine"),
    [("819200", True), ("838860800", True), ("819199", False), ("838860801", False), ("x", False)],
)
def test_a_traffic_limit_has_bounds(sandbox, limit, fine):
    answer = put(sandbox, opened(sandbox), 1, b"x", x_oss_traffic_limit=limit)

    assert (answer.status == 200) is fine


def test_parts_of_a_sequential_upload_go_in_order(sandbox):
    upload = texts(ask(sandbox, "POST", "/sandbox/key?uploads&sequential"), "UploadId")[0]

    assert code(put(sandbox, upload, 2, b"x")) == "PartNotSequential"
    assert put(sandbox, upload, 1, b"x").status == 200
    assert put(sandbox, upload, 2, b"x").status == 200


# completion


def test_a_completed_upload_is_an_object_with_the_crc_of_the_whole(sandbox):
    upload = opened(sandbox, content_type="text/plain", x_oss_meta_a="b")
    for number, data in enumerate((DATA[:10], DATA[10:20], DATA[20:]), 1):
        put(sandbox, upload, number, data)

    answer = complete(
        sandbox, upload, (1, etag(DATA[:10])), (2, etag(DATA[10:20])), (3, etag(DATA[20:]))
    )

    assert answer.status == 200
    assert answer.headers["x-oss-hash-crc64ecma"] == digests.of("crc64", DATA)
    (tag,) = texts(answer, "ETag")
    assert tag == answer.headers["etag"]
    assert tag.endswith('-3"')
    head = ask(sandbox, "HEAD")
    assert head.headers["content-length"] == "25"
    assert head.headers["x-oss-hash-crc64ecma"] == digests.of("crc64", DATA)
    assert head.headers["content-type"] == "text/plain"
    assert head.headers["x-oss-meta-a"] == "b"
    assert head.headers["x-oss-object-type"] == "Multipart"
    assert head.content == b""
    assert head.blob is None


def test_gaps_between_part_numbers_are_allowed(sandbox):
    upload = opened(sandbox)
    put(sandbox, upload, 2, DATA[:10])
    put(sandbox, upload, 5, DATA[10:])

    assert complete(sandbox, upload, (2, etag(DATA[:10])), (5, etag(DATA[10:]))).status == 200
    assert sandbox.finished()["oss://sandbox/key"].read() == DATA


def test_a_part_left_out_is_left_out(sandbox):
    upload = opened(sandbox)
    put(sandbox, upload, 1, DATA[:10])
    put(sandbox, upload, 2, DATA[10:])

    complete(sandbox, upload, (2, etag(DATA[10:])))

    assert sandbox.finished()["oss://sandbox/key"].read() == DATA[10:]


@pytest.mark.parametrize("listed", [[(2, 2), (1, 1)], [(1, 1), (1, 1)]])
def test_parts_are_listed_in_order_and_once(sandbox, listed):
    upload = opened(sandbox)
    datas = {1: bytes(10), 2: b"x"}
    for number, data in datas.items():
        put(sandbox, upload, number, data)

    answer = complete(sandbox, upload, *((n, etag(datas[d])) for n, d in listed))

    assert (code(answer), answer.headers["x-oss-ec"]) == ("InvalidPartOrder", "0042-00000209")
    assert sandbox.unfinished() == [upload]


@pytest.mark.parametrize("listed", [(2, etag(b"x")), (1, etag(b"y")), (1, '"AB"')])
def test_a_part_that_is_not_there_cannot_be_completed(sandbox, listed):
    upload = opened(sandbox)
    put(sandbox, upload, 1, b"x")

    assert code(complete(sandbox, upload, listed)) == "InvalidPart"


def test_only_the_last_part_may_be_small(sandbox):
    upload = opened(sandbox)
    put(sandbox, upload, 1, bytes(9))
    put(sandbox, upload, 2, b"")

    answer = complete(sandbox, upload, (1, etag(bytes(9))), (2, etag(b"")))

    assert (code(answer), answer.headers["x-oss-ec"]) == ("EntityTooSmall", "0042-00000213")
    assert complete(sandbox, upload, (1, etag(bytes(9)))).status == 200


def test_an_object_has_a_greatest_size(sandbox):
    upload = opened(sandbox)
    for number in range(1, 5):
        put(sandbox, upload, number, bytes(20))

    answer = complete(sandbox, upload, *((n, etag(bytes(20))) for n in range(1, 5)))

    assert code(answer) == "EntityTooLarge"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<CompleteMultipartUpload/>",
        b"<Other><Part/></Other>",
        b"<CompleteMultipartUpload><Part><ETag>x</ETag></Part></CompleteMultipartUpload>",
        b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>x</ETag></Part>"
        b"</CompleteMultipartUpload>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><CompleteMultipartUpload><Part/></CompleteMultipartUpload>",
        b"\xff\xfe",
    ],
)
def test_a_list_of_parts_that_makes_no_sense_is_refused(sandbox, body):
    upload = opened(sandbox)

    answer = ask(sandbox, "POST", f"/sandbox/key?uploadId={upload}", body)

    assert (answer.status, code(answer)) == (400, "MalformedXML")


def test_all_parts_can_be_taken_without_a_list(sandbox):
    upload = opened(sandbox)
    path = f"/sandbox/key?uploadId={upload}"
    assert code(ask(sandbox, "POST", path, x_oss_complete_all="yes")) == "InvalidPart"
    put(sandbox, upload, 3, DATA[10:])
    put(sandbox, upload, 1, DATA[:10])

    assert code(ask(sandbox, "POST", path, b"<x/>", x_oss_complete_all="yes")) == "InvalidArgument"
    assert ask(sandbox, "POST", path, x_oss_complete_all="yes").status == 200
    assert sandbox.finished()["oss://sandbox/key"].read() == DATA


def test_completing_twice_meets_an_unknown_upload_or_the_same_answer(sandbox):
    upload = opened(sandbox)
    put(sandbox, upload, 1, b"x")
    first = complete(sandbox, upload, (1, etag(b"x")))

    again = complete(sandbox, upload, (1, etag(b"x")))
    sandbox.shrink(repeat_complete=True)
    alike = complete(sandbox, upload, (1, etag(b"x")))

    assert (again.status, code(again)) == (404, "NoSuchUpload")
    assert (alike.status, alike.content) == (200, first.content)


def test_a_callback_that_fails_leaves_the_object(sandbox):
    upload = opened(sandbox)
    put(sandbox, upload, 1, b"x")

    answer = complete(sandbox, upload, (1, etag(b"x")), x_oss_callback="e30=")

    assert (answer.status, code(answer)) == (203, "CallbackFailed")
    assert "oss://sandbox/key" in sandbox.finished()


def test_forbidding_to_overwrite_holds_at_both_ends(sandbox):
    early, late = opened(sandbox, x_oss_forbid_overwrite="true"), opened(sandbox)
    for upload in (early, late):
        put(sandbox, upload, 1, b"new")
    ask(sandbox, "PUT", body=b"old")

    answers = [
        ask(sandbox, "POST", "/sandbox/key?uploads", x_oss_forbid_overwrite="true"),
        complete(sandbox, early, (1, etag(b"new"))),
        complete(sandbox, late, (1, etag(b"new")), x_oss_forbid_overwrite="true"),
        ask(sandbox, "PUT", body=b"new", x_oss_forbid_overwrite="true"),
    ]

    assert {(a.status, code(a)) for a in answers} == {(409, "FileAlreadyExists")}
    assert sandbox.finished()["oss://sandbox/key"].read() == b"old"
    assert complete(sandbox, late, (1, etag(b"new"))).status == 200


def test_an_object_keeps_what_was_said_about_it(sandbox):
    made = provider(
        sandbox, storage_class="IA", tagging={"a b": "c/d"}, acl="public-read", meta={"Own": "me"}
    )

    whole(sandbox, made)

    found = sandbox.object("sandbox", "key")
    assert (found.storage_class, found.acl, found.tags) == ("IA", "public-read", {"a b": "c/d"})
    assert found.fields["x-oss-meta-own"] == "me"
    assert ask(sandbox, "HEAD").headers["x-oss-tagging-count"] == "1"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x_oss_storage_class": "Gold"}, "InvalidArgument"),
        ({"x_oss_forbid_overwrite": "maybe"}, "InvalidArgument"),
        ({"x_oss_tagging": "&".join(f"k{n}=v" for n in range(11))}, "InvalidTag"),
        ({"x_oss_tagging": "a=1&a=2"}, "InvalidTag"),
    ],
)
def test_an_object_described_wrongly_is_refused_at_once(sandbox, headers, expected):
    answer = ask(sandbox, "POST", "/sandbox/key?uploads", **headers)

    assert (answer.status, code(answer)) == (400, expected)
    upload = opened(sandbox)
    put(sandbox, upload, 1, b"x")
    wrong = complete(sandbox, upload, (1, etag(b"x")), x_oss_object_acl="everybody")
    assert code(wrong) == "InvalidArgument"


# sessions


def test_an_aborted_upload_is_gone_with_its_parts(sandbox):
    upload = opened(sandbox)
    put(sandbox, upload, 1, bytes(20))
    assert sandbox.store.used == 20
    path = f"/sandbox/key?uploadId={upload}"

    assert ask(sandbox, "DELETE", path).status == 204

    gc.collect()
    assert sandbox.store.used == 0
    assert sandbox.unfinished() == []
    for answer in (
        ask(sandbox, "DELETE", path),
        ask(sandbox, "GET", path),
        put(sandbox, upload, 1, b"x"),
        complete(sandbox, upload, (1, '"x"')),
    ):
        assert (answer.status, code(answer)) == (404, "NoSuchUpload")


def test_an_upload_belongs_to_its_key(sandbox):
    upload = opened(sandbox)

    for path in ("/sandbox/other", "/another/key"):
        answer = ask(sandbox, "GET", f"{path}?uploadId={upload}")
        assert code(answer) == "NoSuchUpload"


def test_uploads_last_unless_a_rule_ends_them(sandbox, clock):
    upload = opened(sandbox)
    clock.time += 400 * 86400
    assert sandbox.unfinished() == [upload]

    sandbox.shrink(session_life=86400)

    assert sandbox.unfinished() == []
    again = opened(sandbox)
    sandbox.forget(again)
    with pytest.raises(SessionLost):
        drive(provider(sandbox).held(Session(again, FILE, 10)), sandbox.handle)


# lists


def test_parts_are_listed_in_pages(sandbox):
    made = provider(sandbox)
    session = drive(made.create(FILE, 5), sandbox.handle)
    sent = [
        drive(made.put_part(session, p, Body.of(bytes([p.number]) * 5)), sandbox.handle)
        for p in reversed(list(parts(session)))
    ]

    assert drive(made.held(session), sandbox.handle) == sent[::-1]
    assert sandbox.seen["list-parts"] == 3
    page = ask(sandbox, "GET", f"/sandbox/key?uploadId={session.upload_id}&max-parts=1")
    assert texts(page, "PartNumber") == ["1"]
    assert texts(page, "NextPartNumberMarker") == ["1"]
    assert texts(page, "IsTruncated") == ["true"]
    assert texts(page, "ETag") == [etag(b"\x01" * 5)]


@pytest.mark.parametrize("most", ["0", "1001", "x", "-1"])
def test_a_page_has_one_to_a_thousand_entries(sandbox, most):
    upload = opened(sandbox)

    for path in (
        f"/sandbox/key?uploadId={upload}&max-parts={most}",
        f"/sandbox/?uploads&max-uploads={most}",
        f"/sandbox/?max-keys={most}",
    ):
        assert code(ask(sandbox, "GET", path)) == "InvalidArgument"


def test_unfinished_uploads_are_listed_in_pages_by_our_provider(sandbox):
    keys = ["dir/a b", "dir/数据", "dir/sub/c", "dir/sub/c", "other"]
    ids = [
        drive(provider(sandbox, f"oss://sandbox/{k}").create(FILE, 10), sandbox.handle).upload_id
        for k in keys
    ]

    found = drive(provider(sandbox, "oss://sandbox/dir/").list_open(), sandbox.handle)

    assert {(s.upload_id, s.extra["key"]) for s in found} == set(zip(ids[:4], keys, strict=False))
    assert float(found[0].extra["created_at"]) == sandbox.now()
    assert len(drive(provider(sandbox, "oss://sandbox/").list_open(), sandbox.handle)) == 5
    only = drive(provider(sandbox, "oss://sandbox/dir/sub/c").list_open(), sandbox.handle)
    assert {s.upload_id for s in only} == set(ids[2:4])
    for session in only:
        drive(provider(sandbox, "oss://sandbox/").abort(session), sandbox.handle)
    assert set(sandbox.unfinished()) == {ids[0], ids[1], ids[4]}


def test_folders_of_unfinished_uploads_are_folded(sandbox):
    for key in ("a/1", "a/2", "b"):
        opened(sandbox, key)

    page = ask(sandbox, "GET", "/sandbox/?uploads&delimiter=/")

    assert texts(page, "Key") == ["b"]
    assert texts(page, "Prefix") == ["", "a/"]


def test_objects_are_listed_in_both_versions(sandbox):
    for key in ("a/1", "a/2", "b", "c"):
        ask(sandbox, "PUT", f"/sandbox/{key}", key.encode())

    first = ask(sandbox, "GET", "/sandbox/?max-keys=2")
    assert texts(first, "Key") == ["a/1", "a/2"]
    assert texts(first, "NextMarker") == ["a/2"]
    rest = ask(sandbox, "GET", "/sandbox/?marker=a/2")
    assert texts(rest, "Key") == ["b", "c"]

    folded = ask(sandbox, "GET", "/sandbox/?list-type=2&delimiter=/&max-keys=2")
    assert texts(folded, "Key") == ["b"]
    assert texts(folded, "KeyCount") == ["2"]
    (token,) = texts(folded, "NextContinuationToken")
    last = ask(
        sandbox, "GET", f"/sandbox/?list-type=2&delimiter=/&continuation-token={quote(token)}"
    )
    assert texts(last, "Key") == ["c"]
    assert texts(ask(sandbox, "GET", "/sandbox/?list-type=2&start-after=a/2"), "Key") == ["b", "c"]
    wrong = ask(sandbox, "GET", "/sandbox/?list-type=2&continuation-token=!")
    assert wrong.status == 400


# objects


def test_an_object_is_put_read_and_deleted(sandbox):
    answer = ask(sandbox, "PUT", body=DATA, content_type="text/x")
    assert answer.headers["etag"] == etag(DATA)
    assert answer.headers["x-oss-hash-crc64ecma"] == digests.of("crc64", DATA)
    assert ask(sandbox, "GET").blob.read() == DATA
    assert ask(sandbox, "GET").headers["content-type"] == "text/x"
    shown = ask(sandbox, "GET", "/sandbox/key?response-content-type=text/y")
    assert shown.headers["content-type"] == "text/y"
    assert ask(sandbox, "DELETE").status == 204
    assert ask(sandbox, "DELETE").status == 204
    gone = ask(sandbox, "GET")
    assert (gone.status, code(gone)) == (404, "NoSuchKey")
    assert code(ask(sandbox, "PUT", body=bytes(31))) == "EntityTooLarge"
    assert code(ask(sandbox, "PUT", body=b"x", content_md5="AAAA")) == "InvalidDigest"


@pytest.mark.parametrize(
    ("wanted", "status", "expected"),
    [
        ("bytes=0-4", 206, DATA[:5]),
        ("bytes=20-", 206, DATA[20:]),
        ("bytes=-5", 206, DATA[-5:]),
        ("bytes=0-999", 206, DATA),
        ("bytes=99-", 200, DATA),
        ("bytes=-", 200, DATA),
        ("lines=1-2", 200, DATA),
    ],
)
def test_a_range_of_an_object_is_read(sandbox, wanted, status, expected):
    ask(sandbox, "PUT", body=DATA)

    answer = ask(sandbox, "GET", Range=wanted)

    assert (answer.status, answer.blob.read()) == (status, expected)


@pytest.mark.parametrize(
    "key",
    ["..", "a/../../b", "./a", "a//b", AWKWARD, "%2e%2e%2fx", "e\u0301", "\u00e9", "x" * 1023],
)
def test_a_key_is_stored_under_its_very_name(sandbox, key):
    asker = provider(sandbox)
    sandbox.handle(next(asker._call("PUT", key, content=DATA)))

    assert sandbox.finished()[f"oss://sandbox/{key}"].read() == DATA


@pytest.mark.parametrize("key", ["/x", "\\x", "x" * 1024])
def test_a_key_that_cannot_be_one_is_refused(sandbox, key):
    answer = ask(sandbox, "PUT", f"/sandbox/{key}", b"x")

    assert (answer.status, code(answer)) == (400, "InvalidObjectName")


@pytest.mark.parametrize("path", ["/sandbox/%ff", "/sandbox/%c0%ae", "/%ff/x"])
def test_a_key_is_text(sandbox, path):
    answer = sandbox.handle(Request("GET", sandbox.base + path))

    assert (answer.status, code(answer)) == (400, "InvalidObjectName")


def test_any_bucket_exists_unless_only_one_does():
    made = OSSSandbox(bucket="mine")
    assert ask(made, "PUT", "/yours/key", b"x").status == 200
    one = OSSSandbox(bucket="mine", any_bucket=False)
    assert code(ask(one, "PUT", "/yours/key", b"x")) == "NoSuchBucket"
    assert ask(one, "PUT", "/mine/key", b"x").status == 200
    with pytest.raises(ValueError):
        OSSSandbox(bucket="No!")


def test_the_public_service_wants_the_bucket_in_the_host(sandbox):
    made = provider(sandbox, endpoint="", addressing="path")

    with pytest.raises(AuthError, match="leave --addressing path out"):
        drive(made.create(FILE, 10), sandbox.handle)


def test_what_is_not_part_of_it_says_so(sandbox):
    for method, path in (
        ("GET", "/sandbox/key?acl"),
        ("PUT", "/sandbox/"),
        ("GET", "/sandbox/?bucketInfo"),
        ("POST", "/sandbox/key?append&position=0"),
        ("PATCH", "/sandbox/key"),
    ):
        answer = ask(sandbox, method, path)
        assert (answer.status, code(answer)) == (501, "NotImplemented")
    for path in ("/sandbox/key", f"/sandbox/key?partNumber=1&uploadId={opened(sandbox)}"):
        assert ask(sandbox, "PUT", path, x_oss_copy_source="/a/b").status == 501


def test_every_answer_carries_what_the_vendors_clients_demand(sandbox):
    answers = [
        ask(sandbox, "PUT", body=b"x"),
        ask(sandbox, "GET"),
        ask(sandbox, "HEAD", "/sandbox/none"),
        ask(sandbox, "DELETE"),
        sandbox.handle(Request("GET", f"{sandbox.base}/sandbox/key")),
        ask(sandbox, "GET", "/sandbox/key?uploadId=none"),
    ]

    for answer in answers:
        assert answer.headers["date"] == "Fri, 15 Jan 2027 08:00:00 GMT"
        assert len(answer.headers["x-oss-request-id"]) == 24
        assert answer.headers["x-oss-server-time"]
        assert answer.status < 400 or answer.headers["x-oss-ec"]
    assert answers[2].content == b""
    assert code(answers[2]) == "NoSuchKey"


# for its users


def test_a_flipped_byte_is_found_by_our_provider(sandbox):
    made = provider(sandbox)
    session = drive(made.create(FILE, 25), sandbox.handle)
    sandbox.shrink(max_part=100)
    flow = made.put_part(session, Part(1, 0, 25), Body.of(DATA))
    request = next(flow)
    list(request.content)

    wrong = sandbox.handle(Request(request.method, request.url, request.headers, DATA[::-1]))

    with pytest.raises(IntegrityError):
        flow.send(wrong)


def test_it_says_how_to_reach_it():
    made = OSSSandbox(security_token="T", region="oss-us-west-1", bucket="mine")

    assert made.announce() == {
        "access_key_id": made.access_key_id,
        "access_key_secret": made.access_key_secret,
        "security_token": "T",
        "bucket": "mine",
        "region": "us-west-1",
    }
    assert made.environment() == {
        "OSS_ACCESS_KEY_ID": made.access_key_id,
        "OSS_ACCESS_KEY_SECRET": made.access_key_secret,
        "OSS_SESSION_TOKEN": "T",
        "OSS_REGION": "us-west-1",
        "OSS_ENDPOINT": made.base_url,
    }
    assert load("oss") is OSSSandbox
    assert OSSSandbox().access_key_secret != OSSSandbox().access_key_secret
    assert len(OSSSandbox().access_key_secret) >= 32


def test_its_limits_are_the_documented_ones():
    assert Limits() == Limits(
        min_part=102_400,
        max_part=5 * 1024**3,
        max_parts=10_000,
        max_object=50_000 * 1024**3,
        max_put=5 * 1024**3,
        page=1000,
        key_bytes=1023,
        tags=10,
        skew=900,
        max_expires=604_800,
        session_life=0,
    )


def test_ten_thousand_parts_are_joined_without_a_copy():
    sandbox = OSSSandbox()
    sandbox.shrink(min_part=1)
    made = provider(sandbox)
    session = drive(made.create(FileInfo("x", 10_000), 1), sandbox.handle)
    data = random.Random(5).randbytes(10_000)
    upload = sandbox._uploads[session.upload_id]
    put(sandbox, session.upload_id, 1, data[:1])
    for number in range(2, 10_001):  # signing each of them would take seconds
        blob = Blob.of(data[number - 1 : number])
        stored = replace(
            upload.parts[1],
            blob=blob,
            md5=blob.digest("md5").upper(),
            crc=int(blob.digest("crc64")),
        )
        upload.parts[number] = stored

    held = drive(made.held(session), sandbox.handle)
    result = drive(made.complete(session, held), sandbox.handle)

    assert sandbox.seen["list-parts"] == 10
    assert sandbox.finished()[result.id].read() == data
    assert f"CRC-64 {digests.of('crc64', data)} of the object" in result.verified


# referees: clients that nobody here wrote, on a real port


@pytest.fixture
def port():
    sandbox = OSSSandbox(store=Store.on_disk())
    with serve(sandbox) as served:
        yield sandbox
        assert not served.failures


@pytest.fixture
def big(tmp_path) -> tuple[str, bytes]:
    data = random.Random(11).randbytes(1_000_001)
    path = tmp_path / "big.bin"
    path.write_bytes(data)
    return str(path), data


of_oss2 = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


@pytest.fixture(scope="module")
def oss2() -> Any:
    """The vendor's first SDK; the first time it is compiled it warns of its own spelling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("oss2")


open_sessions: list[Any] = []


@pytest.fixture(autouse=True)
def sessions_are_closed() -> Iterator[None]:
    """The vendor's first SDK never closes its connections, and warnings are errors here."""
    yield
    if open_sessions:
        while open_sessions:
            open_sessions.pop().close()
        with warnings.catch_warnings():
            # A body it has read to the end is not given back to its pool either.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def v1_bucket(oss2: Any, sandbox: OSSSandbox, version: str, name: str = "my-bucket") -> Any:
    keys = sandbox.access_key_id, sandbox.access_key_secret
    if sandbox.security_token:
        holder = oss2.credentials.StaticCredentialsProvider(*keys, sandbox.security_token)
        auth = oss2.ProviderAuthV4(holder) if version == "v4" else oss2.ProviderAuth(holder)
    else:
        auth = oss2.AuthV4(*keys) if version == "v4" else oss2.Auth(*keys)
    session = oss2.Session()
    open_sessions.append(session.session)
    return oss2.Bucket(auth, sandbox.base_url, name, region=sandbox.region, session=session)


@of_oss2
@pytest.mark.parametrize("version", ["v4", "v1"])
@pytest.mark.parametrize("token", [None, "CAIS+a/b=="])
def test_oss2_uploads_in_parts_and_reads_back(oss2, port, version, token):
    exceptions, models = oss2.exceptions, oss2.models
    port.security_token = token
    bucket = v1_bucket(oss2, port, version)
    data = [random.Random(n).randbytes(102_400) for n in (1, 2)] + [b"tail"]
    headers = {"Content-Type": "text/x", "x-oss-meta-a": "b", "x-oss-storage-class": "IA"}
    upload = bucket.init_multipart_upload(AWKWARD, headers=headers).upload_id
    done = []
    for number, piece in enumerate(data, 1):
        result = bucket.upload_part(AWKWARD, upload, number, piece)
        assert result.crc == int(digests.of("crc64", piece))
        done.append(models.PartInfo(number, result.etag, size=len(piece), part_crc=result.crc))
    page = bucket.list_parts(AWKWARD, upload, max_parts=2)
    assert (page.is_truncated, page.next_marker) == (True, "2")
    assert [p.size for p in page.parts] == [102_400, 102_400]
    open_now = bucket.list_multipart_uploads(prefix="dir with", max_uploads=10)
    assert [(u.key, u.upload_id) for u in open_now.upload_list] == [(AWKWARD, upload)]
    with pytest.raises(exceptions.ServerError) as caught:
        bucket.complete_multipart_upload(AWKWARD, upload, [models.PartInfo(9, "X")])
    assert caught.value.code == "InvalidPart"
    finished = bucket.complete_multipart_upload(AWKWARD, upload, done)
    assert finished.crc == int(digests.of("crc64", b"".join(data)))
    assert bucket.get_object(AWKWARD).read() == b"".join(data)
    head = bucket.head_object(AWKWARD)
    assert (head.content_length, head.content_type) == (204_804, "text/x")
    assert head.headers["x-oss-meta-a"] == "b"
    assert [o.key for o in bucket.list_objects_v2().object_list] == [AWKWARD]
    assert [o.key for o in bucket.list_objects().object_list] == [AWKWARD]
    assert bucket.object_exists(AWKWARD)
    bucket.delete_object(AWKWARD)
    assert not bucket.object_exists(AWKWARD)


@of_oss2
@pytest.mark.parametrize("version", ["v4", "v1"])
def test_oss2_puts_aborts_and_signs_urls(oss2, port, version):
    import requests

    exceptions = oss2.exceptions
    bucket = v1_bucket(oss2, port, version)
    upload = bucket.init_multipart_upload("k").upload_id
    bucket.abort_multipart_upload("k", upload)
    with pytest.raises(exceptions.NoSuchUpload):
        bucket.list_parts("k", upload)
    bucket.put_object(AWKWARD, b"hello")
    url = bucket.sign_url("GET", AWKWARD, 60, slash_safe=True)
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(url).content == b"hello"
        assert session.put(url, data=b"x").status_code == 403
    with pytest.raises(exceptions.ServerError) as caught:
        bucket.put_object(AWKWARD, b"x", headers={"x-oss-forbid-overwrite": "true"})
    assert (caught.value.status, caught.value.code) == (409, "FileAlreadyExists")
    with pytest.raises(exceptions.NoSuchKey):
        bucket.get_object("nothing")


@of_oss2
@pytest.mark.parametrize("version", ["v4", "v1"])
def test_oss2_uploads_resumably_with_threads(oss2, port, big, tmp_path, version):
    path, data = big
    bucket = v1_bucket(oss2, port, version)
    store = oss2.ResumableStore(root=str(tmp_path))

    result = oss2.resumable_upload(
        bucket, "big", path, store=store, multipart_threshold=1, part_size=102_400, num_threads=3
    )

    assert result.crc == int(digests.of("crc64", data))
    assert port.finished()["oss://my-bucket/big"].sha256() == hashlib.sha256(data).hexdigest()
    assert port.unfinished() == []


def v2_client(sandbox: OSSSandbox, **fields: Any) -> Any:
    import alibabacloud_oss_v2 as oss

    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(
        sandbox.access_key_id, sandbox.access_key_secret, sandbox.security_token
    )
    config.region = sandbox.region
    config.endpoint = sandbox.base_url
    config.use_path_style = True
    for name, value in fields.items():
        setattr(config, name, value)
    return oss.Client(config)


@pytest.mark.parametrize("token", [None, "CAIS+a/b=="])
def test_the_second_sdk_uploads_a_file_and_reads_it_back(port, big, token):
    import alibabacloud_oss_v2 as oss

    port.security_token = token
    client, (path, data) = v2_client(port), big

    result = client.uploader(part_size=102_400, parallel_num=3).upload_file(
        oss.PutObjectRequest(bucket="my-bucket", key=AWKWARD, acl="private"), filepath=path
    )

    assert result.hash_crc64 == digests.of("crc64", data)
    with client.get_object(oss.GetObjectRequest(bucket="my-bucket", key=AWKWARD)).body as body:
        assert body.read() == data
    link = client.presign(oss.GetObjectRequest(bucket="my-bucket", key=AWKWARD))
    answer = port.handle(Request("GET", link.url))
    assert answer.blob.sha256() == hashlib.sha256(data).hexdigest()


def test_the_second_sdk_pages_through_parts_uploads_and_objects(port):
    import alibabacloud_oss_v2 as oss

    client = v2_client(port)
    port.shrink(page=2)
    opening = oss.InitiateMultipartUploadRequest(bucket="my-bucket", key=AWKWARD)
    uploads = [client.initiate_multipart_upload(opening).upload_id for _ in range(3)]
    for number in range(1, 6):
        client.upload_part(
            oss.UploadPartRequest(
                bucket="my-bucket", key=AWKWARD, upload_id=uploads[0], part_number=number, body=b"x"
            )
        )
    pages = client.list_parts_paginator().iter_page(
        oss.ListPartsRequest(bucket="my-bucket", key=AWKWARD, upload_id=uploads[0])
    )
    found = [part.part_number for page in pages for part in page.parts or []]
    listed = client.list_multipart_uploads_paginator().iter_page(
        oss.ListMultipartUploadsRequest(bucket="my-bucket")
    )
    names = [(u.key, u.upload_id) for page in listed for u in page.uploads or []]
    assert found == [1, 2, 3, 4, 5]
    assert sorted(names) == sorted((AWKWARD, upload) for upload in uploads)

    for n in range(5):
        client.put_object(oss.PutObjectRequest(bucket="my-bucket", key=f"数 {n}", body=b"x"))
    objects = client.list_objects_v2_paginator().iter_page(
        oss.ListObjectsV2Request(bucket="my-bucket")
    )
    assert [o.key for page in objects for o in page.contents] == [f"数 {n}" for n in range(5)]
    client.abort_multipart_upload(
        oss.AbortMultipartUploadRequest(bucket="my-bucket", key=AWKWARD, upload_id=uploads[0])
    )
    with pytest.raises(oss.exceptions.OperationError) as caught:
        client.list_parts(
            oss.ListPartsRequest(bucket="my-bucket", key=AWKWARD, upload_id=uploads[0])
        )
    error = caught.value.unwrap()
    assert (error.status_code, error.code) == (404, "NoSuchUpload")


def test_the_second_sdk_reads_errors_of_head_and_signs_with_version_1(port):
    import alibabacloud_oss_v2 as oss

    client = v2_client(port, signature_version="v1")
    client.put_object(oss.PutObjectRequest(bucket="my-bucket", key="k", body=b"x"))

    assert client.is_object_exist("my-bucket", "k")
    assert not client.is_object_exist("my-bucket", "none")
    head = client.head_object(oss.HeadObjectRequest(bucket="my-bucket", key="k"))
    assert head.content_length == 1


def test_the_next_cell_runs(port, monkeypatch):
    for name, value in port.environment().items():
        monkeypatch.setenv(name, value)
    made = provider(port, "oss://my-bucket/table.csv")
    name = whole(port, made, b"a,b\n1,2\n", 102_400)
    result = drive(made.existing(FileInfo("table.csv", 8)), port.handle)
    assert result.id == name
    cell = made.next_cell(result)
    names: dict[str, Any] = {}
    exec(cell.replace("import pandas as pd", "").replace("table = pd", "table = Frame"), {
        "Frame": type("Frame", (), {"read_csv": staticmethod(io.BytesIO.getvalue)})
    }, names)  # fmt: skip

    assert names["data"] == names["table"] == b"a,b\n1,2\n"
    assert port.handle(Request("GET", names["link"])).status == 200


def test_our_provider_uploads_over_the_port_with_several_parts_at_once(port):
    import asyncio

    data = random.Random(3).randbytes(350_000)
    made = provider(port, f"oss://my-bucket/{AWKWARD}//x")

    async def upload() -> tuple[str, list[PartReceipt]]:
        client = HttpClient()
        transport = Transport(client, made.rules)
        try:
            session = await transport.run(made.create(FileInfo("x", len(data)), 102_400))

            async def one(part: Part) -> PartReceipt:
                piece = Body.of(data[part.start : part.start + part.size])
                return await transport.run(made.put_part(session, part, piece), part.number)

            receipts = await asyncio.gather(*map(one, parts(session)))
            assert await transport.run(made.held(session)) == receipts
            result = await transport.run(made.complete(session, receipts))
        finally:
            await client.close()
        return result.id, receipts

    name, _ = asyncio.run(upload())

    assert port.finished()[name].sha256() == hashlib.sha256(data).hexdigest()


def test_many_clients_at_once_do_not_mix_their_parts(port):
    made = [provider(port, f"oss://my-bucket/{n}") for n in range(8)]
    datas = [random.Random(n).randbytes(250_000) for n in range(8)]

    with ThreadPoolExecutor(4) as pool:
        names = list(
            pool.map(lambda pair: whole(port, *pair, 102_400), zip(made, datas, strict=True))
        )

    assert [port.finished()[name].read() for name in names] == datas


def test_a_put_without_a_length_is_refused_over_a_port(port):
    headers = Headers({"host": "127.0.0.1:1"})
    url = provider(port).presigned_url("PUT")

    answer = port.take("PUT", url, headers, Blob())

    assert (answer.status, code(answer)) == (411, "MissingContentLength")
