"""What an order makes of its words: a sandbox's own address, fields for Python, the line again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chunkup_jupyter.errors import CredentialsMissing, InvalidUpload, SourceError
from chunkup_jupyter.jobs.orders import Order, destination, place, words_of
from chunkup_jupyter.providers.openai import OpenAI
from chunkup_jupyter.providers.oss import OSS
from chunkup_jupyter.ui.grammar import parse


def order(dest: str, **fields: Any) -> Order:
    return place("f", dest, sandbox=True, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"region": "cn-beijing"},
        {"region": "cn-beijing", "endpoint": "internal"},
        {"addressing": "virtual"},
        {"addressing": "cname", "endpoint": "files.example.com"},
    ],
)
def test_a_sandbox_stands_in_for_whatever_address_the_line_names(fields: dict[str, Any]) -> None:
    """A real line with --sandbox added must never reach the real service."""
    found = destination("oss://my-bucket/key", sandbox=True, fields=fields)

    assert isinstance(found, OSS)
    assert found.endpoint.startswith("http://127.0.0.1:")
    assert not found.addressing


def test_a_sandbox_stands_in_for_another_base_url_and_key() -> None:
    found = destination(
        "openai:batch",
        sandbox=True,
        key_env="NOT_SET_ANYWHERE",
        fields={"base_url": "https://api.example/v1"},
    )

    assert isinstance(found, OpenAI)
    assert found.base_url.startswith("http://127.0.0.1:")


def test_a_mistyped_file_is_told_before_a_missing_key(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("chunkup_jupyter.credentials.find", no_key)
    (tmp_path / "train.jsonl").write_text("{}")

    with pytest.raises(SourceError, match=r"trian\.jsonl"):
        place(tmp_path / "trian.jsonl", "openai:fine-tune")
    with pytest.raises(CredentialsMissing):
        place(tmp_path / "train.jsonl", "openai:fine-tune")
    with pytest.raises(CredentialsMissing):  # nothing is asked of a server before
        place("https://files.example/train.jsonl", "openai:fine-tune")


def no_key(*args: Any, **options: Any) -> Any:
    raise CredentialsMissing("no key was found")


def test_fields_that_no_line_can_say_may_be_given_in_python() -> None:
    made = order("openai:batch", md5="0" * 32, timeout=9, extra_headers={"X-Team": "vision"})

    assert made.provider.md5 == "0" * 32  # type: ignore[attr-defined]
    assert words_of(made) == ["openai:batch", "--sandbox"]


def test_a_key_among_the_options_is_told_where_keys_go() -> None:
    with pytest.raises(InvalidUpload, match=r"credentials=\{'api_key'.*key_env") as refused:
        order("openai:batch", api_key="canary")

    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("name", ["rules", "nonsense"])
def test_only_what_is_meant_for_callers_may_be_given(name: str) -> None:
    with pytest.raises(InvalidUpload, match=f"no option '{name}'.*extra_headers"):
        order("openai:batch", **{name: "x"})


@pytest.mark.parametrize(
    ("dest", "fields"),
    [
        ("oss://my-bucket/key", {"tagging": {"a": "b&c", "d": "e f=g"}, "meta": {"x": "1 2"}}),
        ("oss://my-bucket/a key", {"storage_class": "IA", "no_clobber": True, "jobs": 3}),
        ("twelvelabs:video", {"hls": True, "meta": {"x": "'"}, "wait_ready": False}),
        ("openai:batch", {"expires_after": "7d", "part_size": 1 << 20, "name": "a b.jsonl"}),
    ],
)
def test_the_line_that_resumes_says_the_same_again(dest: str, fields: dict[str, Any]) -> None:
    made = order(dest, **fields)

    line = parse(" ".join(["f", *words_of(made)]))

    said = {**line.fields, **{name: getattr(line, name) for name in fields if name in line.given}}
    again = order(line.dest, **said)
    assert (again.options, again.asked.name) == (made.options, made.asked.name)
    assert again.provider.terms == made.provider.terms


def test_a_toggle_that_was_switched_off_in_python_is_no_word() -> None:
    made = order("twelvelabs:video", hls=False)

    assert words_of(made) == ["twelvelabs:video", "--sandbox"]


def test_terms_are_what_a_session_settles() -> None:
    made = order("oss://my-bucket/key", storage_class="IA", acl="private", meta={"a": "b"})

    assert made.provider.terms == {"storage_class": "IA", "meta": {"a": "b"}}


# -- a sandbox's uploads end with its process

LEFT = """
import os, threading
from chunkup_jupyter import start
from chunkup_jupyter.journal import unfinished
from chunkup_jupyter.jobs.orders import open_sandbox
served = open_sandbox("oss")
two, stopped = threading.Event(), threading.Event()
def listen(event, progress):
    if progress.parts_done == 2:
        two.set()
        stopped.wait(20)
job = start("big.bin", "oss://bucket/key", sandbox=True, part_size="100K", jobs=1,
            listeners=[listen])
assert two.wait(20)
job.stop()
stopped.set()
assert job.settle(10)
assert unfinished() == []
print(start("big.bin", "oss://bucket/key", sandbox=True, part_size="100K").result(20).reused)
again = start("big.bin", "oss://bucket/other", sandbox=True)
again.stop()
again.settle(10)
if child := os.fork():
    os.waitpid(child, 0)
    assert served.sandbox.store.root.is_dir()
"""


def test_a_sandboxs_uploads_go_on_in_their_process_and_leave_nothing_behind(tmp_path: Path) -> None:
    """Its server is gone with the process, so nobody could go on with them afterwards."""
    (tmp_path / "big.bin").write_bytes(bytes(400 << 10))
    (tmp_path / "temporary").mkdir()
    env = {
        **os.environ,
        "CHUNKUP_STATE": str(tmp_path / "state"),
        "TMPDIR": str(tmp_path / "temporary"),
    }

    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", LEFT],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.stdout, done.stderr) == ("2\n", "")
    assert not list((tmp_path / "temporary").iterdir())
    assert not (tmp_path / "state").exists()


def test_the_line_that_goes_on_asks_for_the_key_that_was_typed() -> None:
    typed = place("a", "openai:batch", credentials={"api_key": "sk-x"})
    played = place("a", "openai:batch", credentials={"api_key": "sk-x"}, sandbox=True)

    assert words_of(typed) == ["openai:batch", "--ask-key"]
    assert words_of(played) == ["openai:batch", "--sandbox"]
