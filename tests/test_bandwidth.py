"""All uploads together keep to one limit, share it fairly, and wait without being busy."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import pytest
from peers import Peer
from test_wire import OK, send

import chunkup_jupyter
from chunkup_jupyter.model import Body
from chunkup_jupyter.wire import Patience, Request, bandwidth
from chunkup_jupyter.wire.bandwidth import AHEAD, LOOK, Bandwidth


class Clock:
    """Goes on only when somebody sleeps."""

    def __init__(self):
        self.now, self.naps = 0.0, 0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds
        self.naps += 1
        await asyncio.sleep(0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def no_limit_afterwards():
    yield
    bandwidth.everybody.limit = None


def limited(limit, clock):
    return Bandwidth(limit, clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize("workers", [1, 16])
def test_the_rate_is_the_limit_however_many_send(clock, workers):
    bucket = limited(1000, clock)

    async def work():
        for _ in range(320 // workers):
            await bucket.take("upload", 100)

    async def both():
        await asyncio.gather(*(work() for _ in range(workers)))

    asyncio.run(both())
    assert clock.now == pytest.approx(32, abs=0.3)


def test_without_a_limit_nobody_waits(clock):
    bucket = limited(None, clock)

    asyncio.run(bucket.take("upload", 1 << 40))
    assert (clock.now, clock.naps) == (0, 0)
    assert bucket.step(1 << 20) == 1 << 20


def test_one_wait_serves_one_turn(clock):
    """Not a busy one: whose turn it is not is not woken, whose it is sleeps for all of it."""
    bucket = limited(1000, clock)

    async def all_of_them():
        await asyncio.gather(*(bucket.take(n, 100) for n in range(50)))

    asyncio.run(all_of_them())
    assert clock.naps <= 50


def test_what_was_not_used_is_saved_for_a_tenth_of_a_second(clock):
    bucket = limited(1000, clock)
    clock.now = 3600.0

    async def taking():
        while clock.naps == 0:
            await bucket.take("upload", 10)

    asyncio.run(taking())
    assert clock.now - 3600 < AHEAD


@pytest.mark.parametrize("workers", [(1, 1), (1, 16), (4, 16)])
def test_uploads_share_fairly_whatever_number_of_parts_they_send(clock, workers):
    bucket = limited(1000, clock)
    got = Counter()

    async def work(name):
        while clock.now < 60:
            await bucket.take(name, 10)
            got[name] += 10

    async def both():
        await asyncio.gather(
            *(work(name) for name, many in enumerate(workers) for _ in range(many))
        )

    asyncio.run(both())
    assert got[0] == pytest.approx(got[1], rel=0.05)
    assert sum(got.values()) == pytest.approx(60_000, rel=0.02)


def test_who_was_away_does_not_shut_the_others_out(clock):
    bucket = limited(1000, clock)
    got = Counter()

    async def work(name, since, until):
        while clock.now < until:
            if clock.now < since:
                await asyncio.sleep(0)
                continue
            await bucket.take(name, 10)
            got[name] += 10 if clock.now >= 100 else 0

    async def both():
        await asyncio.gather(work("late", 0, 1), work("there", 0, 110), work("there", 0, 110))

    async def then():
        await asyncio.gather(both(), work("late", 100, 110))

    asyncio.run(then())
    assert got["there"] >= 4000


@pytest.mark.parametrize("later", [None, 100_000])
def test_a_limit_is_changed_while_somebody_waits(clock, later):
    bucket = limited(10, clock)

    async def changing():
        await bucket.take("upload", 1000)  # 100 s of debt
        waiting = asyncio.create_task(bucket.take("upload", 10))
        await asyncio.sleep(0)
        bucket.limit = later
        await waiting

    asyncio.run(changing())
    assert clock.now <= 2 * LOOK + 1000 / 100_000


def test_who_gives_up_waiting_is_in_nobodys_way(clock):
    bucket = limited(1000, clock)

    async def giving_up():
        await bucket.take("a", 1000)
        tasks = [asyncio.create_task(bucket.take(name, 100)) for name in "aab"]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(bucket.take("c", 100), 5)

    asyncio.run(giving_up())
    assert bucket._turns == {}


def test_loops_in_several_threads_share_it():
    bucket = Bandwidth(2_000_000)

    async def work():
        for _ in range(10):
            await bucket.take(threading.get_ident(), 20_000)

    began = time.monotonic()
    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert time.monotonic() - began > 0.2  # 600,000 bytes, less what was saved


# where it is asked


@pytest.mark.parametrize(
    ("limit", "size"), [("10M", 10 << 20), (5000, 5000), ("0", None), (None, None)]
)
def test_the_public_function_sets_it_for_everybody(limit, size):
    chunkup_jupyter.set_bandwidth(limit)
    assert bandwidth.everybody.limit == size


@pytest.mark.parametrize("limit", ["fast", -1])
def test_what_is_no_limit_is_refused(limit):
    with pytest.raises(ValueError):
        chunkup_jupyter.set_bandwidth(limit)
    assert bandwidth.everybody.limit is None


def test_what_is_held_back_is_no_stall():
    chunkup_jupyter.set_bandwidth(400_000)
    patience = Patience(connect=0.2, idle=0.1, answer=1.0)
    data = bytes(300_000)
    began = time.monotonic()
    with Peer(OK) as peer:
        answer = send(Request("PUT", peer.base + "/a", content=Body.of(data)), patience=patience)

    assert answer.status == 200
    assert time.monotonic() - began > 0.5


def test_a_line_sets_it_for_every_upload_and_a_plan_does_not(tmp_path, monkeypatch):
    from chunkup_jupyter.ui import grammar, running

    monkeypatch.setattr(running.jobs, "plan", lambda *source, **options: "plan")
    monkeypatch.setattr(running.jobs, "start", lambda *source, **options: 1 / 0)
    line = grammar.parse("a.jsonl openai:batch --bwlimit 10M --dry-run")
    with pytest.raises(StopIteration):
        next(running.steps(line, lambda *facts, **options: None, running.Trail()))
    assert bandwidth.everybody.limit is None

    line = grammar.parse("a.jsonl openai:batch --bwlimit 10M")
    with pytest.raises(ZeroDivisionError):
        next(running.steps(line, lambda line: lambda *facts: None, running.Trail()))
    assert bandwidth.everybody.limit == 10 << 20
