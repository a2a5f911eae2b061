"""What an upload tells: nothing after its end, and early when time gets short."""

from __future__ import annotations

import asyncio
import gc

import pytest

from chunkup_jupyter.engine.telling import Hourglass, Telling
from chunkup_jupyter.events import Stopped, Waiting

MIB = 1 << 20


@pytest.mark.parametrize(
    ("remains", "moved", "warns"),
    [
        (999.0, 10 * MIB, True),  # 10 MiB in 10 s, 1,000 MiB to go: 1,000 s
        (1001.0, 10 * MIB, False),
        (None, 10 * MIB, False),  # a session that never closes
        (999.0, 0, False),
        (-5.0, 10 * MIB, True),
    ],
)
def test_a_session_that_will_close_too_early_is_warned_of(remains, moved, warns):
    glass = Hourglass()
    assert glass.warning(0, moved, 1000 * MIB, remains) == ""
    assert glass.warning(9.9, moved, 1000 * MIB, remains) == ""  # too early to say
    assert bool(glass.warning(10, moved, 1000 * MIB, remains)) is warns


def test_the_warning_says_what_is_needed_and_what_is_left_once():
    glass = Hourglass()
    glass.warning(100, MIB, 1000 * MIB, 600)
    warning = glass.warning(110, 10 * MIB, 1000 * MIB, 590)
    assert "the rest needs 16 min" in warning
    assert "the session closes in 9 min" in warning
    assert glass.warning(120, 11 * MIB, 1000 * MIB, 5) == ""


def test_nothing_is_told_after_the_end():
    heard = []
    telling = Telling(1, [lambda event, progress: heard.append(event)])
    telling.tell(Stopped())
    telling.tell(Waiting("for nothing"))
    assert heard == [Stopped()]


def test_a_listener_that_takes_its_time_is_waited_for():
    heard = []

    async def story():
        gate = asyncio.Event()

        async def slow(event, progress):
            await gate.wait()
            heard.append(event)

        telling = Telling(1, [slow])
        telling.tell(Stopped())
        asyncio.get_running_loop().call_soon(gate.set)
        await telling.heard(20)

    asyncio.run(story())
    assert heard == [Stopped()]


@pytest.mark.parametrize("at_once", [True, False])
def test_an_async_listener_that_raises_is_dropped_and_said_once(caplog, at_once):
    calls, complaints = [], []

    async def broken(event, progress):
        calls.append(event)
        await asyncio.sleep(0)
        raise ValueError("a broken view")

    async def story():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: complaints.append(context))
        telling = Telling(1, [broken])
        for number in range(3):
            telling.tell(Waiting(str(number)))
            if not at_once:
                await telling.heard(20)
        await telling.heard(20)
        assert telling.listeners == []
        await telling.heard(20)

    asyncio.run(story())
    gc.collect()

    assert len(calls) == (3 if at_once else 1)
    assert complaints == []
    (record,) = caplog.records
    assert record.message == "a progress listener failed and was dropped"
    assert "a broken view" in str(record.exc_info[1])
