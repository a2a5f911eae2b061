"""The table is complete, progress stays within its bounds, replay equals live."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkup_jupyter import events
from chunkup_jupyter.events import (
    NEXT,
    Cancelled,
    Completed,
    Completing,
    Event,
    Failed,
    Meter,
    PartDone,
    PartRetried,
    PartSent,
    Paused,
    Processing,
    Progress,
    Restarted,
    Resumed,
    Started,
    State,
    Stopped,
    Waiting,
    Warned,
)
from chunkup_jupyter.model import FileInfo, PartReceipt, Result, Session

SESSION = Session("id", FileInfo("f", 100), 30)
EXAMPLES: dict[type[Event], Event] = {
    Started: Started(SESSION),
    PartSent: PartSent({1: 5}),
    PartRetried: PartRetried(1, 1, 0.5, "503"),
    PartDone: PartDone(PartReceipt(1, 30)),
    Paused: Paused(),
    Resumed: Resumed(),
    Waiting: Waiting("network"),
    Warned: Warned("mind"),
    Restarted: Restarted("lost"),
    Completing: Completing(),
    Processing: Processing(),
    Completed: Completed(Result("id")),
    Stopped: Stopped(),
    Cancelled: Cancelled(),
    Failed: Failed(ValueError()),
}


def test_every_event_has_an_example_and_a_place_in_the_table():
    kinds = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    }

    assert kinds == set(EXAMPLES)
    assert kinds == {kind for follows in NEXT.values() for kind in follows}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_event_moves_the_state_as_the_table_says_or_is_refused(state, kind):
    before = Progress(total=100, state=state, parts=4)

    if kind in NEXT[state]:
        assert before.after(EXAMPLES[kind]).state is NEXT[state][kind]
    else:
        with pytest.raises(ValueError, match="may not follow"):
            before.after(EXAMPLES[kind])


def test_what_was_paused_before_it_had_a_session_goes_on_preparing():
    paused = Progress(total=100).after(Paused())
    again = Progress(total=100).after(Started(SESSION)).after(Paused()).after(Restarted("lost"))

    assert paused.after(Resumed()).after(Started(SESSION)).state is State.UPLOADING
    assert again.state is State.PAUSED
    assert again.after(Resumed()).state is State.PREPARING


def test_nothing_follows_an_end():
    assert all(not NEXT[state] for state in State if state.ended)
    assert all(NEXT[state] for state in State if not state.ended)


steps = st.lists(st.sampled_from(list(EXAMPLES.values())), max_size=30)


@given(steps)
def test_progress_stays_within_its_bounds_whatever_happens(happened):
    progress = Progress(total=100)
    for event in happened:
        if type(event) in NEXT[progress.state]:
            progress = progress.after(event)
            assert 0 <= progress.sent <= progress.total
            assert 0 <= progress.percent <= 100
            assert (progress.percent == 100) == (progress.state is State.COMPLETED)


def test_the_percentage_holds_at_99_until_the_provider_confirms():
    progress = Progress(total=100).after(Started(SESSION))
    for number, size in ((1, 30), (2, 30), (3, 30), (4, 10)):
        progress = progress.after(PartDone(PartReceipt(number, size)))

    assert progress.sent == 100
    assert progress.percent == 99
    assert progress.after(Completing()).after(Completed(Result("id"))).percent == 100


def test_a_resumed_upload_starts_at_what_is_there():
    reused = (PartReceipt(1, 30), PartReceipt(3, 30))

    progress = Progress(total=100).after(Started(SESSION, reused))

    assert (progress.done, progress.reused, progress.parts_done, progress.parts) == (60, 60, 2, 4)


def test_progress_is_one_short_line_without_the_answer_of_the_provider():
    progress = Progress(total=2000).after(Started(Session("id", FileInfo("f", 2000), 500)))
    assert (
        repr(progress) == str(progress) == "<Progress: uploading, 0 %, 0 B of 2 kB, 0 of 4 parts>"
    )

    for number in range(1, 5):
        progress = progress.after(PartDone(PartReceipt(number, 500)))
    progress = progress.after(Completing()).after(Completed(Result("file-1", raw={"a": "b" * 900})))

    assert str(progress) == (
        "<Progress: completed, 100 %, 2 kB of 2 kB, 4 of 4 parts, result=file-1>"
    )


def test_a_retried_part_starts_at_nothing_again():
    progress = Progress(total=100).after(Started(SESSION)).after(PartSent({1: 20, 2: 5}))

    progress = progress.after(PartRetried(1, 1, 0.25, "oss answered 503"))

    assert progress.in_flight == {1: 0, 2: 5}
    assert progress.retries == 1
    assert "part 1: oss answered 503" in progress.note


def test_a_restart_forgets_what_was_sent():
    progress = Progress(total=100).after(Started(SESSION, (PartReceipt(1, 30),)))

    again = progress.after(Restarted("the session expired"))

    assert (again.state, again.sent, again.reused, again.note) == (
        State.PREPARING,
        0,
        0,
        "the session expired",
    )


def test_the_rate_is_that_of_a_steady_stream():
    meter = Meter()
    for tick in range(100):
        meter.feed(tick / 10, tick * 1_000_000)

    assert meter.rate == pytest.approx(10_000_000, rel=0.01)
    assert meter.left(50_000_000) == pytest.approx(5, rel=0.01)


def test_no_time_is_promised_in_the_first_three_seconds():
    meter = Meter()
    meter.feed(0, 0)
    meter.feed(2.9, 1000)

    assert meter.left(1000) is None
