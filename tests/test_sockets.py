"""Connections over TLS keep what those without it promise, and more than one layer works."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time

import httpcore
import pytest
from peers import Authority, Peer, reply
from test_wire import OK, Odd, send, slowly

from chunkup_jupyter.model import Body
from chunkup_jupyter.wire import Dropped, Patience, Request
from chunkup_jupyter.wire.client import HttpClient
from chunkup_jupyter.wire.sockets import Network


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def tls(request, authority):
    context = authority.server("127.0.0.1")
    context.maximum_version = context.minimum_version = request.param
    return context


def test_a_body_arrives_unchanged(tls, authority):
    data = random.Random(1).randbytes(20 << 20)
    with Peer(OK, tls) as peer:
        request = Request("PUT", peer.base + "/x", content=Odd(data, 700_001))
        send(request, ca_bundle=authority.bundle)

    assert bytes(peer.received[0]).partition(b"\r\n\r\n")[2] == data


def test_a_no_is_heard_while_the_body_is_still_sent(tls, authority):
    def talk(peer, connection):
        connection.recv(1000)
        connection.sendall(reply(413, b"too large"))
        time.sleep(3)

    with Peer(talk, tls) as peer:
        began = time.monotonic()
        request = Request("PUT", peer.base, content=Body.of(bytes(20 << 20)))
        answer = send(request, ca_bundle=authority.bundle)
        assert time.monotonic() - began < 2

    assert (answer.status, answer.content) == (413, b"too large")


def test_a_slow_link_that_moves_is_not_cut(tls, authority):
    size = 4 << 20
    short = Patience(connect=2, idle=1.5, answer=0.3)
    with Peer(slowly(size), tls, window=65536) as peer:
        request = Request("PUT", peer.base, content=Body.of(bytes(size)))
        assert send(request, patience=short, ca_bundle=authority.bundle).status == 200


def test_an_answer_that_ends_too_early_is_no_answer(tls, authority):
    def talk(peer, connection):
        peer.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with Peer(talk, tls) as peer, pytest.raises(Dropped):
        send(Request("GET", peer.base), ca_bundle=authority.bundle)


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(tls, authority):
    def talk(peer, connection):
        peer.read_request(connection)
        connection.sendall(reply(200))

    async def sending(peer):
        client = HttpClient(ca_bundle=authority.bundle)
        for _ in range(3):
            assert (await client.send(Request("PUT", peer.base, content=b"x"))).status == 200
            for thread in peer._threads[1:]:
                await asyncio.to_thread(thread.join, 10)
        await client.close()

    with Peer(talk, tls) as peer:
        asyncio.run(sending(peer))

    assert len(peer.received) == 3


def test_tls_goes_through_tls(authority):
    """As to a server behind a proxy that is itself reached over TLS."""
    inner, outer = authority.server("inner.example"), authority.server("outer.example")
    trusting = ssl.create_default_context(cafile=authority.bundle)
    data = random.Random(2).randbytes(3 << 20)

    async def serve(reader, writer):
        writer.write(b"!")  # as a proxy that is ready
        await writer.start_tls(inner)
        writer.write(str(sum(await reader.readexactly(len(data)))).encode())
        await writer.drain()
        writer.close()

    async def scenario():
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=outer) as server:
            port = server.sockets[0].getsockname()[1]
            stream = await Network().connect_tcp("127.0.0.1", port, 5)
            stream = await stream.start_tls(trusting, "outer.example", 5)
            assert await stream.read(1, 5) == b"!"
            stream = await stream.start_tls(trusting, "inner.example", 5)
            await stream.write(data)
            answer = await stream.read(100, 5)
            await stream.aclose()
            return answer

    assert asyncio.run(scenario()) == str(sum(data)).encode()


@pytest.mark.parametrize(
    ("trouble", "wait"),
    [
        (httpcore.ReadTimeout, lambda stream: stream.read(1, 0.1)),
        (httpcore.WriteTimeout, lambda stream: stream.write(bytes(64 << 20), 0.1)),
    ],
    ids=["reading", "writing"],
)
def test_a_time_limit_is_kept(trouble, wait):
    async def scenario(port):
        stream = await Network().connect_tcp("127.0.0.1", port, 5)
        with pytest.raises(trouble):
            await wait(stream)
        await stream.aclose()

    with Peer(lambda peer, connection: time.sleep(0.5), window=65536) as peer:
        asyncio.run(scenario(peer.port))


def test_who_only_announces_an_answer_is_not_listened_to_for_ever():
    def talk(peer, connection):
        with contextlib.suppress(OSError):  # the other side has had enough
            while True:
                connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)

    async def scenario(port):
        stream = await Network().connect_tcp("127.0.0.1", port, 5)
        with pytest.raises(httpcore.WriteError):
            await stream.write(bytes(64 << 20), 2)
        assert len(await stream.read(1 << 30)) < 1 << 20
        await stream.aclose()

    with Peer(talk, window=65536) as peer:
        asyncio.run(scenario(peer.port))
