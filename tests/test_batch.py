"""Several files: choosing them, sending them, what fails, and going on."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from proxy import Rule
from worlds import PART, QUICK, World, random_bytes, world

from chunkup_jupyter import SomeFailed, State, start_many, upload_many
from chunkup_jupyter.errors import (
    InvalidUpload,
    ProviderError,
    SourceError,
    UploadCancelled,
    UploadInterrupted,
)
from chunkup_jupyter.events import Completed, Event, Progress
from chunkup_jupyter.jobs import Job, background
from chunkup_jupyter.jobs.batch import Batch, Item
from chunkup_jupyter.jobs.many import plan_many
from chunkup_jupyter.jobs.results import UploadResult
from chunkup_jupyter.sources.choosing import choose, is_many
from chunkup_jupyter.sources.files import MemorySource
from chunkup_jupyter.ui import several


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a tree of files, in whose names nothing is in order."""
    for name in ("data/b.csv", "data/a.csv", "data/deep/c.csv", "data/deep/d.txt", "one.bin"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 10)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHUNKUP_STATE", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def oss() -> Iterator[World]:
    made = world("oss")
    yield made
    made.close()


def send(oss: World, sources: Any, **options: Any) -> Batch:
    """Start a batch into a folder of the sandbox, through the proxy."""
    given = {"state": None, "check": False, "policy": QUICK, "jobs": 2, **oss.fields()}
    return start_many(sources, root(oss), **{**given, **options})


def root(oss: World) -> str:
    """Return the folder they go to."""
    return f"oss://{oss.sandbox.announce()['bucket']}/dir/"


def arrived(oss: World) -> dict[str, bytes]:
    """Return what stands below ``dir/``."""
    return {
        name.partition("/dir/")[2]: blob.read() for name, blob in oss.sandbox.finished().items()
    }


def names(sources: list[Any], **how: Any) -> list[tuple[Any, str | None]]:
    return [(one.source, one.name) for one in choose(sources, **how)]


# -- which files


def test_a_pattern_is_sorted_and_nothing_comes_twice(folder: Path) -> None:
    assert names(["data/*.csv", "data/a.csv", "one.bin"]) == [
        ("data/a.csv", None), ("data/b.csv", None), ("one.bin", None),
    ]  # fmt: skip


def test_two_stars_look_into_folders(folder: Path) -> None:
    assert [source for source, _ in names(["data/**/*.csv"])] == [
        "data/a.csv", "data/b.csv", "data/deep/c.csv",
    ]  # fmt: skip


def test_what_is_below_a_folder_keeps_its_path(folder: Path) -> None:
    found = names([Path("data")], recursive=True)

    assert [name for _, name in found] == ["a.csv", "b.csv", "deep/c.csv", "deep/d.txt"]


def test_patterns_choose_by_name_folder_and_path(folder: Path) -> None:
    def left(**how: Any) -> list[str | None]:
        return [name for _, name in names(["data"], recursive=True, **how)]

    assert left(include=["*.csv"]) == ["a.csv", "b.csv", "deep/c.csv"]
    assert left(include=["*.csv"], exclude=["deep"]) == ["a.csv", "b.csv"]
    assert left(exclude=["deep/*.txt", "b.*"]) == ["a.csv", "deep/c.csv"]


def test_links_are_followed_and_never_in_circles(folder: Path) -> None:
    (folder / "data" / "deep" / "round").symlink_to(folder / "data")
    (folder / "data" / "link.csv").symlink_to(folder / "one.bin")

    found = [name for _, name in names(["data"], recursive=True)]

    assert found == ["a.csv", "b.csv", "link.csv", "deep/c.csv", "deep/d.txt"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(folder: Path) -> None:
    (folder / "a[1].bin").write_bytes(b"x")

    assert names(["a[1].bin"]) == [("a[1].bin", None)]
    assert not is_many(["a[1].bin"])
    assert is_many(["*.bin"])


@pytest.mark.parametrize(
    ("sources", "how", "said"),
    [
        (["data"], {}, "data is a folder; add -r"),
        (["*.nope"], {}, r"nothing matches \*.nope"),
        (["data"], {"recursive": True, "include": ["*.nope"]}, "nothing matches data"),
        (["one.bin"], {"include": ["*"]}, "choose among the files of a folder"),
        ([], {}, "no file was named"),
    ],
)
def test_what_means_no_file_is_refused(
    folder: Path, sources: list[str], how: dict[str, Any], said: str
) -> None:
    with pytest.raises((InvalidUpload, SourceError), match=said):
        choose(sources, **how)


def test_a_folder_that_may_not_be_read_is_no_empty_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return look(path)

    monkeypatch.setattr(os, "scandir", refusing)

    with pytest.raises(SourceError, match="deep cannot be read: Permission denied"):
        choose(["data"], recursive=True)


# -- sending them


def test_a_folder_arrives_with_its_paths(folder: Path, oss: World) -> None:
    results = send(oss, ["data"], recursive=True).result(30).check()

    assert arrived(oss) == {
        name: (folder / "data" / name).read_bytes()
        for name in ("a.csv", "b.csv", "deep/c.csv", "deep/d.txt")
    }
    assert results.ids == [f"{root(oss)}{n}" for n in sorted(arrived(oss))]


def test_a_purpose_takes_names_without_folders(folder: Path) -> None:
    batch = start_many(["data"], "openai:user_data", recursive=True, sandbox=True, check=False)

    found = batch.result(30).check()

    assert [one.name for one in found] == ["a.csv", "b.csv", "c.csv", "d.txt"]  # type: ignore[union-attr]


def test_one_failure_stops_nothing_and_is_told_in_its_place(folder: Path, oss: World) -> None:
    results = send(oss, ["data/a.csv", "gone.csv", io.BytesIO(b"nameless"), "one.bin"]).result(30)

    assert isinstance(results[0], UploadResult)
    assert isinstance(results[1], SourceError)
    assert isinstance(results[2], InvalidUpload)
    assert list(results.failed) == ["gone.csv", "a stream"]
    assert sorted(arrived(oss)) == ["a.csv", "one.bin"]
    with pytest.raises(SomeFailed, match=r"2 of 4 uploads failed: gone\.csv, a stream") as caught:
        results.check()
    assert caught.value.results is results


def test_uploading_several_raises_for_those_that_failed(folder: Path) -> None:
    with pytest.raises(SomeFailed, match="1 of 2"):
        upload_many(["one.bin", "gone"], "openai:user_data", sandbox=True)


def test_sources_may_come_one_by_one(folder: Path, oss: World) -> None:
    batch = send(oss, (path for path in sorted(folder.glob("data/*.csv"))))

    assert len(batch.result(30).check()) == 2
    assert set(arrived(oss)) == {"a.csv", "b.csv"}


def test_results_can_be_kept_in_a_file_and_a_batch_says_so(folder: Path, oss: World) -> None:
    batch = send(oss, ["one.bin", "gone.bin"])
    results = batch.result(30)

    back = pickle.loads(pickle.dumps(results))

    assert (back.ids, repr(back)) == (results.ids, repr(results))
    with pytest.raises(TypeError, match=r"result\(\).to_dict"):
        pickle.dumps(batch)


def test_retry_sends_what_failed_and_nothing_else(folder: Path, oss: World) -> None:
    batch = send(oss, ["one.bin", "late.bin"])
    assert list(batch.result(30).failed) == ["late.bin"]
    (folder / "late.bin").write_bytes(b"now it is here")
    asked = len(oss.proxy.asked)

    again = batch.retry().result(30).check()

    assert again.ids == [
        f"{oss.dest.rpartition('/folder')[0]}/dir/{n}" for n in ("one.bin", "late.bin")
    ]
    assert not any("one.bin" in one.target for one in oss.proxy.asked[asked:])


def test_what_failed_on_its_way_resumes(tmp_path: Path, oss: World) -> None:
    (tmp_path / "big.bin").write_bytes(random_bytes())
    (tmp_path / "small.bin").write_bytes(b"small")
    oss.strike(Rule("status", method="PUT", path="partNumber=3", status=403, times=0))
    sources = [str(tmp_path / "big.bin"), str(tmp_path / "small.bin")]
    batch = send(oss, sources, state=tmp_path / "state", jobs=1)
    results = batch.result(30)
    assert isinstance(results[0], ProviderError)
    oss.strike()

    again = batch.retry().result(30).check()

    assert isinstance(again[0], UploadResult)
    assert again[0].reused == 2
    assert arrived(oss)["big.bin"] == random_bytes()


def test_so_many_at_once_and_no_more(tmp_path: Path, oss: World) -> None:
    for number in range(6):
        (tmp_path / f"{number}.bin").write_bytes(random_bytes(PART, number))
    most = 0

    def count(event: Any, progress: Any) -> None:
        nonlocal most
        moving = [one for one in batch.items if one.state is State.UPLOADING]
        most = max(most, len(moving))

    batch = send(oss, [str(tmp_path / "*.bin")], files=3, listeners=[count])
    batch.result(30).check()

    assert 1 <= most <= 3
    assert len(arrived(oss)) == 6


def test_two_files_of_one_name_cannot_share_a_folder(folder: Path, oss: World) -> None:
    (folder / "a.csv").write_bytes(b"another")

    with pytest.raises(InvalidUpload, match=r"data/a.csv and a.csv would both become .*dir/a.csv"):
        send(oss, ["data/a.csv", "a.csv"])


@pytest.mark.parametrize("how", [{"recursive": True}, {}])
def test_a_key_takes_one_file(folder: Path, how: dict[str, Any]) -> None:
    sources = ["data"] if how else ["one.bin", "data/a.csv"]

    with pytest.raises(InvalidUpload, match="names one file"):
        start_many(sources, "oss://bucket/key", sandbox=True, **how)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"name": "x"}, "name is for one file"), ({"files": 0}, "from 1 to 64")],
)
def test_options_that_make_no_sense_are_refused(
    folder: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidUpload, match=said):
        start_many(["one.bin"], "openai:user_data", sandbox=True, **options)


def test_a_dry_run_plans_every_file(folder: Path) -> None:
    plans = plan_many(["data"], "oss://bucket/dir/", recursive=True, sandbox=True)

    assert [plan.target for plan in plans] == [
        f"oss://bucket/dir/{name}" for name in ("a.csv", "b.csv", "deep/c.csv", "deep/d.txt")
    ]


# -- steering them


@pytest.fixture
def stuck(tmp_path: Path, oss: World, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """Three files of which the first two hang at their second part."""
    monkeypatch.setenv("CHUNKUP_STATE", str(tmp_path / "state"))
    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(random_bytes(seed=number))
    oss.strike(Rule("stall", method="PUT", path="partNumber=2", times=0))
    return send(oss, [str(tmp_path / "?.bin")], state="default")


async def begun(batch: Batch, number: int = 2) -> None:
    """Wait until some parts of that many files are there."""
    while sum(one.progress.parts_done > 0 for one in batch.items) < number:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.slow
def test_many_files_stay_few_tasks_and_only_what_failed_is_sent_again(
    tmp_path: Path, oss: World
) -> None:
    def counts() -> tuple[int, int]:
        return psutil.Process().num_fds(), len(background.submit(every_task()).result(5))

    async def every_task() -> Any:
        return asyncio.all_tasks()

    for number in range(200):
        (tmp_path / f"{number:03}.bin").write_bytes(b"%03d" % number)
    for number in range(0, 200, 25):
        (tmp_path / f"{number:03}.bin").unlink()
        (tmp_path / f"{number:03}.bin").symlink_to(tmp_path / f"{number:03}.late")
    send(oss, [__file__]).result(30).check()
    before, most = counts(), (0, 0)

    batch = send(oss, [str(tmp_path / "*.bin")], files=4, state=tmp_path / "state")
    while not batch.settle(0.05):
        most = max(most[0], counts()[0]), max(most[1], counts()[1])

    assert most[0] <= before[0] + 60
    assert most[1] <= before[1] + 40
    assert counts()[0] <= before[0] + 3
    with pytest.raises(SomeFailed, match=r"8 of 200 uploads failed: .*000\.bin.*100\.bin …$"):
        batch.result().check()
    sent = len(oss.proxy.asked)
    for number in range(0, 200, 25):
        (tmp_path / f"{number:03}.late").write_bytes(b"late")

    batch.retry().result(30).check()

    again = {one.target.partition("?")[0][-7:] for one in oss.proxy.asked[sent:]}
    assert again == {f"{number:03}.bin" for number in range(0, 200, 25)}
    assert len(arrived(oss)) == 201


def test_stopping_keeps_what_is_there_and_begins_nothing(stuck: Batch, oss: World) -> None:
    asyncio.run(asyncio.wait_for(begun(stuck), 20))
    stuck.stop()
    results = stuck.result(10)

    assert all(isinstance(one, UploadInterrupted) for one in results)
    assert [item.state for item in stuck.items] == [State.STOPPED] * 3
    assert stuck.state is State.STOPPED
    oss.strike()

    again = stuck.retry().result(30).check()

    assert sum(one.reused for one in again) >= 2  # type: ignore[union-attr]
    assert arrived(oss) == {f"{n}.bin": random_bytes(seed=n) for n in range(3)}


def test_cancelling_leaves_nothing_open(stuck: Batch, oss: World) -> None:
    asyncio.run(asyncio.wait_for(begun(stuck), 20))
    stuck.cancel()
    results = stuck.result(20)

    assert all(isinstance(one, UploadCancelled) for one in results)
    assert stuck.state is State.CANCELLED
    assert arrived(oss) == {}


def test_one_that_waits_can_give_up_its_turn(stuck: Batch, oss: World) -> None:
    asyncio.run(asyncio.wait_for(begun(stuck), 20))
    stuck.items[2].cancel()
    oss.strike()

    results = stuck.result(30)

    assert isinstance(results[2], UploadCancelled)
    assert stuck.items[2].job is None
    assert set(arrived(oss)) == {"0.bin", "1.bin"}


def test_one_that_could_not_begin_gets_a_new_turn_while_others_run(
    folder: Path, stuck: Batch, oss: World
) -> None:
    done: list[str] = []

    def note(event: Event, progress: Progress) -> None:
        if isinstance(event, Completed):
            done.append(event.result.id.rpartition("/")[2])

    batch = send(oss, ["gone.bin", "0.bin"], files=1, listeners=[note])
    gone = batch.items[0]
    asyncio.run(asyncio.wait_for(begun(batch, 1), 20))
    assert gone.state is State.FAILED
    (folder / "gone.bin").write_bytes(b"now it is here")

    gone.resume()
    gone.resume()  # a second click
    oss.strike()

    batch.result(30).check()
    assert done == ["0.bin", "gone.bin"]  # in the queue, not beside it
    assert arrived(oss)["gone.bin"] == b"now it is here"
    stuck.result(30)


def test_one_gets_a_new_turn_after_all_have_ended(folder: Path, oss: World) -> None:
    batch = send(oss, ["one.bin", "late.bin"])
    batch.result(30)
    (folder / "late.bin").write_bytes(b"now it is here")

    batch.items[1].resume()

    assert len(batch.result(30).check()) == 2


def test_an_awaited_batch_stops_with_its_task(stuck: Batch) -> None:
    async def cell() -> None:
        async def wait() -> Any:
            return await stuck

        waiting = asyncio.ensure_future(wait())
        await begun(stuck)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(asyncio.wait_for(cell(), 20))

    assert stuck.settle(5)
    assert stuck.state is State.STOPPED


def test_an_interrupt_stops_them_and_says_how_to_go_on(
    stuck: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(asyncio.wait_for(begun(stuck), 20))
    wait = stuck._done.exception

    def once(timeout: float | None = None) -> None:
        monkeypatch.setattr(stuck._done, "exception", wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(stuck._done, "exception", once)

    with pytest.raises(UploadInterrupted, match=r"0 of 3 files arrived. To go on: %chunkup"):
        stuck.result()
    assert stuck.done()


def test_a_second_interrupt_ends_only_the_waiting(
    stuck: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(asyncio.wait_for(begun(stuck), 20))

    def impatient(timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stuck._done, "exception", impatient)
        with pytest.raises(UploadInterrupted, match="To go on: %chunkup"):
            stuck.result()

    assert stuck.settle(5)
    assert stuck.state is State.STOPPED


def test_an_awaited_one_that_is_cancelled_stops_and_says_how_to_go_on(stuck: Batch) -> None:
    async def story() -> None:
        await begun(stuck)
        waiting = asyncio.ensure_future(stuck)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        assert "To go on: %chunkup" in "".join(caught.value.__notes__)

    asyncio.run(asyncio.wait_for(story(), 20))

    assert stuck.settle(5)
    assert stuck.state is State.STOPPED


class FromThePage(MemorySource):
    """Bytes that come through the thread that must not wait for them."""

    def refuses_to_wait(self, *, awaiting: bool) -> str:
        return "waiting here would never end"


def test_waiting_for_what_comes_through_the_waiting_thread_is_refused(oss: World) -> None:
    oss.strike(Rule("stall", method="PUT", path="partNumber=2", times=0))
    batch = send(oss, [FromThePage(random_bytes(seed=n), f"{n}.bin") for n in range(2)])

    with pytest.raises(InvalidUpload, match="would never end"):
        batch.result()
    with pytest.raises(InvalidUpload, match="would never end"):
        asyncio.run(batch._wait())
    assert not batch.done()

    batch.cancel()
    assert batch.settle(5)
    batch.result()  # there is nothing left to wait for


def test_a_pause_holds_all_of_them(tmp_path: Path, oss: World) -> None:
    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(random_bytes(seed=number))

    def hold(event: Any, progress: Any) -> None:
        if progress.parts_done == 1 and not paused:
            paused.append(True)
            batch.pause()

    paused: list[bool] = []
    batch = send(oss, [str(tmp_path / "*.bin")], listeners=[hold], files=2)

    async def resting() -> None:
        def still(item: Item) -> bool:
            at_rest = item.state is State.PAUSED and not item.progress.in_flight
            return item.waiting or at_rest

        while not paused or not all(map(still, batch.items)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(resting(), 20))
    assert not batch.done()
    assert batch.state is State.PAUSED
    assert sum(item.waiting for item in batch.items) == 1

    batch.resume()

    batch.result(30).check()
    assert len(arrived(oss)) == 3


def test_a_pause_reaches_a_file_that_is_just_being_opened(
    folder: Path, oss: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Batch] = []
    there = threading.Event()

    def opening(*args: Any, **options: Any) -> Job:
        assert there.wait(10)
        made[0].pause()
        return Job(*args, **options)

    monkeypatch.setattr("chunkup_jupyter.jobs.batch.Job", opening)
    made.append(send(oss, ["one.bin"]))
    there.set()

    async def resting() -> None:
        while made[0].items[0].state is not State.PAUSED:
            assert not made[0].done()
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(resting(), 20))
    made[0].resume()

    made[0].result(30).check()


# -- the line that goes on


def test_the_line_names_what_is_left(folder: Path) -> None:
    batch = start_many(["data/*.csv", "gone.bin"], "oss://bucket/dir/", sandbox=True, files=3)
    batch.result(30)

    assert batch.line == "gone.bin oss://bucket/dir/ --sandbox"


def test_the_line_of_many_left_reuses_what_is_there(folder: Path) -> None:
    words = [f"gone{n}.bin" for n in range(4)]
    batch = start_many(["data", *words], "oss://bucket/dir/", sandbox=True, recursive=True)
    batch.result(30)

    assert batch.line == f"data {' '.join(words)} oss://bucket/dir/ --sandbox -r --reuse"
    assert start_many(["one.bin"], "oss://bucket/d/", sandbox=True).result(30).batch.line == ""


# -- seeing them


def test_the_live_view_keeps_its_height_and_shows_what_matters(folder: Path) -> None:
    for number in range(15):
        (folder / f"{number:02}.dat").write_bytes(b"x")
    batch = start_many(["gone.dat", "*.dat"], "oss://bucket/dir/", sandbox=True, files=1)
    first = several.live_html(batch)
    batch.result(30)
    last = several.live_html(batch)

    def height(html: str) -> str:
        return html.partition("box-sizing:border-box;height:")[2].partition(";")[0]

    assert height(first) == height(last)
    assert last.count("flex:0 0 14px") == several.LINES
    assert "there is no file gone.dat" in last
    assert "not shown" in last


def test_the_table_that_stays_tells_all_and_escapes_it(folder: Path) -> None:
    (folder / "<b>.csv").write_bytes(b"x")
    results = start_many(["*.csv", "one.bin", "gone"], "oss://bucket/dir/", sandbox=True).result(30)

    html, text = several.results_html(results), several.batch_text(results.batch)

    assert "<b>.csv" not in html
    assert html.count("<tr") == 4
    for said in (
        "oss://bucket/dir/one.bin",
        "complete",
        "failed: there is no file gone",
        "(sandbox)",
    ):
        assert said in html
    assert [line[10:12] for line in text.splitlines()] == ["3 ", "✓ ", "✓ ", "✗ "]
    assert "<script" not in html


def test_one_bar_sums_them_up(folder: Path) -> None:
    screen = io.StringIO()
    view = several.Total(screen)
    batch = start_many(["data/*.csv", "one.bin"], "oss://bucket/dir/", sandbox=True)

    view.follow(batch)
    batch.result(30)
    view.close()
    view.close()

    first, *_, last = screen.getvalue().replace("\r", "\n").strip().splitlines()
    assert first == "[sandbox] 3 files → oss://bucket/dir/"
    assert last.startswith("Complete   100%")
    assert "3 of 3 files" in last


def test_a_log_has_a_line_for_each_file(folder: Path) -> None:
    screen = io.StringIO()
    view = several.Log(screen)
    batch = start_many(["data/*.csv", "gone"], "oss://bucket/dir/", sandbox=True)

    view.follow(batch)
    batch.result(30)
    view.close()

    lines = screen.getvalue().splitlines()
    assert sum(line.startswith("[sandbox] ✓ ") for line in lines) == 2
    assert sum("gone → oss://bucket/dir/: upload failed" in line for line in lines) == 1
    assert "2 of 3 files · 1 failed" in lines[-1]


def test_a_broken_front_end_stops_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("no front end")

    monkeypatch.setattr(several.cards, "put_on_screen", broken)
    view = several.Lines()
    batch = start_many(["data/*.csv"], "oss://bucket/dir/", sandbox=True)
    view.follow(batch)

    assert len(batch.result(30).check()) == 2
    view.close()


def test_each_files_warnings_are_seen_wherever_it_is(folder: Path) -> None:
    for number in (1, 2):  # fewer examples than a fine-tune takes
        (folder / f"{number}.jsonl").write_text(
            '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
        )
    batch = start_many(["?.jsonl", "data/a.csv"], "openai:fine-tune", sandbox=True)
    batch.result(30)
    screen, log = io.StringIO(), io.StringIO()
    for view in (several.Total(screen), several.Log(log)):
        view.follow(batch)
        view.close()

    for text in (several.live_html(batch), several.batch_html(batch), several.batch_text(batch)):
        assert text.count("at least 10") >= 2
    for shown in (screen.getvalue(), log.getvalue()):
        assert shown.count("[sandbox] Warning: 1.jsonl") == 1
        assert shown.count("[sandbox] Warning: 2.jsonl") == 1
