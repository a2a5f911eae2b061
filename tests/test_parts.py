"""What a progress looks like in the live view, what it costs, and what a click does."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pretend import PretendJob

from chunkup_jupyter.errors import Refused
from chunkup_jupyter.events import (
    Completing,
    Failed,
    PartDone,
    PartRetried,
    PartSent,
    Paused,
    Restarted,
    Started,
    Stopped,
)
from chunkup_jupyter.jobs import many
from chunkup_jupyter.ui import assets, cards, parts, widget
from chunkup_jupyter.ui.parts import (
    DONE,
    FAILED,
    QUEUED,
    READING,
    RETRYING,
    REUSED,
    VERIFYING,
    Board,
    LiveView,
    answer_while_busy,
)

MIB = 1 << 20


def board_of(job: PretendJob) -> Board:
    board = Board()
    job.subscribe(board)
    board.follow(job)
    return board


def levels(board: Board) -> list[int]:
    board.changes()
    return list(board.levels)


def test_before_a_session_is_open_all_parts_are_queued() -> None:
    assert levels(board_of(PretendJob(5))) == [QUEUED] * 5


def test_every_state_of_a_part_has_a_level_of_its_own() -> None:
    job = PretendJob(8, part_size=1000)
    board = board_of(job)
    job.start(reused=1)
    job.tell(PartDone(job.receipt(2)))
    job.tell(PartSent({3: 0, 4: 500, 5: 1000, 6: 10}))
    job.tell(PartRetried(6, 1, 2.0, "503"))

    found = levels(board)

    assert found[:3] == [REUSED, DONE, READING]
    assert 2 < found[3] < 201
    assert found[4:] == [VERIFYING, RETRYING, QUEUED, QUEUED]


def test_the_last_part_is_full_when_its_own_size_has_left() -> None:
    job = PretendJob(3, part_size=900)
    board = board_of(job)
    job.start()
    job.tell(PartSent({3: job.receipt(3).size}))

    assert job.receipt(3).size < 900
    assert levels(board)[2] == VERIFYING


def test_a_retried_part_stays_marked_until_it_moves_again() -> None:
    job = PretendJob(2)
    board = board_of(job)
    job.start()
    job.tell(PartSent({1: 100}))
    job.tell(PartRetried(1, 1, 2.0, "503"))
    job.tell(PartSent({1: 0, 2: 0}))

    assert levels(board) == [RETRYING, READING]

    job.tell(PartSent({1: MIB, 2: 0}))

    assert levels(board)[0] not in (RETRYING, READING)


def test_a_part_that_waits_is_named_when_there_is_no_other_news() -> None:
    job = PretendJob(3)
    board = board_of(job)
    board.hint = "Interrupt stops it"
    job.start()
    assert (board.head(0)["note"], board.head(0)["hint"]) == ("", "Interrupt stops it")

    job.tell(PartSent({1: MIB, 2: MIB}))
    job.tell(PartRetried(2, 1, 30.0, "429 Slow Down"))
    job.tell(PartDone(job.receipt(1)))

    assert board.head(0)["note"] == "part 2 waits to be sent again: 429 Slow Down"


def test_a_part_that_is_done_stays_done() -> None:
    """A reading of the bytes in flight may be older than the end of a part in it."""
    job = PretendJob(2)
    board = board_of(job)
    job.start()
    job.tell(PartDone(job.receipt(1)))
    job.tell(PartSent({1: MIB, 2: 0}))

    assert levels(board) == [DONE, READING]


@pytest.mark.parametrize(
    ("event", "level"), [(Failed(Refused("no")), FAILED), (Stopped(), QUEUED)], ids=str
)
def test_parts_in_flight_when_it_ends_are_failed_or_queued_again(event: Any, level: int) -> None:
    job = PretendJob(3)
    board = board_of(job)
    job.start()
    job.tell(PartDone(job.receipt(1)))
    job.tell(PartSent({2: MIB}))
    board.changes()
    job.tell(event)

    assert levels(board) == [DONE, level, QUEUED]


def test_an_upload_that_begins_anew_shows_no_part_of_the_old_one() -> None:
    job = PretendJob(3)
    board = board_of(job)
    job.start(reused=2)
    board.look(0)
    job.tell(Restarted("the file changed"))

    look = board.look(0)

    assert list(look.levels) == [QUEUED] * 3
    assert look.anew
    assert look.head["note"] == "the file changed"


def test_a_view_that_comes_late_shows_what_happened_before() -> None:
    job = PretendJob(4)
    job.start()
    job.tell(PartDone(job.receipt(2)))
    job.numbers_done = frozenset({2})

    assert levels(board_of(job)) == [QUEUED, DONE, QUEUED, QUEUED]


def test_another_part_size_of_the_server_changes_the_map() -> None:
    job = PretendJob(4, part_size=1000)
    board = board_of(job)
    session = job.start() or job.session
    assert session is not None
    other = type(session)("upload_1", job.file, 500)
    job.tell(Restarted("again"))
    job.tell(Started(other))

    assert len(board.levels) == -(-job.size // 500)


def test_changes_are_told_once_as_index_and_level() -> None:
    job = PretendJob(300)
    board = board_of(job)
    job.start()
    board.look(0)
    job.tell(PartDone(job.receipt(300)))

    assert board.changes() == [299 << 8 | DONE]
    assert board.changes() == []


def test_the_head_says_how_far_it_is() -> None:
    job = PretendJob(4, part_size=3_000_000)
    board = board_of(job)
    job.start(reused=1)
    job.tell(PartSent({2: 1_000_000}))
    job.tell(PartRetried(3, 1, 2.0, "HTTP 503"))

    head = board.head(time.time())

    assert head["word"] == "Uploading: 36%"
    assert head["bytes"] == "4 MB of 11 MB"
    assert head["counts"] == "1 of 4 parts · 1 from before · 1 in flight · 1 retried"
    assert head["closes"].startswith("session closes in")
    assert head["note"] == "part 3: HTTP 503, attempt 2 in 2.0 s"
    assert head["tries"] == {3: (1, "HTTP 503")}
    assert head["can"] == ("pause", "cancel")


def test_a_note_is_one_line_and_short() -> None:
    job = PretendJob(4)
    board = board_of(job)
    job.start()
    job.tell(Failed(Refused("line\n" * 1000)))

    note = board.head(0)["note"]

    assert "\n" not in note
    assert len(note) <= 401


def test_ten_thousand_parts_all_changing_cost_two_milliseconds_a_tick() -> None:
    """Measured 0.2 ms of CPU (2026-11): so many changes are sent as all levels at once."""
    job = PretendJob(10_000, part_size=MIB)
    board = board_of(job)
    view = LiveView()
    view._boards = [board]
    view._snapped = time.monotonic() + 3600
    job.start()
    view._tick()
    took = []
    for turn in range(20):
        for number in range(1, 10_001):
            board._set(number, DONE if turn % 2 else QUEUED)
        began = time.thread_time()
        view._tick()
        took.append(time.thread_time() - began)

    assert min(took) < 0.002


# -- the widget, with a comm that only remembers


class Wire:
    """Remembers what a view sends."""

    def __init__(self, view: LiveView) -> None:
        self.sent: list[tuple[float, str, Any, Any]] = []
        assert view.comm is not None
        self.view = view
        view.comm.publish_msg = self.publish

    def publish(
        self, kind: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
    ) -> None:
        self.sent.append((time.monotonic(), kind, data, buffers))

    def messages(self) -> list[dict[str, Any]]:
        return [data["content"] for _, _, data, _ in self.sent if data.get("method") == "custom"]

    def click(self, what: str, number: int = 1) -> None:
        self.view._handle_custom_msg({"do": what, "file": 0, "click": number}, [])


@pytest.fixture
def job() -> PretendJob:
    return PretendJob(2000, part_size=MIB)


@pytest.fixture
def view() -> Iterator[LiveView]:
    made = LiveView(stay=True)
    yield made
    made.leave()
    made.ended.wait(5)


def until(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_at_most_twelve_messages_a_second_whatever_happens(view: LiveView, job: PretendJob) -> None:
    wire = Wire(view)
    view.follow(job)
    job.start()
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < 2:
        number += 1
        job.tell(PartDone(job.receipt(number)))
        job.tell(PartSent({number + 1: 5}))
        time.sleep(0.001)

    assert len(wire.sent) / (time.monotonic() - began) <= 12.5
    assert number > 100


def test_what_was_sent_adds_up_to_what_is(view: LiveView, job: PretendJob) -> None:
    """Deltas and snapshots, taken in as the page does, give the same map."""
    wire = Wire(view)
    view.follow(job)
    job.start(reused=3)
    for number in range(4, 40):
        job.tell(PartSent({number: MIB // 2}))
        job.tell(PartDone(job.receipt(number)))
        time.sleep(0.02)
    job.tell(PartSent({50: MIB // 2}))
    shown = bytearray(2000)

    def same() -> bool:
        for _, _, data, buffers in wire.sent:
            if data.get("method") == "update" and "snap" in str(data.get("buffer_paths")):
                shown[:] = bytes(buffers[0])
            elif data.get("content", {}).get("t") == "delta":
                for word in memoryview(buffers[0]).cast("I"):
                    shown[word >> 8] = word & 255
        return bytes(shown) == bytes(view._boards[0].levels)

    until(same)


def test_a_click_is_done_at_once_and_acknowledged(view: LiveView, job: PretendJob) -> None:
    wire = Wire(view)
    view.follow(job)
    job.start()
    began = time.monotonic()
    wire.click("pause", 7)

    assert job.asked == ["pause"]
    until(lambda: any(7 in m.get("acks", ()) for m in wire.messages()))
    assert time.monotonic() - began < 0.5


def test_every_button_does_what_it_says(view: LiveView, job: PretendJob) -> None:
    wire = Wire(view)
    view.follow(job)
    job.start()
    for what in ("pause", "resume", "cancel", "retry", "format the disk"):
        wire.click(what)

    assert job.asked == ["pause", "resume", "cancel", "resume"]


def test_a_click_that_fails_harms_nothing(view: LiveView, job: PretendJob) -> None:
    wire = Wire(view)
    view.follow(job)

    def broken() -> None:
        raise RuntimeError("too late")

    job.pause = broken  # type: ignore[method-assign]
    wire.click("pause", 3)
    view._handle_custom_msg({"do": "pause", "file": 99}, [])
    view._handle_custom_msg({"do": "pause", "file": "x"}, [])

    until(lambda: any(3 in m.get("acks", ()) for m in wire.messages()))


def test_while_nothing_moves_the_page_still_hears_that_the_kernel_lives(
    view: LiveView, job: PretendJob
) -> None:
    wire = Wire(view)
    view.follow(job)
    job.start()
    time.sleep(0.3)
    before = len(wire.sent)

    until(lambda: len(wire.sent) > before, 2.5)


def test_a_broken_front_end_stops_no_upload(job: PretendJob) -> None:
    view = LiveView()

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no front end")

    assert view.comm is not None
    view.comm.publish_msg = broken
    view.follow(job)
    job.start()

    assert view.ended.wait(5)
    job.tell(PartDone(job.receipt(1)))


def test_when_all_have_ended_the_owner_is_told_once_and_the_view_closes() -> None:
    told: list[Any] = []
    view = LiveView(on_end=told.append)
    first, second = PretendJob(1), PretendJob(1)
    view.follow(first)
    view.follow(second)
    for one in (first, second):
        one.start()
        one.tell(PartDone(one.receipt(1)))
    first.finish()
    time.sleep(0.3)

    assert told == []

    second.finish()

    assert view.ended.wait(5)
    assert told == [view]
    assert view.comm is None


def test_a_view_that_no_page_shows_ends_and_tells_its_owner(job: PretendJob) -> None:
    told: list[str] = []
    unseen = LiveView(job, on_end=lambda view: told.append(job.state.value), patience=0.0)
    job.start()

    assert unseen.ended.wait(5)
    assert told == ["uploading"]


def test_a_view_that_a_page_shows_goes_on(job: PretendJob) -> None:
    seen = LiveView(on_end=lambda view: None, patience=0.3)
    seen._clicked(seen, {"do": "hello"}, [])
    seen.follow(job)
    job.start()

    assert not seen.ended.wait(0.8)
    seen.leave()


def test_the_owner_sees_the_last_state_painted() -> None:
    job = PretendJob(3)
    painted: list[Any] = []
    view = LiveView(on_end=lambda v: painted.append((v.heads[0]["state"], bytes(v.snap))))
    view.follow(job)
    job.start()
    for number in (1, 2, 3):
        job.tell(PartDone(job.receipt(number)))
    job.finish()

    assert view.ended.wait(5)
    assert painted == [("completed", bytes([DONE] * 3))]


def test_a_view_that_stays_shows_a_retried_upload(view: LiveView) -> None:
    job = PretendJob(1)
    view.follow(job)
    job.start()
    job.tell(Failed(Refused("no")))
    until(lambda: view.heads and view.heads[0]["can"] == ("retry",))
    job.progress = type(job.progress)(total=job.size)
    job.start()
    job.tell(Paused())

    until(lambda: view.heads[0]["state"] == "paused")


def test_a_listener_never_waits_for_the_painter(job: PretendJob) -> None:
    """The background thread must not stand still because a comm does."""
    view = LiveView()
    held = threading.Event()
    assert view.comm is not None
    view.comm.publish_msg = lambda *_, **__: held.wait(5)
    view.follow(job)
    job.start()
    time.sleep(0.2)
    began = time.monotonic()
    job.tell(PartDone(job.receipt(1)))

    assert time.monotonic() - began < 0.1
    held.set()
    view.leave()
    assert view.ended.wait(5)


def test_two_uploads_share_one_map_without_mixing() -> None:
    view = LiveView()
    a, b = PretendJob(3), PretendJob(4, name="b.bin")
    view._boards = [board_of(a), board_of(b)]
    a.start()
    b.start()
    view._tick(snapshot=True)
    wire = Wire(view)
    b.tell(PartDone(b.receipt(2)))
    view._tick()

    (_, _, _, buffers) = wire.sent[-1]

    assert list(memoryview(buffers[0]).cast("I")) == [(3 + 1) << 8 | DONE]
    assert [head["n"] for head in view.heads] == [3, 4]


def test_messages_are_left_to_the_front_ends_thread_where_the_kernel_allows() -> None:
    """ipykernel 7.4 would send clicks to the thread that a running cell keeps busy."""

    class Comm:
        def _reply_subshell_for(self, data: Any, default: Any) -> Any:
            return "the thread that wrote last"

    class Owner:
        comm = Comm()

    answer_while_busy(Owner)
    answer_while_busy(object())

    assert Owner.comm._reply_subshell_for({}, "asked for") == "asked for"


def test_the_newest_kernel_still_has_what_the_routing_is_mended_with() -> None:
    comm = pytest.importorskip("ipykernel.comm.comm", reason="needs ipykernel")
    version = __import__("ipykernel").version_info[:2]

    assert hasattr(comm.BaseComm, "_reply_subshell_for") == (version >= (7, 4))


@pytest.mark.parametrize("path", sorted(Path(parts.__file__).parent.glob("*.js")), ids=str)
def test_scripts_are_small(path: Path) -> None:
    assert path.stat().st_size < 15_000


def test_the_levels_are_the_same_on_both_sides() -> None:
    script = assets.script("map")
    probe = (
        script + "\nconsole.log([0,1,2,201,240,250,253,254,255].map(kindOf).join(' '),"
        " fillOf(201), fillOf(2))"
    )
    ran = subprocess.run(
        ["node", "--input-type=module"], input=probe, capture_output=True, text=True, check=False
    ) if _node() else None  # fmt: skip
    if ran is None:
        pytest.skip("node is not installed")

    assert ran.stdout.split() == [
        *("queued reading sending sending verifying retrying failed reused done".split()),
        *("1", "0.005"),
    ]


def _node() -> bool:
    from shutil import which

    return which("node") is not None


def test_completing_cannot_be_paused() -> None:
    job = PretendJob(1)
    board = board_of(job)
    job.start()
    job.tell(PartDone(job.receipt(1)))
    job.tell(Completing())

    assert board.head(0)["can"] == ("cancel",)


def test_the_output_of_a_cell_is_a_widget_while_it_runs_and_html_when_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[tuple[bool, dict[str, Any]]] = []
    monkeypatch.setattr(
        widget.Widget, "_publish", lambda self, bundle, *, update: shown.append((update, bundle))
    )
    job = PretendJob(2, name="<b>.bin")
    output = widget.Widget()
    job.subscribe(output)
    output.follow(job)
    job.start()
    for number in (1, 2):
        job.tell(PartDone(job.receipt(number)))
    job.finish()
    output.close()
    output.close()

    (first, running), (last, ended) = shown
    assert not first
    assert "application/vnd.jupyter.widget-view+json" in running
    assert running["text/plain"] == "<b>.bin: uploading to openai:fine-tune"
    assert last
    assert set(ended) == {"text/html", "text/plain"}
    assert "file-abc123" in ended["text/html"]
    assert "<b>.bin" not in ended["text/html"]


def test_where_no_page_shows_the_widget_updating_html_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[tuple[str, str]] = []
    monkeypatch.setattr(widget, "UNSEEN", 0.0)
    monkeypatch.setattr(
        widget.Widget, "_publish", lambda self, bundle, *, update: shown.append((self._id, ""))
    )
    monkeypatch.setattr(
        cards, "put_on_screen", lambda html, text, *, display_id, update: shown.append(
            (display_id, html if update else "not in its place")
        )
    )  # fmt: skip
    job = PretendJob(2)
    output = widget.Widget(detached=True)
    job.subscribe(output)
    output.follow(job)
    job.start()
    until(lambda: "Uploading: 0%" in shown[-1][1])
    for number in (1, 2):
        job.tell(PartDone(job.receipt(number)))
    job.finish()
    output.close()

    assert len({display for display, _ in shown}) == 1
    assert "file-abc123" in shown[-1][1]


def test_several_files_are_shown_in_one_widget_that_ends_as_a_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(
        widget.Widget, "_publish", lambda self, bundle, *, update: shown.append(bundle)
    )
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(name.encode())
    uploads = many.start_many(
        [tmp_path / "a.bin", tmp_path / "b.bin"], "openai:user_data", sandbox=True, state=None
    )
    output = widget.FilesWidget()
    output.follow(uploads)
    uploads.settle(30)
    output.close()

    running, ended = shown
    assert "application/vnd.jupyter.widget-view+json" in running
    assert running["text/plain"] == "[sandbox] 2 files: uploading to openai:user_data"
    assert set(ended) == {"text/html", "text/plain"}
    assert ended["text/html"].count("file-") == 2
