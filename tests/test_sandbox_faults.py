"""The faults themselves: in memory by a schedule, at the socket by a script."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pytest
from proxy import Proxy, Rule, Trouble

from chunkup_jupyter.sandbox import Answer, Blob, Call, Sandbox
from chunkup_jupyter.sandbox.faults import COMMON, Fault, Faulty, On
from chunkup_jupyter.sandbox.server import Served, serve
from chunkup_jupyter.wire import Dropped, Headers, Request, Stalled


class Shelf(Sandbox):
    """Keeps what is PUT and answers with its MD5 as an ETag."""

    name = "shelf"
    api = "/v9"

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, bytes] = {}
        self.voided = 0

    def expire_urls(self) -> None:
        self.voided += 1

    def answer(self, call: Call) -> Answer:
        self.kept[call.path] = call.body.read()
        return Answer(200, Headers({"etag": f'"{call.body.digest("md5")}"'}), b'{"ok": true}')

    def announce(self) -> Mapping[str, str]:
        return {"api_key": "k"}

    def environment(self) -> Mapping[str, str]:
        return {"SHELF": self.base_url}

    def finished(self) -> Mapping[str, Blob]:
        return {path: Blob.of(data) for path, data in self.kept.items()}

    def unfinished(self) -> Sequence[str]:
        return []


def put(sandbox: Sandbox, path: str = "/x", data: bytes = b"abc", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return sandbox.handle(Request("PUT", f"http://127.0.0.1:1{path}", fields, data))


# In memory


def test_without_a_rate_and_a_script_nothing_happens() -> None:
    faulty = Faulty(Shelf())

    assert [put(faulty).status for _ in range(50)] == [200] * 50
    assert not faulty.injected


@pytest.mark.parametrize(
    ("fault", "status", "kept"),
    [(Fault.REFUSE, 503, {}), (Fault.SLOW_DOWN, 429, {}), (Fault.LOSE_ANSWER, 503, {"/x": b"abc"})],
)
def test_a_refusal_may_come_before_or_after_the_deed(
    fault: Fault, status: int, kept: dict[str, bytes]
) -> None:
    shelf = Shelf()
    faulty = Faulty(shelf, script=[On(fault)], retry_after=7)

    answer = put(faulty)

    assert answer.status == status
    assert "date" in answer.headers
    assert answer.headers.get("retry-after") == ("7" if fault is Fault.SLOW_DOWN else None)
    assert shelf.kept == kept
    assert put(faulty).status == 200


@pytest.mark.parametrize(
    ("fault", "error", "kept"),
    [
        (Fault.DROP_BEFORE, Dropped, {}),
        (Fault.STALL, Stalled, {}),
        (Fault.DROP_AFTER, Dropped, {"/x": b"abcd"}),
        (Fault.KEEP_HALF, Dropped, {"/x": b"ab"}),
    ],
)
def test_a_connection_may_break_before_or_after_the_deed(
    fault: Fault, error: type[Exception], kept: dict[str, bytes]
) -> None:
    shelf = Shelf()
    faulty = Faulty(shelf, script=[On(fault)])

    with pytest.raises(error):
        put(faulty, data=b"abcd")

    assert shelf.kept == kept


def test_urls_are_voided_before_the_request_is_carried_out() -> None:
    shelf = Shelf()

    answer = put(Faulty(shelf, script=[On(Fault.EXPIRE_URLS)]))

    assert (answer.status, shelf.voided) == (200, 1)


def test_a_slow_request_waits_as_long_as_it_is_told() -> None:
    slept: list[float] = []
    faulty = Faulty(Shelf(), script=[On(Fault.SLOW)], delay=3, sleep=slept.append)

    assert put(faulty).status == 200
    assert slept == [3]


def test_a_flipped_byte_is_one_of_the_files_bytes() -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n', b"\r\n--b--\r\n"
    for seed in range(30):
        shelf = Shelf()
        faulty = Faulty(shelf, script=[On(Fault.FLIP, times=0)], random=random.Random(seed))

        put(faulty, "/plain", b"abcdef")
        kind = "multipart/form-data; boundary=b"
        put(faulty, "/form", form[0] + b"abcdef" + form[1], content_type=kind)

        got = shelf.kept["/form"].removeprefix(form[0]).removesuffix(form[1])
        for data in (shelf.kept["/plain"], got):
            assert len(data) == 6
            assert sum(a != b for a, b in zip(data, b"abcdef", strict=True)) == 1


def test_a_script_picks_its_requests() -> None:
    script = [On(Fault.REFUSE, "PUT", r"^/a\?n=", nth=2, times=2), On(Fault.SLOW_DOWN, path="^/b")]
    faulty = Faulty(Shelf(), script=script)

    assert [put(faulty, "/a?n=1").status for _ in range(5)] == [200, 503, 503, 200, 200]
    assert [put(faulty, "/a").status for _ in range(3)] == [200] * 3
    assert [put(faulty, "/b").status for _ in range(2)] == [429, 200]
    assert faulty.injected == {Fault.REFUSE: 2, Fault.SLOW_DOWN: 1}


def outcomes(seed: int, **options: Any) -> list[str]:
    faulty = Faulty(Shelf(), rate=0.5, random=random.Random(seed), **options)
    seen = []
    for number in range(200):
        try:
            seen.append(str(put(faulty, f"/{number % 3}").status))
        except (Dropped, Stalled) as error:
            seen.append(type(error).__name__)
    return seen


def test_the_same_seed_gives_the_same_faults() -> None:
    assert outcomes(1) == outcomes(1)
    assert outcomes(1) != outcomes(2)


def test_every_common_fault_comes_up() -> None:
    faulty = Faulty(Shelf(), rate=0.5, random=random.Random(3))
    for _ in range(500):
        with contextlib.suppress(Dropped, Stalled):
            put(faulty)

    assert set(faulty.injected) == set(COMMON)
    assert 150 < faulty.injected.total() < 350


def test_chance_lets_a_client_through_that_tries_often_enough() -> None:
    faulty = Faulty(Shelf(), rate=1.0, faults=[Fault.REFUSE], in_a_row=4)

    assert [put(faulty).status for _ in range(10)] == [503, 503, 503, 503, 200] * 2


def test_words_about_a_file_are_never_flipped_and_only_a_patch_is_halved() -> None:
    shelf = Shelf()
    faulty = Faulty(shelf, rate=1.0, faults=[Fault.FLIP, Fault.KEEP_HALF], in_a_row=9)
    for _ in range(20):
        with contextlib.suppress(Dropped):
            put(faulty, data=b'{"a": 1}', content_type="application/json")

    assert set(faulty.injected) == {Fault.DROP_BEFORE}


def test_everything_else_is_the_wrapped_sandboxs() -> None:
    shelf = Shelf()
    faulty = Faulty(shelf)
    faulty.base = "http://127.0.0.1:5"
    put(faulty)
    shelf.count("x")

    assert (faulty.name, faulty.base_url) == ("shelf", "http://127.0.0.1:5/v9")
    assert (faulty.announce(), faulty.environment()["SHELF"]) == ({"api_key": "k"}, shelf.base_url)
    assert faulty.finished().keys() == {"/x"}
    assert faulty.seen["x"] == 1
    assert faulty.store is shelf.store
    assert faulty.kept is shelf.kept


# At the socket


@pytest.fixture
def shelf() -> Iterator[Served]:
    with serve(Shelf()) as running:
        yield running
    assert list(running.failures) == []


@contextlib.contextmanager
def between(served: Served, *rules: Rule, **options: Any) -> Iterator[Proxy]:
    with Proxy(served.sandbox.base, rules, **options) as proxy:
        yield proxy


def send(proxy: Proxy, data: bytes = b"x" * 10_000, timeout: float = 5) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout)
    try:
        connection.request("PUT", "/x", data)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def kept(served: Served) -> dict[str, bytes]:
    return cast(Shelf, served.sandbox).kept


def test_a_proxy_without_rules_is_not_there(shelf: Served) -> None:
    data = random.Random(1).randbytes(3 << 20)
    with between(shelf) as proxy:
        assert send(proxy, data) == (200, b'{"ok": true}')
        assert send(proxy, b"")[0] == 200

        (first, second) = proxy.asked
    assert (first.method, first.target, first.received, first.status) == ("PUT", "/x", 3 << 20, 200)
    assert second.received == 0


@pytest.mark.parametrize(
    ("trouble", "received"),
    [
        ("reset before", 0),
        ("reset during", 5000),
        ("reset after", 10_000),
        ("fin", 5000),
        ("garbage", 10_000),
    ],
)
def test_a_request_breaks_before_during_and_after_its_body(
    shelf: Served, trouble: Trouble, received: int
) -> None:
    with between(shelf, Rule(trouble)) as proxy:
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            send(proxy)

        assert (proxy.asked[0].received, proxy.asked[0].trouble) == (received, trouble)
        assert kept(shelf) == {}
        assert send(proxy)[0] == 200


@pytest.mark.parametrize("trouble", ["lost", "truncated"])
def test_an_answer_is_lost_after_the_deed(shelf: Served, trouble: Trouble) -> None:
    with between(shelf, Rule(trouble)) as proxy:
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            send(proxy)

    assert kept(shelf) == {"/x": b"x" * 10_000}


@pytest.mark.parametrize("trouble", ["stall", "no answer"])
def test_a_silence_lasts(shelf: Served, trouble: Trouble) -> None:
    with between(shelf, Rule(trouble)) as proxy:
        with pytest.raises(TimeoutError):
            send(proxy, timeout=0.2)

    assert kept(shelf) == {}


def test_a_stall_stops_the_sender(shelf: Served) -> None:
    """What lies in buffers on the way must not look sent."""
    with between(shelf, Rule("stall")) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), 0.3) as connection:
            size = 64 << 20
            head = f"PUT /x HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}\r\nContent-Length: {size}"
            connection.sendall(head.encode() + b"\r\n\r\n")
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < size:
                    sent += connection.send(bytes(65536))

    assert 32 << 20 <= sent < 40 << 20


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        (Rule("lost 503"), 503),
        (Rule("redirect", location="http://127.0.0.1:9/elsewhere"), 307),
        (Rule("status", status=429, retry_after="3", body=b"slow"), 429),
        (Rule("error in 200"), 200),
        (Rule("empty 200"), 200),
        (Rule("xml bomb", status=400), 400),
        (Rule("bomb", status=500), 500),
        (Rule("early", status=413, seconds=0.05), 413),
        (Rule("no etag"), 200),
        (Rule("wrong etag"), 200),
    ],
    ids=lambda value: value.trouble if isinstance(value, Rule) else None,
)
def test_an_answer_is_another_one(shelf: Served, rule: Rule, status: int) -> None:
    with between(shelf, rule) as proxy:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
        connection.request("PUT", "/x", b"x" * 10_000)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()

    assert answer.status == status == proxy.asked[0].status
    assert bool(kept(shelf)) is (rule.trouble in ("lost 503", "no etag", "wrong etag"))
    match rule.trouble:
        case "redirect":
            assert answer.headers["location"] == rule.location
        case "status":
            assert (answer.headers["retry-after"], body) == ("3", b"slow")
        case "error in 200":
            assert b"<Error>" in body
        case "xml bomb":
            assert b"<!ENTITY" in body
        case "bomb":
            assert answer.headers["content-encoding"] == "gzip"
            assert len(body) < 1 << 20
        case "no etag" | "empty 200":
            assert answer.headers["etag"] is None
        case "wrong etag":
            assert answer.headers["etag"] == '"00000000000000000000000000000000"'


def test_an_endless_body_is_as_long_as_asked_for(shelf: Served) -> None:
    with between(shelf, Rule("endless", status=500, upto=3 << 20)) as proxy:
        status, body = send(proxy)

    assert (status, len(body)) == (500, 3 << 20)


def test_giant_headers_are_more_than_clients_take(shelf: Served) -> None:
    with between(shelf, Rule("giant headers")) as proxy:
        with pytest.raises(http.client.HTTPException):
            send(proxy)


def test_a_flipped_byte_reaches_the_server(shelf: Served) -> None:
    with between(shelf, Rule("flip")) as proxy:
        assert send(proxy)[0] == 200

    wrong = [n for n, byte in enumerate(kept(shelf)["/x"]) if byte != ord("x")]
    assert wrong == [5000]


def test_a_rule_strikes_the_nth_of_its_kind(shelf: Served) -> None:
    rule = Rule("status", "PUT", r"^/x$", nth=2, times=2)
    with between(shelf, Rule("status", "POST"), rule) as proxy:
        assert [send(proxy)[0] for _ in range(4)] == [200, 503, 503, 200]
        assert proxy.times("PUT", "^/x$") == 4
        assert proxy.times("POST") == 0


def test_connections_are_refused_for_a_while_and_then_taken(shelf: Served) -> None:
    with between(shelf, Rule("refused", seconds=0.3)) as proxy:
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            send(proxy)
        with pytest.raises(ConnectionRefusedError):
            send(proxy)
        late = time.monotonic() + 5
        while time.monotonic() < late:
            with contextlib.suppress(ConnectionError):
                assert send(proxy)[0] == 200
                break
            time.sleep(0.02)

    assert kept(shelf) == {"/x": b"x" * 10_000}


def test_a_link_is_as_fast_as_it_is_told(shelf: Served) -> None:
    with between(shelf, up_bps=1_000_000) as proxy:
        began = time.monotonic()
        assert send(proxy, bytes(400_000))[0] == 200
        took = time.monotonic() - began

    assert 0.35 < took < 2


def test_a_client_that_waits_for_100_continue_gets_it(shelf: Served) -> None:
    with between(shelf) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
            head = f"PUT /x HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}\r\nExpect: 100-continue\r\n"
            connection.sendall(f"{head}Content-Length: 3\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")

            connection.sendall(b"abc")

            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_closing_breaks_what_is_under_way(shelf: Served) -> None:
    with between(shelf, Rule("no answer")) as proxy:
        connection = socket.create_connection(("127.0.0.1", proxy.port), 5)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not proxy.asked:
            time.sleep(0.01)
    with connection, contextlib.suppress(ConnectionError):
        assert connection.recv(100) == b""

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), 1).close()
