"""What goes over the wire, byte for byte, and what is believed of what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import socket
import threading
import time

import httpx
import psutil
import pytest
from peers import Authority, Peer, answering, reply

from chunkup_jupyter.model import Body
from chunkup_jupyter.wire import (
    BadAnswer,
    Dropped,
    Malformed,
    NotConnected,
    Patience,
    Request,
    Stalled,
    Untrusted,
    WireError,
    addresses,
)
from chunkup_jupyter.wire.client import HttpClient

SHORT = Patience(connect=0.5, idle=0.4, answer=0.4)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def send(*requests: Request, patience: Patience = Patience(), count=None, **options):
    """Send requests one after another with one client; return the last answer."""

    async def sending():
        client = HttpClient(**options)
        try:
            for request in requests:
                answer = await client.send(request, count, patience)
            return answer
        finally:
            await client.close()

    return asyncio.run(sending())


OK = answering(reply(200, b"fine"))


# what is sent


@pytest.mark.parametrize(
    "target",
    [
        "/a/b",
        "/bucket/%2E%2E/%2e/a",
        "/bucket/../../etc/passwd",
        "/a/./b//c/",
        "/a%2Fb+c%20d;e=f,g:h@i!$&'()*",
        "/a?x=%2F&y=a+b&empty&z=",
        "/?uploads",
        '/~a/[b]/{c}|d^e`f"g<h>',
    ],
)
def test_the_url_is_sent_byte_for_byte(target):
    with Peer(OK) as peer:
        send(Request("GET", peer.base + target))

    assert peer.received[0].startswith(f"GET {target} HTTP/1.1\r\n".encode())


def test_a_url_that_is_not_percent_encoded_is_refused():
    with pytest.raises(Malformed):
        send(Request("GET", "http://127.0.0.1:9/ü"))


@pytest.mark.parametrize("header", ["a\r\nX-Evil: 1", "a\nb", "a\x00b"])
def test_a_line_break_in_a_header_is_refused(header):
    with Peer(OK) as peer, pytest.raises(Malformed):
        send(Request("GET", peer.base, {"X-Name": header}))

    assert b"Evil" not in b"".join(peer.received)


def test_a_stream_goes_out_with_its_length_and_unchanged():
    """However much of it is handed over at once, which grows on a quick link."""
    data = random.Random(1).randbytes(20 << 20)
    counted = []
    with Peer(OK) as peer:
        content = (b"before", Body.of(data), b"after")
        send(Request("PUT", peer.base + "/x", content=content), count=counted.append)

    head, _, body = bytes(peer.received[0]).partition(b"\r\n\r\n")
    assert body == b"before" + data + b"after"
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert sum(counted) == len(data)


class Odd:
    """A stream whose blocks end anywhere."""

    def __init__(self, data, block):
        self.data, self.block, self.size = data, block, len(data)

    async def __aiter__(self):
        for start in range(0, self.size, self.block):
            yield self.data[start : start + self.block]


def test_a_stream_goes_out_unchanged_wherever_its_blocks_end():
    data = random.Random(2).randbytes(20 << 20)
    with Peer(OK) as peer:
        send(Request("PUT", peer.base + "/x", content=Odd(data, 700_001)))

    assert bytes(peer.received[0]).partition(b"\r\n\r\n")[2] == data


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_empty_body_has_a_length_too(method):
    with Peer(OK) as peer:
        send(Request(method, peer.base))

    assert b"content-length: 0\r\n" in peer.received[0].lower()


def test_nothing_is_added_but_what_http_needs():
    with Peer(OK) as peer:
        send(Request("GET", peer.base, {"X-Key": "1"}))

    names = {line.split(b":")[0].lower() for line in bytes(peer.received[0]).split(b"\r\n")[1:-2]}
    assert names == {b"host", b"accept", b"accept-encoding", b"user-agent", b"x-key"}
    assert b"accept-encoding: identity" in peer.received[0].lower()


def test_cookies_are_not_kept():
    with Peer(answering(reply(200, b"", "Set-Cookie: a=b; Path=/"))) as peer:
        send(Request("GET", peer.base), Request("GET", peer.base))

    assert b"cookie" not in bytes(peer.received[1]).lower()


def test_a_redirect_is_an_answer_and_nothing_goes_to_the_other_host():
    with Peer(OK) as other:
        moved = reply(307, b"", f"Location: {other.base}/steal")
        with Peer(answering(moved)) as peer:
            request = Request("PUT", peer.base, {"Authorization": "key"}, Body.of(b"x" * 100))
            answer = send(request)

        assert answer.status == 307
        assert other.received == []


def test_a_connection_is_used_again():
    connections = []

    def talk(peer, connection):
        connections.append(1)
        OK(peer, connection)

    with Peer(talk) as peer:
        send(*[Request("GET", peer.base)] * 5)

    assert len(connections) == 1
    assert len([got for got in peer.received if got]) == 5


# what comes back


@pytest.mark.parametrize("status", [200, 404, 500, 503])
def test_an_answer_is_given_as_it_came(status):
    with Peer(answering(reply(status, b"body", 'ETag: "abc"', "X-Odd: \xe9"))) as peer:
        answer = send(Request("GET", peer.base + "/a?secret=1"))

    assert (answer.status, answer.content) == (status, b"body")
    assert answer.headers["etag"] == '"abc"'
    assert answer.host == "127.0.0.1"


def test_a_success_larger_than_a_megabyte_is_refused():
    with Peer(answering(reply(200, b"x" * (1 << 20)))) as peer:
        assert len(send(Request("GET", peer.base)).content) == 1 << 20
    with Peer(answering(reply(200, b"x" * ((1 << 20) + 1)))) as peer, pytest.raises(BadAnswer):
        send(Request("GET", peer.base))


def test_of_an_error_64_kib_are_read():
    with Peer(answering(reply(500, b"x" * 200_000))) as peer:
        answer = send(Request("GET", peer.base))

    assert (answer.status, len(answer.content)) == (500, 64 << 10)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "x-what", "identity, gzip"])
def test_an_encoded_answer_is_not_decoded(encoding):
    bomb = gzip.compress(bytes(10 << 20))
    with Peer(answering(reply(200, bomb, f"Content-Encoding: {encoding}"))) as peer:
        with pytest.raises(BadAnswer, match="encoded"):
            send(Request("GET", peer.base))
    with Peer(answering(reply(500, bomb, f"Content-Encoding: {encoding}"))) as peer:
        answer = send(Request("GET", peer.base))

    assert (answer.status, answer.content) == (500, b"")


def test_a_flood_of_headers_breaks_the_connection():
    fields = [f"X-{n}: {'x' * 1000}" for n in range(1000)]
    with Peer(answering(reply(200, b"", *fields))) as peer, pytest.raises(Dropped):
        send(Request("GET", peer.base))


@pytest.mark.parametrize("status", [200, 400, 500])
def test_memory_stays_flat_whatever_is_sent(status):
    def talk(peer, connection):
        peer.read_request(connection)
        connection.sendall(f"HTTP/1.1 {status} Whatever\r\n\r\n".encode())
        for _ in range(300):
            connection.sendall(bytes(1 << 20))

    process, peak, done = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch():
        while not done.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with Peer(talk) as peer:
        try:
            assert len(send(Request("GET", peer.base)).content) == 64 << 10
        except BadAnswer:
            assert status == 200
    done.set()
    watcher.join()
    assert peak[0] - before < 16 << 20


# how long it waits


def test_a_peer_that_never_answers_is_stalled():
    def talk(peer, connection):
        peer.read_request(connection)
        time.sleep(1.2)

    with Peer(talk) as peer:
        began = time.monotonic()
        with pytest.raises(Stalled, match="waiting for the answer"):
            send(Request("PUT", peer.base, content=Body.of(b"x")), patience=SHORT)
        assert time.monotonic() - began < 1


def test_a_peer_that_stops_reading_is_stalled():
    def talk(peer, connection):
        connection.recv(1000)
        time.sleep(1.2)

    with Peer(talk) as peer:
        began = time.monotonic()
        with pytest.raises(Stalled, match="sending"):
            send(Request("PUT", peer.base, content=Body.of(bytes(20 << 20))), patience=SHORT)
        assert time.monotonic() - began < 1.2


def test_bytes_that_are_not_read_are_sending_and_not_connecting():
    """A plain body, as of a completion: it may have been carried out."""

    def talk(peer, connection):
        connection.recv(1000)
        time.sleep(1.2)

    with Peer(talk) as peer, pytest.raises(Stalled):
        send(Request("POST", peer.base, content=bytes(20 << 20)), patience=SHORT)


def test_a_peer_that_stops_in_the_middle_of_its_answer_is_stalled():
    def talk(peer, connection):
        peer.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        time.sleep(1.2)

    with Peer(talk) as peer, pytest.raises(Stalled, match="reading the answer"):
        send(Request("GET", peer.base), patience=SHORT)


def test_a_slow_answer_that_moves_is_waited_for():
    def talk(peer, connection):
        peer.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            time.sleep(0.1)
            connection.sendall(b"x")

    with Peer(talk) as peer:
        assert send(Request("GET", peer.base), patience=SHORT).content == b"x" * 10


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_drips_is_not_read_for_ever(status):
    """Each byte comes in time, and the last one would come in weeks."""

    def talk(peer, connection):
        peer.read_request(connection)
        connection.sendall(f"HTTP/1.1 {status} OK\r\nContent-Length: 9999\r\n\r\n".encode())
        with contextlib.suppress(OSError):  # the other side has had enough
            for _ in range(50):
                time.sleep(0.05)
                connection.sendall(b"x")

    with Peer(talk) as peer, pytest.raises(Stalled, match="the answer did not end within 1 s"):
        send(Request("PUT", peer.base, content=Body.of(b"x")), patience=Patience(reading=1.0))


def slowly(size: int, after: float = 0.0):
    """Read ``size`` bytes at 2 MB/s, then wait, then answer."""

    def talk(peer, connection):
        got = 0
        while got < size:
            got += len(connection.recv(100_000))
            time.sleep(0.05)
        time.sleep(after)
        connection.sendall(reply(200))

    return talk


@pytest.mark.parametrize("after", [0.0, 0.5])
def test_a_slow_link_that_moves_is_not_cut(after):
    """After a slow body the answer may take longer: buffers hide what is on its way."""
    size = 4 << 20
    short = Patience(connect=0.5, idle=5.0, answer=0.3)
    with Peer(slowly(size, after), window=65536) as peer:
        request = Request("PUT", peer.base, content=Body.of(bytes(size)))
        assert send(request, patience=short).status == 200


def test_what_the_system_took_at_once_may_take_its_time():
    """It leaves bit by bit: as long as it does, no answer is late."""
    size = 160_000

    def talk(peer, connection):
        got = 0
        while got < size:
            got += len(connection.recv(4_000))
            time.sleep(0.1)
        connection.sendall(reply(200))

    short = Patience(connect=0.5, idle=5.0, answer=2.0)  # less than all of it takes
    with Peer(talk, window=16_384) as peer:
        request = Request("PUT", peer.base, content=Body.of(bytes(size)))
        assert send(request, patience=short).status == 200


def test_a_slow_source_is_no_stall():
    async def read(start, size):
        await asyncio.sleep(0.6)
        return bytes(size)

    with Peer(OK) as peer:
        answer = send(Request("PUT", peer.base, content=Body(10, read)), patience=SHORT)

    assert answer.status == 200


def test_an_address_that_does_not_answer_is_not_connected():
    """A full backlog: the system takes no more connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        began = time.monotonic()
        with pytest.raises(NotConnected, match="in time"):
            send(Request("GET", f"http://127.0.0.1:{port}/"), patience=SHORT)
        assert time.monotonic() - began < 2
        for filler in fillers:
            filler.close()


def test_a_port_without_a_server_is_not_connected():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(NotConnected, match="connection refused"):
        send(Request("GET", f"http://127.0.0.1:{port}/?secret=1"))


def test_a_name_nobody_knows_is_not_connected(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(NotConnected):
        send(Request("GET", "http://nobody.example/"))
    with pytest.raises(NotConnected, match="cannot be resolved"):
        send(Request("GET", "https://nobody.example/", public_only=True))


@pytest.mark.parametrize("scheme", ["ftp", "file", "gopher", ""])
def test_other_schemes_are_refused(scheme):
    with pytest.raises(Untrusted):
        send(Request("GET", f"{scheme}://127.0.0.1/x"))


def test_a_no_is_heard_while_the_body_is_still_sent():
    def talk(peer, connection):
        connection.recv(1000)
        connection.sendall(reply(413, b"too large"))
        time.sleep(3)

    with Peer(talk) as peer:
        began = time.monotonic()
        answer = send(Request("PUT", peer.base, content=Body.of(bytes(20 << 20))))
        assert time.monotonic() - began < 2

    assert (answer.status, answer.content) == (413, b"too large")


@pytest.mark.parametrize("announced", [["100 Continue"], ["103 Early Hints"], ["100", "103"] * 9])
def test_a_no_is_heard_after_what_only_announces_an_answer(announced):
    """The peer neither reads on nor hangs up: who does not hear it stalls."""
    heads = "".join(f"HTTP/1.1 {each}\r\nLink: </a>\r\n\r\n" for each in announced).encode()

    def talk(peer, connection):
        connection.recv(1000)
        connection.sendall(heads + reply(413, b"too large"))
        time.sleep(1.2)

    with Peer(talk) as peer:
        request = Request("PUT", peer.base, content=Body.of(bytes(20 << 20)))
        answer = send(request, patience=SHORT)

    assert (answer.status, answer.content) == (413, b"too large")


def test_a_yes_before_the_body_was_sent_is_no_success():
    def talk(peer, connection):
        connection.recv(1000)
        connection.sendall(reply(200, b"fine"))
        time.sleep(1)

    with Peer(talk) as peer, pytest.raises(Dropped, match="before it had the whole body"):
        send(Request("PUT", peer.base, content=Body.of(bytes(20 << 20))))


@pytest.mark.parametrize("cut", [4, 25])
def test_a_100_continue_that_nobody_asked_for_changes_nothing(cut):
    """Wherever it is cut on its way."""
    head = b"HTTP/1.1 100 Continue\r\n\r\n"

    def talk(peer, connection):
        connection.sendall(head[:cut])
        time.sleep(0.4)
        connection.sendall(head[cut:])
        time.sleep(0.4)
        peer.read_request(connection)
        connection.sendall(reply(200, b"fine"))

    with Peer(talk) as peer:
        answer = send(Request("PUT", peer.base, content=Body.of(bytes(20 << 20))))

    assert answer.content == b"fine"
    assert len(peer.received[0]) > 20 << 20


# what the source does


def test_trouble_with_the_source_is_raised_as_it_is():
    class Torn(Exception):
        pass

    async def read(start, size):
        raise Torn("the file is gone")

    with Peer(OK) as peer, pytest.raises(Torn) as caught:
        send(Request("PUT", peer.base + "/a?secret=1", content=Body(10, read)))

    assert caught.value.__context__ is None


# hosts that a server named


def resolves_to(monkeypatch, *addresses):
    asked = []

    def getaddrinfo(host, port, *args, **kwargs):
        asked.append(host)
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port or 0))
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.5.5",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_resolves_to_a_private_address_is_refused(monkeypatch, address):
    resolves_to(monkeypatch, address)

    with pytest.raises(Untrusted, match="not a public address"):
        send(Request("PUT", "https://storage.example/a", public_only=True))


def test_one_private_address_among_public_ones_is_enough(monkeypatch):
    resolves_to(monkeypatch, "8.8.8.8", "127.0.0.1")

    with pytest.raises(Untrusted):
        send(Request("PUT", "https://storage.example/a", public_only=True))


@pytest.mark.parametrize("proxy", [False, True])
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1",
     "localhost", "a.localhost", "[::ffff:169.254.169.254]", "10.1", "3232235777"],
)  # fmt: skip
def test_a_private_address_is_refused_in_every_spelling(monkeypatch, host, proxy):
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")

    with pytest.raises(Untrusted, match="not a public address"):
        send(Request("PUT", f"https://{host}/a", public_only=True))


def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch, tmp_path):
    """And the certificate is still held against the name."""
    authority = Authority(tmp_path)
    asked = resolves_to(monkeypatch, "127.0.0.1")
    monkeypatch.setattr(addresses, "_is_public", lambda address: True)
    with Peer(OK, authority.server("storage.example")) as peer:
        url = f"https://storage.example:{peer.port}/a"
        answer = send(Request("PUT", url, public_only=True), ca_bundle=authority.bundle)
        assert answer.content == b"fine"
        assert f"host: storage.example:{peer.port}".encode() in peer.received[0].lower()
    assert asked.count("storage.example") == 1, "asked twice, the answer might have changed"

    with Peer(OK, authority.server("127.0.0.1")) as peer:
        request = Request("PUT", f"https://storage.example:{peer.port}/a", public_only=True)
        with pytest.raises(Untrusted):
            send(request, ca_bundle=authority.bundle)
    assert peer.received == []


# proxies


def test_the_proxy_of_the_environment_is_used_for_others(monkeypatch):
    with Peer(OK) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base)
        send(Request("PUT", "http://upload.example/a/%2E?b=1", content=Body.of(b"data")))

    assert proxy.received[0].startswith(b"PUT http://upload.example/a/%2E?b=1 HTTP/1.1\r\n")
    assert b"host: upload.example\r\n" in proxy.received[0].lower()


def test_a_tunnel_is_asked_for_a_host_and_told_nothing_else(monkeypatch):
    refusal = answering(reply(403))
    with Peer(refusal) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.base.removeprefix("http://"))
        request = Request("PUT", "https://upload.example/path?Signature=abc", {"X-Key": "key"})
        with pytest.raises(WireError):
            send(request)

    sent = bytes(proxy.received[0])
    assert sent.startswith(b"CONNECT upload.example:443 HTTP/1.1\r\n")
    assert b"path" not in sent
    assert b"abc" not in sent
    assert b"key" not in sent


def test_a_tunnel_carries_the_request(monkeypatch, tmp_path):
    authority = Authority(tmp_path)
    tls = authority.server("upload.example")

    def talk(peer, connection):
        peer.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
        inner = tls.wrap_socket(connection, server_side=True)
        OK(peer, inner)
        inner.close()

    with Peer(talk) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.base)
        monkeypatch.setenv("SSL_CERT_FILE", authority.bundle)
        answer = send(Request("GET", "https://upload.example/a/../b?c=%2E"))

    assert answer.content == b"fine"
    assert proxy.received[1].startswith(b"GET /a/../b?c=%2E HTTP/1.1\r\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_never_reached_through_a_proxy(monkeypatch, host):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    with Peer(OK) as peer:
        assert send(Request("GET", f"http://{host}:{peer.port}/")).content == b"fine"


def test_no_proxy_is_obeyed(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "upload.example")
    with Peer(OK) as peer:
        resolves_to(monkeypatch, "127.0.0.1")
        answer = send(Request("GET", f"http://upload.example:{peer.port}/"))

    assert answer.content == b"fine"


# TLS


@pytest.mark.parametrize(
    ("names", "days", "known", "reason"),
    [
        (("127.0.0.1",), 365, False, "certificate|issuer"),
        (("127.0.0.1",), -10, True, "expired"),
        (("other.example",), 365, True, "mismatch|not valid for"),
    ],
)
def test_a_server_that_cannot_prove_itself_gets_not_a_byte(tmp_path, names, days, known, reason):
    authority = Authority(tmp_path)
    with Peer(OK, authority.server(*names, days=days)) as peer:
        bundle = authority.bundle if known else None
        with pytest.raises(Untrusted, match=reason):
            send(Request("PUT", peer.base, {"Authorization": "key"}), ca_bundle=bundle)

    assert peer.received == []


def test_a_server_that_speaks_no_tls_gets_not_a_byte_of_the_request():
    got = []

    def talk(peer, connection):
        got.append(connection.recv(5000))
        connection.sendall(reply(400, b"plain"))

    with Peer(talk) as peer, pytest.raises(Untrusted, match="TLS"):
        send(Request("PUT", f"https://127.0.0.1:{peer.port}/", {"X-Key": "the key"}))

    assert b"the key" not in got[0]


def test_a_handshake_that_is_cut_off_may_be_tried_again():
    def talk(peer, connection):
        connection.recv(100)

    with Peer(talk) as peer, pytest.raises((NotConnected, Dropped)):
        send(Request("PUT", f"https://127.0.0.1:{peer.port}/"))


def test_a_bundle_of_ones_own_is_trusted(tmp_path):
    authority = Authority(tmp_path)
    with Peer(OK, authority.server("127.0.0.1")) as peer:
        assert send(Request("GET", peer.base), ca_bundle=authority.bundle).content == b"fine"


def test_a_bundle_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bundle.pem").write_text("nonsense")

    for name in ("bundle.pem", "missing.pem"):
        with pytest.raises(Untrusted, match=name):
            send(Request("GET", "https://127.0.0.1:9/"), ca_bundle=str(tmp_path / name))


# words


def every_exception(kind=Exception):
    for name in httpx.__all__:
        found = getattr(httpx, name)
        if isinstance(found, type) and issubclass(found, kind):
            yield found


@pytest.mark.parametrize("kind", list(every_exception()), ids=lambda kind: kind.__name__)
def test_every_exception_of_the_http_library_has_a_word_of_ours(kind):
    url = "https://api.example/a?Signature=canary"
    request = httpx.Request("GET", url)
    if kind is httpx.HTTPStatusError:
        error = kind(f"{url} said no", request=request, response=httpx.Response(500))
    elif issubclass(kind, httpx.StreamError) and kind is not httpx.StreamError:
        error = kind()
    else:
        error = kind(f"{url} failed")

    class Raising(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise error

    async def sending():
        async with httpx.AsyncClient(transport=Raising()) as client:
            await HttpClient(client=client).send(Request("GET", url))

    with pytest.raises(WireError) as caught:
        asyncio.run(sending())

    assert "canary" not in repr(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_client_of_the_callers_own_is_used_as_it_stands():
    with Peer(OK) as peer:

        async def sending():
            async with httpx.AsyncClient(headers={"X-Mine": "1"}) as client:
                made = HttpClient(client=client)
                answer = await made.send(Request("GET", peer.base + "/a/../b?c"))
                await made.close()
                assert not client.is_closed
                return answer

        assert asyncio.run(sending()).content == b"fine"

    assert peer.received[0].startswith(b"GET /a/../b?c HTTP/1.1\r\n")
