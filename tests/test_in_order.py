"""Protocols that take a file from front to back: one writer, one offset, no parts of their own.

The protocol here is made up and as small as one can be: ``POST /?size=N`` names an
upload, ``PATCH /NAME?at=OFFSET`` appends to it, ``GET /NAME`` says how much is held.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

import chunkup_jupyter.digests as digests
import chunkup_jupyter.jobs as jobs
from chunkup_jupyter.answers import expect, json_of
from chunkup_jupyter.conformance import Clock, Crash, Diary, Dying, ProviderConformance
from chunkup_jupyter.engine import Options, Upload
from chunkup_jupyter.errors import SessionLost
from chunkup_jupyter.events import Restarted, Started
from chunkup_jupyter.journal import Journal, Key, MemoryLines
from chunkup_jupyter.model import (
    Body,
    FileInfo,
    Part,
    PartReceipt,
    Provider,
    Result,
    Rules,
    Session,
    drive,
)
from chunkup_jupyter.sandbox import Blob, Sandbox, answer_json
from chunkup_jupyter.sandbox.faults import COMMON, Fault, Faulty, On
from chunkup_jupyter.sandbox.server import serve
from chunkup_jupyter.sources import open_source
from chunkup_jupyter.ui.picker import BrowserSource
from chunkup_jupyter.wire import MemoryClient, Patience, Request

DATA = random.Random(1).randbytes(100)


@dataclass(frozen=True, kw_only=True)
class Tape(Provider):
    """A destination that is written from front to back."""

    title = "Tape"
    form = "tape:"
    rules: Rules = Rules(in_order=True)
    base: str = ""

    @classmethod
    def from_url(cls, url, **fields):
        return cls(**fields)

    @property
    def url(self):
        return "tape:"

    def create(self, file, part_size):
        answer = json_of(expect((yield Request("POST", f"{self.base}/?size={file.size}"))))
        return Session(answer["name"], file, part_size)

    def put_part(self, session, part, body):
        end = part.start + part.size
        at = part.start
        for _ in range(6):
            address = f"{self.base}/{session.upload_id}?at={at}"
            response = yield Request("PATCH", address, content=body.after(at - part.start))
            if response.status == 409:
                at = yield from self.held(session)
            else:
                at = json_of(expect(response))["held"]
            if at >= end:
                return PartReceipt(part.number, part.size)
            assert at >= part.start, "the server forgot bytes"
        raise AssertionError("the server takes nothing")

    def held(self, session):
        response = yield Request("GET", f"{self.base}/{session.upload_id}")
        if response.status == 404:
            raise SessionLost("the tape is gone")
        return json_of(expect(response))["held"]

    def complete(self, session, receipts, digest=None):
        assert (yield from self.held(session)) == session.file.size
        return Result(session.upload_id, size=session.file.size)

    def abort(self, session):
        yield Request("DELETE", f"{self.base}/{session.upload_id}")


@dataclass
class Reel:
    size: int
    data: Blob = field(default_factory=Blob)


class TapeSandbox(Sandbox):
    """Keeps reels; takes bytes only where the last ones ended."""

    name = "tape"

    def __init__(self, **options):
        super().__init__(**options)
        self.reels: dict[str, Reel] = {}
        self.told: list[tuple[str, int]] = []

    def answer(self, call):
        name = call.path.strip("/")
        if call.method == "POST":
            name = f"reel{len(self.told)}"
            self.reels[name] = Reel(int(call.get("size")))
        self.told.append((call.method, call.body.size))
        reel = self.reels.get(name)
        if reel is None:
            return answer_json(404, {})
        if call.method == "DELETE":
            del self.reels[name]
        if call.method == "PATCH":
            if int(call.get("at")) != reel.data.size:
                return answer_json(409, {})
            if reel.data.size + call.body.size > reel.size:
                return answer_json(400, {})
            reel.data += call.body
        return answer_json(200, {"name": name, "held": reel.data.size})

    def announce(self):
        return {}

    def environment(self):
        return {}

    def finished(self):
        return {n: reel.data for n, reel in self.reels.items() if reel.data.size == reel.size}

    def unfinished(self):
        return [n for n, reel in self.reels.items() if reel.data.size < reel.size]


class Hasty(MemoryClient):
    """Answers a body in the wrong place as soon as it begins, as real servers do."""

    def __init__(self, sandbox, handle):
        super().__init__(handle)
        self.sandbox = sandbox

    async def send(self, request, count=None, patience=Patience()):
        if request.method == "PATCH":
            name, at = request.path.strip("/"), int(request.query.partition("=")[2])
            if self.sandbox.reels[name].data.size != at:
                async for _ in request.content:
                    break
                request = Request("PATCH", request.url)
        return await super().send(request, count, patience)


class TestTape(ProviderConformance):
    """The exam; a broken connection may leave the server with half of what was sent."""

    sizes = (0, 300)
    faults = (*COMMON, Fault.KEEP_HALF)

    def sandbox(self, now):
        return TapeSandbox(now=now)

    def provider(self, sandbox, now):
        return Tape(base=sandbox.base)


def upload(sandbox, client, lines, data=DATA, *, name="file.bin", fingerprint=None, parallel=5):
    """Return an upload in parts of 30 bytes, and its diary."""
    clock, diary = Clock(), Diary()
    source = open_source(data, name=name)
    if fingerprint is not None:
        source.info = FileInfo(name, len(data), fingerprint=fingerprint)
    made = Upload(
        source,
        Tape(base=sandbox.base),
        client,
        Journal(lines, Key("tape:", "", "the file")),
        Options(jobs=parallel, part_size=30, check=False),
        [diary],
        sleep=clock.sleep,
        now=clock.now,
        rng=random.Random(1),
    )
    return made, diary


def ran(made):
    return asyncio.run(made.run())


@pytest.fixture
def half_sent():
    """Return a sandbox that holds 45 bytes, and a journal that knows of 30."""
    sandbox, lines = TapeSandbox(), MemoryLines()
    faulty = Faulty(sandbox, script=[On(Fault.KEEP_HALF, "PATCH", nth=2)])
    dying = Dying(MemoryClient(faulty.handle), 4)  # create, two parts, and the question after
    with pytest.raises(Crash):
        ran(upload(sandbox, dying, lines)[0])
    assert [reel.data.size for reel in sandbox.reels.values()] == [45]
    sandbox.told.clear()
    return sandbox, lines


def test_parts_go_one_after_another_however_many_may_fly():
    sandbox = TapeSandbox()
    made, diary = upload(sandbox, MemoryClient(sandbox.handle), MemoryLines(), parallel=8)

    result = ran(made)

    assert sandbox.finished()[result.id].read() == DATA
    assert diary.done() == [1, 2, 3, 4]
    assert sandbox.told == [("POST", 0), *(("PATCH", n) for n in (30, 30, 30, 10)), ("GET", 0)]


def test_a_plan_says_that_parts_go_in_order():
    planned = jobs.plan(DATA, Tape(base="http://127.0.0.1:1"), name="file.bin", part_size=30)

    assert (planned.in_order, planned.jobs, planned.parts) == (True, 1, 4)


def test_what_was_kept_of_a_broken_part_is_not_sent_again(half_sent):
    sandbox, lines = half_sent
    made, diary = upload(sandbox, MemoryClient(sandbox.handle), lines)

    result = ran(made)

    assert sandbox.finished()[result.id].read() == DATA
    assert diary.done() == [2, 3, 4]
    # Asked, tried at 30 and refused, asked again, and went on at 45.
    assert [size for method, size in sandbox.told if method == "PATCH"] == [30, 15, 30, 10]


def test_a_part_that_arrived_and_was_not_noted_is_not_sent_again():
    """The process died between the server's answer and the journal."""
    sandbox, lines = TapeSandbox(), MemoryLines()
    dying = Dying(MemoryClient(sandbox.handle), 3, after=True)
    with pytest.raises(Crash):
        ran(upload(sandbox, dying, lines)[0])
    sandbox.told.clear()
    made, diary = upload(sandbox, MemoryClient(sandbox.handle), lines)

    result = ran(made)

    assert sandbox.finished()[result.id].read() == DATA
    assert [size for method, size in sandbox.told if method == "PATCH"] == [30, 10]
    assert diary.done() == [3, 4]


def test_the_checksum_of_a_part_is_of_all_of_it_however_little_was_sent_now(half_sent):
    """A later run proves the file by it."""
    sandbox, lines = half_sent
    dying = Dying(MemoryClient(sandbox.handle), 5)  # dies at part 3; part 2 is noted
    with pytest.raises(Crash):
        ran(upload(sandbox, dying, lines)[0])
    made, diary = upload(sandbox, MemoryClient(sandbox.handle), lines)

    result = ran(made)

    assert sandbox.finished()[result.id].read() == DATA
    assert not diary.restarted()
    assert diary.done() == [3, 4]


def test_the_checksum_is_of_all_of_a_part_that_was_refused_early():
    """Its answer was lost; when it was sent again the server said no after one block."""
    data = random.Random(3).randbytes(3 << 20)
    sandbox, lines = TapeSandbox(), MemoryLines()
    faulty = Faulty(sandbox, script=[On(Fault.DROP_AFTER, "PATCH", nth=2)])
    dying = Dying(Hasty(sandbox, faulty.handle), 6)
    first, _ = upload(sandbox, dying, lines, data)
    first.options = Options(jobs=1, part_size=1 << 20, check=False)
    with pytest.raises(Crash):
        ran(first)
    second, diary = upload(sandbox, MemoryClient(sandbox.handle), lines, data)
    second.options = first.options

    result = ran(second)

    assert not diary.restarted()
    assert diary.done() == [3]
    assert sandbox.finished()[result.id].read() == data


def test_bytes_that_no_checksum_covers_are_not_trusted_when_the_file_was_touched(half_sent):
    """The 15 bytes of part 2 that are held could be those of another version."""
    sandbox, lines = half_sent
    changed = DATA[:30] + bytes(70)
    made, diary = upload(sandbox, MemoryClient(sandbox.handle), lines, changed)

    result = ran(made)

    assert diary.restarted()
    assert sandbox.finished()[result.id].read() == changed
    assert not sandbox.unfinished(), "the earlier session stays at the server"


def picked(data):
    """Return a file as a page tells of it: by name, size and time, the same for all of these."""
    source = BrowserSource("file.bin", len(data), 1700, lambda key, ranges: answer(ranges))

    def answer(ranges):
        for start, size in ranges:
            source.answered(start, memoryview(data[start : start + size]))

    return source


@pytest.fixture
def half_picked():
    """Return as above, and the picked file that was half sent."""
    sandbox, lines, source = TapeSandbox(), MemoryLines(), picked(DATA)
    faulty = Faulty(sandbox, script=[On(Fault.KEEP_HALF, "PATCH", nth=2)])
    made, _ = upload(sandbox, Dying(MemoryClient(faulty.handle), 4), lines)
    made.source = source
    with pytest.raises(Crash):
        ran(made)
    assert [reel.data.size for reel in sandbox.reels.values()] == [45]
    return sandbox, lines, source


def test_bytes_of_a_file_picked_in_another_kernel_are_not_trusted_by_its_time(half_picked):
    sandbox, lines, _ = half_picked
    other = DATA[:30] + bytes(70)
    made, diary = upload(sandbox, MemoryClient(sandbox.handle), lines)
    made.source = picked(other)

    result = ran(made)

    assert sandbox.finished()[result.id].read() == other
    assert diary.restarted()


def test_a_file_that_is_still_picked_goes_on_in_the_middle_of_a_part(half_picked):
    sandbox, lines, source = half_picked
    made, diary = upload(sandbox, MemoryClient(sandbox.handle), lines)
    made.source = source

    result = ran(made)

    assert sandbox.finished()[result.id].read() == DATA
    assert not diary.restarted()
    assert diary.done() == [2, 3, 4]


def test_a_file_that_changed_where_parts_are_known_begins_anew(half_sent):
    sandbox, lines = half_sent
    changed = bytes(30) + DATA[30:]
    same = open_source(DATA, name="file.bin").info.fingerprint
    made, diary = upload(sandbox, MemoryClient(sandbox.handle), lines, changed, fingerprint=same)

    result = ran(made)

    assert any(isinstance(event, Restarted) for event in diary.events)
    assert sandbox.finished()[result.id].read() == changed
    assert not sandbox.unfinished()


def test_a_server_that_lost_the_end_is_sent_it_again():
    """The journal knows three parts, the server only one of them."""
    sandbox, lines = TapeSandbox(), MemoryLines()
    dying = Dying(MemoryClient(sandbox.handle), 5)
    with pytest.raises(Crash):
        ran(upload(sandbox, dying, lines)[0])
    [reel] = sandbox.reels.values()
    reel.data = reel.data.slice(0, 30)
    made, diary = upload(sandbox, MemoryClient(sandbox.handle), lines)

    result = ran(made)

    started = next(event for event in diary.events if isinstance(event, Started))
    assert [receipt.number for receipt in started.reused] == [1]
    assert sandbox.finished()[result.id].read() == DATA


def test_the_rest_of_a_body_begins_where_the_server_stopped():
    body = Body.of(DATA)

    async def collect():
        return b"".join([bytes(block) async for block in body.after(45)])

    assert body.after(45).size == 55
    assert b"".join(body.after(45)) == DATA[45:]
    assert asyncio.run(collect()) == DATA[45:]
    assert body.whole
    assert body.digest("crc64") == digests.of("crc64", DATA)


def test_a_body_that_was_left_early_is_not_whole():
    body = Body.of(DATA)
    assert not body.whole

    async def begin():
        many = Body(2 << 20, read)
        async for _ in many:
            break
        return many.whole

    async def read(start, size):
        return bytes(size)

    assert not asyncio.run(begin())


def test_in_order_over_a_port_with_the_file_on_disk(tmp_path):
    path = tmp_path / "file.bin"
    data = random.Random(2).randbytes(3_000_000)
    path.write_bytes(data)
    sandbox = TapeSandbox()
    script = [On(Fault.KEEP_HALF, "PATCH", nth=2), On(Fault.DROP_AFTER, "PATCH", nth=4)]
    with serve(Faulty(sandbox, script=script)):
        result = jobs.upload(
            path, Tape(base=sandbox.base), part_size="1M", state=tmp_path / "state", jobs=4
        )

    assert sandbox.finished()[result.id].read() == data


def test_a_part_that_is_held_already_costs_a_question():
    sandbox = TapeSandbox()
    provider = Tape(base=sandbox.base)
    session = drive(provider.create(FileInfo("file.bin", 100), 30), sandbox.handle)
    part = Part(1, 0, 30)
    drive(provider.put_part(session, part, Body.of(DATA[:30])), sandbox.handle)

    receipt = drive(provider.put_part(session, part, Body.of(DATA[:30])), sandbox.handle)

    assert receipt.size == 30
    assert drive(provider.held(session), sandbox.handle) == 30
