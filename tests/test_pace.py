"""How many parts are in the air: as asked, or found by trying."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from chunkup_jupyter.engine.pace import MOST, START, Pace


def climb(pace: Pace, rate_of, seconds: int, start: float = 0.0, moved: int = 0) -> int:
    """Let time pass with all places taken; ``rate_of(limit)`` is in bytes a second."""
    for tick in range(seconds * 10):
        pace.active = pace.limit
        moved += rate_of(pace.limit) // 10
        pace.observe(start + tick / 10, moved)
    return moved


def test_a_number_that_was_asked_for_is_kept():
    pace = Pace(7)

    climb(pace, lambda limit: limit * 10**6, 30)

    assert pace.limit == pace.most == 7


def test_it_begins_with_four_and_grows_while_more_brings_more():
    pace = Pace()
    assert pace.limit == START == 4

    climb(pace, lambda limit: limit * 10**6, 30)

    assert pace.limit == MOST


def test_it_stays_where_more_brings_nothing():
    pace = Pace()

    climb(pace, lambda limit: min(limit, 4) * 10**6, 30)

    assert pace.limit == 4


def test_trouble_halves_it_once_and_it_comes_back_one_by_one():
    pace = Pace(16)
    moved = climb(pace, lambda limit: 10**6, 6)
    for _ in range(10):
        pace.trouble()
    assert pace.limit == 8

    moved = climb(pace, lambda limit: 10**6, 6, 6.0, moved)
    assert 8 < pace.limit <= 10
    climb(pace, lambda limit: 10**6, 60, 12.0, moved)
    assert pace.limit == 16


def test_lasting_trouble_leaves_one():
    pace = Pace(16)
    for second in range(0, 60, 6):
        pace.observe(second, 0)
        pace.trouble()

    assert pace.limit == 1


@given(st.lists(st.sampled_from(["trouble", "observe"]), max_size=200), st.integers(1, 64))
def test_there_is_always_a_place_and_never_too_many(story, jobs):
    for pace in (Pace(jobs), Pace()):
        for second, word in enumerate(story):
            if word == "trouble":
                pace.trouble()
            else:
                pace.active = pace.limit
                pace.observe(second * 0.7, second * 10**6)
            assert 1 <= pace.limit <= pace.most


def test_who_waits_gets_the_place_that_comes_free():
    async def story():
        pace, order = Pace(2), []

        async def worker(name):
            await pace.enter()
            order.append(name)
            await asyncio.sleep(0)
            assert pace.active <= 2
            pace.leave()

        await asyncio.gather(*(worker(name) for name in range(9)))
        return pace, order

    pace, order = asyncio.run(story())

    assert order == list(range(9))
    assert pace.active == 0


def test_who_gives_up_waiting_takes_no_place():
    async def story():
        pace = Pace(1)
        await pace.enter()
        waiting = [asyncio.create_task(pace.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        pace.leave()
        await asyncio.wait_for(waiting[1], 1)
        pace.leave()
        await asyncio.wait_for(waiting[2], 1)
        return pace.active

    assert asyncio.run(story()) == 1


def test_a_place_given_to_somebody_who_just_gave_up_goes_to_the_next():
    async def story():
        pace = Pace(1)
        await pace.enter()
        first, second = (asyncio.create_task(pace.enter()) for _ in range(2))
        await asyncio.sleep(0)
        pace.leave()  # wakes the first
        first.cancel()
        await asyncio.wait_for(second, 1)
        return pace.active

    assert asyncio.run(story()) == 1
