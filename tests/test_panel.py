"""The panel: what it asks, the line it means, what it starts, and where a key never goes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pretend import PretendJob

from chunkup_jupyter import journal
from chunkup_jupyter.events import PartDone, Progress
from chunkup_jupyter.journal import Creating, Entry, Key, Ledger
from chunkup_jupyter.model import PartReceipt
from chunkup_jupyter.ui import form, grammar, running, verbs
from chunkup_jupyter.ui.form import Answers
from chunkup_jupyter.ui.panel import Panel, Row
from chunkup_jupyter.ui.parts import DONE

CANARY = "sk-canary-0123456789abcdef"

LINE = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)
    return found


class Page:
    """Stands for the page: sends what a person asks, and waits for the answers."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.frames: list[Any] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        for widget in (panel, panel.view, panel.picker):
            assert widget.comm is not None
            widget.comm.publish_msg = self._frame

    def _frame(
        self, kind: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
    ) -> None:
        self.frames.append(data)
        content = (data or {}).get("content") or {}
        if isinstance(content, dict) and content.get("t") == "answer":
            self._answers[content["n"]] = content

    def ask(self, t: str, **content: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        self.panel._handle_custom_msg({"t": t, "n": number, **content}, [])
        found: dict[str, Any] = until(lambda: self._answers.get(number))
        return found


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own: no journal, no ledger, no key."""
    monkeypatch.setenv("CHUNKUP_STATE", str(tmp_path / "state"))
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "OSS_", "TWELVE", "TL_", "AZURE_")):
            monkeypatch.delenv(name)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "train.jsonl").write_bytes(LINE * 20)
    (work / "valid.jsonl").write_bytes(LINE * 10)
    return work


@pytest.fixture
def page() -> Iterator[Page]:
    panel = Panel()
    yield Page(panel)
    for job in panel.jobs:
        job.settle(10)
    panel.close()


def openai(*sources: str, **more: Any) -> dict[str, Any]:
    return {
        "scheme": "openai",
        "place": ["fine-tune"],
        "options": {},
        "sandbox": True,
        "key_env": "",
        "sources": list(sources),
        "picked": [],
        **more,
    }


# -- the form and its line


def test_every_provider_is_asked_for_what_it_declares() -> None:
    asked = {one["scheme"]: one for one in form.schema()}

    assert {"openai", "azure-openai", "oss", "twelvelabs"} <= asked.keys()
    assert "fine-tune" in asked["openai"]["place"][0]["choices"]
    assert [one["label"] for one in asked["oss"]["place"]] == ["Bucket", "Key"]
    assert asked["twelvelabs"]["place"][0]["choices"] == ["video", "audio", "image"]
    flags = {one["flag"] for one in asked["oss"]["fields"]}
    assert {"--region", "--endpoint", "--storage-class", "--part-size"} <= flags


def test_the_line_says_what_the_form_says_and_the_grammar_reads_it() -> None:
    answers = Answers.of(
        {
            "scheme": "oss",
            "place": ["bucket", "dir/"],
            "options": {"--region": "cn-hangzhou", "--no-clobber": "on", "--jobs": "3"},
            "sources": ["a b.bin", "c.bin"],
        }
    )

    text, beside = form.line_of(answers)
    line = grammar.parse(text)

    assert text.startswith("'a b.bin' c.bin oss://bucket/dir/ ")
    assert beside == ""
    assert line.sources == ("a b.bin", "c.bin")
    assert line.detach
    assert line.jobs == 3
    assert line.fields == {"region": "cn-hangzhou", "no_clobber": True}
    assert form.understood(answers) == line


def test_what_holds_for_all_files_can_be_said_too() -> None:
    answers = Answers.of(openai("a.bin", options={"--files": "3", "--bwlimit": "10M"}))

    line = grammar.parse(form.line_of(answers)[0])

    assert (line.files, line.bwlimit) == (3, 10 << 20)
    assert form.understood(answers) == line


def test_what_is_usual_is_not_written() -> None:
    answers = Answers.of(openai("a.bin", options={"--base-url": "https://api.openai.com/v1"}))

    assert form.line_of(answers)[0] == "a.bin openai:fine-tune --sandbox -b"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (openai(), "choose files"),
        (openai("a.bin", place=[""]), "choose a destination"),
        (openai(scheme="no such"), "choose files and a destination"),
    ],
)
def test_a_line_that_is_not_complete_is_no_line(answers: dict[str, Any], said: str) -> None:
    assert form.line_of(Answers.of(answers)) == ("", said)


def test_files_of_the_browser_stand_beside_the_line() -> None:
    both = form.line_of(Answers.of(openai("a.bin")), 2)

    assert both[0].startswith("a.bin openai:")
    assert both[1] == "and 2 files of your computer: only this panel can send them"
    assert form.line_of(Answers.of(openai()), 1) == (
        "",
        "1 file of your computer: only this panel can send it",
    )


def test_the_query_of_an_address_is_shown_nowhere(page: Page) -> None:
    signed = f"https://example.org/film.mp4?signature={CANARY}"

    taken = page.ask("expand", text=signed)
    said = page.ask("form", form=openai(taken["found"][0]["path"]))
    kept = page.frames[-1]
    planned = page.ask("plan", form=openai(f"nosuch://host/a.jsonl?signature={CANARY}"))

    assert taken["found"][0]["shown"] == "https://example.org/film.mp4"
    assert said["line"] == ""
    assert said["ready"]
    assert "query" in said["beside"]
    assert CANARY not in repr((said, kept, planned))


@pytest.mark.parametrize("name", ["list", "-b.bin"])
def test_a_file_called_like_a_verb_or_an_option_is_written_as_a_file(home: Path, name: str) -> None:
    (home / name).write_bytes(b"x")

    answers = Answers.of(openai(*paths(name)))

    assert grammar.parse(form.line_of(answers)[0]).sources == (f"./{name}",)
    assert f"./{name}" in [row["path"] for row in form.listing("")["rows"]]


def test_a_value_that_begins_with_a_dash_stays_a_value() -> None:
    answers = Answers.of(openai("a.bin", options={"--organization": "-b"}))

    assert form.understood(answers).fields == {"organization": "-b"}


@pytest.mark.parametrize("text", [CANARY, "AKIDEXAMPLE", "abc", "A" * 100 + "_B", ""])
def test_a_key_pasted_as_a_variables_name_does_not_come_back(text: str) -> None:
    answers = Answers.of(openai("a.bin", sandbox=False, key_env=text))

    assert answers.key_env == ""
    assert "canary" not in form.line_of(answers)[0]


def test_a_variables_name_is_on_the_line() -> None:
    answers = Answers.of(openai("a.bin", sandbox=False, key_env="MY_KEY"))

    assert form.line_of(answers)[0] == "a.bin openai:fine-tune --key-env=MY_KEY -b"


def paths(text: str) -> list[str]:
    return [one["path"] for one in form.expand(text)]


def test_patterns_mean_files_and_paths_themselves(home: Path) -> None:
    assert paths("*.jsonl") == ["train.jsonl", "valid.jsonl"]
    assert paths("train.jsonl") == ["train.jsonl"]
    assert paths("s3://bucket/[a]*") == ["s3://bucket/[a]*"]
    (home / "odd[1].bin").write_bytes(b"x")
    assert form.expand("odd[1].bin") == [
        {"path": "odd[1].bin", "shown": "odd[1].bin", "size": "1 B"}
    ]


def test_a_folder_is_listed_folders_first_and_hidden_ones_not(home: Path) -> None:
    (home / "sub").mkdir()
    (home / ".secret").write_bytes(b"x")

    listing = form.listing("")

    assert [row["name"] for row in listing["rows"]] == ["sub", "train.jsonl", "valid.jsonl"]
    assert listing["rows"][1]["path"] == "train.jsonl"
    assert form.listing("sub")["rows"] == []
    assert form.listing("/no/such/folder")["folder"]


def test_completion_offers_folders_with_a_slash(home: Path) -> None:
    (home / "tr").mkdir()

    assert form.completions("tr") == ["tr/", "train.jsonl"]


def test_answers_are_remembered_and_keys_are_not(page: Page, home: Path) -> None:
    page.ask("secret", scheme="openai", field="api_key", key=CANARY, form=openai())
    page.ask("start", form=openai("train.jsonl", options={"--project": "proj_1"}))

    kept = form.remembered()
    again = Panel()

    assert kept["providers"]["openai"]["place"] == ["fine-tune"]
    assert again.asked["remembered"] == kept
    assert "train" not in json.dumps(kept)
    assert CANARY not in json.dumps(kept)
    again.close()


# -- the panel


def test_a_session_that_plays_in_the_sandbox_gets_a_panel_that_does(home: Path) -> None:
    line = grammar.parse("panel").settle({"sandbox": True})

    with pytest.raises(StopIteration) as made:
        next(verbs.carry_out(line, lambda *_: pytest.fail("no view"), running.Trail()))

    assert made.value.value.asked["remembered"]["sandbox"]
    made.value.value.close()


def test_the_badge_says_where_the_key_was_found(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = page.ask("form", form=openai(sandbox=False))["badge"]
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    found = page.ask("form", form=openai(sandbox=False))["badge"]

    assert (missing["found"], missing["text"]) == (False, "OPENAI_API_KEY: missing")
    assert (found["found"], found["text"]) == (True, "OPENAI_API_KEY: found")


def test_a_typed_key_is_used_and_never_becomes_state(page: Page) -> None:
    answer = page.ask("secret", scheme="openai", field="api_key", key=CANARY, form=openai(
        "train.jsonl", sandbox=False))  # fmt: skip
    plan = page.ask("plan", form=openai("train.jsonl", sandbox=False))

    assert answer["badge"]["found"]
    assert answer["line"] == "train.jsonl openai:fine-tune --ask-key -b"
    assert "problem" not in plan
    for widget in (page.panel, page.panel.view, page.panel.picker):
        assert CANARY not in repr(widget.get_state())
    assert CANARY not in repr(page.frames)
    assert CANARY not in repr(vars(page.panel))


def test_a_key_is_taken_out_of_the_message_that_brought_it(page: Page) -> None:
    """The kernel may keep a message, and others may look at it."""
    message = {"t": "secret", "scheme": "openai", "field": "api_key", "key": CANARY, "n": 500}

    page.panel._handle_custom_msg(message, [])

    assert CANARY not in repr(message)


def test_a_typed_key_can_be_forgotten(page: Page) -> None:
    page.ask("secret", scheme="openai", field="api_key", key=CANARY, form=openai())

    answer = page.ask("secret", scheme="openai", form=openai(sandbox=False))

    assert not answer["badge"]["found"]


def test_the_plan_has_parts_size_and_memory(page: Page) -> None:
    rows = dict(page.ask("plan", form=openai("train.jsonl"))["plan"])

    assert rows["File"].startswith("train.jsonl")
    assert "Parts" in rows
    assert "Memory" in rows
    assert "parts of at most 64 MiB" in rows["Checked"]
    assert rows["Session"].startswith("open for 1 h")
    assert "at 10 MB/s" in rows["Time"]


def test_the_plan_of_several_files_has_one_row_each_and_their_sum(page: Page) -> None:
    rows = page.ask("plan", form=openai("train.jsonl", "valid.jsonl", "none.jsonl"))["plan"]

    facts = dict(rows)
    files = [row for row in rows if row[0] not in ("Warning", "Memory", "Session", "Checked")]
    assert [row[0] for row in files] == ["Together", "Refused", "train.jsonl", "valid.jsonl"]
    assert files[0][1].startswith("2 files")
    assert files[1][1] == "none.jsonl: there is no file none.jsonl"
    assert "2 files at once" in facts["Memory"]
    assert "open for 1 h" in facts["Session"]
    assert "8 GiB" in facts["Checked"] or "8 GB" in facts["Checked"]


def test_what_runs_in_the_panel_says_what_culling_does(page: Page) -> None:
    page.ask("start", form=openai("train.jsonl"))

    (row,) = until(lambda: page.panel.view._boards)
    assert "culled" in row.hint
    assert "resume" in row.hint


def test_one_click_brings_two_files_to_their_ids(page: Page) -> None:
    answer = page.ask("start", form=openai("train.jsonl", "valid.jsonl"))
    until(lambda: len(page.panel.jobs) == 2 and all(job.done() for job in page.panel.jobs))

    ids = {job.result(0).id for job in page.panel.jobs}
    until(lambda: {head["id"] for head in page.panel.view.heads} == ids)

    assert answer["started"] == 2
    assert all(one.startswith("file-") for one in ids)


def test_one_that_cannot_start_stops_no_other(page: Page) -> None:
    page.ask("start", form=openai("none.jsonl", "train.jsonl"))
    heads = until(
        lambda: (
            [h for h in page.panel.view.heads if h["state"] in ("failed", "completed")][1:]
            and page.panel.view.heads
        )
    )

    assert [head["state"] for head in heads] == ["failed", "completed"]
    assert "there is no file" in heads[0]["note"]


def test_what_could_not_start_can_be_retried(page: Page, home: Path) -> None:
    page.ask("start", form=openai("late.jsonl", "train.jsonl"))
    until(lambda: page.panel.view.heads and page.panel.view.heads[0]["state"] == "failed")
    until(lambda: page.panel.view.heads[1]["state"] == "completed")
    (home / "late.jsonl").write_bytes(LINE * 20)

    page.panel.view._handle_custom_msg({"do": "retry", "file": 0, "click": 1}, [])

    until(lambda: page.panel.view.heads[0]["state"] == "completed")


def test_several_wait_for_their_turn_and_all_arrive(page: Page, home: Path) -> None:
    names = [f"f{n}.jsonl" for n in range(7)]
    for name in names:
        (home / name).write_bytes(LINE * 20)

    page.ask("start", form=openai(*names))
    first = until(lambda: page.panel.view.heads)
    until(lambda: [head["state"] for head in page.panel.view.heads] == ["completed"] * 7)

    assert [head["name"] for head in first] == names
    assert len(page.panel.jobs) == 7


def test_a_file_shows_that_it_waits_and_then_its_upload() -> None:
    item: Any = SimpleNamespace(
        name="a.bin", target="openai:batch", waiting=True, job=None, progress=Progress()
    )
    row = Row(lambda job: None, item)
    row.follow(item)
    before = row.look(0).head
    job = PretendJob(4, 10)
    item.waiting, item.job = False, job
    after = row.look(0).head
    job.start()
    job.tell(PartDone(PartReceipt(1, 10, "x")))

    assert (before["name"], before["word"], before["can"]) == ("a.bin", "Waiting", ("cancel",))
    assert after["name"] == job.name
    assert row.look(0).levels[0] == DONE


def test_what_is_started_is_what_the_magic_starts(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that is shown, read by the magic's grammar and carried out by its code."""
    lines = []
    steps = running.steps

    def watched(line: grammar.Line, *args: Any) -> Any:
        lines.append(line)
        return steps(line, *args)

    monkeypatch.setattr(running, "steps", watched)
    shown = page.ask("form", form=openai("train.jsonl", "valid.jsonl"))["line"]

    page.ask("start", form=openai("train.jsonl", "valid.jsonl"))

    assert lines == [grammar.parse(shown)]


def test_a_file_picked_in_the_browser_is_uploaded_and_then_let_go(page: Page) -> None:
    picker = page.panel.picker
    data = LINE * 5000

    def answer(content: dict[str, Any], buffers: Any = None) -> None:
        if content["t"] == "ask":
            for start, size in content["ranges"]:
                slice_ = {"t": "slice", "file": content["file"], "start": start}
                picker._handle_custom_msg(slice_, [data[start : start + size]])

    picker.send = answer  # type: ignore[method-assign]
    file = {"name": "mine.jsonl", "size": len(data), "type": "", "modified": 3}
    picker._handle_custom_msg({"t": "picked", "files": [file]}, [])
    key = picker.files[0].key

    page.ask("start", form=openai(picked=[key]))
    job = until(lambda: page.panel.jobs)[0]

    assert job.settle(20)
    assert job.result().size == len(data)
    until(lambda: picker.files == [])


def test_finished_uploads_can_be_cleared(page: Page) -> None:
    page.ask("start", form=openai("train.jsonl"))
    until(lambda: page.panel.jobs and page.panel.jobs[0].done())
    page.ask("tidy")

    until(lambda: page.panel.view.heads == [])


def test_history_has_the_newest_first_with_its_id(home: Path) -> None:
    ledger = Ledger(journal.default_folder())
    for number in (1, 2):
        ledger.add(Entry(number, f"{number}.bin", 10, "openai:batch", id=f"file-{number}"))

    panel = Panel()

    assert [row["id"] for row in panel.lists["history"]] == ["file-2", "file-1"]
    panel.close()


def left_behind(name: str, *, spelled: bool = True) -> str:
    """Leave what an earlier kernel leaves of an upload it began; return its short id."""
    source = f"path:{os.path.realpath(name)}" if spelled else f"browser:{name}:5:1"
    key = Key(target="openai:fine-tune", account="", source=source)
    words = ["openai:fine-tune", "--sandbox"]
    about = {"spelled": name if spelled else "", "name": name, "size": 100, "words": words}
    about["fingerprint"] = "1" if spelled else "browser:100:1"
    found = journal.open_journal(journal.default_folder(), key, source=about)
    asyncio.run(found.write(Creating()))
    found.close()
    return key.id[:8]


def test_an_unfinished_upload_is_listed_and_can_be_discarded(page: Page) -> None:
    left = left_behind("train.jsonl")
    page.ask("refresh")
    listed = page.panel.lists["unfinished"]

    answer = page.ask("discard", id=left)

    assert [(row["id"], row["name"], row["how"]) for row in listed] == [(left, "train.jsonl", "")]
    assert "cancelled" in answer["said"]
    assert page.panel.lists["unfinished"] == []


def test_an_unfinished_upload_can_be_resumed(page: Page) -> None:
    page.ask("resume", id=left_behind("train.jsonl"))

    job = until(lambda: page.panel.jobs)[0]

    assert job.result(20).id.startswith("file-")
    until(lambda: page.panel.view.heads[0]["state"] == "completed")


def test_an_unfinished_file_of_the_browser_has_to_be_picked_again(page: Page) -> None:
    left_behind("mine.jsonl", spelled=False)
    page.ask("refresh")

    assert "same file of your computer" in page.panel.lists["unfinished"][0]["how"]


@pytest.mark.parametrize(
    ("t", "content", "said"),
    [
        ("expand", {"text": "*.none"}, "no file is called"),
        ("expand", {"text": "gone.bin"}, "there is no file gone.bin"),
        ("expand", {"text": "."}, "is a folder"),
        ("plan", {"form": openai()}, "choose a file first"),
        ("plan", {"form": openai("train.jsonl", place=[""])}, "where the files go"),
        ("start", {"form": openai("train.jsonl", sandbox=False)}, "no key was found: type it"),
        ("start", {"form": openai("a", options={"--jobs": "many"})}, "jobs"),
        ("resume", {"id": "nosuchid"}, ""),
    ],
)
def test_what_cannot_be_done_is_said_in_words(
    page: Page, t: str, content: dict[str, Any], said: str
) -> None:
    problem = page.ask(t, **content)["problem"]

    assert said in problem
    assert "Traceback" not in problem


def test_a_question_is_heard_before_it_is_answered(page: Page) -> None:
    page.ask("plan", form=openai("train.jsonl"))

    said = [frame["content"]["t"] for frame in page.frames if "content" in (frame or {})]
    assert said[:2] == ["heard", "answer"]


def test_messages_that_make_no_sense_harm_nothing(page: Page) -> None:
    for content in ({}, {"t": "form"}, {"t": 5, "n": 99}, {"t": "form", "form": {"place": 3}}):
        page.panel._handle_custom_msg(content, [])

    assert page.ask("form", form=openai("train.jsonl"))["ready"]
