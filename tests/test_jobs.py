"""The handles people hold: from a script, a running loop, a thread, a fork."""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from IPython.lib.pretty import pretty
from proxy import Rule
from worlds import PART, SIZE, random_bytes, world

import chunkup_jupyter.jobs as jobs
from chunkup_jupyter import errors
from chunkup_jupyter.events import State
from chunkup_jupyter.jobs import background
from chunkup_jupyter.jobs.by_hand import Client, drive
from chunkup_jupyter.jobs.results import UploadResult
from chunkup_jupyter.model import Body, FileInfo, Result
from chunkup_jupyter.plan import parts
from chunkup_jupyter.providers.oss import OSS
from chunkup_jupyter.secrets import Secret

TESTS = Path(__file__).parent


@pytest.fixture(scope="module", params=["openai", "oss", "twelvelabs"])
def each(request):
    with closing(world(request.param)) as made:
        yield made


@pytest.fixture
def place():
    with closing(world("oss")) as made:
        yield made


@pytest.fixture
def state(tmp_path, monkeypatch):
    """Where journals are by default, so that a line finds them."""
    monkeypatch.setenv("CHUNKUP_STATE", str(tmp_path / "state"))
    return "default"


def hanging(place, after: int = 3, **options):
    """Return a job that has sent so many parts and waits for the next one's answer."""
    there = threading.Event()

    def listen(event, progress):
        if type(event).__name__ == "PartDone" and progress.parts_done == after:
            there.set()

    place.strike(Rule("no answer", **place.part, nth=after + 1, times=0, seconds=20))
    source = options.pop("source", random_bytes(8 * PART))
    job = place.start(source, **{"policy": None, "jobs": 1, "listeners": [listen], **options})
    assert there.wait(10)
    # Else the next one could pass the proxy when its rules are lifted.
    while not any(one.trouble == "no answer" for one in place.proxy.asked):
        time.sleep(0.01)
    return job


# waiting


def test_a_script_waits_for_the_result(each):
    result = each.start(random_bytes()).result()

    assert str(result) == result.id
    assert (result.size, result.name) == (SIZE, "file.bin")
    assert result.to_dict()["size"] == SIZE


def test_a_running_loop_awaits_it_and_goes_on_meanwhile(place):
    async def cell():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        result = await place.start(random_bytes())
        ticking.cancel()
        return result, ticks

    result, ticks = asyncio.run(cell())

    assert result.size == SIZE
    assert ticks > 3


def test_inside_a_running_loop_it_can_be_waited_for_as_well(place):
    async def cell():
        return place.start(random_bytes()).result()

    assert asyncio.run(cell()).size == SIZE


def test_an_upload_outlives_a_wait_that_was_too_short(place):
    job = hanging(place)

    with pytest.raises(TimeoutError):
        job.result(0.05)

    assert not job.done()
    job.cancel()
    assert job.settle(10)


def test_waiting_on_the_background_thread_is_refused(place):
    job = hanging(place)

    async def wrong():
        return job.result()

    with pytest.raises(RuntimeError, match="would never end"):
        background.submit(wrong()).result(10)
    job.cancel()
    assert job.settle(10)


def test_an_async_listener_has_heard_the_end_before_the_result_is_there(place):
    heard = []

    async def note(event, progress):
        await asyncio.sleep(0.05)
        heard.append(type(event).__name__)

    place.start(random_bytes(), listeners=[note]).result(30)

    assert heard[-1] == "Completed"


def test_a_listener_that_waits_for_its_own_upload_holds_it_up_no_longer_than_said(
    place, monkeypatch
):
    monkeypatch.setattr("chunkup_jupyter.jobs.run._LISTENING", 0.05)
    jobs_ = []

    async def wait(event, progress):
        if type(event).__name__ == "Completed":
            await jobs_[0].ended()

    jobs_.append(place.start(random_bytes(), listeners=[wait]))

    assert jobs_[0].result(30).size == SIZE


def test_an_error_is_raised_to_whoever_waits_and_says_how_to_go_on(place, tmp_path, state):
    path = tmp_path / "my file.bin"
    path.write_bytes(random_bytes())
    place.strike(Rule("status", **place.part, status=403, times=0))
    job = place.start(path, state=state)

    with pytest.raises(errors.AuthError) as caught:
        job.result(30)

    assert job.error is caught.value
    assert job.state is State.FAILED
    (note,) = caught.value.__notes__
    assert note.startswith(f"To go on: %chunkup '{path}' oss://")


# stopping


def test_an_interrupt_stops_it_within_two_seconds_and_it_goes_on_later(tmp_path, place, state):
    path = tmp_path / "file.bin"
    path.write_bytes(random_bytes(8 * PART))
    job = hanging(place, source=path, state=state)
    threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT)).start()
    began = time.monotonic()

    with pytest.raises(errors.UploadInterrupted, match=r"3 of 8 parts are kept.*%chunkup"):
        job.result()

    assert time.monotonic() - began < 2
    assert job.done()
    assert job.state is State.STOPPED
    place.strike()
    job.resume()
    assert job.result(30).reused == 3
    place.arrived(random_bytes(8 * PART))


def test_a_second_interrupt_ends_only_the_waiting(place, tmp_path, state, monkeypatch):
    """Whoever is impatient is told the same, and can go on just as well."""
    path = tmp_path / "file.bin"
    path.write_bytes(random_bytes(8 * PART))
    job = hanging(place, source=path, state=state)
    waits = []

    def impatient(timeout):
        waits.append(timeout)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(job, "settle", impatient)
        with pytest.raises(errors.UploadInterrupted, match=r"3 of 8 parts are kept.*%chunkup"):
            job.result()

    assert len(waits) == 2
    assert job.settle(2)
    assert job.state is State.STOPPED
    place.strike()
    assert place.start(path, state=state).result(30).reused == 3


def test_where_no_line_goes_on_none_is_named(place, tmp_path):
    """It would look for the journal where it is not, and begin at the first byte."""
    path = tmp_path / "file.bin"
    path.write_bytes(random_bytes(8 * PART))
    job = hanging(place, source=path, state=tmp_path / "my own")
    job.stop()

    with pytest.raises(errors.UploadInterrupted) as caught:
        job.result(10)

    text = "3 of 8 parts are kept. To go on, make the same call again"
    assert str(caught.value) == f"stopped at 37 %; {text}"
    assert (job.line, job.kept) == ("", 3)
    place.strike()
    assert place.start(path, state=tmp_path / "my own").result(30).reused == 3


@pytest.mark.parametrize("folder", [None, "in the way/state"])
def test_what_is_kept_nowhere_is_not_called_kept(place, tmp_path, folder, monkeypatch):
    (tmp_path / "in the way").write_text("")
    path = tmp_path / "file.bin"
    path.write_bytes(random_bytes(8 * PART))
    if folder:
        monkeypatch.setenv("CHUNKUP_STATE", str(tmp_path / folder))
    job = hanging(place, source=path, state=folder and "default")
    job.stop()

    with pytest.raises(errors.UploadInterrupted) as caught:
        job.result(10)

    assert str(caught.value) == "stopped at 37 %; nothing is kept on disk"
    assert (job.line, job.kept) == ("", 0)


def test_without_a_journal_the_same_job_goes_on_where_it_stopped(place):
    job = hanging(place)
    job.stop()
    assert job.settle(2)
    place.strike()

    job.resume()

    assert job.result(30).reused == 3
    assert not place.sandbox.unfinished()


@pytest.mark.parametrize("name", ["two\nlines.bin", "red\x1b[31m.bin"])
def test_a_name_that_no_line_can_hold_is_in_none(place, tmp_path, name):
    (tmp_path / name).write_bytes(random_bytes(8 * PART))
    job = hanging(place, source=tmp_path / name, state=tmp_path / "state")
    job.stop()

    with pytest.raises(
        errors.UploadInterrupted,
        match=r"3 of 8 parts are kept. To go on, make the same call again$",
    ):
        job.result(10)
    assert job.line == ""
    place.strike()
    assert place.start(tmp_path / name, state=tmp_path / "state").result(30).reused == 3


def test_a_cancelled_cell_stops_it(place):
    async def cell():
        job = hanging(place)
        waiting = asyncio.ensure_future(job._wait())
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return job

    job = asyncio.run(cell())

    assert job.settle(2)
    assert job.state is State.STOPPED


@pytest.mark.parametrize("verb", ["stop", "cancel"])
def test_a_job_may_be_ended_before_it_has_begun(place, tmp_path, verb):
    """And nothing is left locked: the same upload begins again at once."""
    for _ in range(20):
        job = place.start(random_bytes(), state=tmp_path)
        getattr(job, verb)()
        kind = errors.UploadInterrupted if verb == "stop" else errors.UploadCancelled
        with pytest.raises(kind):
            job.result(10)
    place.start(random_bytes(), state=tmp_path).result(10)

    place.arrived(random_bytes())


def test_a_cancel_stays_one_though_the_loop_hears_of_it_late(place, monkeypatch):
    """The upload's first step may come between the wish and the loop's hearing of it."""

    class Deaf:
        def call_soon_threadsafe(self, callback):
            pass

    held = []
    with monkeypatch.context() as patched:
        patched.setattr(background, "submit", held.append)
        job = place.start(random_bytes())
    patched.setattr(job._run, "_loop", Deaf())
    job.cancel()

    background.submit(held[0])

    with pytest.raises(errors.UploadCancelled):
        job.result(10)


def test_a_stopped_job_can_be_cancelled_and_leaves_nothing(place, tmp_path):
    job = hanging(place, state=tmp_path)
    job.stop()
    assert job.settle(2)
    assert len(place.sandbox.unfinished()) == 1

    job.cancel()

    with pytest.raises(errors.UploadCancelled):
        job.result(10)
    assert not place.sandbox.unfinished()
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_resumed_job_that_was_begun_afresh_does_not_begin_afresh_again(place, tmp_path):
    job = hanging(place, state=tmp_path, fresh=True)
    job.stop()
    assert job.settle(2)
    place.strike()

    job.resume()

    assert job.result(30).reused == 3


def test_an_ended_job_takes_no_harm_from_being_ended(place):
    job = place.start(random_bytes())
    result = job.result(30)

    for verb in (job.stop, job.cancel, job.pause, job.resume):
        verb()

    assert job.result(1) == result
    place.arrived(random_bytes())


def test_a_cancelled_job_does_not_go_on_in_silence(place):
    job = hanging(place)
    job.cancel()
    assert job.settle(10)

    with pytest.raises(errors.InvalidUpload, match="was cancelled; start it anew"):
        job.resume()


def test_pause_and_resume(place):
    paused = threading.Event()
    states = []

    def listen(event, progress):
        states.append(progress.state)
        if type(event).__name__ == "PartDone" and progress.parts_done == 2:
            job.pause()
        if progress.state is State.PAUSED:
            paused.set()

    place.proxy.rules[:] = []
    job = place.start(random_bytes(20 * PART), jobs=1, listeners=[listen])
    assert paused.wait(10)
    job.resume()

    assert job.result(30).parts == 20


def test_a_pause_before_the_first_request_holds_it(place, monkeypatch):
    """Nothing is opened at the provider that could lapse while nobody goes on with it."""
    held = []
    with monkeypatch.context() as patched:
        patched.setattr(background, "submit", held.append)
        job = place.start(random_bytes())
    job.pause()
    background.submit(held[0])
    with pytest.raises(TimeoutError):
        job.result(0.3)
    assert job.state is State.PAUSED
    assert not place.proxy.asked

    job.resume()

    assert job.result(30).size == SIZE


# processes


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from worlds import *
import chunkup_jupyter.jobs as jobs
place = world("oss")
place.strike(Rule("no answer", **place.part, nth=2, times=0, seconds=30))
job = place.start(random_bytes(), policy=None)
"""


def run(code: str, timeout: float = 20) -> tuple[subprocess.CompletedProcess, float]:
    began = time.monotonic()
    text = SCRIPT.replace("{tests!r}", repr(str(TESTS))) + code
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], capture_output=True, timeout=timeout
    )
    return done, time.monotonic() - began


def test_a_script_that_ends_does_not_hang_for_an_upload():
    done, took = run("import time; time.sleep(0.5); print('the end')")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"the end\n", b"")
    assert took < 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_neither_waits_for_its_parent_nor_disturbs_it():
    done, _ = run(
        """
import asyncio, os, time, warnings
warnings.simplefilter("ignore")
from chunkup_jupyter import errors
time.sleep(0.5)
child = os.fork()
if child == 0:
    try:
        job.result(10)
    except errors.ChunkupError as error:
        print("child:", error, jobs.list_jobs(), flush=True)
    assert jobs.background.submit(asyncio.sleep(0, 5)).result(5) == 5
    os._exit(0)
os.waitpid(child, 0)
place.strike()
job.stop()
job.settle(5)
job.resume()
print("parent:", job.result(20).size, flush=True)
"""
    )

    assert done.stderr == b""
    assert b"child: file.bin is uploaded by the process this one was forked from []" in done.stdout
    assert f"parent: {SIZE}".encode() in done.stdout


def test_three_hundred_uploads_leave_nothing_behind(place):
    def counts():
        gc.collect()
        tasks = len(background.submit(all_tasks()).result(5))
        mine = [t for t in threading.enumerate() if "sandbox" not in t.name]
        return psutil.Process().num_fds(), tasks, len(mine)

    async def all_tasks():
        return asyncio.all_tasks()

    def many(number):
        for n in range(number):
            # The same key every time: the sandbox forgets what it replaces.
            place.start(n.to_bytes(4, "big") * 500).result(30)

    many(60)
    before, memory = counts(), psutil.Process().memory_info().rss
    many(240)
    time.sleep(0.2)
    after, grown = counts(), psutil.Process().memory_info().rss - memory

    assert after[0] <= before[0] + 3
    assert after[1] <= before[1]
    assert after[2] <= before[2] + 2
    assert grown < 12 << 20
    assert len(jobs.list_jobs()) <= 110


# what is uploaded


def test_a_file_object_goes_up(place):
    place.start(io.BytesIO(random_bytes()), name="film.bin").result(30)

    place.arrived(random_bytes())


def test_bytes_need_a_name(place):
    with pytest.raises(errors.NameNeeded):
        jobs.start(b"data", place.dest, state=None, **place.fields())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jobs": 0}, "jobs is a number"),
        ({"jobs": 65}, "jobs is a number"),
        ({"jobs": "8"}, "jobs is a number from 1 to 64, not '8'"),
        ({"part_size": "much"}, "much"),
        ({"part_size": 1000}, "too small"),
        ({"verify": "perhaps"}, "verify is"),
        ({"colour": "blue"}, "no option 'colour'"),
        ({"bwlimit": "5M"}, "set_bandwidth"),
        ({"sandbx": True}, "did you mean 'sandbox'"),
        ({"recursive": True}, "upload_many"),
    ],
)
def test_what_cannot_work_is_refused_before_a_request(place, options, said):
    with pytest.raises(errors.InvalidUpload, match=said):
        place.start(random_bytes(), **options)

    assert not place.proxy.asked


def test_a_plan_sends_nothing(each):
    before = len(each.proxy.asked)

    made = jobs.plan(random_bytes(), each.dest, name="file.bin", check=False, **each.fields())

    assert made.file.size == SIZE
    assert made.parts >= 1
    assert len(each.proxy.asked) == before


def test_a_plan_looks_at_the_content_as_the_upload_would(tmp_path):
    path = tmp_path / "examples.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n' * 12)
    with closing(world("openai")) as openai:
        made = jobs.plan(path, "openai:fine-tune", **openai.fields())
        path.write_text("no JSON\n")

        assert made.checks[0] == "12 lines"
        with pytest.raises(errors.InvalidUpload, match="line 1: is no JSON"):
            jobs.plan(path, "openai:fine-tune", **openai.fields())
        assert jobs.plan(path, "openai:fine-tune", check=False, **openai.fields()).parts == 1
        assert not openai.proxy.asked


def test_a_plan_says_what_would_be_resumed(place, tmp_path):
    path, state = tmp_path / "file.bin", tmp_path / "state"
    path.write_bytes(random_bytes(8 * PART))
    job = hanging(place, source=path, state=state)

    def planned(**options):
        return jobs.plan(path, place.dest, **{"state": state, **place.fields(), **options})

    assert len(planned().resumable) == 3  # while it runs: nothing is locked, nothing changed
    job.stop()
    assert job.settle(2)

    assert [receipt.size for receipt in planned(part_size=None).resumable] == [PART] * 3
    assert planned(part_size=None).part_size == PART
    assert not planned(fresh=True).resumable
    assert not planned(part_size=2 * PART).resumable
    assert not planned(storage_class="IA").resumable
    assert not planned(state=None).resumable


def test_the_same_upload_twice_at_once_is_refused_in_one_process_too(place, tmp_path):
    job = hanging(place, state=tmp_path)

    with pytest.raises(errors.AlreadyUploading, match="this process"):
        place.start(random_bytes(8 * PART), state=tmp_path)

    job.cancel()
    assert job.settle(10)


def test_jobs_are_listed_whether_or_not_a_variable_holds_them(place):
    number = place.start(random_bytes()).id
    gc.collect()

    assert number in [job.id for job in jobs.list_jobs()]
    next(job for job in jobs.list_jobs() if job.id == number).result(30)


def test_a_subscriber_hears_until_it_has_had_enough(place):
    heard = []
    job = hanging(place)
    end = job.subscribe(lambda event, progress: heard.append(event))
    place.strike()
    end()
    job.cancel()

    assert job.settle(10)
    assert not heard


# results


def test_a_result_can_be_deleted_and_used(each):
    result = each.start(random_bytes()).result(30)

    assert result.id in result.next() or result.id.rpartition("/")[2] in result.next()
    assert result.wait_ready(5).status == "ready"
    result.delete()

    assert result.id not in each.sandbox.finished()


def test_a_result_can_be_kept_in_a_file_and_takes_no_key_there(each):
    result = each.start(random_bytes()).result(30)

    kept = pickle.dumps(result)
    back = pickle.loads(kept)

    assert (back, str(back), back.to_dict()) == (result, result.id, result.to_dict())
    assert all(str(told).encode() not in kept for told in each.fields()["credentials"].values())
    assert copy.deepcopy(result).wait_ready(5).status == "ready"
    with pytest.raises(RuntimeError, match="use its id"):
        back.delete()


def test_a_job_says_what_to_keep_instead(place):
    job = place.start(random_bytes())

    with pytest.raises(TypeError, match=r"job.result\(\).to_dict"):
        pickle.dumps(job)

    job.result(30)


def test_a_next_cell_is_shown_as_code(each):
    cell = each.start(random_bytes()).result(30).next()

    assert repr(cell) == str(cell)
    assert pretty(cell).splitlines() == cell.splitlines()
    assert "import" in cell.splitlines()[0]


def test_what_the_provider_said_is_kept_without_the_queries_of_its_urls():
    answer = {
        "a": {"link": "https://cdn.example/x.mp4?sig=canary#canary"},
        "b": ["see http://h/?canary."],
    }
    made = UploadResult(
        *("id", "P", "p:", "name", 1, 1, 0, 0, 1.0, 1.0),
        url="https://cdn.example/x.mp4?sig=canary",
        raw=answer,
    )

    assert made.url == made.raw["a"]["link"] == "https://cdn.example/x.mp4"
    assert "canary" not in f"{made.to_dict()} {made.raw}"
    assert "canary" not in repr(Result("id", raw=answer))


def test_a_result_says_when_the_provider_is_not_ready():
    with closing(world("twelvelabs", polls_processing=1000)) as place:
        result = place.start(random_bytes(), wait_ready=False).result(30)

        assert result.status == "processing"
        assert "processing" in repr(result)


def test_an_upload_that_did_not_wait_is_ready_where_there_is_nothing_to_wait_for(place):
    assert place.start(random_bytes(), wait_ready=False).result(30).status == "ready"


# by hand


def test_verbs_can_be_driven_by_hand(place):
    told, data = place.sandbox.announce(), random_bytes()
    provider = OSS.from_url(
        place.dest,
        access_key_id=Secret(told["access_key_id"]),
        access_key_secret=Secret(told["access_key_secret"]),
        endpoint=place.proxy.base,
        region=told["region"],
    )
    with Client() as client:
        session = drive(provider.create(FileInfo("a", len(data)), PART), client)
        receipts = [
            drive(
                provider.put_part(
                    session, part, Body.of(data[part.start : part.start + part.size])
                ),
                client,
            )
            for part in parts(session)
        ]
    result = drive(provider.complete(session, receipts))

    assert result.size == len(data)
    place.arrived(data)
