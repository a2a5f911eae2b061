"""Where a part's bytes come from: any part at any time, or pulled in order and held."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading

import pytest

from chunkup_jupyter import digests, model
from chunkup_jupyter.digests import of
from chunkup_jupyter.engine import Options, Upload
from chunkup_jupyter.engine import feed as feeding
from chunkup_jupyter.engine.feed import Feed, OrderedFeed
from chunkup_jupyter.journal import Journal, Key, MemoryLines
from chunkup_jupyter.model import FileInfo, Part
from chunkup_jupyter.plan import part_at
from chunkup_jupyter.providers.openai import OpenAI
from chunkup_jupyter.sandbox.openai import OpenAISandbox
from chunkup_jupyter.secrets import Secret
from chunkup_jupyter.sources import open_source
from chunkup_jupyter.wire import MemoryClient

DATA = random.Random(2).randbytes(1000)


class Tape:
    """A source that is read from front to back; notes what was asked of it."""

    in_order, spelled = True, ""

    def __init__(self, data: bytes = DATA) -> None:
        self.data, self.asked = data, []
        self.info = FileInfo("tape.bin", len(data))
        self.identity = "browser:tape.bin"

    async def read(self, start, size):
        self.asked.append((start, size))
        await asyncio.sleep(0)
        assert start + size <= len(self.data)
        return self.data[start : start + size]

    def verify(self):
        pass

    def close(self):
        pass


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(feeding, "PULL", 64)
    monkeypatch.setattr(model, "BLOCK", 32)


async def read(body) -> bytes:
    return b"".join([bytes(block) async for block in body])


def test_any_part_may_be_read_at_any_time_and_again():
    async def story():
        feed = Feed(open_source(DATA, name="a"), ("md5",))
        for number in (3, 1, 3):
            part = part_at(number, 1000, 300)
            body = await feed.body(part)
            piece = DATA[part.start : part.start + part.size]
            assert await read(body) == piece
            assert body.digest("crc64") == of("crc64", piece)
            assert body.digest("md5") == hashlib.md5(piece).hexdigest()

    asyncio.run(story())


def test_a_tape_is_read_once_and_in_order_though_parts_are_sent_twice():
    async def story():
        tape = Tape()
        feed = OrderedFeed(tape, (), "md5")
        for number in range(1, 5):
            part = part_at(number, 1000, 300)
            body = await feed.body(part)
            for _ in range(2):
                assert await read(body) == DATA[part.start : part.start + part.size]
            assert await read(await feed.body(part)) == DATA[part.start : part.start + part.size]
            feed.forget(part)
        assert await feed.finish(1000) == hashlib.md5(DATA).hexdigest()
        starts = [start for start, _ in tape.asked]
        assert starts == sorted(set(starts))
        assert sum(size for _, size in tape.asked) == 1000

    asyncio.run(story())


def test_what_an_earlier_run_sent_is_hashed_on_the_way():
    async def story():
        tape = Tape()
        feed = OrderedFeed(tape, (), "md5")
        await read(await feed.body(Part(3, 600, 300)))
        assert await feed.finish(1000) == hashlib.md5(DATA).hexdigest()
        assert sum(size for _, size in tape.asked) == 1000

    asyncio.run(story())


@pytest.mark.parametrize("digest", [None, "md5"])
def test_a_tape_that_nobody_hashes_is_not_read_for_nothing(digest):
    async def story():
        tape = Tape()
        feed = OrderedFeed(tape, (), digest)
        await read(await feed.body(Part(4, 900, 100)))
        await feed.finish(1000)
        return sum(size for _, size in tape.asked)

    assert asyncio.run(story()) == (100 if digest is None else 1000)


class Slow(MemoryClient):
    async def send(self, *args, **kwargs):
        await asyncio.sleep(0.005)
        return await super().send(*args, **kwargs)


def test_an_upload_from_a_tape_holds_a_bounded_amount(monkeypatch):
    monkeypatch.setattr("chunkup_jupyter.engine.HELD", 300)
    sandbox = OpenAISandbox()
    provider = OpenAI.from_url(
        "openai:user_data", base_url=sandbox.base_url, api_key=Secret(sandbox.api_key)
    )
    tape, most, feeds = Tape(), [0], []
    original = OrderedFeed.body

    async def body(self, part):
        feeds.append(self)
        made = await original(self, part)
        most[0] = max(most[0], sum(len(b) for blocks in self._held.values() for b in blocks))
        return made

    monkeypatch.setattr(OrderedFeed, "body", body)
    upload = Upload(
        tape,
        provider,
        Slow(sandbox.handle),
        Journal(MemoryLines(), Key(provider.url, "", tape.identity)),
        Options(jobs=16, part_size=70, check=False),
    )

    asyncio.run(upload.run())

    assert [blob.read() for blob in sandbox.finished().values()] == [DATA]
    starts = [start for start, _ in tape.asked]
    assert starts == sorted(set(starts))
    assert 70 < most[0] <= 300
    assert not feeds[0]._held


# digests that cost time


MANY = random.Random(3).randbytes(3 * 32 + 1)


async def body_of(data: bytes, *names: str) -> model.Body:
    return await Feed(open_source(data, name="x"), names).body(Part(1, 0, len(data)))


@pytest.mark.parametrize("size", [0, 1, 32, 33, len(MANY)])
def test_a_digest_is_of_the_whole_part_whatever_its_size(size):
    async def scenario():
        body = await body_of(MANY[:size], "md5")
        sent = b"".join([bytes(block) async for block in body])
        return sent, body.digest("md5"), body.digest("crc64")

    sent, md5, crc64 = asyncio.run(scenario())

    assert sent == MANY[:size]
    assert md5 == hashlib.md5(sent).hexdigest()
    assert crc64 == of("crc64", sent)


def test_who_stops_at_the_last_byte_has_the_digest_of_all():
    async def scenario():
        body = await body_of(MANY, "md5")
        blocks = aiter(body)
        for _ in range(4):
            await anext(blocks)
        return body.whole, body.digest("md5")

    assert asyncio.run(scenario()) == (True, hashlib.md5(MANY).hexdigest())


def test_a_part_that_was_given_up_halfway_is_hashed_from_its_start(monkeypatch):
    """What a thread is still at then must not end up in the digest of the next attempt."""
    started, go_on = threading.Event(), threading.Event()

    class Slow(digests.Md5):
        def update(self, block):
            started.set()
            assert go_on.wait(10)
            super().update(block)

    async def scenario():
        body = await body_of(MANY, "md5")
        with monkeypatch.context() as patch:
            patch.setitem(digests.DIGESTS, "md5", Slow)
            async for _ in body:
                await asyncio.to_thread(started.wait, 10)
                break
        async for block in body:
            if not go_on.is_set():
                assert len(block) == model.BLOCK
                go_on.set()
        return body.digest("md5")

    assert asyncio.run(scenario()) == hashlib.md5(MANY).hexdigest()


def test_a_block_is_on_its_way_while_it_is_hashed(monkeypatch):
    sent = threading.Event()

    class Waiting(digests.Md5):
        def update(self, block):
            assert sent.wait(10)  # for ever, if the loop did this
            super().update(block)

    async def scenario():
        monkeypatch.setitem(digests.DIGESTS, "md5", Waiting)
        body = await body_of(MANY, "md5")
        async for _ in body:
            sent.set()
        return body.digest("md5")

    assert asyncio.run(scenario()) == hashlib.md5(MANY).hexdigest()
