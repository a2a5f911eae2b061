"""Where a part's bytes come from: any part at any time, or pulled in order and held."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest

from chunkup_jupyter import feed as feeding
from chunkup_jupyter import model
from chunkup_jupyter.digests import of
from chunkup_jupyter.engine import Options, Upload
from chunkup_jupyter.feed import Feed, OrderedFeed
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
