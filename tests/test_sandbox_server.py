"""The sandbox on a port: what it must bear from browsers, other users, and broken clients."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import http.client
import io
import json
import logging
import os
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chunkup_jupyter.sandbox import Answer, Blob, Call, Sandbox, Store, answer_json, load, names
from chunkup_jupyter.sandbox import command as command_line
from chunkup_jupyter.sandbox.faults import Fault, Faulty, On
from chunkup_jupyter.sandbox.server import Limits, Served, serve
from chunkup_jupyter.wire import Headers, Request

MIB = 1 << 20
HOST = b"Host: {host}\r\n"
PROVIDERS = ("openai", "oss", "twelvelabs")


class Echo(Sandbox):
    """Keeps what is PUT, says what was asked, and forgets everything else."""

    name = "echo"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.kept: dict[str, Blob] = {}
        self.asked: list[tuple[str, str, Headers]] = []
        self.pause: Callable[[], object] = lambda: None

    def answer(self, call: Call) -> Answer:
        self.asked.append((call.method, call.url, call.headers))
        match call.method, call.path:
            case "PUT", "/full":
                self.store.reserve(1 << 60)
            case "GET", "/broken":
                raise RuntimeError("key=sk-canary")
            case "GET", "/slow":
                self.pause()
            case "GET", "/odd-headers":
                odd = {"x-a": "1\r\nx-injected: 1", "x-b\r\nx-injected": "1", "x-é": "1"}
                return Answer(200, Headers({**odd, "x-unicode": "äß", "x-wide": "电影"}), b"ok")
            case "HEAD", "/far":
                return Answer(200, Headers({"content-length": "12345"}))
            case "GET", "/nothing":
                return Answer(204)
            case "PUT", path:
                self.kept[path] = call.body
            case (("GET" | "HEAD"), path) if path in self.kept:
                return Answer(200, Headers({"etag": '"x"'}), blob=self.kept[path])
        facts = {"path": call.raw_path, "query": call.raw_query, "size": call.body.size}
        return answer_json(200, facts)

    def announce(self) -> Mapping[str, str]:
        return {}

    def environment(self) -> Mapping[str, str]:
        return {}

    def finished(self) -> Mapping[str, Blob]:
        return self.kept

    def unfinished(self) -> Sequence[str]:
        return []


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    limits = Limits(head=0.3, body=0.5, idle=5)
    with serve(Echo(store=Store.on_disk(tmp_path / "store", 32 * MIB)), limits=limits) as running:
        yield running
    assert list(running.failures) == []


def echo(served: Served) -> Echo:
    assert isinstance(served.sandbox, Echo)
    return served.sandbox


@contextlib.contextmanager
def dial(served: Served, timeout: float = 10) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.port), timeout) as connection:
        yield connection


def rest(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    collected = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            collected += data
    return collected


def raw(served: Served, request: bytes) -> bytes:
    """Send bytes as they stand, ``{host}`` filled in, and return all that comes back."""
    with dial(served) as connection:
        connection.sendall(request.replace(b"{host}", f"127.0.0.1:{served.port}".encode()))
        return rest(connection)


def status(answer: bytes) -> int:
    assert answer, "closed without a word"
    return int(answer.split(b" ", 2)[1])


def ask(
    served: Served,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    try:
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, answer.read(), fields
    finally:
        connection.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens on another thread; it is late after ten seconds."""
    late = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < late, "never came true"
        time.sleep(0.005)


# What comes through unharmed


def test_a_body_arrives_whole_and_is_sent_back_whole(served: Served) -> None:
    for size in (0, 1, 65535, 65536, 65537, 3 * MIB + 7):
        data = random.Random(size).randbytes(size)

        code, _, _ = ask(served, "PUT", f"/{size}", data)
        _, back, fields = ask(served, "GET", f"/{size}")

        assert code == 200
        assert back == data
        assert fields["content-length"] == str(size)


def test_a_body_in_chunks_arrives_whole(served: Served) -> None:
    pieces = [b"a" * 100_000, b"b", b"c" * 100_000]

    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("PUT", "/chunked", iter(pieces), encode_chunked=True)
    connection.getresponse().read()
    connection.close()

    assert echo(served).kept["/chunked"].read() == b"".join(pieces)


def test_path_and_query_reach_the_sandbox_as_they_were_sent(served: Served) -> None:
    target = "/a/../b//c/./%2e%2E/%2f%C3%A4+x;y?q=%2f&&b=&a=1&a=%20+"

    ask(served, "POST", target)

    ((_, url, _),) = echo(served).asked
    assert url == f"http://127.0.0.1:{served.port}{target}"


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "[::1]", "my-bucket.localhost"])
def test_every_name_of_the_loopback_is_served(served: Served, name: str) -> None:
    code, _, _ = ask(served, "GET", "/", headers={"Host": f"{name}:{served.port}"})

    assert code == 200
    assert echo(served).asked[0][1].startswith(f"http://{name}:")


def test_head_answers_with_the_length_and_no_body(served: Served) -> None:
    ask(served, "PUT", "/x", b"abc")

    answer = raw(served, b"HEAD /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")

    assert b"content-length: 3" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_a_sandbox_may_tell_a_length_without_holding_the_bytes(served: Served) -> None:
    code, body, fields = ask(served, "HEAD", "/far")

    assert (code, body, fields["content-length"]) == (200, b"", "12345")


def test_a_header_that_comes_twice_is_one_list(served: Served) -> None:
    raw(served, b"GET / HTTP/1.0\r\nHost: {host}\r\nX-A: 1\r\nX-B: 2\r\nx-a: 3\r\n\r\n")

    ((_, _, headers),) = echo(served).asked
    assert (headers["X-A"], headers["x-b"]) == ("1, 3", "2")


def test_no_content_has_no_length(served: Served) -> None:
    code, body, fields = ask(served, "GET", "/nothing")

    assert (code, body) == (204, b"")
    assert "content-length" not in fields


def test_every_answer_carries_exactly_one_date(served: Served) -> None:
    good = raw(served, b"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    refused = raw(served, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    broken = raw(served, b"no http at all\r\n\r\n")

    assert [a.lower().count(b"\r\ndate: ") for a in (good, refused, broken)] == [1, 1, 1]
    assert b"server:" not in good.lower()


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(served: Served) -> None:
    with dial(served) as connection:
        host = f"127.0.0.1:{served.port}"
        head = f"PUT /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")

        connection.sendall(b"abc")

        assert status(rest(connection)) == 200


def test_one_connection_carries_many_requests(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    for number in range(20):
        connection.request("PUT", f"/{number}", b"x" * number)
        assert connection.getresponse().read()
    kept = connection.sock
    connection.close()

    assert kept is not None
    assert len(echo(served).kept) == 20


def test_answers_may_overtake_each_other(served: Served) -> None:
    ask(served, "PUT", "/x", b"abc")
    begun, go_on = threading.Event(), threading.Event()
    sandbox = echo(served)
    sandbox.lock = contextlib.nullcontext()  # type: ignore[assignment]  # only the server is asked
    sandbox.pause = lambda: (begun.set(), go_on.wait(10))
    slow = threading.Thread(target=ask, args=(served, "GET", "/slow"))
    slow.start()
    begun.wait(10)

    code, _, _ = ask(served, "GET", "/x")

    go_on.set()
    slow.join()
    assert code == 200


# Who may speak to it


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.168.1.1", "::", "example.com"])
def test_it_listens_on_the_loopback_only(host: str) -> None:
    with pytest.raises(ValueError, match="listens on"):
        serve(Echo(), host=host)


def test_it_cannot_be_reached_from_outside(served: Served) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: it only picks our own address
        outside = probe.getsockname()[0]
    if outside.startswith("127."):
        outside = "127.0.0.2"

    with pytest.raises(OSError, match="refused"):
        socket.create_connection((outside, served.port), 2).close()


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{port}",
        "localhost.evil.example:{port}",
        "evil.example#.localhost:{port}",
        "localhost:{port}@evil.example",
        "0.0.0.0:{port}",
        "192.168.1.1:{port}",
        "169.254.169.254:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "[::ffff:127.0.0.1]:{port}",
        "",
    ],
)
def test_a_rebound_name_is_refused(served: Served, host: str) -> None:
    """A web page whose name resolves to 127.0.0.1 is still not us."""
    name = host.format(port=served.port).encode()

    answer = raw(served, b"GET / HTTP/1.1\r\nHost: " + name + b"\r\n\r\n")

    assert status(answer) == 421
    assert echo(served).asked == []


@pytest.mark.parametrize(
    "fields",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_pages_are_refused(served: Served, method: str, fields: dict[str, str]) -> None:
    sent = {name: value.format(port=served.port) for name, value in fields.items()}

    code, _, back = ask(served, method, "/", b"{}", sent)

    assert code == 403
    assert not [name for name in back if name.startswith("access-control-")]
    assert echo(served).asked == []


def test_our_own_origin_is_welcome(served: Served) -> None:
    own = {"Origin": f"http://127.0.0.1:{served.port}", "Sec-Fetch-Site": "same-origin"}

    code, _, back = ask(served, "GET", "/", headers=own)

    assert code == 200
    assert not [name for name in back if name.startswith("access-control-")]


# What is no request


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3, 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: +5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5 5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {host}\r\nX-A: a\x00b\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: {host}\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /#fragment HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /a\x00b HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /a%00b HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /?a=%00 HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /%c0%ae%c0%ae/%c0%af HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /%ff HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=lambda request: ascii(request[:100]),
)
def test_what_is_no_request_gets_400_and_the_connection_ends(
    served: Served, request_: bytes
) -> None:
    answer = raw(served, request_)

    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()
    assert echo(served).asked == []


def test_headers_without_end_are_refused(served: Served) -> None:
    """Whether they come at once or piece by piece."""
    field = b"X: " + b"x" * 100_000 + b"\r\n"

    at_once = raw(served, b"GET / HTTP/1.1\r\nHost: {host}\r\n" + field + b"\r\n")
    with dial(served) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(field)
        piece_by_piece = rest(connection)

    assert status(at_once) in (400, 431)
    assert piece_by_piece == b"" or status(piece_by_piece) == 400
    assert echo(served).asked == []


def test_a_chunk_of_two_to_the_64_is_no_room_for_a_second_request(served: Served) -> None:
    answer = raw(
        served,
        b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"10000000000000000\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n",
    )

    assert answer == b"" or status(answer) < 500
    assert not [url for _, url, _ in echo(served).asked if "smuggled" in url]


def test_a_length_below_the_body_leaves_a_second_request_that_is_judged_by_itself(
    served: Served,
) -> None:
    answer = raw(
        served,
        b"POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
        b"GET /b HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    )

    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"421"]


def test_an_answer_cannot_be_split(served: Served) -> None:
    answer = raw(served, b"GET /odd-headers HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")

    assert status(answer) == 200
    assert b"\r\nx-injected" not in answer
    assert b"x-unicode: " in answer


def test_an_upgrade_is_not_made(served: Served) -> None:
    answer = raw(
        served,
        b"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    )

    assert status(answer) == 200


# Who is slow, who lies, who takes too much


def test_a_head_that_does_not_end_is_ended(served: Served) -> None:
    """Bytes that drip in do not move the deadline."""
    with dial(served) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 5 and not _readable(connection):
                connection.sendall(b"x")
                time.sleep(0.05)
        answer = rest(connection)

    assert time.monotonic() - began < 2
    assert answer == b"" or status(answer) == 408


def test_a_second_head_that_does_not_end_is_ended_too(served: Served) -> None:
    with dial(served) as connection:
        host = f"127.0.0.1:{served.port}"
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\nGET /again".encode())

        answer = rest(connection)

    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"408"]


def _readable(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) is not None
    except BlockingIOError:
        return False
    finally:
        connection.setblocking(True)


@pytest.mark.parametrize("size", [0, 2 * MIB])
def test_a_body_that_stops_coming_is_ended_and_leaves_nothing(served: Served, size: int) -> None:
    began = time.monotonic()
    with dial(served) as connection:
        head = (
            f"PUT /x HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: {3 * MIB}\r\n\r\n"
        )
        connection.sendall(head.encode() + bytes(size))

        answer = rest(connection)

    assert status(answer) == 408
    assert time.monotonic() - began < 5
    assert_nothing_is_kept(served)


def test_a_body_that_breaks_off_is_never_answered_and_leaves_nothing(served: Served) -> None:
    with dial(served) as connection:
        head = (
            f"PUT /x HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: {3 * MIB}\r\n\r\n"
        )
        connection.sendall(head.encode() + bytes(2 * MIB))
        until(lambda: served.sandbox.store.used > MIB)

    until(lambda: served.sandbox.store.used == 0)
    assert_nothing_is_kept(served)
    assert echo(served).asked == []


def assert_nothing_is_kept(served: Served) -> None:
    gc.collect()
    root = served.sandbox.store.root
    assert root is not None
    assert served.sandbox.store.used == 0
    assert list(root.iterdir()) == []


def test_300_idle_connections_keep_nobody_out(tmp_path: Path) -> None:
    _allow_files(1500)
    before = _resident()
    with serve(Echo(store=Store.on_disk(tmp_path / "store"))) as served:
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(dial(served)) for _ in range(300)]
            for connection in idle[::2]:
                connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
            began = time.monotonic()

            codes = [ask(served, "PUT", f"/{n}", bytes(100_000))[0] for n in range(10)]

            assert codes == [200] * 10
            assert time.monotonic() - began < 3
            assert _resident() - before < 64 * MIB


def test_beyond_the_bound_the_longest_idle_connection_makes_room() -> None:
    with serve(Echo(), limits=Limits(connections=5)) as served:
        with contextlib.ExitStack() as stack:
            oldest = stack.enter_context(dial(served))
            for _ in range(4):
                stack.enter_context(dial(served))

            code, _, _ = ask(served, "GET", "/")

            assert code == 200
            assert rest(oldest) == b""


def _allow_files(number: int) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))


def _resident() -> int:
    command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    return int(subprocess.run(command, capture_output=True, check=True).stdout) * 1024


def test_a_length_beyond_the_quota_is_refused_before_the_body(served: Served) -> None:
    with dial(served) as connection:
        head = f"PUT /x HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: {1 << 62}\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())

        answer = rest(connection)

    assert status(answer) == 507
    assert b"connection: close" in answer.lower()


def test_a_body_that_outgrows_the_quota_is_refused_and_leaves_nothing(served: Served) -> None:
    """Its length was not told, so it is counted as it comes."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    pieces = (bytes(MIB) for _ in range(40))
    connection.request("PUT", "/x", pieces, encode_chunked=True)

    answer = connection.getresponse()

    assert answer.status == 507
    answer.read()
    connection.close()
    until(lambda: served.sandbox.store.used == 0)
    assert_nothing_is_kept(served)


def test_what_is_kept_counts_until_it_is_dropped(served: Served) -> None:
    body = bytes(20 * MIB)

    first, _, _ = ask(served, "PUT", "/a", body)
    second, _, _ = ask(served, "PUT", "/b", body)
    echo(served).kept.clear()
    third, _, _ = ask(served, "PUT", "/c", body)

    assert (first, second, third) == (200, 507, 200)


def test_a_body_the_sandbox_does_not_keep_is_deleted(served: Served) -> None:
    for _ in range(5):
        ask(served, "POST", "/", bytes(20 * MIB))

    until(lambda: served.sandbox.store.used == 0)
    assert_nothing_is_kept(served)


def test_a_sandbox_that_finds_its_store_full_says_so(served: Served) -> None:
    code, _, _ = ask(served, "PUT", "/full", b"abc")

    assert code == 507
    assert_nothing_is_kept(served)


def test_a_large_body_takes_little_memory(tmp_path: Path) -> None:
    with serve(Echo(store=Store.on_disk(tmp_path / "store"))) as served:
        body = io.BytesIO(bytes(256 * MIB))
        before = _resident()
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        connection.blocksize = MIB
        connection.request("PUT", "/x", body, {"Content-Length": str(256 * MIB)})
        answer = json.loads(connection.getresponse().read())
        connection.close()

        assert answer["size"] == 256 * MIB
        assert _resident() - before < 32 * MIB


# What it keeps, where, and what it tells


def test_only_its_user_can_read_what_it_keeps(served: Served) -> None:
    ask(served, "PUT", "/../../../../tmp/evil%2f..%2fname", bytes(MIB))

    root = served.sandbox.store.root
    assert root is not None
    (file,) = root.iterdir()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert re.fullmatch(r"[0-9a-f]{32}\.part", file.name)


def test_a_failure_is_told_to_nobody_outside(
    served: Served, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)

    code, body, _ = ask(served, "GET", "/broken", headers={"Authorization": "Bearer sk-canary"})

    shown = capfd.readouterr()
    assert code == 500
    assert body == b"the sandbox failed\n"
    assert "sk-canary" not in caplog.text + shown.out + shown.err
    assert "RuntimeError" in served.failures.pop()


def test_keys_and_addresses_are_not_logged(
    served: Served, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(1)

    ask(served, "GET", "/?Signature=sk-canary", headers={"Authorization": "Bearer sk-canary"})
    raw(served, b"GET /sk-canary HTTP/1.1\r\nHost: {host}\r\nHost: sk-canary\r\n\r\n")
    raw(served, b"sk-canary\r\n\r\n")

    shown = capfd.readouterr()
    assert "sk-canary" not in caplog.text + shown.out + shown.err + repr(served)
    assert {record.name for record in caplog.records} <= {"asyncio"}


def test_closing_frees_port_thread_files_and_store() -> None:
    threads = set(threading.enumerate())
    served = serve(Echo(store=Store.on_disk()))
    root, port = served.sandbox.store.root, served.port
    ask(served, "PUT", "/x", bytes(MIB))
    stuck = socket.create_connection(("127.0.0.1", port))
    assert root is not None
    assert root.exists()

    served.close()
    served.close()

    stuck.close()
    assert not root.exists()
    assert set(threading.enumerate()) <= threads
    with serve(Echo(), port=port) as again:
        assert ask(again, "GET", "/")[0] == 200


def test_a_port_in_use_is_an_error() -> None:
    with serve(Echo()) as served, pytest.raises(OSError, match="in use"):
        serve(Echo(), port=served.port)


def test_closing_ends_requests_that_are_under_way() -> None:
    served = serve(Echo(store=Store.on_disk()))
    with dial(served) as connection:
        head = (
            f"PUT /x HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: {3 * MIB}\r\n\r\n"
        )
        connection.sendall(head.encode() + bytes(MIB))
        until(lambda: served.sandbox.store.used > 0)

        began = time.monotonic()
        served.close()

        assert rest(connection) == b""
        assert time.monotonic() - began < 5


def test_closing_loses_no_connection_that_is_just_coming() -> None:
    """A lost one is a ResourceWarning, which is an error here."""
    for number in range(40):
        served = serve(Echo())
        with contextlib.ExitStack() as stack:
            for _ in range(number % 4):
                stack.enter_context(dial(served))
            served.close()

    gc.collect()


# Faults reach the socket


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("fault", [Fault.DROP_BEFORE, Fault.DROP_AFTER])
def test_a_dropped_connection_is_dropped(fault: Fault) -> None:
    """And what nobody kept of it is deleted at once, not when the collector comes by."""
    inner = Echo(store=Store.on_disk())
    with serve(Faulty(inner, script=[On(fault, path="^/x$")])) as served:
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(served, "PUT", "/x", bytes(MIB))

        assert len(inner.asked) == (fault is Fault.DROP_AFTER)
        assert ask(served, "PUT", "/x", b"abc")[0] == 200
        inner.kept.clear()
        until(lambda: inner.store.used == 0)
        assert list(served.failures) == []


# The blobs' own promise


def test_shared_bytes_live_until_their_last_user_is_gone() -> None:
    store = Store.on_disk(quota=100)
    path = store.new_path()
    path.write_bytes(b"0123456789")
    store.reserve(10)
    whole = store.adopt(path, 10)
    some = whole.slice(2, 3) + whole.slice(7, 1)

    del whole
    assert (some.read(), store.used) == (b"2347", 10)

    del some
    assert (store.used, path.exists()) == (0, False)
    store.close()


def test_freeing_twice_gives_back_once() -> None:
    sandbox = Echo(store=Store(quota=100))
    kept, blob = sandbox.keep(b"x" * 40), sandbox.keep(b"y" * 50)

    sandbox.store.free(blob.slice(0, 10))
    sandbox.store.free(blob)
    del blob

    assert sandbox.store.used == kept.size == 40


# The real mirrors, over the port


@pytest.fixture(params=PROVIDERS)
def mirror(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serve(load(request.param)(store=Store.on_disk())) as running:
        yield running
    assert list(running.failures) == []


def test_all_providers_have_a_mirror() -> None:
    assert set(PROVIDERS) <= set(names())


def test_a_mirror_says_where_it_is(mirror: Served) -> None:
    sandbox = mirror.sandbox

    assert sandbox.base == f"http://127.0.0.1:{mirror.port}"
    assert mirror.base_url == sandbox.base + sandbox.api
    assert mirror.base_url in sandbox.environment().values() or not sandbox.api


def test_keys_are_random_and_long(mirror: Served) -> None:
    """At least 128 bits, and another one for every sandbox."""
    kind = type(mirror.sandbox)
    runs = [kind().announce() for _ in range(3)]

    for field in [name for name in runs[0] if "key" in name and name != "access_key_id"]:
        keys = {run[field] for run in runs}
        assert len(keys) == 3
        assert all(len(key) >= 32 for key in keys)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS"])
def test_nobody_gets_in_without_a_key(mirror: Served, method: str) -> None:
    for target in ("/", "/v1/files", "/v1.3/assets", "/sandbox-bucket/x?uploads", "/v1/uploads"):
        code, _, fields = ask(mirror, method, target, b"{}", {"Content-Type": "application/json"})

        assert 400 <= code < 500, (method, target)
        assert "date" in fields


@pytest.mark.parametrize(
    "target",
    [
        "/../../../../etc/passwd",
        "/v1/files/..%2f..%2fetc%2fpasswd/content",
        "/v1/uploads/%2e%2e/parts",
        "/v1.3/assets/..%5c..%5c",
        "/bucket/%2f%2e%2e%2f?uploadId=../../x&partNumber=1",
        "/bucket/" + "a" * 5000,
        "/?" + "&".join("uploads" for _ in range(500)),
        "/v1/%F0%9F%92%A9%0d%0aX:%20y",
        "/;/?;=%ff&=&&%",
        "//evil.example//x",
        "/v1/uploads?limit=-1&after=%ff",
        "/bucket/key?partNumber=99999999999999999999&uploadId=",
    ],
)
def test_nonsense_is_refused_and_breaks_nothing(mirror: Served, target: str) -> None:
    key = mirror.sandbox.announce().get("api_key", "x")
    for headers in (
        {},
        {"Authorization": f"Bearer {key}", "x-api-key": key},
        {"Authorization": "OSS x:y"},
        {"Authorization": "OSS4-HMAC-SHA256 Credential=x/y, Signature=\xff", "x-oss-date": "x"},
        {"Content-Type": "multipart/form-data; boundary=", "Authorization": f"Bearer {key}"},
    ):
        for method in ("GET", "POST", "PUT"):
            code, _, _ = ask(mirror, method, target, b'{"a": [\xff', headers)

            assert code < 500, (method, headers)


# The command


@contextlib.contextmanager
def running(
    *options: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command in a process of its own, and what it said when it was ready."""
    code = "import sys; from chunkup_jupyter.sandbox.command import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    env = {"OPENAI_API_KEY": "sk-canary"}
    with running("openai", "--root", str(root), "--key-from-env", env=env) as (process, ready):
        (store,) = root.iterdir()
        port = int(ready["base_url"].split(":")[2].removesuffix("/v1"))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/v1/files", headers={"Authorization": "Bearer sk-canary"})
        code = connection.getresponse().status
        connection.close()
        modes = stat.S_IMODE(root.stat().st_mode), stat.S_IMODE(store.stat().st_mode)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)

    assert ready["provider"] == "openai"
    assert ready["pid"] == process.pid
    assert ready["api_key"] == "sk-canary"
    assert code == 200
    assert modes == (0o700, 0o700)
    assert process.returncode == 0
    assert out == ""
    assert "openai.OpenAI(base_url=" in err
    assert "sk-canary" not in err
    assert "Traceback" not in err
    assert list(root.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 2).close()


def test_each_connection_is_as_slow_as_a_distant_one_on_demand() -> None:
    data = bytes(8 * MIB)

    with running("oss", "--pace", "8M") as (_, ready):
        began = time.monotonic()
        connection = http.client.HTTPConnection(ready["base_url"].removeprefix("http://"))
        connection.request("PUT", "/", data)
        connection.getresponse().read()
        connection.close()

    assert 0.9 < time.monotonic() - began < 5


def test_the_command_ends_well_when_it_is_told_to_terminate(tmp_path: Path) -> None:
    options = ("--root", str(tmp_path), "--bucket", "films", "--region", "cn-test")
    with running("oss", *options, "--shrink", "min_part=1K") as (process, ready):
        process.terminate()
        process.communicate(timeout=10)

    assert (ready["bucket"], ready["region"]) == ("films", "cn-test")
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_the_command_ends_with_its_parent(tmp_path: Path) -> None:
    """Killed in the middle of everything, a parent cannot stop what it started."""
    child = (
        "import sys; from chunkup_jupyter.sandbox.command import main; "
        f"sys.exit(main(['twelvelabs', '--watch-parent', '--root', {str(tmp_path)!r}]))"
    )
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], stderr=subprocess.DEVNULL)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    ready = json.loads(parent.stdout.readline())

    parent.kill()

    assert parent.stdout.readline() == ""  # the child's end of the pipe is closed
    parent.communicate()
    until(lambda: not _alive(ready["pid"]))
    assert list(tmp_path.iterdir()) == []


def _alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(state.stdout.strip()) and not state.stdout.strip().startswith("Z")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["openai", "--shrink", "nonsense=1"], "no limit is called 'nonsense'; there are max_part"),
        (["openai", "--shrink", "max_part"], "--shrink max_part: write LIMIT=VALUE"),
        (["oss", "--shrink", "page=0"], "--shrink: page has to be more than 0, not 0"),
        (["oss", "--shrink", "skew=nothing"], "--shrink: 'nothing' is no size"),
        (["oss", "--shrink", "min_part=10G"], "min_part is 10737418240, more than max_part"),
        (["oss", "--shrink", "signature_v1=never"], "--shrink: true or false, not never"),
        (["twelvelabs", "--shrink", "url_seconds=nan"], "has to be more than 0, not nan"),
        (["twelvelabs", "--shrink", "seconds_processing=-1"], "has to be not negative, not -1.0"),
        (["twelvelabs", "--chunk-size", "0"], "--chunk-size: chunk_size has to be more than 0"),
        (["openai", "--bucket", "x"], "--bucket: the openai sandbox has none"),
        (["openai", "--quota", "much"], "--quota: 'much' is no size"),
        (["openai", "--quota", "0"], "--quota 0 has room for nothing"),
        (["openai", "--key-from-env"], "OPENAI_API_KEY is not set"),
        (["oss", "--key-from-env"], "OSS_ACCESS_KEY_ID is not set"),
        (["twelvelabs", "--chunk-size", "x"], "is no size"),
    ],
)
def test_a_mistake_is_explained(
    options: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "OSS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)

    code = command_line.main(options)

    shown = capsys.readouterr()
    assert code == 2
    assert shown.out == ""
    assert complaint in shown.err


def test_in_memory_and_on_the_port_the_answers_are_the_same() -> None:
    sandbox = Echo()
    with serve(sandbox) as served:
        url = f"{sandbox.base}/a?b=c"
        direct = sandbox.handle(Request("POST", url, {}, b"abc"))

        code, body, _ = ask(served, "POST", "/a?b=c", b"abc")

    assert (direct.status, direct.content) == (code, body)
    assert hashlib.sha256(body).digest() == hashlib.sha256(direct.content).digest()


def test_small_requests_do_not_wait_for_each_other(served: Served) -> None:
    """With Nagle's delay on, each would take 40 ms."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    began = time.monotonic()
    for _ in range(50):
        connection.request("POST", "/", b"abc")
        connection.getresponse().read()
    connection.close()

    assert time.monotonic() - began < 1
