"""The faster transport keeps every promise of the stock one, or is not used."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import subprocess
import sys
import time

import httpx
import pytest
import test_wire
from hypothesis import example, given, settings
from hypothesis import strategies as st
from peers import Authority, Peer, answering, reply

from chunkup_jupyter import client, fast, wire
from chunkup_jupyter.model import Body
from chunkup_jupyter.wire import Dropped, NotConnected, Request, Stalled, Untrusted

pytest.importorskip("pyreqwest", reason="needs chunkup-jupyter[fast]")

# Promises about bodies that the stock transport is held to as well.
from test_wire import (  # noqa: F401
    test_a_100_continue_that_nobody_asked_for_changes_nothing,
    test_a_no_is_heard_while_the_body_is_still_sent,
    test_a_peer_that_never_answers_is_stalled,
    test_a_peer_that_stops_reading_is_stalled,
    test_a_slow_link_that_moves_is_not_cut,
    test_a_slow_source_is_no_stall,
    test_a_stream_goes_out_with_its_length_and_unchanged,
    test_a_yes_before_the_body_was_sent_is_no_success,
    test_trouble_with_the_source_is_raised_as_it_is,
)

send, OK = test_wire.send, test_wire.OK


@pytest.fixture(scope="module", autouse=True)
def wanted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHUNKUP_FAST", "1")
        yield


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", *CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


class Watched(httpx.AsyncBaseTransport):
    def __init__(self, inner, asked):
        self.inner, self.asked = inner, asked

    async def handle_async_request(self, request):
        self.asked.append(request.url.host)
        return await self.inner.handle_async_request(request)

    async def aclose(self):
        await self.inner.aclose()


@pytest.fixture
def used(monkeypatch):
    """The hosts that the faster transport was asked for."""
    asked = []
    made = fast.transport
    monkeypatch.setattr(fast, "transport", lambda: Watched(made(), asked))
    return asked


def put(url, data=b"some bytes", headers=None, **options):
    return Request("PUT", url, headers or {}, Body.of(data), **options)


def test_bodies_that_stream_go_over_it_and_nothing_else_does(used):
    with Peer(OK) as peer:
        for content in (b"", b"bytes", Body.of(b"")):
            send(Request("POST", peer.base + "/x", content=content))
        assert used == []
        send(put(peer.base + "/x"))

    assert used == ["127.0.0.1"]


def test_nothing_is_added_but_what_http_needs(used):
    with Peer(OK) as peer:
        send(put(peer.base + "/x", headers={"X-Key": "1"}))

    lines = bytes(peer.received[0]).partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    assert sorted(line.split(b":")[0] for line in lines[1:]) == sorted(
        [b"host", b"accept", b"accept-encoding", b"user-agent", b"x-key", b"content-length"]
    )
    assert b"accept-encoding: identity" in lines
    assert b"user-agent: chunkup-jupyter" in lines
    assert b"host: " + peer.base.partition("//")[2].encode() in lines
    assert used


def test_redirects_and_cookies_are_left_alone(used):
    fields = ("Location: /elsewhere", "Set-Cookie: a=b")
    with Peer(answering(reply(302, b"there", *fields))) as peer:
        answer = send(put(peer.base + "/a"), put(peer.base + "/a"))
        heads = b"".join(peer.received)

    assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")
    assert b"elsewhere" not in heads
    assert b"cookie" not in heads.lower()
    assert len(used) == 2


def test_an_encoded_success_is_refused_and_not_decoded(used):
    with (
        Peer(answering(reply(200, b"x", "Content-Encoding: gzip"))) as peer,
        pytest.raises(wire.BadAnswer, match="gzip-encoded"),
    ):
        send(put(peer.base + "/a"))
    assert used


def test_a_connection_is_used_again(used):
    with Peer(OK) as peer:
        send(*[put(peer.base + f"/{n}") for n in range(3)])

        assert len(peer._threads) == 2  # the one that accepts, and one connection
    assert len(used) == 3


# the request line


@pytest.mark.parametrize(
    "target",
    [
        "/bucket/../../etc/passwd",
        "/bucket/%2E%2E/%2e/a",
        "/a/.%2e",
        "/a/./b//c/",
        "/a?x='quoted'",
        "/a?x=[1]",
        '/~a/[b]/{c}|d^e`f"g<h>',
        "/a\\b",
        "/%zz",
    ],
)
def test_what_it_would_write_differently_goes_over_the_stock_transport(used, target):
    with Peer(OK) as peer:
        send(put(peer.base + target))

    assert peer.received[0].startswith(f"PUT {target} HTTP/1.1\r\n".encode())
    assert used == []


TARGETS = st.from_regex(re.compile(rf"{fast._PATH}(\?{fast._QUERY})?"), fullmatch=True)


@pytest.fixture(scope="module")
def peer():
    with Peer(OK) as one:
        yield one


@settings(max_examples=150, deadline=None)
@example("//a//b/")
@example("/a%2Fb%20c/~x'y(z)!*$&+,;=:@?sig=a%2Bb%3D&x==&&u=/?@:")
@example("/.../..a/.b./-?.")
@given(TARGETS)
def test_what_it_may_send_it_sends_byte_for_byte(peer, target):
    assert fast.fits(peer.base + target)
    peer.received.clear()
    send(put(peer.base + target))

    (got,) = filter(None, peer.received)  # a connection that ends leaves nothing behind
    assert got.startswith(f"PUT {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("origin", ["http://user:pw@h", "http://EXAMPLE", "ftp://h", "http://ü"])
def test_origins_that_need_interpreting_are_left_to_the_stock_transport(origin):
    assert not fast.fits(f"{origin}/a")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b"])
def test_a_line_break_in_a_header_is_refused(value):
    with Peer(OK) as peer, pytest.raises(wire.Malformed):
        send(put(peer.base + "/x", headers={"X-Name": value}))

    assert b"Evil" not in b"".join(peer.received)


# where it goes


def test_a_host_that_a_server_named_is_resolved_once_and_so_not_by_it(used, monkeypatch):
    async def public(host, proxy):
        return "127.0.0.1"

    monkeypatch.setattr(client, "public_address", public)
    with Peer(OK) as peer:
        send(put(f"http://storage.example:{peer.port}/a", public_only=True))

        assert b"storage.example" in peer.received[0]
    assert used == []


def test_proxies_are_left_to_the_stock_transport(used, monkeypatch):
    with Peer(OK) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base)
        send(put("http://files.example/a"))

        assert proxy.received[0].startswith(b"PUT http://files.example/a ")
    assert used == []


def test_this_machine_is_never_reached_through_a_proxy(used, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Peer(OK) as peer:
        assert send(put(peer.base + "/a")).content == b"fine"
    assert used


def test_a_client_of_the_callers_own_is_used_as_it_stands(used):
    async def sending(url):
        async with httpx.AsyncClient() as own:
            return await client.HttpClient(client=own).send(put(url))

    with Peer(OK) as peer:
        assert asyncio.run(sending(peer.base + "/a")).status == 200
    assert used == []


def test_a_forked_child_sends_without_it():
    code = (
        "import os, chunkup_jupyter.fast as f\n"
        "f.transport(); child = os.fork()\n"
        "if not child: os._exit(7 if not f.fits('http://h/a') else 8)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), f.fits('http://h/a'))"
    )
    if not hasattr(os, "fork"):
        return
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["7", "True"], done.stderr


# TLS


@pytest.mark.parametrize(
    ("names", "days", "known"),
    [(("127.0.0.1",), 365, False), (("127.0.0.1",), -10, True), (("other.example",), 365, True)],
)
def test_a_server_that_cannot_prove_itself_gets_not_a_byte(
    tmp_path, used, monkeypatch, names, days, known
):
    authority = Authority(tmp_path)
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", authority.bundle)
    with Peer(OK, authority.server(*names, days=days)) as peer, pytest.raises(Untrusted):
        send(put(peer.base + "/a", headers={"Authorization": "key"}))

    assert peer.received == []
    assert len(used) == 1


def test_the_bundle_of_the_environment_is_trusted_by_both(tmp_path, used, monkeypatch):
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.bundle)
    with Peer(OK, authority.server("127.0.0.1")) as peer:
        assert send(put(peer.base + "/a")).content == b"fine"
        assert len(used) == 1


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_bundle_it_cannot_be_told_of_stands_alone_as_ever(tmp_path, used, monkeypatch, how):
    authority = Authority(tmp_path)
    options = {"ca_bundle": authority.bundle} if how == "argument" else {}
    if how == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.bundle)
    with Peer(OK, authority.server("127.0.0.1")) as peer:
        assert send(put(peer.base + "/a"), **options).content == b"fine"
    assert used == []


def test_whom_it_does_not_trust_the_stock_transport_may(tmp_path, used, monkeypatch):
    """It knows the system's certificates, which may be none; the stock one brings its own."""
    authority = Authority(tmp_path)
    context = ssl.create_default_context(cafile=authority.bundle)
    monkeypatch.setattr(client, "_context", lambda bundle: context)
    with Peer(OK, authority.server("127.0.0.1")) as peer:
        for _ in range(2):
            assert send(put(peer.base + "/a"), put(peer.base + "/b")).content == b"fine"

    assert len(used) == 2  # once with each client, and never again


def test_a_server_that_speaks_no_tls_gets_not_a_byte_of_the_request(used):
    got = []

    def talk(peer, connection):
        got.append(connection.recv(5000))
        connection.sendall(reply(400, b"plain"))

    with Peer(talk) as peer, pytest.raises(Untrusted, match="TLS"):
        send(put(f"https://127.0.0.1:{peer.port}/", headers={"X-Key": "the key"}))

    assert b"the key" not in b"".join(got)


# trouble


def test_a_port_without_a_server_is_not_connected(used):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotConnected, match="refused"):
        send(put(f"http://127.0.0.1:{port}/a"))
    assert used


def test_a_connection_that_breaks_is_dropped(used):
    def talk(peer, connection):
        connection.recv(1000)

    with Peer(talk) as peer, pytest.raises(Dropped) as caught:
        send(put(peer.base + "/a?Signature=secret", bytes(8 << 20)))
    assert "secret" not in repr(caught.value)
    assert caught.value.__context__ is None
    assert used


def test_a_body_is_counted_as_it_is_taken_and_not_ahead(used):
    """A peer that takes nothing: what was counted is in a buffer of the system, and no more."""
    counted = []

    def talk(peer, connection):
        connection.recv(1000)
        time.sleep(1)

    with Peer(talk, window=65536) as peer, pytest.raises(Stalled):
        send(
            put(peer.base + "/a", bytes(64 << 20)),
            patience=test_wire.SHORT,
            count=counted.append,
        )
    assert sum(counted) < 16 << 20
    assert used
