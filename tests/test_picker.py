"""A file in the browser is a source: its bytes arrive whole, whatever the page does."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from comm import DummyComm
from hypothesis import given
from hypothesis import strategies as st
from proxy import Rule
from worlds import PART, World, world

from chunkup_jupyter.errors import SourceChanged, SourceGone
from chunkup_jupyter.jobs import Job
from chunkup_jupyter.sources import Source
from chunkup_jupyter.ui import picker
from chunkup_jupyter.ui.blocks import HELD, MOST, Blocks
from chunkup_jupyter.ui.picker import BrowserSource, Picker

MIB = 1 << 20


class Page:
    """Stands for a page that has one file: answers what the kernel asks, from its own thread."""

    def __init__(self, data: bytes, *, lose: Callable[[int], bool] = lambda n: False) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []
        self.pings = 0
        self.open = True
        self._lose = lose
        self._rng = random.Random(7)
        self.source = BrowserSource("film.mp4", len(data), 1700, self.ask, block=MIB)

    def ask(self, key: str, ranges: Sequence[tuple[int, int]]) -> None:
        assert key == self.source.key
        self.pings += not ranges
        wanted = [one for one in ranges if not self._lose(len(self.asked))]
        self.asked.extend(ranges)
        self._rng.shuffle(wanted)  # one kernel version changes the order
        if self.open and wanted:
            threading.Thread(target=self._answer, args=(wanted,)).start()

    def _answer(self, wanted: Sequence[tuple[int, int]]) -> None:
        for start, size in wanted:
            self.source.answered(start, memoryview(self.data[start : start + size]))


def everything(source: BrowserSource, step: int = 512 << 10) -> bytes:
    async def read() -> bytes:
        size = source.info.size
        starts = range(0, size, step)
        return b"".join([bytes(await source.read(s, min(step, size - s))) for s in starts])

    return asyncio.run(asyncio.wait_for(read(), 30))


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110  the tests' timeouts end it
        await asyncio.sleep(0.02)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_a_browser_file_is_a_source() -> None:
    source = Page(b"abc").source

    assert isinstance(source, Source)
    assert (source.identity, source.spelled) == ("browser:film.mp4:3:1700", "")
    assert source.in_order
    assert source.info.media_type == "video/mp4"


def test_every_byte_arrives_though_answers_come_in_any_order() -> None:
    page = Page(noise(9 * MIB + 123))

    got = everything(page.source)

    assert hashlib.sha256(got).digest() == hashlib.sha256(page.data).digest()


def test_each_byte_is_asked_for_once_when_nothing_is_lost() -> None:
    page = Page(noise(9 * MIB + 123))

    everything(page.source)

    assert sum(size for _, size in page.asked) == len(page.data)


def test_blocks_grow_while_all_goes_well() -> None:
    page = Page(noise(24 * MIB))

    everything(page.source)

    assert page.source._blocks.block > MIB


def test_a_lost_answer_is_asked_for_again_in_smaller_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(picker, "PATIENCE", 0.2)
    page = Page(noise(5 * MIB), lose=lambda n: n == 0)

    got = everything(page.source)

    assert got == page.data
    assert MIB // 2 in [size for _, size in page.asked]


def test_blocks_are_asked_for_whole_whatever_the_reader_takes() -> None:
    page = Page(noise(9 * MIB))

    everything(page.source, step=100 << 10)

    assert all(size >= MIB for _, size in page.asked)


def test_a_range_may_be_read_again() -> None:
    """A part that is sent again reads what was read before."""
    page = Page(noise(6 * MIB))

    async def read() -> tuple[bytes, bytes]:
        await page.source.read(5 * MIB, MIB)
        return bytes(await page.source.read(0, MIB)), bytes(await page.source.read(100, 50))

    first, second = asyncio.run(asyncio.wait_for(read(), 10))

    assert first == page.data[:MIB]
    assert second == page.data[100:150]


def test_several_readers_at_different_places_all_get_their_bytes() -> None:
    page = Page(noise(24 * MIB))

    async def one(start: int) -> bytes:
        steps = range(start, start + 6 * MIB, 512 << 10)
        return b"".join([bytes(await page.source.read(at, 512 << 10)) for at in steps])

    async def all_of_them() -> list[bytes]:
        return await asyncio.gather(*(one(n * 6 * MIB) for n in range(4)))

    got = asyncio.run(asyncio.wait_for(all_of_them(), 30))

    assert b"".join(got) == page.data


def test_a_closed_page_is_waited_for_and_the_same_file_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(picker, "PATIENCE", 0.2)
    page = Page(noise(3 * MIB))
    page.open = False
    said: list[str] = []
    page.source.on_waiting(said.append)

    async def read() -> bytes:
        going = asyncio.create_task(page.source.read(0, MIB))
        await until(lambda: page.source.waiting)
        assert not going.done()
        page.open = True
        page.source.picked()
        return bytes(await going)

    got = asyncio.run(asyncio.wait_for(read(), 10))

    assert got == page.data[:MIB]
    assert said[0].startswith("the page that has film.mp4 is gone")
    assert said[-1] == ""


def test_a_page_that_was_loaded_anew_is_noticed_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Long before the patience for an answer is over."""
    monkeypatch.setattr(picker, "HURRY", 0.1)
    page = Page(noise(MIB))
    page.open = False

    async def read() -> float:
        going = asyncio.create_task(page.source.read(0, MIB))
        await asyncio.sleep(0)
        began = time.monotonic()
        page.source.doubted()
        await until(lambda: page.source.waiting)
        going.cancel()
        return time.monotonic() - began

    assert asyncio.run(asyncio.wait_for(read(), 10)) < 2


def test_while_it_waits_the_page_is_asked_whether_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A laptop that slept has the file still, and lost only our questions."""
    monkeypatch.setattr(picker, "PATIENCE", 0.1)
    page = Page(noise(MIB))
    page.open = False

    async def read() -> bytes:
        going = asyncio.create_task(page.source.read(0, MIB))
        await until(lambda: page.pings)
        page.open = True
        page.source.picked()  # the page's answer: it has the file
        return bytes(await going)

    assert asyncio.run(asyncio.wait_for(read(), 10)) == page.data


def test_a_file_that_changed_is_an_error_that_says_what_to_do() -> None:
    page = Page(noise(MIB))
    page.source.failed("NotReadableError")

    with pytest.raises(SourceChanged, match="pick it again"):
        everything(page.source)


def test_a_file_taken_out_of_the_picker_ends_its_upload() -> None:
    page = Page(noise(MIB))
    page.source.removed()

    with pytest.raises(SourceGone, match="taken out"):
        everything(page.source)


def test_bytes_beyond_the_end_are_refused() -> None:
    page = Page(b"abc")

    with pytest.raises(SourceChanged):
        asyncio.run(page.source.read(1, 3))


def test_a_closed_source_may_be_read_again() -> None:
    """A retried upload opens the same source object again."""
    page = Page(noise(2 * MIB))
    everything(page.source)
    page.source.close()

    assert everything(page.source) == page.data


@given(
    size=st.integers(1, 400),
    block=st.integers(1, 64),
    seed=st.integers(0, 999),
)
def test_blocks_bring_every_byte_in_whatever_order_and_however_often_answers_come(
    size: int, block: int, seed: int
) -> None:
    rng = random.Random(seed)
    data = rng.randbytes(size)
    blocks = Blocks(size, block)
    under_way: list[tuple[int, int]] = []
    at = 0

    for now in range(5000):
        want = min(rng.randint(1, 100), size - at)
        found = blocks.take(at, want)
        if found is not None:
            assert bytes(found) == data[at : at + want]
            at += want
            blocks.forget([(at, at)])
            if at == size:
                break
        under_way += blocks.wanted(at, min(want, size - at), float(now))
        if under_way and rng.random() < 0.8:
            start, length = under_way[rng.randrange(len(under_way))]
            if rng.random() < 0.8:  # else it comes twice
                under_way.remove((start, length))
            blocks.answer(start, memoryview(data[start : start + length]), float(now))
        elif rng.random() < 0.1:
            blocks.again()
            under_way = under_way if rng.random() < 0.5 else []
        elif not under_way:
            blocks.again(smaller=False)  # everything was lost

    assert at == size


def test_a_late_large_answer_takes_only_the_place_of_the_small_one() -> None:
    blocks = Blocks(100, 40)
    blocks.wanted(0, 10, 0.0)
    blocks.again()
    blocks.block = 20
    blocks.wanted(0, 10, 0.0)

    blocks.answer(0, memoryview(bytes(40)), 0.0)

    assert len(blocks.there[0]) == 20
    assert blocks.take(0, 30) is None


def test_what_somebody_reads_is_not_dropped_to_make_room() -> None:
    blocks = Blocks(1 << 40)
    for at in range(0, HELD, MOST):
        blocks.there[at] = memoryview(bytes(MOST))

    blocks.wanted(1 << 30, MOST, 0.0, [(0, MOST)])

    assert 0 in blocks.there
    assert MOST not in blocks.there


def test_a_reader_ahead_takes_nothing_from_one_behind() -> None:
    page = Page(noise(40 * MIB))
    page.open = False

    def answer(start: int) -> None:
        page.source.answered(start, memoryview(page.data[start : start + MIB]))

    async def read() -> tuple[bytes, bytes]:
        behind = asyncio.create_task(page.source.read(0, 2 * MIB))
        await until(lambda: page.asked)
        answer(0)
        ahead = asyncio.create_task(page.source.read(30 * MIB, MIB))
        await until(lambda: (30 * MIB, MIB) in page.asked)
        answer(30 * MIB)
        await ahead
        answer(MIB)
        return bytes(await behind), bytes(ahead.result())

    behind, ahead = asyncio.run(asyncio.wait_for(read(), 5))

    assert behind == page.data[: 2 * MIB]
    assert ahead == page.data[30 * MIB : 31 * MIB]


def test_memory_stays_within_its_bound_when_the_reader_is_slow() -> None:
    blocks = Blocks(1 << 40)
    empty = memoryview(bytes(MOST))
    most = 0

    for at in range(0, 400 * MIB, 8 * MIB):
        for start, size in blocks.wanted(at, MOST, 0.0):
            blocks.answer(start, empty[:size], 0.0)
            most = max(most, blocks.held)

    assert most <= HELD


class Browser:
    """Stands for a page with a picker in it, at the other end of the widget's comm."""

    def __init__(self, made: Picker) -> None:
        self.picker = made
        self.files: dict[str, bytes] = {}
        made.send = self.message  # type: ignore[method-assign]

    def say(self, content: dict[str, Any], buffers: Sequence[Any] = ()) -> None:
        self.picker._handle_custom_msg(content, list(buffers))

    def pick(self, name: str, data: bytes, modified: int = 5) -> None:
        self.files[f"{name}:{len(data)}:{modified}"] = data
        file = {"name": name, "size": len(data), "type": "", "modified": modified}
        self.say({"t": "picked", "files": [file]})

    def message(self, content: dict[str, Any], buffers: Any = None) -> None:
        if content["t"] == "ask" and (data := self.files.get(content["file"])) is not None:
            for start, size in content["ranges"]:
                answer = {"t": "slice", "file": content["file"], "start": start}
                self.say(answer, [data[start : start + size]])
        if content["t"] == "who":
            mine = [key for key in content["files"] if key in self.files]
            if mine:
                self.say({"t": "have", "files": mine})


@pytest.fixture
def browser() -> Browser:
    made = Picker()
    assert isinstance(made.comm, DummyComm)
    return Browser(made)


def test_picked_files_become_sources_and_are_told_of(browser: Browser) -> None:
    told: list[list[BrowserSource]] = []
    browser.picker.on_pick(told.append)

    browser.pick("train.jsonl", b"{}\n" * 1000)

    assert told == [browser.picker.files]
    assert everything(browser.picker.files[0]) == b"{}\n" * 1000
    assert [row["name"] for row in browser.picker.listed] == ["train.jsonl"]


def test_picking_the_same_file_again_is_the_same_source(browser: Browser) -> None:
    browser.pick("a.bin", b"123")
    first = browser.picker.files[0]
    first.failed("NotReadableError")

    browser.pick("a.bin", b"123")

    assert browser.picker.files == [first]
    assert everything(first) == b"123"


def test_a_file_of_another_time_is_another_file(browser: Browser) -> None:
    browser.pick("a.bin", b"123", modified=1)
    browser.pick("a.bin", b"123", modified=2)

    assert len({source.identity for source in browser.picker.files}) == 2


def test_a_name_with_folders_is_only_a_name(browser: Browser) -> None:
    browser.pick("../../etc/passwd", b"123")

    assert browser.picker.files[0].info.name == "passwd"


def test_a_second_page_does_not_take_a_file_from_the_first(browser: Browser) -> None:
    """The first one answers that it still has the file."""
    browser.pick("a.bin", b"123")

    browser.say({"t": "hello"})

    assert everything(browser.picker.files[0]) == b"123"
    assert browser.picker.files[0]._doubt == 0


def test_messages_that_make_no_sense_are_ignored(browser: Browser) -> None:
    for content in ({}, {"t": "slice"}, {"t": "picked", "files": [{}]}, {"t": "have"}, {"t": 3}):
        browser.say(content)  # type: ignore[arg-type]

    assert browser.picker.files == []


def test_waiting_is_refused_where_it_would_never_end(browser: Browser) -> None:
    """The pick came on the main thread: while a cell blocks, nothing of the file would."""
    browser.pick("a.bin", b"123")
    source = browser.picker.files[0]

    assert "in the background" in source.refuses_to_wait(awaiting=False)

    source.beside = True

    assert source.refuses_to_wait(awaiting=False) == ""


def first_asked(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many bytes a new picker asks its page for at first."""
    page = Browser(Picker())
    # A pick is a message between cells: who asked for the picker's own cell counts.
    monkeypatch.setattr(picker, "get_ipython", lambda: None)
    page.pick("film.bin", noise(5 * MIB))
    sizes: list[int] = []
    answer = page.message

    def listen(content: dict[str, Any], buffers: Any = None) -> None:
        sizes.extend(size for _, size in content.get("ranges", []))
        answer(content, buffers)

    page.picker.send = listen  # type: ignore[method-assign]
    assert everything(page.picker.files[0]) == noise(5 * MIB)
    return sizes[0]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A front end of no special kind, wherever the tests are run."""
    for name in ("VSCODE_PID", "VSCODE_CWD", "VSCODE_CLI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.setattr(picker, "get_ipython", lambda: None)


@pytest.mark.usefixtures("plain")
def test_most_front_ends_start_with_large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_asked(monkeypatch) == MOST


@pytest.mark.usefixtures("plain")
def test_colab_starts_with_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.colab", object())

    assert first_asked(monkeypatch) == 512 << 10


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("name", ["VSCODE_PID", "VSCODE_CWD", "VSCODE_CLI"])
def test_a_kernel_of_vs_code_starts_with_small_blocks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")

    assert first_asked(monkeypatch) == 512 << 10


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("cell", "size"), [("vscode-notebook-cell:x", 512 << 10), ("0b1c", MOST), (None, MOST)]
)
def test_vs_code_at_a_kernel_elsewhere_starts_with_small_blocks(
    cell: str | None, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in that kernel's environment says so, only the cell's name."""
    parent = {"metadata": {"cellId": cell}}
    kernel = SimpleNamespace(get_parent=lambda channel: parent)
    monkeypatch.setattr(picker, "get_ipython", lambda: SimpleNamespace(kernel=kernel))

    assert first_asked(monkeypatch) == size


def test_an_upload_from_the_browser_says_what_it_waits_for_and_arrives(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The whole way to a provider: the page goes, the job says so, the file comes again."""
    from chunkup_jupyter import start

    monkeypatch.setattr(picker, "PATIENCE", 0.1)
    data = noise(3 * MIB)
    browser.pick("film.bin", data)
    source = browser.picker.files[0]
    kept, browser.files = browser.files, {}
    job = start(source, "oss://films/", sandbox=True, region="cn-hangzhou", state=tmp_path)
    deadline = time.monotonic() + 10
    while "pick the same file" not in job.progress.note:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    with pytest.raises(ValueError, match="in the background"):
        job.result(5)

    browser.files = kept
    browser.pick("film.bin", data)
    assert job.settle(20)
    assert job.result().size == len(data)


PARTS = 8


@pytest.fixture(params=["openai", "oss", "twelvelabs"])
def place(request: pytest.FixtureRequest) -> Iterator[World]:
    with closing(world(request.param)) as made:
        yield made


def send_picked(place: World, data: bytes, state: Path, **options: Any) -> Job:
    """Start the upload of a file that a picker of its own was given."""
    page = Browser(Picker())
    page.pick("film.bin", data, modified=1700)
    return place.start(page.picker.files[0], state=state, jobs=1, **options)


def stopped_after(parts: int, place: World, data: bytes, state: Path) -> None:
    """Stop the upload of a picked file when the place has so many of its parts."""
    place.strike(Rule("no answer", **place.part, nth=parts + 1, times=0, seconds=20))
    job = send_picked(place, data, state, policy=None)
    deadline = time.monotonic() + 20
    while not any(one.trouble == "no answer" for one in place.proxy.asked):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    job.stop()
    assert job.settle(20)
    assert job.progress.parts_done == parts
    place.strike()
    place.proxy.asked.clear()


def test_a_file_picked_again_in_another_kernel_goes_on(place: World, tmp_path: Path) -> None:
    data = noise(PARTS * PART)
    stopped_after(3, place, data, tmp_path)

    job = send_picked(place, data, tmp_path)

    assert job.settle(30)
    assert job.result().reused == 3
    assert place.proxy.times(**place.part) == PARTS - 3
    place.arrived(data)


@pytest.mark.parametrize(
    ("changed", "kept"), [(range(PARTS), 0), ([0], 2), ([2], 2), ([3], 3)],
    ids=["every part", "the first part", "the third part", "a part not sent yet"],
)  # fmt: skip
def test_other_bytes_that_look_like_the_same_file_are_sent(
    changed: Sequence[int], kept: int, place: World, tmp_path: Path
) -> None:
    """Name, size and time are all that a page tells of a file, and not proof enough."""
    data = noise(PARTS * PART)
    stopped_after(3, place, data, tmp_path)
    other = bytearray(data)
    for part in changed:
        other[part * PART + 5] ^= 1

    job = send_picked(place, bytes(other), tmp_path)

    assert job.settle(30)
    assert job.result().reused == kept
    place.arrived(bytes(other))
