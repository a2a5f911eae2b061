"""What runs, what is unfinished, what was sent; and tidying up after it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chunkup_jupyter import jobs, journal
from chunkup_jupyter.errors import AlreadyUploading, InvalidUpload, SourceChanged
from chunkup_jupyter.events import State
from chunkup_jupyter.sandbox import Store
from chunkup_jupyter.sandbox.faults import Fault, Faulty, On
from chunkup_jupyter.sandbox.oss import OSSSandbox
from chunkup_jupyter.sandbox.server import Served, serve
from chunkup_jupyter.sandbox.twelvelabs import TwelveLabsSandbox
from chunkup_jupyter.ui import cards, complete, doctor, grammar, parsers, running, trouble, verbs
from chunkup_jupyter.ui.bars import Quiet

MIB = 1 << 20
CANARY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHUNKUP_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "_jobs", {})
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "OSS_", "TWELVE", "TL_", "AZURE_")):
            monkeypatch.delenv(name)
    (tmp_path / "big.bin").write_bytes(os.urandom(4 * MIB))
    return tmp_path


@pytest.fixture
def oss(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A store that holds two parts and then lets every other one hang."""
    inner = OSSSandbox(store=Store.on_disk())
    hang = On(Fault.STALL, method="PUT", path="partNumber", nth=3, times=0)
    with serve(Faulty(inner, script=[hang])) as served:
        for name, value in served.sandbox.environment().items():
            monkeypatch.setenv(name, value)
        yield served


def told(line: str) -> str:
    """Carry out a verb and return what it says; its HTML says the same words."""
    outcome = running.block(
        verbs.carry_out(grammar.parse(line), lambda line: Quiet(), running.Trail())
    )
    assert isinstance(outcome, verbs.Told)
    assert "<script" not in outcome.html
    return outcome.text


def carried_out(line: str) -> Any:
    return running.block(
        verbs.carry_out(grammar.parse(line), lambda line: Quiet(), running.Trail())
    )


def begun(oss: Served) -> jobs.Job:
    """Return a job that has two of its four parts and gets no further."""
    job = jobs.start("big.bin", "oss://bucket/key", part_size="1M", jobs=2)
    wait_for(lambda: job.progress.parts_done == 2 and oss.sandbox.injected[Fault.STALL] == 2)
    return job


def left(oss: Served) -> journal.Unfinished:
    """Return an upload that an earlier process left unfinished."""
    job = begun(oss)
    job.stop()
    job.settle(10)
    jobs._jobs.clear()
    (one,) = journal.unfinished()
    return one


def heal(oss: Served) -> None:
    oss.sandbox.script = ()


def test_an_empty_house_says_so() -> None:
    assert "nothing is running" in told("list")
    assert "nothing was uploaded" in told("history")
    assert "nothing is unfinished here" in told("orphans")
    assert "nothing unfinished is that old" in told("clean --older-than 2d")
    for verb in ("resume", "pause", "cancel"):
        with pytest.raises(InvalidUpload):
            carried_out(verb)


def test_list_shows_what_runs_and_what_is_unfinished(oss: Served) -> None:
    one = left(oss)
    text = told("list")

    assert one.id[:8] in text
    assert "2 of 4 parts" in text
    assert "unfinished" in text

    heal(oss)
    job = jobs.start("big.bin", "oss://bucket/other")
    job.result(30)
    assert "Complete" in told("list")
    assert one.id[:8] in told("list")


def test_show_tells_everything_about_one(oss: Served) -> None:
    one = left(oss)

    text = told(f"show {one.id[:6]}")

    assert "%chunkup big.bin oss://bucket/key --part-size 1M --jobs 2" in text
    with pytest.raises(InvalidUpload, match="there is no upload"):
        told("show nothing")


def test_resume_goes_on_with_what_another_process_left(oss: Served) -> None:
    one = left(oss)
    heal(oss)

    result = carried_out(f"resume {one.id[:8]}")

    assert (result.id, result.reused) == ("oss://bucket/key", 2)
    assert journal.unfinished() == []
    (entry,) = journal.Ledger(journal.default_folder()).entries()
    assert "oss://bucket/key" in told("history")
    assert entry.checksum in told("history")


def test_resume_alone_takes_the_last_one(oss: Served) -> None:
    left(oss)
    heal(oss)

    assert carried_out("resume").reused == 2


def test_pause_and_resume_and_cancel_a_running_job(oss: Served) -> None:
    job = begun(oss)

    assert "pausing big.bin" in told("pause")
    wait_for(lambda: job.state is State.PAUSED)
    assert carried_out(f"resume {job.id} --detach") is job
    wait_for(lambda: job.state is State.UPLOADING)
    assert "cancelled big.bin" in told(f"cancel {job.id}")

    assert job.state is State.CANCELLED
    assert job.kept == 0
    assert oss.sandbox.unfinished() == []
    assert journal.unfinished() == []
    with pytest.raises(InvalidUpload, match="nothing to cancel"):
        told(f"cancel {job.id}")


def test_a_cancel_the_provider_did_not_hear_of_is_told_and_can_be_made_up_for(oss: Served) -> None:
    job = begun(oss)
    oss.sandbox.script += (On(Fault.DROP_BEFORE, method="DELETE", times=0),)

    text = told(f"cancel {job.id}")

    (one,) = journal.unfinished()
    made_up_for = f"cancel {one.id[:8]}"
    for said in (text, told(f"show {job.id}"), str(job.error), trouble.screen(job.error, job)):
        assert "OSS could not be told to forget upload" in said
        assert said.endswith(f"run %chunkup {made_up_for}")
        assert "nothing" not in said
    assert made_up_for in cards.job_html(job)
    assert "nothing" not in cards.job_html(job)
    assert one.id[:8] in told("list")

    heal(oss)
    assert "nothing of it is kept" in told(made_up_for)

    assert oss.sandbox.unfinished() == []
    assert journal.unfinished() == []


def test_a_file_that_changed_says_what_is_left_of_it_there(oss: Served, folder: Path) -> None:
    job = begun(oss)
    oss.sandbox.script += (On(Fault.DROP_BEFORE, method="DELETE", times=0),)
    with (folder / "big.bin").open("ab") as file:
        file.write(b"more")
    job.settle(30)

    text = told(f"show {job.id}")

    (one,) = journal.unfinished()
    assert isinstance(job.error, SourceChanged)
    assert "Kept" not in text
    assert text.count(f"run %chunkup cancel {one.id[:8]}") == 1
    assert cards.job_html(job).count(f"run %chunkup cancel {one.id[:8]}") == 1


def test_resume_goes_on_with_a_stopped_job(oss: Served) -> None:
    job = begun(oss)
    job.stop()
    job.settle(10)
    heal(oss)

    assert carried_out(f"resume {job.id}").reused == 2
    with pytest.raises(InvalidUpload, match="nothing to resume"):
        carried_out(f"resume {job.id}")


def test_cancelling_what_is_unfinished_aborts_it_at_the_provider(oss: Served) -> None:
    one = left(oss)
    assert len(oss.sandbox.unfinished()) == 1

    assert "nothing of it is kept" in told(f"cancel {one.id}")

    assert oss.sandbox.unfinished() == []
    assert journal.unfinished() == []


def test_orphans_are_listed_here_and_at_the_provider(oss: Served) -> None:
    one = left(oss)

    assert one.id[:8] in told("orphans")
    text = told("orphans oss://bucket/")
    assert text.splitlines()[0].split() == ["Upload", "id", "File", "Began", "Journal"]
    assert text.splitlines()[1].endswith("here")
    assert "asked Alibaba Cloud OSS" in text


def test_clean_aborts_what_is_old_and_only_that(
    oss: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(oss)

    assert "nothing unfinished" in told("clean --older-than 1h")
    now = time.time()
    monkeypatch.setattr(verbs.time, "time", lambda: now + 7200)
    assert "would go" in told("clean --older-than 1h --dry-run")
    assert len(journal.unfinished()) == 1
    assert "gone" in told("clean --older-than 1h")

    assert journal.unfinished() == []
    assert oss.sandbox.unfinished() == []


def asked_for(target: str) -> journal.Unfinished:
    """Return an upload whose process died while the provider opened its session."""
    key = journal.Key(target, "", "path:/big.bin")
    one = journal.open_journal(journal.default_folder(), key, source={"name": "big.bin"})
    asyncio.run(one.write(journal.Creating()))
    one.close()
    (found,) = journal.unfinished()
    return found


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "oss://bucket/a key",
            r"OSS may have opened .* lost: `orphans 'oss://bucket/a key'` shows",
        ),
        ("openai:user_data", r"OpenAI may have opened a session whose answer was lost$"),
    ],
)
def test_of_a_session_that_was_never_heard_of_nobody_says_it_is_gone(
    target: str, said: str
) -> None:
    asked_for(target)
    dry = told("clean --older-than 0s --dry-run")
    cleaned = told("clean --older-than 0s")
    cancelled = told(f"cancel {asked_for(target).id}")

    for text in (dry, cleaned, cancelled):
        assert re.search(said, text)
        assert not re.search(r"gone|would go|nothing of", text)
    assert "would be forgotten here" in dry
    assert "  forgotten here" in cleaned
    assert journal.unfinished() == []


def test_clean_takes_what_this_process_stopped(oss: Served) -> None:
    job = begun(oss)
    job.stop()
    job.settle(10)

    assert "gone" in told("clean --older-than 0s")

    assert journal.unfinished() == []
    assert oss.sandbox.unfinished() == []


def test_what_another_left_is_shown_though_the_same_file_was_sent_from_here(oss: Served) -> None:
    job = begun(oss)
    heal(oss)
    job.cancel()
    job.settle(10)
    (mine,) = jobs.list_jobs()
    oss.sandbox.script = (On(Fault.STALL, method="PUT", path="partNumber", nth=3, times=0),)
    oss.sandbox._counts.clear()
    oss.sandbox.injected.clear()
    one = left(oss)
    jobs._jobs[mine.id] = mine

    assert one.id[:8] in told("list")


def test_clean_reaches_sessions_that_no_journal_knows(
    oss: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = left(oss)
    journal.remove(one.id)
    now = time.time()
    monkeypatch.setattr(verbs.time, "time", lambda: now + 7200)

    assert "gone" in told("clean oss://bucket/ --older-than 1h")

    assert oss.sandbox.unfinished() == []


def test_clean_promises_nothing_where_only_time_ends_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hang = On(Fault.STALL, method="PUT", path="storage", nth=3, times=0)
    sandbox = TwelveLabsSandbox(store=Store.on_disk())
    sandbox.shrink(chunk_size=MIB)
    with serve(Faulty(sandbox, script=[hang])) as served:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        job = jobs.start("big.bin", "twelvelabs:video", jobs=2, check=False)
        wait_for(lambda: served.sandbox.injected[Fault.STALL] == 2)
        job.stop()
        job.settle(10)

        assert "would be forgotten here; at" in told("clean --older-than 0s --dry-run")
        assert "forgotten here; at TwelveLabs it lapses in" in told("clean --older-than 0s")
        assert "stays; at TwelveLabs it lapses in" in told("clean twelvelabs:video --older-than 0s")
        assert journal.unfinished() == []
        assert len(sandbox.unfinished()) == 1
        job = jobs.start("big.bin", "twelvelabs:video", jobs=1, check=False)
        assert "what TwelveLabs has of it lapses" in told(f"cancel {job.id}")


def test_what_another_process_uploads_is_left_alone(
    oss: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = left(oss)
    import dataclasses

    busy = dataclasses.replace(one, pid=1, progress="31 of 49 parts")
    monkeypatch.setattr(journal, "unfinished", lambda *folder: [busy])

    assert "running in process 1" in told("list")
    for verb in ("resume", "cancel"):
        with pytest.raises(AlreadyUploading, match="process 1"):
            carried_out(f"{verb} {one.id}")
    assert "nothing unfinished" in told("clean --older-than 0s")


def test_the_doctor_names_keys_without_showing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{CANARY}@proxy.example:8080")

    text = told("doctor")

    assert "no request is sent" in text
    assert "api_key: found in OPENAI_API_KEY" in text
    assert "TWELVELABS_API_KEY" in text
    assert "proxy.example:8080" in text
    assert CANARY not in text


def test_the_doctor_knows_what_colab_wants_for_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "enable_custom_widget_manager" not in dict(doctor.examine([]))["Notebook"]

    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))

    assert "output.enable_custom_widget_manager()" in dict(doctor.examine([]))["Notebook"]


def test_the_doctor_says_when_nothing_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for place in (
        tmp_path / "file",
        Path("/proc/chunkup") if os.name != "nt" else tmp_path / "file",
    ):
        monkeypatch.setenv("CHUNKUP_STATE", str(place))

        assert "cannot be written" in dict(doctor.examine([]))["State"]


def test_providers_and_help_list_what_is_installed() -> None:
    assert "oss://BUCKET/KEY" in told("providers")
    assert "--storage-class" in told("providers")
    assert told("help") == parsers.help_text().rstrip()
    assert "--older-than" in told("help clean")
    assert "--hls" in told("help twelvelabs")


def test_ids_and_places_seen_before_complete(oss: Served) -> None:
    one = left(oss)

    assert (one.id[:8], "upload") in complete.suggest("resume ")[1]
    places = [text for text, _ in complete.suggest("big.bin oss://")[1]]
    assert places == ["oss://bucket/", "oss://bucket/key"]


def wait_for(met: Callable[[], bool], seconds: float = 30.0) -> None:
    """Look until something is so; the time is a limit, not a guess."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
