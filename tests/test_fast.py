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

from chunkup_jupyter import wire
from chunkup_jupyter.model import Body
from chunkup_jupyter.wire import Dropped, NotConnected, Request, Stalled, Untrusted, client, fast

pytest.importorskip("pycurl", reason="needs chunkup-jupyter[fast]")

# Promises about bodies that the stock transport is held to as well.
from test_wire import (  # noqa: F401
    test_a_100_continue_that_nobody_asked_for_changes_nothing,
    test_a_no_is_heard_after_what_only_announces_an_answer,
    test_a_no_is_heard_while_the_body_is_still_sent,
    test_a_peer_that_never_answers_is_stalled,
    test_a_peer_that_stops_reading_is_stalled,
    test_a_slow_link_that_moves_is_not_cut,
    test_a_slow_source_is_no_stall,
    test_a_stream_goes_out_with_its_length_and_unchanged,
    test_a_yes_before_the_body_was_sent_is_no_success,
    test_an_answer_that_drips_is_not_read_for_ever,
    test_bytes_that_are_not_read_are_sending_and_not_connecting,
    test_trouble_with_the_source_is_raised_as_it_is,
    test_what_the_system_took_at_once_may_take_its_time,
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


@pytest.fixture
def used(monkeypatch):
    """The hosts that the faster transport was asked for."""
    asked = []

    class Watched(fast.CurlTransport):
        async def handle_async_request(self, request):
            asked.append(request.url.host)
            return await super().handle_async_request(request)

    monkeypatch.setattr(fast, "CurlTransport", Watched)
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


TARGETS = st.from_regex(
    re.compile(r"/[\x21\x22\x24-\x3e\x40-\x7e]*(\?[\x21\x22\x24-\x7e]+)?"), fullmatch=True
)


@pytest.fixture(scope="module")
def peer():
    with Peer(OK) as one:
        yield one


@settings(max_examples=150, deadline=None)
@example("//a//b/")
@example("/bucket/../../etc/./passwd")
@example("/bucket/%2E%2E/%2e/a")
@example("/~a/[b]/{c}|d^e`f\"g<h>\\i?x='quoted'&y=[1]")
@example("/%zz")
@given(TARGETS)
def test_a_target_is_sent_byte_for_byte(peer, target):
    peer.received.clear()
    send(put(peer.base + target))

    (got,) = filter(None, peer.received)  # a connection that ends leaves nothing behind
    assert got.startswith(f"PUT {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b"])
def test_a_line_break_in_a_header_is_refused(value):
    with Peer(OK) as peer, pytest.raises(wire.Malformed):
        send(put(peer.base + "/x", headers={"X-Name": value}))

    assert b"Evil" not in b"".join(peer.received)


@pytest.mark.parametrize("name", ["X-Name: 1\r\nX-Evil", "X-Name:", "X Name", ""])
def test_what_is_no_name_of_a_header_is_refused(name):
    with Peer(OK) as peer, pytest.raises(wire.Malformed):
        send(put(peer.base + "/x", headers={name: "value"}))

    assert b"".join(peer.received) == b""


# where it goes


@pytest.mark.parametrize("tls", [False, True])
def test_a_host_that_a_server_named_is_resolved_once_and_so_not_by_it(
    used, monkeypatch, tmp_path, tls
):
    async def public(host, proxy):
        return "127.0.0.1"

    monkeypatch.setattr(client, "public_address", public)
    authority = Authority(tmp_path)
    with Peer(OK, authority.server("storage.example") if tls else None) as peer:
        url = f"{'https' if tls else 'http'}://storage.example:{peer.port}/a"
        send(put(url, public_only=True), ca_bundle=authority.bundle)

        assert f"Host: storage.example:{peer.port}\r\n".encode() in peer.received[0]
    assert used == ["127.0.0.1"]


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
        "import os, httpx, chunkup_jupyter.wire.fast as f\n"
        "request = httpx.Request('PUT', 'http://h/a'); child = os.fork()\n"
        "if not child: os._exit(7 if not f.fits(request) else 8)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), f.fits(request))"
    )
    if not hasattr(os, "fork"):
        return
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["7", "True"], done.stderr


@pytest.mark.parametrize("said", ["0", "", None])
def test_who_does_not_ask_for_it_does_without(used, monkeypatch, said):
    monkeypatch.delenv("CHUNKUP_FAST")
    if said is not None:
        monkeypatch.setenv("CHUNKUP_FAST", said)
    with Peer(OK) as peer:
        assert send(put(peer.base + "/a")).content == b"fine"
    assert used == []


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

    assert b"".join(peer.received) == b""
    assert len(used) == 1


@pytest.mark.parametrize("how", ["argument", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_bundle_of_ones_own_is_trusted(tmp_path, used, monkeypatch, how):
    authority = Authority(tmp_path)
    options = {"ca_bundle": authority.bundle} if how == "argument" else {}
    if how != "argument":
        monkeypatch.setenv(how, authority.bundle)
    with Peer(OK, authority.server("127.0.0.1")) as peer:
        assert send(put(peer.base + "/a"), **options).content == b"fine"
        assert len(used) == 1


def test_a_bundle_that_cannot_be_read_is_named(used):
    with Peer(OK) as peer, pytest.raises(Untrusted, match=r"nowhere.pem"):
        send(put(f"https://127.0.0.1:{peer.port}/a"), ca_bundle="/nowhere.pem")


def test_whom_it_does_not_trust_the_stock_transport_may(tmp_path, used, monkeypatch):
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
