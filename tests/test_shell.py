"""``python -m chunkup_jupyter``: the same grammar, exit statuses, and the id alone on stdout."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chunkup_jupyter import __main__ as shell
from chunkup_jupyter import journal
from chunkup_jupyter.sandbox import Store
from chunkup_jupyter.sandbox.faults import Fault, Faulty, On
from chunkup_jupyter.sandbox.oss import OSSSandbox
from chunkup_jupyter.sandbox.server import Served, serve

MIB = 1 << 20
LINE = json.dumps(
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
)
BARE = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.jsonl").write_text((LINE + "\n") * 200)
    (tmp_path / "other file.jsonl").write_text((LINE + "\n") * 20)
    (tmp_path / "big.bin").write_bytes(os.urandom(4 * MIB))
    return tmp_path


@pytest.fixture
def oss() -> Iterator[Served]:
    """A store that holds two parts and then lets every other one hang."""
    inner = OSSSandbox(store=Store.on_disk())
    hang = On(Fault.STALL, method="PUT", path="partNumber", nth=3, times=0)
    with serve(Faulty(inner, script=[hang])) as served:
        yield served


def begin(folder: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chunkup_jupyter", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**BARE, "CHUNKUP_STATE": str(folder / "state"), **env},
    )


def chunkup(folder: Path, *words: str, **env: str) -> tuple[int, str, str]:
    """Run a line; return its exit status, stdout and stderr."""
    process = begin(folder, *words, **env)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_id_stands_alone_on_the_last_line(folder: Path) -> None:
    status, out, err = chunkup(folder, "train.jsonl", "openai:fine-tune", "--sandbox")

    assert status == 0, err
    assert out.startswith("file-")
    assert out.count("\n") == 1
    lines = err.splitlines()
    proof = rf"\[sandbox\] ✓ train\.jsonl → {out.strip()} · .* s · .*B/s · .*MD5.* · 1 part"
    assert re.fullmatch(proof, lines[-1])
    assert all(line.startswith("[sandbox] ") for line in lines)


def test_what_an_encoding_cannot_spell_fails_no_upload(folder: Path) -> None:
    words = ["big.bin", "oss://bucket/ü", "--sandbox", "--progress", "text"]

    status, out, err = chunkup(folder, *words, PYTHONIOENCODING="ascii")

    assert (status, out) == (0, "oss://bucket/\\xfc\n"), err
    assert "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX closes the streams")
@pytest.mark.parametrize(
    ("closed", "expected", "said"),
    [
        (">&-", 0, "✓ train.jsonl"),
        ("2>&-", 0, "file-"),
        ("2>/dev/full", 0, "file-"),
        (">/dev/full", 1, "standard output cannot be written: No space left"),
    ],
)
def test_a_stream_that_cannot_be_written_fails_no_upload(
    closed: str, expected: int, said: str, folder: Path
) -> None:
    line = [sys.executable, "-m", "chunkup_jupyter", "train.jsonl", "openai:fine-tune", "--sandbox"]
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(line)} {closed}"],
        capture_output=True, text=True, cwd=folder,
        env={**BARE, "CHUNKUP_STATE": str(folder / "state")},
    )  # fmt: skip

    assert done.returncode == expected
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_several_files_print_an_id_a_line_and_one_failure_fails(folder: Path) -> None:
    status, out, err = chunkup(
        folder, "train.jsonl", "gone.jsonl", "other file.jsonl", "openai:fine-tune", "--sandbox",
        "--progress", "none",
    )  # fmt: skip

    assert status == 1
    assert [line[:5] for line in out.splitlines()] == ["file-", "file-"]
    assert "gone.jsonl" in err


def test_a_folder_prints_an_id_a_line_and_its_progress_elsewhere(folder: Path) -> None:
    (folder / "tree" / "deep").mkdir(parents=True)
    for name in ("b.txt", "deep/a.txt", "c.log"):
        (folder / "tree" / name).write_text("x")

    status, out, err = chunkup(
        folder, "-r", "tree", "oss://bucket/dir/", "--exclude", "*.log", "--sandbox"
    )

    assert status == 0, err
    assert out == "oss://bucket/dir/b.txt\noss://bucket/dir/deep/a.txt\n"
    assert err.splitlines()[-1] == "[sandbox] 2 files → oss://bucket/dir/: 2 of 2 files · 2 B"


def test_a_signed_address_is_not_repeated(folder: Path) -> None:
    source = "http://127.0.0.1:9/a.bin?sig=canary"

    for words in ([source], [source, "train.jsonl"]):
        status, out, err = chunkup(folder, *words, "openai:user_data", "--sandbox")

        assert status in (1, 2)
        assert "http://127.0.0.1:9/a.bin" in err
        assert "canary" not in out + err


def test_a_dry_run_prints_the_plan(folder: Path) -> None:
    status, out, err = chunkup(folder, "big.bin", "oss://bucket/key", "--sandbox", "--dry-run")

    assert (status, err) == (0, "")
    assert "[sandbox] Parts" in out


def test_a_dry_run_needs_no_key(folder: Path) -> None:
    for words in (["train.jsonl"], ["train.jsonl", "other file.jsonl"]):
        status, out, err = chunkup(folder, *words, "openai:fine-tune", "-n")

        assert (status, err) == (0, "")
        assert "OPENAI_API_KEY not found" in out


@pytest.mark.skipif(os.name == "nt", reason="there it asks the console, whatever its input is")
def test_nobody_at_a_keyboard_is_told_at_once(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chunkup_jupyter", "train.jsonl", "openai:batch", "--ask-key"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder,
        env={**BARE, "CHUNKUP_STATE": str(folder / "state")},
        start_new_session=True,  # without a terminal
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.startswith("✗ train.jsonl → openai:batch was not started\n")
    assert "--ask-key needs somebody at a keyboard" in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train.jsonl"], "say where"),
        (["train.jsonl", "nope:x"], "no provider is called 'nope'"),
        (["train.jsonl", "openai:fine-tune", "--jobz", "3"], "did you mean --jobs?"),
        (["train.jsonl", "openai:fine-tune", "--key", "sk-canary"], "--key-env"),
        (["train.jsonl", "openai:fine-tune", "-b"], "--detach is for notebooks"),
        (["train.jsonl", "openai:fine-tune", "-o", "x"], "--out names a notebook's variable"),
        (["train.jsonl", "openai:fine-tune", "--progress", "html"], "is for notebooks"),
        (["panel"], "needs a notebook"),
        (["show", "nothing"], "there is no upload"),
        (["clean"], "say how old"),
        (["help", "nope"], "there is no help on 'nope'"),
        ([], "say what goes where: SOURCE DEST"),
    ],
)
def test_a_line_that_cannot_be_understood_is_status_2(
    words: list[str],
    said: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHUNKUP_STATE", str(folder / "state"))

    assert shell.main(words) == 2

    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert "sk-canary" not in shown.err
    assert "Traceback" not in shown.err


def test_a_mistake_is_repeated_without_what_steers_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert shell.main(["\x1b[31mred\x07"]) == 2

    assert not set(capsys.readouterr().err) & {"\x1b", "\x07"}


def test_help_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    from chunkup_jupyter.ui.parsers import help_text

    assert shell.main(["--help"]) == 0
    assert capsys.readouterr().out.strip() == help_text().strip()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.jsonl", "openai:fine-tune", "--sandbox"], "there is no file gone.jsonl"),
        (["train.jsonl", "openai:fine-tune"], "OPENAI_API_KEY"),
        (["big.bin", "openai:fine-tune", "--sandbox"], "big.bin"),
    ],
)
def test_an_upload_that_fails_prints_no_id(words: list[str], said: str, folder: Path) -> None:
    status, out, err = chunkup(folder, *words)

    assert status == 2  # nothing was sent: a word, a file or a key has to be mended
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert "%chunkup" not in err


def test_debug_shows_the_traceback(folder: Path) -> None:
    _, _, err = chunkup(folder, "gone.jsonl", "openai:fine-tune", "--sandbox", "--debug")

    assert "Traceback" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_the_same_line_goes_on(
    number: signal.Signals, folder: Path, oss: Served
) -> None:
    env = dict(oss.sandbox.environment())
    words = ["big.bin", "oss://bucket/key", "--part-size", "1M", "-j", "2", "--bwlimit", "900M"]
    process = begin(folder, *words, **env)
    wait_for(lambda: [one.parts_done for one in journal.unfinished(folder / "state")] == [2])
    wait_for(lambda: oss.sandbox.injected[Fault.STALL] == 2)

    process.send_signal(number)
    began = time.monotonic()
    out, err = process.communicate(timeout=30)

    assert time.monotonic() - began < 10
    assert (process.returncode, out) == (130, "")
    (line,) = [line for line in err.splitlines() if line.startswith("Stopped:")]
    assert "2 of 4 parts kept" in line
    assert "chunkup big.bin oss://bucket/key --part-size 1M --jobs 2 --bwlimit 900M" in line

    oss.sandbox.script = ()
    status, out, err = chunkup(folder, *words, **env)

    assert (status, out) == (0, "oss://bucket/key\n"), err
    assert "Resuming: 2 of 4 parts (2.1 MB) already uploaded" in err
    (blob,) = oss.sandbox.finished().values()
    assert blob.read() == (folder / "big.bin").read_bytes()


def test_the_shell_needs_no_ipython(folder: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['IPython', 'ipywidgets', 'anywidget']));"
        "from chunkup_jupyter.__main__ import main;"
        "sys.exit(main(['train.jsonl', 'openai:fine-tune', '--sandbox']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=folder,
        env={**BARE, "CHUNKUP_STATE": str(folder / "state")},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("file-")


def test_the_sandbox_verb_delegates(monkeypatch: pytest.MonkeyPatch) -> None:
    from chunkup_jupyter.sandbox import command

    given: list[Any] = []
    monkeypatch.setattr(command, "main", lambda words: given.append(words) or 0)

    assert shell.main(["sandbox", "openai", "--port", "0"]) == 0
    assert given == [["openai", "--port", "0"]]


def wait_for(met: Any, seconds: float = 30.0) -> None:
    """Look until something is so; the time is a limit, not a guess."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
