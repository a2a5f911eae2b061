"""``%chunkup`` in a real IPython shell, in a real kernel, and at a real terminal."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import CompletionContext, provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import chunkup_jupyter
from chunkup_jupyter import jobs
from chunkup_jupyter.errors import IntegrityError, InvalidUpload, SomeFailed, UploadInterrupted
from chunkup_jupyter.events import Event, PartRetried, PartSent, Progress
from chunkup_jupyter.jobs import orders
from chunkup_jupyter.jobs.results import UploadResult
from chunkup_jupyter.sandbox import Store, load
from chunkup_jupyter.sandbox.faults import Fault, Faulty, On
from chunkup_jupyter.sandbox.server import serve
from chunkup_jupyter.ui import awaiting, grammar, magic, parsers, running
from chunkup_jupyter.ui.bars import Quiet

LINE = json.dumps(
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with files to send, and a state folder of its own."""
    monkeypatch.setenv("CHUNKUP_STATE", str(tmp_path / "state"))
    for name in ("OPENAI_API_KEY", "TWELVELABS_API_KEY", "OSS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text((LINE + "\n") * 200)
    (tmp_path / "my data.jsonl").write_text((LINE + "\n") * 20)
    (tmp_path / "big.bin").write_bytes(b"x" * (3 << 20))
    return tmp_path


@pytest.fixture
def shell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    config.Chunkup.sandbox = True
    config.Chunkup.progress = "none"
    made = InteractiveShell.instance(config=config)
    made.run_line_magic("load_ext", "chunkup_jupyter")
    yield made
    made.run_line_magic("unload_ext", "chunkup_jupyter")
    InteractiveShell.clear_instance()


def run(shell: Any, cell: str) -> Any:
    """Run a cell that succeeds; return its value."""
    result = shell.run_cell(cell)
    result.raise_error()
    return result.result


def fails(shell: Any, cell: str) -> BaseException:
    """Run a cell that fails; return its error."""
    result = shell.run_cell(cell)
    assert not result.success
    found: BaseException = result.error_in_exec or result.error_before_exec
    return found


# -- going in and out


def test_loading_prints_nothing_and_unloading_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    shell.kernel = object()

    def everything() -> list[Any]:
        html, text = (shell.display_formatter.formatters[f"text/{k}"] for k in ("html", "plain"))
        own = shell.display_formatter.ipython_display_formatter
        return [
            sorted(shell.magics_manager.magics["line"]),
            list(shell.Completer.custom_matchers),
            list(shell.input_transformers_post),
            [one for one in shell.configurables if type(one).__name__ == "Chunkup"],
            {**html.deferred_printers}, {**html.type_printers},
            {**own.deferred_printers}, {**own.type_printers},
            {**text.deferred_printers}, {**text.type_printers},
        ]  # fmt: skip

    before = everything()
    for _ in range(2):
        shell.run_line_magic("load_ext", "chunkup_jupyter")
        assert everything() != before
        shell.run_line_magic("reload_ext", "chunkup_jupyter")
        shell.run_line_magic("unload_ext", "chunkup_jupyter")
        assert everything() == before
    InteractiveShell.clear_instance()

    assert capsys.readouterr() == ("", "")


def test_loading_imports_nothing_that_only_an_upload_needs() -> None:
    """It stands at the top of every notebook, so it has to be quick."""
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell\n"
        "shell, before = InteractiveShell.instance(), set(sys.modules)\n"
        "shell.run_line_magic('load_ext', 'chunkup_jupyter')\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    ours = {name for name in done.stdout.split() if name.startswith("chunkup_jupyter.")}
    assert ours == {
        f"chunkup_jupyter.{name}"
        for name in "errors units ui ui.awaiting ui.displays ui.magic ui.options".split()
    }
    others = {name.partition(".")[0] for name in done.stdout.split()}
    assert not others & set("httpx ssl anywidget ipywidgets tqdm asyncio fastcrc".split())


def test_what_python_returns_displays_itself_without_the_extension(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "import chunkup_jupyter\n"
        "from chunkup_jupyter import dry_run\n"
        "plan = dry_run('train.jsonl', 'openai:user_data', sandbox=True)\n"
        "print(shell.display_formatter.format(plan)[0]['text/html'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip

    assert "<table" in done.stdout
    assert "train.jsonl" in done.stdout


def test_help_is_the_same_everywhere(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "%chunkup --help")
    printed = capsys.readouterr().out.strip()
    info = shell.object_inspect("%chunkup")

    assert printed == parsers.help_text().strip() == info["docstring"].strip()


def test_settings_are_traitlets(shell: Any) -> None:
    run(shell, "%config Chunkup.jobs = 3")
    run(shell, "%config Chunkup.part_size = '8M'")
    plan = run(shell, "%chunkup big.bin oss://bucket/key --dry-run")
    other = run(shell, "%chunkup big.bin oss://bucket/key --dry-run -j 5 --part-size 1M")

    assert (plan.jobs, plan.part_size) == (3, 8 << 20)
    assert (other.jobs, other.part_size) == (5, 1 << 20)


# -- results


def test_waiting_returns_the_result_and_binds_it(shell: Any) -> None:
    value = run(shell, "up = %chunkup train.jsonl openai:fine-tune -o named\nup")

    assert isinstance(value, UploadResult)
    assert str(value).startswith("file-")
    assert shell.user_ns["up"] is shell.user_ns["_chunkup"] is shell.user_ns["named"] is value


def test_a_limited_upload_arrives(shell: Any) -> None:
    try:
        value = run(shell, "%chunkup big.bin oss://bucket/key --bwlimit 100M")
    finally:
        chunkup_jupyter.set_bandwidth(None)

    assert value.size == 3 << 20


def test_detaching_returns_the_job(shell: Any) -> None:
    job = run(shell, "%chunkup train.jsonl openai:fine-tune --detach -o named")

    assert isinstance(job, jobs.Job)
    assert shell.user_ns["_chunkup"] is shell.user_ns["named"] is job
    assert isinstance(job.result(30), UploadResult)


def test_variables_expand_and_quotes_hold_blanks(shell: Any) -> None:
    run(shell, "name, to = 'my data.jsonl', 'openai:fine-tune'")

    assert run(shell, '%chunkup "{name}" $to').name == "my data.jsonl"
    assert run(shell, r"%chunkup my\ data.jsonl openai:fine-tune;  # done") is not None


def test_a_function_and_a_loop_may_upload(shell: Any) -> None:
    cell = (
        "def send(path):\n"
        "    found = %chunkup {path} openai:fine-tune\n"
        "    return found\n"
        "ids = [str(send(path)) for path in ['train.jsonl', 'train.jsonl']]\n"
        "for path in ['train.jsonl']:\n"
        "    %chunkup {path} openai:fine-tune\n"
        "ids"
    )

    assert len(set(run(shell, cell))) == 2


def test_several_files_give_several_results(shell: Any) -> None:
    found = run(shell, "%chunkup train.jsonl 'my data.jsonl' openai:fine-tune")

    assert [one.name for one in found] == ["train.jsonl", "my data.jsonl"]


def test_one_failure_does_not_stop_the_others_but_fails_the_cell(shell: Any) -> None:
    error = fails(shell, "%chunkup gone.jsonl train.jsonl openai:fine-tune")

    assert isinstance(error, SomeFailed)
    gone, sent = shell.user_ns["_chunkup"]
    assert isinstance(gone, OSError)
    assert str(sent).startswith("file-")
    assert "1 of 2 uploads failed: gone.jsonl" in str(error)


def test_the_screen_names_each_that_failed_and_its_reason(shell: Any) -> None:
    error = fails(shell, "some = %chunkup gone.jsonl 'no?pe.jsonl' *.jsonl openai:fine-tune")
    assert "nothing matches no?pe.jsonl" in shown_for(error)

    error = fails(shell, "%chunkup gone.jsonl *.jsonl big.bin openai:fine-tune")

    title, *rest = shown_for(error).splitlines()
    assert title == "[sandbox] ✗ 2 of 4 files did not arrive at openai:fine-tune"
    assert any("gone.jsonl" in line and "there is no file" in line for line in rest)
    assert any("big.bin" in line and "must end in .jsonl" in line for line in rest)
    assert any("_chunkup" in line and ".retry()" in line for line in rest)
    assert len(rest) <= 6


def test_a_pattern_gives_a_sequence_whatever_it_matches(shell: Any) -> None:
    found = run(shell, "%chunkup tr*.jsonl openai:fine-tune")

    assert [one.name for one in found] == ["train.jsonl"]


def test_a_folder_goes_with_its_paths(shell: Any, folder: Path) -> None:
    (folder / "tree" / "deep").mkdir(parents=True)
    (folder / "tree" / "deep" / "a.txt").write_text("x")

    found = run(shell, "%chunkup -r tree oss://bucket/dir/")

    assert found.ids == ["oss://bucket/dir/deep/a.txt"]
    assert isinstance(fails(shell, "%chunkup tree oss://bucket/dir/"), OSError)


def test_several_detached_are_one_batch(shell: Any) -> None:
    batch = run(shell, "%chunkup *.jsonl openai:fine-tune -b")

    assert batch is shell.user_ns["_chunkup"]
    assert len(batch.result(30).check()) == 2


def test_a_dry_run_of_several_plans_each(shell: Any) -> None:
    plans = run(shell, "%chunkup *.jsonl openai:fine-tune -n")

    assert [plan.file.name for plan in plans] == ["my data.jsonl", "train.jsonl"]


def test_several_files_need_a_place_for_several(shell: Any) -> None:
    error = fails(shell, "%chunkup train.jsonl big.bin oss://bucket/key")

    assert isinstance(error, InvalidUpload)
    assert "names one file" in str(error)


def test_a_dry_run_shows_the_plan_and_sends_nothing(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = run(shell, "%chunkup train.jsonl openai:fine-tune --dry-run")

    shown, _, after = capsys.readouterr().out.partition("Out[")
    assert plan.file.name == "train.jsonl"
    assert "nothing is sent" in shown
    assert after.endswith("<Plan: train.jsonl → openai:fine-tune (sandbox), 1 part>\n")
    assert all(line.startswith("[sandbox] ") for line in shown.splitlines() if line)
    assert not (Path("state") / "journals").exists()


def test_a_typed_key_is_asked_for_and_kept_from_the_history(
    shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    given: dict[str, Any] = {}

    def start(*args: Any, credentials: Any, **options: Any) -> Any:
        given.update(credentials)
        raise InvalidUpload("far enough")

    monkeypatch.setattr("getpass.getpass", lambda label: asked.append(label) or "sk-canary")
    monkeypatch.setattr(jobs, "start", start)

    error = fails(shell, "%chunkup train.jsonl openai:fine-tune --ask-key --no-sandbox")

    assert "far enough" in str(error)
    assert asked == ["OpenAI, OPENAI_API_KEY: "]
    assert given["api_key"].reveal() == "sk-canary"
    assert "sk-canary" not in repr(given) + repr(shell.user_ns)


def test_a_sandbox_asks_for_no_key(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has keys of its own: a real line can be tried with --sandbox added, as it stands."""
    monkeypatch.setattr("getpass.getpass", lambda label: pytest.fail("asked"))

    run(shell, "%chunkup train.jsonl openai:fine-tune --ask-key --sandbox")

    assert shell.user_ns["_chunkup"].sandbox


# -- failures


def shown_for(error: BaseException) -> str:
    return "\n".join(error._render_traceback_())  # type: ignore[attr-defined]


def test_a_mistake_in_the_line_is_a_usage_error(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    error = fails(shell, "%chunkup train.jsonl openai:fine-tune --job 3")

    assert type(error).__name__ == "UsageError"
    shown = capsys.readouterr()
    assert "did you mean --jobs?" in shown.err
    assert "Traceback" not in shown.out + shown.err


def test_an_upload_that_cannot_begin_is_one_screen(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    error = fails(shell, "%chunkup gone.jsonl openai:fine-tune")

    shown = capsys.readouterr()
    assert "gone.jsonl → openai:fine-tune was not started" in shown_for(error)
    assert "Traceback" not in shown.out + shown.err
    assert len(shown_for(error).splitlines()) < 15


def test_debug_shows_the_traceback(shell: Any) -> None:
    error = fails(shell, "%chunkup gone.jsonl openai:fine-tune --debug")

    assert "Traceback" in shown_for(error)


def test_a_missing_key_names_what_was_looked_for(shell: Any) -> None:
    error = fails(shell, "%chunkup train.jsonl openai:fine-tune --no-sandbox")

    said = shown_for(error)
    assert "OPENAI_API_KEY" in said
    assert "--ask-key" in said
    assert "--sandbox" in said


def test_a_failed_upload_leaves_its_job_and_says_where(shell: Any) -> None:
    """``up = %chunkup …`` binds nothing by itself when it fails; ``-o`` and we do."""
    (Path("train.jsonl")).write_text("no JSON\n")

    error = fails(
        shell,
        "get_ipython().run_line_magic('chunkup', "
        "'--assigned=up train.jsonl openai:fine-tune -o named')",
    )

    job = shell.user_ns["up"]
    assert job is shell.user_ns["named"] is shell.user_ns["_chunkup"]
    assert job.error is error
    said = shown_for(error)
    assert "_chunkup and named and up" in said
    assert "train.jsonl → openai:fine-tune" in said


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put a sandbox with faults in the place of the one that --sandbox goes to."""
    with contextlib.ExitStack() as stack:

        def put(scheme: str, *script: On, **more: Any) -> None:
            made = Faulty(load(scheme)(store=Store.on_disk()), script=script, **more)
            monkeypatch.setitem(orders._sandboxes, scheme, stack.enter_context(serve(made)))

        yield put


def test_a_part_that_fails_is_one_screen_too(
    shell: Any, faulty: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty("oss", On(Fault.FLIP, "PUT", "partNumber=2", times=0))

    error = fails(shell, "%chunkup big.bin oss://bucket/key --part-size 1M")

    shown = capsys.readouterr()
    assert isinstance(error, IntegrityError)
    assert "big.bin → oss://bucket/key failed" in shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err


def test_what_was_sent_of_a_part_counts_no_more_while_it_waits_to_be_sent_again(
    folder: Path, faulty: Any
) -> None:
    faulty("oss", On(Fault.SLOW_DOWN, "PUT", "partNumber=2"), retry_after=0.5)
    waiting = []

    def listen(event: Event, progress: Progress) -> None:
        if isinstance(event, PartRetried) or (waiting and isinstance(event, PartSent)):
            waiting.append(progress.in_flight.get(2))

    jobs.start(
        "big.bin", "oss://bucket/key", sandbox=True, part_size="1M", jobs=1, listeners=[listen]
    ).result(30)

    assert waiting[1] == 0


@pytest.mark.parametrize("again", [False, True], ids=["once", "and again at once"])
def test_an_interrupt_stops_resumably_in_one_line(
    shell: Any, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    def interrupted(job: Any, timeout: float) -> bool:
        if timeout == running.BEAT or again:
            raise KeyboardInterrupt
        return settle(job, timeout)

    settle = jobs.Job.settle
    monkeypatch.setattr(jobs.Job, "settle", interrupted)

    error = fails(shell, "%chunkup big.bin oss://bucket/key")
    settle(shell.user_ns["_chunkup"], 10)

    assert isinstance(error, UploadInterrupted)
    assert isinstance(error, KeyboardInterrupt)
    (line,) = shown_for(error).splitlines()
    assert "Go on with: %chunkup big.bin oss://bucket/key" in line
    assert "_chunkup" in line
    assert shell.user_ns["_chunkup"].done()


def test_an_interrupt_in_an_awaited_cell_stops_resumably(folder: Path) -> None:
    async def cell() -> None:
        line = grammar.parse("big.bin oss://bucket/key --sandbox --progress none")
        task = asyncio.ensure_future(running.beat(running.steps(line, lambda line: Quiet(), trail)))
        await asyncio.sleep(0)  # as far as its first heartbeat
        task.cancel()
        await task

    trail = running.Trail()
    with pytest.raises(UploadInterrupted, match=r"To go on: %chunkup big\.bin"):
        asyncio.run(cell())
    assert trail.job is not None
    assert trail.job.done()


# -- awaiting


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "get_ipython().run_line_magic('chunkup', 'a b:c')\n",
            "(await get_ipython().run_line_magic('chunkup_await', 'a b:c'))\n",
        ),
        (
            "ünï = get_ipython().run_line_magic('chunkup', 'ä b:c')",
            "ünï = (await get_ipython().run_line_magic("
            "'chunkup_await', '--assigned=ünï ' + 'ä b:c'))",
        ),
        (
            "for x in y:\n    with z:\n        get_ipython().run_line_magic('chunkup', 'a b:c')",
            "for x in y:\n    with z:\n        "
            "(await get_ipython().run_line_magic('chunkup_await', 'a b:c'))",
        ),
        (
            "a = 'é'; get_ipython().run_line_magic('chunkup', 'a b:c'); b = 1",
            "a = 'é'; (await get_ipython().run_line_magic('chunkup_await', 'a b:c')); b = 1",
        ),
    ],
)
def test_a_top_level_upload_is_awaited(before: str, after: str) -> None:
    assert awaiting.rewrite(before) == after
    ast.parse(after)


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    get_ipython().run_line_magic('chunkup', 'a b:c')",
        "async def f():\n    get_ipython().run_line_magic('chunkup', 'a b:c')",
        "class A:\n    get_ipython().run_line_magic('chunkup', 'a b:c')",
        "f = lambda: get_ipython().run_line_magic('chunkup', 'a b:c')",
        "[get_ipython().run_line_magic('chunkup', 'a b:c') for x in y]",
        "{get_ipython().run_line_magic('chunkup', 'a b:c'): 1 for x in y}",
        "f'{get_ipython().run_line_magic(\"chunkup\", 1)}'; 'chunkup'",
        "get_ipython().run_line_magic('time', 'chunkup')",
        "get_ipython().run_cell_magic('chunkup', 'a', 'b')",
        "print('chunkup'",
        "'chunkup'\r\nget_ipython().run_line_magic('chunkup', 'a b:c')",
    ],
)
def test_everything_else_is_left_alone(source: str) -> None:
    assert awaiting.rewrite(source) == source


def test_only_a_kernels_own_cells_are_rewritten() -> None:
    lines = ["get_ipython().run_line_magic('chunkup', 'a b:c')\n"]

    def do_execute() -> list[str]:
        return awaiting.transform(lines)

    def run_cell_magic() -> list[str]:
        return awaiting.transform(lines)

    def nested() -> list[str]:
        def do_execute() -> list[str]:
            return run_cell_magic()

        return do_execute()

    assert awaiting.transform(lines) == lines
    assert "await" in do_execute()[0]
    assert nested() == lines


def test_a_failed_assignment_binds_without_a_kernel_too(shell: Any) -> None:
    fails(shell, "up = %chunkup gone.bin openai:fine-tune")
    fails(shell, "job = %chunkup big.bin openai:fine-tune")

    assert "up" not in shell.user_ns  # nothing began
    assert shell.user_ns["job"] is shell.user_ns["_chunkup"]


# -- completion


def completed(shell: Any, text: str) -> list[str]:
    matcher = magic.completions
    context = CompletionContext(
        token="", full_text=text, cursor_position=len(text), cursor_line=0, limit=None
    )
    return [one.text for one in matcher(context)["completions"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%chunkup tr", ["train.jsonl"]),
        ("up = %chunkup tr", ["train.jsonl"]),
        ("    x=%chunkup tr", ["train.jsonl"]),
        ("%chunkup my", ["'my data.jsonl'"]),
        ("%chunkup 'my", ["'my data.jsonl'"]),
        ("%chunkup his", ["history"]),
        ("%chunkup train.jsonl open", ["openai:"]),
        ("%chunkup a twelvelabs:v", ["twelvelabs:video"]),
        ("%chunkup a openai:fi", ["openai:fine-tune"]),
        ("%chunkup a azure-openai:ba", ["azure-openai:batch"]),
        ("%chunkup a openai:x --verify ", ["auto", "none"]),
        ("%chunkup a openai:x --jo", ["--jobs"]),
        ("%chunkup a oss://b/k --stor", ["--storage-class"]),
        ("%chunkup a oss://b/k --addressing p", ["path"]),
        ("%chunkup clean --old", ["--older-than"]),
        ("%chunkup help orph", ["orphans"]),
        ("%chunkup a openai:x --stor", []),
        ("%chunkuptr", []),
        ("chunkup tr", []),
        ("print('%chunkup tr", []),
    ],
)
def test_tab_completes_the_line(shell: Any, text: str, expected: list[str]) -> None:
    assert completed(shell, text) == expected


@pytest.mark.parametrize("jedi", [True, False])
def test_nothing_else_is_offered_beside_ours(shell: Any, jedi: bool) -> None:
    shell.Completer.use_jedi = jedi
    text = "trial = 1\nup = %chunkup tr"

    with provisionalcompleter():
        found = [one.text for one in shell.Completer.completions(text, len(text))]

    assert found == ["train.jsonl"]


def test_ids_of_jobs_complete(shell: Any) -> None:
    job = run(shell, "%chunkup train.jsonl openai:fine-tune --detach")
    job.result(30)

    assert str(job.id) in completed(shell, "%chunkup show ")


# -- in a kernel

KERNEL_CELLS = [
    "%load_ext chunkup_jupyter\n%config Chunkup.sandbox = True",
    "up = %chunkup train.jsonl openai:fine-tune",
    "up",
    "%chunkup train.jsonl openai:fine-tune",
    "%%time\n%chunkup train.jsonl openai:fine-tune --progress none",
    "%%capture\n%chunkup train.jsonl openai:fine-tune",
    "job = %chunkup big.bin oss://bucket/key -b\njob",
    "job.result(30); import time; time.sleep(.5)",
    "%chunkup list",
    "bad = %chunkup broken.jsonl openai:fine-tune",
    "print(type(bad).__name__, bad.error is not None)",
    "%chunkup nowhere.jsonl openai:fine-tune",
    "%chunkup a b",
    "import os, signal, threading\n"
    "started = time.monotonic()\n"
    "threading.Timer(.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
    "slow = %chunkup slow.bin oss://bucket/slow --progress none",
    "print(slow.state.value, time.monotonic() - started < 3)",
    "import asyncio, httpx, chunkup_jupyter\n"
    "served, loop, asked = chunkup_jupyter.open_sandbox('openai'), asyncio.get_running_loop(), []\n"
    "async def note(request):\n"
    "    asked.append((request.method, asyncio.get_running_loop() is loop))\n"
    "client = httpx.AsyncClient(event_hooks={'request': [note]})\n"
    "before = await client.get(served.base_url)\n"
    "print(asked)",
    "asked.clear()\n"
    "nested = chunkup_jupyter.upload('big.bin', 'openai:user_data', part_size=1 << 20,\n"
    "                                sandbox=True, nested=True, client=client)\n"
    "print(b''.join(served.download(nested.id)) == b'x' * (3 << 20), nested.parts)\n"
    "print(len(asked) > 3, all(mine for _, mine in asked), {method for method, _ in asked})",
    "asked.clear()\n"
    "after = await client.get(served.base_url)\n"
    "await client.aclose()\n"
    "print(asked, after.status_code == before.status_code)",
    "%chunkup train.jsonl openai:fine-tune",
    "import _asyncio\n"
    "print(asyncio.Task is _asyncio.Task, hasattr(asyncio, '_nest_patched'))\n"
    "sleeping = asyncio.sleep(0)\n"
    "try:\n"
    "    asyncio.run(sleeping)\n"
    "except RuntimeError as error:\n"
    "    print(error)\n"
    "sleeping.close()",
]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The outputs of one notebook, by cell."""
    import nbclient
    import nbformat

    folder = tmp_path_factory.mktemp("kernel")
    (folder / "train.jsonl").write_text((LINE + "\n") * 200)
    (folder / "broken.jsonl").write_text("no JSON\n")
    (folder / "big.bin").write_bytes(b"x" * (3 << 20))
    with (folder / "slow.bin").open("wb") as file:
        file.truncate(3 << 30)
    cells = [nbformat.v4.new_code_cell(cell) for cell in KERNEL_CELLS]
    made = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHUNKUP_STATE", str(folder / "state"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.delenv("OPENAI_API_KEY", raising=False)
        nbclient.NotebookClient(
            made,
            kernel_name="python3",
            allow_errors=True,
            timeout=120,
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    return list(made.cells)


def outputs(notebook: list[Any], cell: int) -> list[Any]:
    """Return a cell's outputs without what the kernel itself warns of."""
    return [
        one
        for one in notebook[cell].outputs
        if not (one.output_type == "stream" and "TCP without encryption" in one.text)
    ]


@pytest.mark.filterwarnings("ignore")
class TestInAKernel:
    def test_an_upload_is_one_output_that_ends_static(self, notebook: list[Any]) -> None:
        for cell in (1, 3):
            (output,) = outputs(notebook, cell)
            assert "<table" in output.data["text/html"]
            assert "file-" in output.data["text/plain"]
            assert output.data["text/plain"].startswith("[sandbox] ✓ train.jsonl")

    def test_a_result_displays_itself_later(self, notebook: list[Any]) -> None:
        (output,) = outputs(notebook, 2)
        assert "file-" in output.data["text/html"]

    def test_cell_magics_may_hold_uploads(self, notebook: list[Any]) -> None:
        assert any("Wall time" in one.get("text", "") for one in outputs(notebook, 4))
        assert outputs(notebook, 5) == []
        assert not [one for one in outputs(notebook, 4) if one.output_type == "error"]

    def test_a_background_upload_ends_in_its_own_cell(self, notebook: list[Any]) -> None:
        (output,) = outputs(notebook, 6)
        assert "[sandbox] ✓ big.bin → oss://bucket/key" in output.data["text/plain"]

    def test_verbs_show_tables(self, notebook: list[Any]) -> None:
        (output,) = outputs(notebook, 8)
        assert "big.bin" in output.data["text/plain"]
        assert "<table" in output.data["text/html"]

    def test_a_failed_assignment_still_binds(self, notebook: list[Any]) -> None:
        error = outputs(notebook, 9)[-1]
        assert error.output_type == "error"
        assert "_chunkup and bad" in "\n".join(error.traceback)
        assert outputs(notebook, 10)[0].text == "Job True\n"

    def test_what_cannot_begin_fails_the_cell_in_one_screen(self, notebook: list[Any]) -> None:
        (error,) = outputs(notebook, 11)
        assert error.output_type == "error"
        assert "there is no file nowhere.jsonl" in "\n".join(error.traceback)
        assert "Traceback" not in "\n".join(error.traceback)

    def test_a_mistake_is_a_usage_error(self, notebook: list[Any]) -> None:
        assert "is no destination" in "".join(one.text for one in outputs(notebook, 12))

    def test_an_interrupt_stops_the_cell_and_keeps_the_job(self, notebook: list[Any]) -> None:
        error = outputs(notebook, 13)[-1]
        assert error.ename == "UploadInterrupted"
        assert len(error.traceback) == 1
        assert outputs(notebook, 14)[0].text == "stopped True\n"

    def test_a_client_of_the_kernels_loop_uploads_nested(self, notebook: list[Any]) -> None:
        """It is the user's: made in a cell, used before, in and after the upload."""
        before, inside, after = (outputs(notebook, cell) for cell in (15, 16, 17))
        assert [one.text for one in before] == ["[('GET', True)]\n"]
        assert [one.text for one in inside if one.output_type == "stream"] == [
            "True 3\nTrue True {'POST'}\n"
        ]
        assert [one.text for one in after] == ["[('GET', True)] True\n"]

    def test_a_nested_upload_leaves_the_kernel_as_it_was(self, notebook: list[Any]) -> None:
        (output,) = outputs(notebook, 18)
        assert output.data["text/plain"].startswith("[sandbox] ✓ train.jsonl")
        (output,) = outputs(notebook, 19)
        assert output.text.splitlines() == [
            "True False",
            "asyncio.run() cannot be called from a running event loop",
        ]


# -- at a terminal


class Terminal:
    """IPython as it is started from a command line, and somebody who types and reads."""

    def __init__(self, folder: Path) -> None:
        import pty
        import termios

        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 120))
        self._seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "IPython", "--no-banner"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd=folder,
            env={
                **os.environ,
                "TERM": "xterm",
                "PROMPT_TOOLKIT_NO_CPR": "1",  # nobody here says where the cursor is
                "IPYTHONDIR": str(folder / "ipython"),
                "PYTHONIOENCODING": "utf-8",
            },
        )
        os.close(slave)

    def type(self, keys: str) -> None:
        """Press these keys; what was on the screen before is seen no more."""
        self._seen = b""
        os.write(self._master, keys.encode())

    def until(self, pattern: str) -> str:
        """Return what came since the last keys, without colours, once it has the pattern."""
        deadline = time.monotonic() + 60
        while not re.search(pattern, self.seen):
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self._master], [], [], left)[0], f"no {pattern} in {self.seen}"
            try:
                fresh = os.read(self._master, 1 << 16)
            except OSError:  # so says Linux when IPython has ended
                fresh = b""
            assert fresh, f"no {pattern} in all of {self.seen}"
            self._seen += fresh
        return self.seen

    @property
    def seen(self) -> str:
        text = self._seen.decode(errors="ignore")
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x07]*\x07", "", text)

    def close(self) -> None:
        """End it, however far it is."""
        self.process.kill()
        self.process.wait(60)
        os.close(self._master)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals of this kind")
def test_a_terminal_completes_an_option_and_shows_a_bar(folder: Path) -> None:
    with contextlib.closing(Terminal(folder)) as terminal:
        terminal.until(r"In \[1\]: ")
        terminal.type("%load_ext chunkup_jupyter\r")
        terminal.until(r"In \[2\]: ")

        terminal.type("%chunkup big.bin oss://bucket/key --bwlimit 4M --sand")
        terminal.until("--sand")
        terminal.type("\t")
        terminal.until("box")
        terminal.type("\r")
        shown = terminal.until(r"(?s)✓ .*In \[3\]: ")
        terminal.type("exit\r")
        assert terminal.process.wait(60) == 0

    assert "oss://bucket/key --bwlimit 4M --sandbox" in shown
    assert re.search(r"\rUploading +\d+%\|", shown)
    assert re.search(r"\rComplete +100%\|█+\| 3.15M/3.15M .* 1 of 1 part", shown)
    assert re.search(r"\n\[sandbox\] ✓ big\.bin → oss://bucket/key · 3\.15 MB", shown)


def test_importing_brings_nothing_along() -> None:
    code = "import sys; before = set(sys.modules); import chunkup_jupyter; "
    code += "print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    brought = {name.partition(".")[0] for name in done.stdout.split()}
    assert not brought & set("httpx IPython anywidget asyncio tqdm".split())


def test_every_public_name_can_be_had() -> None:
    for name in chunkup_jupyter.__all__:
        assert getattr(chunkup_jupyter, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        chunkup_jupyter.nothing  # noqa: B018
