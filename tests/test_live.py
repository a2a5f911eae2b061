"""What an upload looks like while it moves, and what it leaves behind."""

from __future__ import annotations

import io
import re
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from chunkup_jupyter.errors import (
    AlreadyUploading,
    AuthError,
    InsecureConnection,
    IntegrityError,
    InvalidUpload,
    Refused,
    SomeFailed,
    SourceChanged,
    Unreachable,
    UploadCancelled,
)
from chunkup_jupyter.events import (
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
    Started,
    State,
    Stopped,
    Warned,
)
from chunkup_jupyter.jobs.results import UploadResult
from chunkup_jupyter.model import FileInfo, PartReceipt, Result, Session
from chunkup_jupyter.plan import Plan, part_at
from chunkup_jupyter.ui import bars, cards, live, trouble, words
from chunkup_jupyter.ui.story import CELLS, Story

NASTY = "<img src=x onerror=alert(1)>'\".jsonl"
MIB = 1 << 20
DONE = Result("file-abc123", size=10 * MIB, verified=("md5, by OpenAI",), expires_at=4e9)
HELD_BACK = AuthError(
    "adding part 2: api.example answered 401",
    status=401,
    code="invalid_api_key",
    request_id="req_1",
    host="api.example",
)


class Job(SimpleNamespace):
    """What the views know of a job."""

    name: str
    progress: Progress


def a_job(name: str = "train.jsonl", *, sandbox: bool = False) -> Job:
    file = FileInfo(name, 10 * MIB)
    return Job(
        id=1,
        name=name,
        target="openai:fine-tune",
        sandbox=sandbox,
        line="train.jsonl openai:fine-tune",
        meter=Meter(),
        error=None,
        plan=Plan(file, "openai:fine-tune", MIB, 4, sandbox=sandbox),
        progress=Progress(total=file.size),
        done=lambda: True,
        result=lambda timeout: a_result(name),
    )


def session(parts: int = 10, expires_at: float | None = None, size: int = MIB) -> Session:
    return Session("u", FileInfo("train.jsonl", parts * size), size, expires_at=expires_at)


def receipts(numbers: Iterable[int]) -> tuple[PartReceipt, ...]:
    return tuple(PartReceipt(number, MIB) for number in numbers)


def after(*events: Event, story: Story | None = None, start: Progress | None = None) -> Progress:
    progress = start or Progress()
    for event in events:
        progress = progress.after(event)
        if story is not None:
            story(event, progress)
    return progress


def midway(story: Story | None = None) -> Progress:
    """Ten parts: two from before, two done, one half sent, one tried again."""
    return after(
        Started(session(), receipts([1, 2])),
        PartSent({3: 0, 4: 0, 5: 0}),
        PartDone(PartReceipt(3, MIB)),
        PartDone(PartReceipt(4, MIB)),
        PartRetried(6, 1, 2.0, "503 Service Unavailable"),
        PartSent({5: MIB // 2, 6: 0}),
        story=story,
    )


class Tags(HTMLParser):
    """The tags of some HTML, its text, and whether every one is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


ENDS: dict[str, tuple[Event, ...]] = {
    "completed": (
        *(PartDone(receipt) for receipt in receipts([5, 6, 7, 8, 9, 10])),
        Completing(),
        Processing("checking"),
        Completed(DONE),
    ),
    "failed": (Failed(HELD_BACK),),
    "stopped": (Stopped(),),
    "cancelled": (Cancelled(),),
}


def every_html(name: str) -> dict[str, str]:
    """All the HTML we make, with this file name in it."""
    job = a_job(name, sandbox=True)
    found = {"live": live.live_html(job, midway(story := Story()), story)}
    for end, events in ENDS.items():
        story = Story()
        progress = after(*events, story=story, start=midway(story))
        found[end] = cards.ended_html(job, progress, story)
        found[f"{end}, brief"] = cards.ended_html(job, progress, story, brief=True)
    found["plan"] = cards.plan_html(job.plan)
    found["progress"] = cards.progress_html(midway(), name=name)
    found["result"] = cards.result_html(a_result(name))
    return found


def a_result(name: str = "train.jsonl") -> UploadResult:
    return UploadResult(
        "file-abc123", "OpenAI", "openai:fine-tune", name, 10 * MIB, 10, 2, 1, 82.0, 38e6,
        verified=("md5, by OpenAI",), expires_at=4e9, sandbox=True,
    )  # fmt: skip


def test_a_result_that_the_provider_still_works_on_says_so() -> None:
    html = cards.result_html(replace(a_result(), status="processing"))

    assert "processing" in Tags(html).text
    assert ".wait_ready()" in Tags(html).text
    assert "wait_ready" not in cards.result_html(a_result())


@pytest.mark.parametrize("what", sorted(every_html("x")))
def test_all_html_is_whole_quiet_and_harmless(what: str) -> None:
    html = every_html(NASTY)[what]

    tags = Tags(html)

    assert tags.open == []
    assert not {"script", "style", "img", "form", "link", "iframe"} & set(tags.tags)
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert "url(" not in html
    assert NASTY[:20] in tags.text or "name" not in html
    assert "sandbox" in tags.text or what == "progress"


@pytest.mark.parametrize("what", [end for end in every_html("x") if end != "live"])
def test_what_stays_is_a_plain_table_that_reads_without_css(what: str) -> None:
    tags = Tags(every_html("train.jsonl")[what])

    assert tags.tags[0] == "table"
    assert set(tags.tags) <= {
        "table", "tr", "th", "td", "b", "span", "code", "details", "summary", "br",
    }  # fmt: skip


def test_what_stays_above_a_cells_own_error_does_not_say_it_twice() -> None:
    html = every_html("train.jsonl")

    for end in ("failed", "stopped"):
        alone, above = (Tags(html[name]).text for name in (end, f"{end}, brief"))
        assert "Kept" in alone
        assert not [label for label in ("Why", "Kept", "Now", "Run") if label in above]
        assert "of 10 parts" in above


def test_the_live_view_says_it_all() -> None:
    story = Story()
    job = a_job()
    job.meter._first, job.meter._last, job.meter._rate = (0.0, 0), (9.0, 0), 1e6
    progress = after(
        Started(session(expires_at=1000.0), receipts([1, 2])),
        PartRetried(4, 1, 2.0, "503"),
        PartSent({3: MIB // 2, 4: 0}),
        story=story,
    )

    text = Tags(live.live_html(job, progress, story, now=700.0)).text

    for said in (
        "train.jsonl", "→ openai:fine-tune", "Uploading: 25%", "2.62 MB of 10.5 MB", "1 MB/s",
        "7.9 s left", "2 of 10 parts", "2 from before", "2 in flight", "1 retried",
        "session closes in 5 min", "part 4: 503", "Preparing", "Completing", "Processing", "Ready",
    ):  # fmt: skip
        assert said in text


def test_the_live_view_keeps_its_height() -> None:
    story = Story()
    frames = [live.live_html(a_job(), Progress(), story)]
    frames.append(live.live_html(a_job(), midway(story), story))
    frames.append(live.live_html(a_job("x" * 300), midway(), story))

    heights = {re.search(r"height:(\d+)px", frame)[1] for frame in frames}  # type: ignore[index]

    assert len(heights) == 1
    assert all(frame.count("height:20px") == frames[0].count("height:20px") for frame in frames)


def test_a_resumed_upload_says_what_was_there() -> None:
    progress = after(Started(session(), receipts([1, 2])))

    assert "Resuming: 2 of 10 parts (2.1 MB) already uploaded" in live.live_html(
        a_job(), progress, Story()
    )


def test_a_session_that_closes_too_early_is_told() -> None:
    job = a_job()
    job.meter._first, job.meter._last, job.meter._rate = (0.0, 0), (9.0, 0), 1000.0
    progress = after(Started(session(expires_at=1000.0)), PartSent({1: 5}))

    assert "closes before the file is there" in live.live_html(job, progress, Story(), now=900.0)
    assert "closes before" not in live.live_html(job, progress, Story(), now=-1e6)


def test_one_hundred_percent_waits_for_the_provider() -> None:
    everything = [PartDone(receipt) for receipt in receipts(range(1, 11))]

    progress = after(Started(session()), *everything, Completing())

    assert words.headline(progress) == "Completing: 99%"
    assert words.headline(after(Completed(DONE), start=progress)) == "Complete"


def test_phases_are_walked_one_by_one() -> None:
    def now(progress: Progress) -> list[str]:
        return [name for name, when in words.phases(progress) if when == "now"]

    everything = [PartDone(receipt) for receipt in receipts(range(1, 11))]
    started = after(Started(session()))
    completing = after(*everything, Completing(), start=started)

    assert now(Progress()) == ["Preparing"]
    assert now(started) == now(after(Paused(), start=started)) == ["Uploading"]
    assert now(completing) == ["Completing"]
    assert now(after(Processing("x"), start=completing)) == ["Processing"]
    assert now(after(Completed(DONE), start=completing)) == []


def test_the_part_map_shows_each_part_as_it_is() -> None:
    story = Story()
    progress = midway(story)

    cells = story.cells(progress)

    assert [cell.reused for cell in cells] == [True, True] + [False] * 8
    assert [cell.done for cell in cells] == [1, 1, 1, 1] + [0] * 6
    assert cells[4].moving == 0.5
    assert cells[5].retrying
    looks = {live._box(cell) for cell in cells}
    assert len(looks) == 5  # from before, done, moving, tried again, waiting


@pytest.mark.parametrize("parts", [1, 2, 95, 96, 97, 191, 1000, 10_000])
def test_the_part_map_is_small_and_exact_whatever_the_number_of_parts(parts: int) -> None:
    story = Story()
    whole = session(parts, size=10)
    progress = after(Started(whole), story=story)
    for number in range(1, parts + 1):
        event = PartDone(PartReceipt(number, part_at(number, parts * 10, 10).size))
        progress = after(event, story=story, start=progress)
        if number == parts // 2 or number == parts:
            cells = story.cells(progress)
            weight = sum(cell.done for cell in cells) / len(cells)
            assert len(cells) == min(parts, CELLS)
            assert weight == pytest.approx(number / parts, abs=1 / len(cells))

    assert all(cell.done == 1 for cell in story.cells(progress))
    assert len(live.live_html(a_job(), progress, story)) < 16_000


def test_beginning_anew_forgets_the_parts() -> None:
    story = Story()

    after(Restarted("the session was lost"), Started(session()), story=story, start=midway(story))

    assert story.rows == {}
    assert story.restarts == ["the session was lost"]
    assert not any(cell.done for cell in story.cells(Progress()))


def test_the_part_list_never_hides_what_went_wrong() -> None:
    story = Story()
    events: list[Event] = [Started(session(1000)), PartRetried(999, 1, 1.0, "reset by peer")]
    events += [PartDone(receipt) for receipt in receipts(range(1, 1001))]
    progress = after(*events, Completing(), Completed(DONE), story=story)

    text = Tags(cards.ended_html(a_job(), progress, story)).text

    assert "reset by peer" in text
    assert "and 800 more" in text


def test_a_failure_says_what_why_what_is_kept_and_what_to_run() -> None:
    story = Story()
    job = a_job()
    job.progress = after(Failed(HELD_BACK), story=story, start=midway(story))

    screen = trouble.screen(HELD_BACK, job, bound=("_chunkup", "up"))

    assert "train.jsonl → openai:fine-tune failed" in screen
    assert "adding part 2" in screen
    assert "api.example · HTTP 401 · invalid_api_key · request id req_1" in screen
    assert "4 of 10 parts" in screen
    assert "%chunkup train.jsonl openai:fine-tune" in screen
    assert "_chunkup and up" in screen
    assert "Traceback" not in screen
    assert len(screen.splitlines()) <= 10
    assert Tags(cards.ended_html(job, job.progress, story)).text.count("%chunkup") == 1


@pytest.mark.parametrize(
    "error",
    [
        InvalidUpload("line 3 is no JSON"),
        Refused("the server answered 400", status=400),
        InsecureConnection("TLS failed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_line_that_would_be_refused_again_is_not_advised(error: Exception) -> None:
    one = trouble.screen(error, a_job())
    several = trouble.screen(SomeFailed("1 of 1", Results({"a.jsonl": error})), a_job())

    assert "%chunkup train.jsonl" not in one
    assert "%chunkup train.jsonl" not in several


def test_a_line_that_may_do_better_is_advised_once() -> None:
    for error in (Refused("503", status=503), Unreachable("no answer"), HELD_BACK):
        assert trouble.screen(error, a_job()).count("%chunkup train.jsonl") == 1
    busy = AlreadyUploading("process 7 is already uploading it; wait for it, or stop it there")

    assert trouble.screen(busy, a_job()).count("wait for") == 1


@pytest.mark.parametrize("error", [SourceChanged("a changed"), IntegrityError("other bytes")])
def test_what_was_thrown_away_is_not_called_kept(error: Exception) -> None:
    job = a_job()
    job.progress = after(Failed(error), start=midway())

    assert "Kept" not in trouble.screen(error, job)
    assert "Kept" in trouble.screen(HELD_BACK, job)


def test_what_is_on_no_disk_is_not_called_kept() -> None:
    """Without a journal the same line would begin at the first byte."""
    job = a_job()
    job.kept, job.line, job.progress = 0, "", after(Stopped(), start=midway())
    failed = after(Failed(HELD_BACK), start=midway())

    line = trouble.interrupted(job)
    screen = trouble.screen(HELD_BACK, job)
    html = Tags(cards.ended_html(job, failed, None)).text

    assert line == "Stopped: train.jsonl, nothing kept on disk"
    for text in (screen, html, Tags(cards.job_html(job)).text):
        assert "nothing on disk" in text
        assert "%chunkup" not in text
        assert "10 parts (4" not in text


def test_what_a_call_goes_on_with_names_no_line() -> None:
    job = a_job()
    job.kept, job.line, job.progress = 4, "", after(Stopped(), start=midway())

    line = trouble.interrupted(job)

    assert line == "Stopped: train.jsonl, 4 of 10 parts kept. Go on with the same call"


class Results(list[Exception]):
    def __init__(self, failed: dict[str, Exception]) -> None:
        super().__init__(failed.values())
        self.failed = failed


def test_what_the_user_cancelled_is_told_in_one_line() -> None:
    job, error = a_job(), UploadCancelled("cancelled")

    screen = trouble.screen(error, job, bound=("_chunkup",))
    html = Tags(cards.ended_html(job, after(Cancelled(), start=midway()), Story())).text

    assert (
        screen == "Cancelled: train.jsonl; nothing of it can be resumed   (the job is in _chunkup)"
    )
    assert "of 10 parts" not in html


def test_debug_adds_the_traceback() -> None:
    try:
        raise Unreachable("no answer", attempts=6) from OSError("refused")
    except Unreachable as error:
        screen = trouble.screen(error, a_job(), debug=True)

    assert "Traceback" in screen
    assert "OSError: refused" in screen


def test_a_servers_control_letters_reach_no_terminal() -> None:
    error = AuthError("bad \x1b[31mred\x1b[0m\r\nSet-Cookie: x", host="h", request_id="\x07id")

    screen = trouble.screen(error, a_job())

    assert not set(screen) & {"\x1b", "\r", "\x07"}
    assert "Set-Cookie" in next(line for line in screen.splitlines() if "bad" in line)


def test_every_line_says_sandbox() -> None:
    job = a_job(sandbox=True)
    texts = [
        words.plan_text(job.plan),
        trouble.screen(HELD_BACK, job, sandbox=True),
        *(
            cards.ended_text(job, after(*events, start=midway()), Story())
            for events in ENDS.values()
        ),
    ]

    for text in texts:
        assert all(line.startswith("[sandbox] ") for line in text.splitlines())


def test_an_ended_upload_is_one_line_and_its_proof() -> None:
    text = cards.ended_text(a_job(), after(*ENDS["completed"], start=midway()), Story())

    assert text.startswith("✓ train.jsonl → file-abc123 · 10.5 MB")
    assert "verified: md5, by OpenAI" in text


def test_what_was_there_already_has_neither_rate_nor_parts() -> None:
    story = Story()
    progress = after(Completed(DONE), story=story, start=Progress(total=10 * MIB))
    job = a_job()
    job.progress = progress

    html = Tags(cards.ended_html(job, progress, story)).text
    text = cards.ended_text(job, progress, story)

    for said in (html, text):
        assert "there already" in said
        assert "/s" not in said
        assert "0 parts" not in said


def test_parts_that_wait_to_be_sent_again_are_named_while_they_wait() -> None:
    """Also after another part was done, which says that all is well with that one."""
    story = Story()
    progress = after(PartDone(PartReceipt(5, MIB)), story=story, start=midway(story))

    text = Tags(live.live_html(a_job(), progress, story)).text

    assert "part 6 waits to be sent again: 503 Service Unavailable" in text


def test_a_plan_says_what_it_would_do() -> None:
    plan = Plan(
        FileInfo("a.jsonl", 3_100_000_000, "application/jsonl"),
        "openai:batch",
        64 * MIB,
        8,
        life=3600,
        warnings=("above 200 MB it may be refused",),
    )

    text = words.plan_text(plan)

    for said in (
        "3.1 GB",
        "47 parts of 64 MiB",
        "At once  8",
        "open for 1 h",
        "861 kB/s",
        "200 MB",
    ):
        assert said in text


def test_plans_of_several_files_are_one_table() -> None:
    plans = [
        Plan(FileInfo(f"{n}.csv", n * MIB), f"oss://bucket/{n}.csv", MIB, 4, warnings=("old",))
        for n in (1, 2)
    ]

    lines = words.plans_text(plans).splitlines()

    assert lines[1].split() == ["File", "Size", "Parts", "To", "Note"]
    assert lines[2].split() == ["1.csv", "1.05", "MB", "1", "oss://bucket/1.csv", "old"]
    assert lines[4].split() == ["2", "files", "3.15", "MB", "3"]
    assert len(lines) == 5
    assert "oss://bucket/2.csv" in Tags(cards.plans_html(plans)).text


# -- on screen


class Screen:
    """Stands in for IPython's display."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[tuple[str, str, dict[str, Any]]] = []
        self.broken = False
        monkeypatch.setattr(cards, "put_on_screen", self.put)

    def put(self, html: str, text: str, **options: Any) -> None:
        if self.broken:
            raise RuntimeError("the front end is gone")
        self.shown.append((html, text, options))


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    return Screen(monkeypatch)


def play(view: Any, job: Job, events: Iterable[Event]) -> None:
    for event in events:
        job.progress = job.progress.after(event)
        view(event, job.progress)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_the_live_view_is_one_output_that_ends_static(screen: Screen) -> None:
    view, job = live.Live(), a_job()
    play(view, job, [Started(session())])

    view.follow(job)
    play(view, job, [PartDone(receipt) for receipt in receipts(range(1, 11))])
    play(view, job, [Completing(), Completed(DONE)])
    view.close()
    view.close()

    (_, first_text, first), *rest = screen.shown
    assert not first["update"]
    assert all(options["update"] for *_, options in rest)
    assert len({options["display_id"] for *_, options in screen.shown}) == 1
    assert first_text == "train.jsonl: uploading to openai:fine-tune"
    assert "file-abc123" in screen.shown[-1][0]
    assert screen.shown[-1][1].startswith("✓ train.jsonl")
    assert "chunkup-view" not in threads()


def test_the_live_view_draws_seldom(screen: Screen) -> None:
    """However many events there are, a second sees a handful of drawings."""
    view, job = live.Live(), a_job()
    play(view, job, [Started(session())])
    view.follow(job)
    began = time.monotonic()

    sent = 0
    while time.monotonic() - began < 0.5:
        play(view, job, [PartSent({1: (sent := sent + 1)})])
        time.sleep(0)
    took = time.monotonic() - began
    play(view, job, [Stopped()])
    view.close()

    assert len(screen.shown) <= 3 + took * live.MOST


def test_a_broken_front_end_never_stops_an_upload(screen: Screen) -> None:
    view, job = live.Live(), a_job()
    screen.broken = True

    view.follow(job)
    play(view, job, [Started(session()), Stopped()])
    view.close()

    assert screen.shown == []
    assert "chunkup-view" not in threads()


def test_a_view_that_is_closed_early_says_where_it_is(screen: Screen) -> None:
    view, job = live.Live(), a_job()
    view.follow(job)
    play(view, job, [Started(session())])

    view.close()

    assert "Uploading: 0%" in screen.shown[-1][0]
    assert "chunkup-view" not in threads()


def test_a_detached_view_tells_the_error_itself(screen: Screen) -> None:
    view, job = live.Live(detached=True), a_job()
    view.follow(job)
    assert "runs in the background" in screen.shown[0][0]

    play(view, job, [Started(session()), Failed(HELD_BACK)])
    view.close()

    assert "%chunkup train.jsonl" in screen.shown[-1][0]


# -- in a terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_counts_bytes_and_keeps_its_percentage_honest() -> None:
    file, job = Terminal(), a_job(sandbox=True)
    bar = bars.Bar(file)
    everything = [PartDone(receipt) for receipt in receipts(range(3, 11))]

    play(bar, job, [Started(session(), receipts([1, 2]))])
    bar.follow(job)
    play(bar, job, [PartRetried(3, 1, 1.0, "503"), *everything, Completing()])
    before = file.getvalue()
    play(bar, job, [Completed(DONE)])
    bar.close()
    bar.close()

    assert before.startswith("[sandbox] train.jsonl → openai:fine-tune\n")
    assert "99%" in before
    assert "100%" not in before
    assert "100%" in file.getvalue()
    assert "1 retried" in file.getvalue()
    assert file.getvalue().count("✓") == 1
    assert not [name for name in threads() if "tqdm" in name.lower()]


@pytest.mark.parametrize("columns", [80, 40])
def test_the_bar_says_what_matters_in_a_narrow_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda file: (columns, 24))
    file, job = Terminal(), a_job("a long name " * 10)
    job.meter._first, job.meter._last, job.meter._rate = (0.0, 0), (9.0, 0), 1e6
    bar = bars.Bar(file)
    play(bar, job, [Started(session(), receipts([1, 2])), PartRetried(3, 1, 2.0, "503")])

    bar.follow(job)
    play(bar, job, [PartDone(receipt) for receipt in receipts(range(3, 6))])
    play(bar, job, [Paused()])
    drawn = file.getvalue().rpartition("\r")[2].rstrip("\n")
    bar.close()

    assert len(drawn) <= columns
    assert drawn.startswith("Paused      50%|")
    assert "5.24M/10.5M" in drawn
    if columns == 80:
        assert drawn.count("#") >= 5
        assert "1.00MB/s" in drawn
        assert "5 of 10 parts" in drawn


def test_what_came_from_before_is_no_speed_of_a_resumed_upload() -> None:
    file, job = Terminal(), a_job()
    bar = bars.Bar(file)
    bar.follow(job)

    play(bar, job, [Started(session(), receipts(range(1, 10))), PartSent({10: 10})])
    job.meter._rate = 1e6
    play(bar, job, [Completing()])
    play(bar, job, [Stopped()])
    bar.close()

    said = file.getvalue()
    assert said.count("Resuming: 9 of 10 parts (9.44 MB) already uploaded") == 1
    assert set(re.findall(r"[\d.]+[kMG]?B/s", said)) == {"1.00MB/s"}


@pytest.mark.parametrize("view", [bars.Bar, bars.Log])
def test_a_finished_upload_ends_with_its_proof(view: Any) -> None:
    file, job = Terminal(), a_job(sandbox=True)
    shown = view(file)
    shown.follow(job)

    play(shown, job, [Started(session()), Completing(), Completed(DONE)])
    shown.close()
    shown.close()

    last = file.getvalue().splitlines()[-1]
    assert last.startswith("[sandbox] ✓ train.jsonl → file-abc123 · 10.5 MB · 1 min 22 s · 38 MB/s")
    assert "md5, by OpenAI" in last
    assert file.getvalue().count("✓") == 1


def test_no_name_of_a_file_steers_a_terminal() -> None:
    name = "\x1b[31mred\x1b]0;pwn\x07a\n[sandbox] b.csv"
    job = a_job(name)
    job.line = f"'{name}' openai:fine-tune"
    file = Terminal()
    for view in (bars.Bar(file), bars.Log(file)):
        view.follow(job)
        play(view, job, [Warned(f"{name} is odd")])
        view.close()
        job.progress = Progress()
    plan = Plan(FileInfo(name, 5), f"oss://bucket/{name}", MIB, 4)

    texts = [file.getvalue(), words.plan_text(plan), words.proof(a_result(name))]
    texts += [trouble.screen(HELD_BACK, job), trouble.screen(KeyError(), sources=([name], name))]
    texts += [
        cards.ended_text(job, after(*events, start=midway()), Story()) for events in ENDS.values()
    ]

    for text in texts:
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", text), text
        assert not any(line.startswith("[sandbox]") for line in text.splitlines()), text


def test_a_log_gets_a_line_for_each_state_and_now_and_then_one() -> None:
    file, job, now = io.StringIO(), a_job(), [0.0]
    log = bars.Log(file, clock=lambda: now[0])

    log.follow(job)
    play(log, job, [Started(session())])
    for number in range(1, 11):
        now[0] += 3.0
        play(log, job, [PartDone(PartReceipt(number, MIB))])
    play(log, job, [Completing(), Completed(DONE)])
    log.close()

    *lines, proof = file.getvalue().splitlines()
    assert proof.startswith("✓ train.jsonl → file-abc123")
    assert [line.split(": ", 1)[1].split(" ·")[0] for line in lines] == [
        "preparing",
        "uploading: 0%",
        "uploading: 40%",
        "uploading: 80%",
        "completing: 99%",
    ]
    assert lines[2].endswith("4.19 MB of 10.5 MB · 4 of 10 parts")


@pytest.mark.parametrize("view", [bars.Bar, bars.Log])
def test_a_warning_is_printed_once_whenever_it_came(view: Any) -> None:
    file, job = Terminal(), a_job(sandbox=True)
    job.progress = after(Warned("no such purpose is known here"), start=job.progress)
    shown = view(file)

    shown.follow(job)
    play(shown, job, [Started(session()), Warned("the session closes too early"), Completing()])
    shown.close()

    for text in ("no such purpose is known here", "the session closes too early"):
        assert file.getvalue().count(f"[sandbox] Warning: {text}") == 1


def test_warnings_stay_with_what_an_upload_leaves_behind() -> None:
    job = a_job()
    moving = after(Warned("<b>doubtful</b>"), Started(session()))
    done = after(Completing(), Completed(DONE), start=moving)
    failed = after(Failed(HELD_BACK), start=moving)

    frames = [live.live_html(job, moving, Story())]
    frames += [cards.ended_html(job, end, None) for end in (moving, done, failed)]

    assert all("&lt;b&gt;doubtful&lt;/b&gt;" in frame for frame in frames)
    assert "warning: <b>doubtful</b>" in cards.ended_text(job, done, None)


def test_the_view_fits_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimpleNamespace(kernel=object())
    terminal = SimpleNamespace()

    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(bars.choose("auto", kernel), live.Live)
    assert isinstance(bars.choose("html", terminal), live.Live)
    assert isinstance(bars.choose("auto", terminal), bars.Bar)
    assert isinstance(bars.choose("text", kernel), bars.Bar)
    assert isinstance(bars.choose("none", kernel), bars.Quiet)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(bars.choose("auto"), bars.Log)
    with pytest.raises(InvalidUpload, match="needs a notebook"):
        bars.choose("html")


def test_a_widget_is_shown_where_somebody_can_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Front ends with widgets say which cell they run; those that only run it do not."""

    def shell(**metadata: str) -> Any:
        kernel = SimpleNamespace(get_parent=lambda channel: {"metadata": metadata})
        return SimpleNamespace(kernel=kernel)

    assert type(bars.choose("auto", shell(cellId="0b1c"))).__name__ == "Widget"
    assert isinstance(bars.choose("auto", shell(cellId="vscode-notebook-cell:x")), live.Live)
    assert isinstance(bars.choose("auto", shell()), live.Live)
    monkeypatch.setitem(sys.modules, "chunkup_jupyter.ui.widget", None)
    assert isinstance(bars.choose("auto", shell(cellId="0b1c")), live.Live)


def test_states_that_ended_are_the_only_ones_with_a_last_word() -> None:
    for state in State:
        shown = cards.ended_html(a_job(), Progress(total=1, parts=1, state=state), None)
        assert Tags(shown).open == []
