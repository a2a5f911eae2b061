"""Processes that are killed, disks that are full, and two kernels at one file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest
from proxy import Rule
from worlds import PART, random_bytes, world

from chunkup_jupyter import errors
from chunkup_jupyter.journal.lines import System

pytestmark = pytest.mark.slow

PROVIDERS = ("openai", "oss", "twelvelabs")
TESTS = Path(__file__).parent


@pytest.fixture(params=PROVIDERS)
def place(request):
    with closing(world(request.param)) as made:
        yield made


CHILD = """
import json, os, signal, sys
sys.path.insert(0, {tests!r})
from worlds import QUICK
import chunkup_jupyter.jobs as jobs

given = json.loads(sys.stdin.readline())
die_after = given["die_after"]
calls = 0

def dying(name):
    original = getattr(os, name)
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(os, name, call)

if given["where"] == "journal":
    from chunkup_jupyter.journal.lines import System
    for name in ("write", "fsync", "replace", "unlink", "sync_folder"):
        def wrap(name=name, original=getattr(System, name)):
            def call(self, *args):
                global calls
                calls += 1
                if calls == die_after:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(self, *args)
            setattr(System, name, call)
        wrap()

def listen(event, progress):
    global calls
    if given["where"] == "parts" and type(event).__name__ == "PartDone":
        calls += 1
        if calls == die_after:
            os.kill(os.getpid(), signal.SIGKILL)
    if given["where"] == "wait" and type(event).__name__ == "PartDone":
        calls += 1
        if calls == die_after:
            print("there", flush=True)

job = jobs.start(given["path"], given["dest"], state=given["state"], check=False, policy=QUICK,
                 jobs=2, listeners=[listen], **given["fields"])
print(repr(job.result(60)), flush=True)
"""


def child(place, path: Path, state: Path, where: str, die_after: int) -> subprocess.Popen:
    given = {
        "path": str(path),
        "dest": place.dest,
        "state": str(state),
        "fields": place.fields(),
        "where": where,
        "die_after": die_after,
    }
    code = textwrap.dedent(CHILD).replace("{tests!r}", repr(str(TESTS)))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(json.dumps(given).encode() + b"\n")
    process.stdin.flush()
    return process


def sent_parts(place) -> int:
    """Return how many bytes of parts reached the proxy so far."""
    return sum(asked.received for asked in place.proxy._like(**place.part))


@pytest.mark.parametrize("die_after", [1, 4, 9])
def test_after_a_kill_only_what_was_in_flight_is_sent_again(place, tmp_path, die_after):
    """kill -9 right after a part was told: it is durable by then."""
    path, state = tmp_path / "file.bin", tmp_path / "state"
    data = random_bytes(10 * PART + 5)
    path.write_bytes(data)
    process = child(place, path, state, "parts", die_after)
    _, trouble = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, trouble

    started = []
    job = place.start(
        path,
        state=state,
        listeners=[lambda event, _: started.append(event) if hasattr(event, "reused") else None],
    )
    result = job.result(60)

    place.arrived(data)
    assert len(started[0].reused) >= die_after
    assert result.reused >= die_after
    forms = 400 * 16  # what frames a part at OpenAI
    assert sent_parts(place) <= len(data) + 2 * PART + forms


@pytest.mark.parametrize("die_after", [1, 2, 3, 4, 5, 6, 8, 11])
def test_killed_at_any_step_of_the_journal_it_can_be_resumed(tmp_path, die_after):
    with closing(world("oss")) as place:
        path, state = tmp_path / "file.bin", tmp_path / "state"
        data = random_bytes(4 * PART)
        path.write_bytes(data)
        process = child(place, path, state, "journal", die_after)
        _, trouble = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, trouble

        place.start(path, state=state).result(60)

        place.arrived(data)
        assert sent_parts(place) <= len(data) + 2 * PART


def test_a_second_process_is_told_who_is_at_it_and_how_far(tmp_path):
    with closing(world("oss")) as place:
        path, state = tmp_path / "file.bin", tmp_path / "state"
        data = random_bytes(8 * PART)
        path.write_bytes(data)
        place.strike(Rule("no answer", **place.part, nth=4, times=0, seconds=30))
        process = child(place, path, state, "wait", 2)
        try:
            assert process.stdout.readline() == b"there\n"
            time.sleep(1.2)  # the heartbeat comes once a second
            began = time.monotonic()
            with pytest.raises(errors.AlreadyUploading) as caught:
                place.start(path, state=state)
            assert time.monotonic() - began < 2
            assert caught.value.pid == process.pid
            assert "%" in caught.value.progress
            assert str(process.pid) in str(caught.value)
        finally:
            process.kill()
            process.communicate(timeout=10)

        place.strike()
        place.start(path, state=state).result(30)
        place.arrived(data)


class FullDisk(System):
    """Takes ``room`` bytes, and no more."""

    room = 0

    def write(self, file, data):
        if len(data) > FullDisk.room:
            raise OSError(28, "No space left on device")
        FullDisk.room -= len(data)
        return super().write(file, data)


@pytest.mark.parametrize("room", [0, 900, 1200])
def test_a_full_disk_costs_the_resume_and_not_the_upload(place, tmp_path, monkeypatch, room):
    FullDisk.room = room
    monkeypatch.setattr("chunkup_jupyter.journal.lines.System", FullDisk)
    data = random_bytes()
    path = tmp_path / "file.bin"
    path.write_bytes(data)

    job = place.start(path, state=tmp_path / "state")
    job.result(30)

    place.arrived(data)
    warnings = [text for text in job.progress.warnings if "journal cannot be written" in text]
    assert len(warnings) == 1
    assert "No space left" in warnings[0]


@pytest.mark.parametrize("room", [0, 900, 1200, 1400])
def test_of_a_full_disk_no_more_is_called_kept_than_it_holds(tmp_path, monkeypatch, room):
    state, path = tmp_path / "state", tmp_path / "file.bin"
    monkeypatch.setenv("CHUNKUP_STATE", str(state))
    data = random_bytes(6 * PART)
    path.write_bytes(data)
    with closing(world("openai")) as place:  # which lists no parts: the journal has to know
        FullDisk.room = room
        with monkeypatch.context() as patched:
            patched.setattr("chunkup_jupyter.journal.lines.System", FullDisk)
            job = stopped(place, path, state, after=5)

        said, kept = str(job.interrupted()), job.kept
        again = place.start(path, state=state).result(30)

        place.arrived(data)
        assert again.reused == kept < 5
        assert "nothing is kept on disk" in said or f"{kept} of 6 parts are kept" in said
        assert bool(job.line) is ("%chunkup" in said) is (f"{kept} of 6 parts" in said)


def test_a_state_folder_that_cannot_be_made_costs_the_resume_and_not_the_upload(place, tmp_path):
    (tmp_path / "file").write_text("in the way")
    data = random_bytes()

    job = place.start(data, state=tmp_path / "file" / "state")
    job.result(30)

    place.arrived(data)
    assert sum("journal" in text for text in job.progress.warnings) == 1


@pytest.mark.parametrize("damage", ["emptied", "garbage", "torn", "flipped"])
def test_a_damaged_journal_never_spoils_an_upload(place, tmp_path, damage):
    path, state = tmp_path / "file.bin", tmp_path / "state"
    data = random_bytes(6 * PART)
    path.write_bytes(data)
    stopped(place, path, state, after=3)
    (journal,) = (state / "journals").glob("*.jsonl")
    written = journal.read_bytes()
    match damage:
        case "emptied":
            journal.write_bytes(b"")
        case "garbage":
            journal.write_bytes(os.urandom(2000))
        case "torn":
            journal.write_bytes(written[:-20])
        case "flipped":
            middle = len(written) // 2
            journal.write_bytes(written[:middle] + b"?" + written[middle + 1 :])

    job = place.start(path, state=state)
    job.result(30)

    place.arrived(data)
    if damage == "torn":
        assert job.progress.parts_reused >= 2
    else:
        assert any("journal" in text for text in job.progress.warnings)


def stopped(place, path, state, after: int, **options):
    """Upload until ``after`` parts are done, then stop; return the job."""
    jobs = []

    def listen(event, progress):
        if type(event).__name__ == "PartDone" and progress.parts_done == after:
            jobs[0].stop()

    place.strike(Rule("no answer", **place.part, nth=after + 1, times=0, seconds=5))
    jobs.append(place.start(path, state=state, jobs=1, listeners=[listen], **options))
    with pytest.raises(errors.UploadInterrupted):
        jobs[0].result(30)
    place.strike()
    return jobs[0]


def test_what_is_resumed_is_told_in_numbers(place, tmp_path):
    path, state = tmp_path / "file.bin", tmp_path / "state"
    data = random_bytes(6 * PART)
    path.write_bytes(data)
    stopped(place, path, state, after=3)

    job = place.start(path, state=state)
    result = job.result(30)

    place.arrived(data)
    assert (job.progress.parts_reused, job.progress.reused, job.progress.parts) == (3, 3 * PART, 6)
    assert result.reused == 3
    assert "3 from an earlier run" in repr(result)


def test_nothing_but_the_ledger_is_left_when_it_is_done(place, tmp_path):
    place.start(random_bytes(), state=tmp_path / "state").result(30)

    left = sorted(path.name for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert left == ["ledger.jsonl"]
