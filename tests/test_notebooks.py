"""Every notebook runs top to bottom in a fresh kernel, without an account, and keeps its word."""

from __future__ import annotations

import ast
import contextlib
import errno
import functools
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import chunkup_jupyter
from chunkup_jupyter.sandbox.openai import OpenAISandbox
from chunkup_jupyter.sandbox.oss import OSSSandbox
from chunkup_jupyter.sandbox.server import serve
from chunkup_jupyter.sandbox.twelvelabs import TwelveLabsSandbox

pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"

# What a notebook promises its reader, as it stands in its outputs.
PROMISES = {
    "01_quickstart": [
        r"11 parts of 16 MiB",
        r"✓ train\.jsonl → file-\w+",
        r"✓ train\.jsonl → oss://my-bucket/data/train\.jsonl",
        r"✓ film\.mp4 → \w+",
        r"the upload panel",
        r"from the panel: nothing yet",
        r"(?s)(identical: [0-9a-f]{64}.*){3}",
    ],
    "02_openai": [
        r"spoiled\.jsonl, line 12: has no \"messages\"",
        r"✓ train\.jsonl → file-\w+",
        r"identical: [0-9a-f]{32}",
        r"1\d of 16 parts \(.+\)  open for 59 min",
        r"1\d of 16 parts were there already",
        r"the upload panel",
        r"ftjob-\w+ queued",
        r"batch_\w+ validating",
        r"vs_\w+ completed",
        r"(?s)chunkup +[\d.]+ s.*openai helper +[\d.]+ s",
        r"sample\.jsonl → file-\w+.*Azure OpenAI",
        r"401 invalid_api_key",
        r"(?s)of 16 parts \([^)]+\)  gone.*\[\]",
    ],
    "03_alibaba_oss": [
        r"my-bucket\.oss-cn-hangzhou-internal\.aliyuncs\.com",
        r"9,987 parts of 191 MiB",
        r"✓ rides\.csv → oss://tutorial/data/rides\.csv",
        r"(?s)combined +(\d+)\n.*says OSS +\1\n",
        r"ETag of the object \"[0-9A-F]{32}-7\"",
        r"■+□",
        r"\d+ of 28 parts were there already",
        r"the upload panel",
        r"request = oss\.GetObjectRequest\(bucket='tutorial', key='data/rides\.csv'\)",
        r"Castle Bridge +\d+ +\d+",
        r"rides\.csv → oss://tutorial/copy\.csv",
        r"(?s)chunkup +[\d.]+ s.*oss v2, Uploader +[\d.]+ s.*oss2, resumable +[\d.]+ s",
        r"403 SignatureDoesNotMatch",
        r"somebody/elses\.bin.*gone",
    ],
    "04_twelvelabs": [
        r"✓ film\.mp4 → \w+",
        r"identical: [0-9a-f]{64}",
        r"although every URL became void after \d+",
        r"\d+ of \d+ chunks were reported",
        r"\d+ of \d+ chunks were there already",
        r"the upload panel",
        r"client\.indexes\.indexed_assets\.create",
        r"1\. from 0 s to 4 s",
        r"embedding of 512 numbers",
        r"(?s)chunkup +[\d.]+ s.*twelvelabs helper +[\d.]+ s",
        r"page\.mp4 is no video but text",
        r"\w+ processing\s+\w+ ready",
        r"0 assets are left",
    ],
    "05_survive_a_crash": [
        r"exit status -9",
        r"unfinished  6\d of 100 parts",
        r"■ in the journal: 6\d",
        r"100 parts: 6\d from before, [34]\d sent now",
        r"UploadInterrupted: stopped at 4\d %; 4\d of 100 parts are kept",
        r"SourceChanged: draft\.bin changed during the upload",
        r"✗ was there, but the file holds other bytes by now: sent again: 1",
        r"process \d+ is already uploading model\.bin",
        r"(?s)would go.*gone.*lists no unfinished upload",
    ],
    "06_inside_a_protocol": [
        r"IntegrityError: OpenAI holds other bytes than were sent",
        r"once: True",
        r"56 bytes · size, as OpenAI counts it · MD5 [0-9a-f]{32}",
        r"'SignatureDoesNotMatch'",
        r"IntegrityError: part 2 did not arrive as it was sent",
        r"(?s)parts 1 to 3: (\d+)\nwhole file:   \1",
        r"(?s)PUT .*403\n.*presigned-urls.*200\n.*PUT .*200",
        r"NotYet: .+\n(?s:.*)Result: ready",
        r"5 bytes: b'hello'",
        r"4 files were deleted",
    ],
    "07_write_a_provider": [
        r"(?s)answer 409\nHEAD\nPATCH at 5 of 6 bytes",
        r"8 passed",
        r"(?s)(caught by test_\w+.*){5}",
        r"20,971,520 bytes in 5 parts, \d+ retried\nidentical: [0-9a-f]{64}",
        r"tus +tus:ENDPOINT",
        r"✓ film\.bin → http://127\.0\.0\.1:\d+/files/\w+",
    ],
}
CANARY = "canary-7f3a91c4e2"
KEYS = (
    "OPENAI_API_KEY",
    "OSS_ACCESS_KEY_ID",
    "OSS_ACCESS_KEY_SECRET",
    "TWELVELABS_API_KEY",
    "AZURE_OPENAI_API_KEY",
)

notebooks = pytest.mark.parametrize(
    "name", [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
)


def fresh(name: str) -> nbformat.NotebookNode:
    """Return a notebook without outputs."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None) if cell.cell_type != "code" else cell.update(outputs=[])
    return notebook


def run(notebook: nbformat.NotebookNode) -> None:
    """Run a notebook in a kernel of its own. Raises when a cell does."""
    NotebookClient(
        notebook,
        timeout=240,
        iopub_timeout=60,  # with the usual 4 s a loaded machine's outputs come too late
        raise_on_iopub_timeout=True,
        kernel_name="python3",
        resources={"metadata": {"path": NOTEBOOKS}},
    ).execute()


def outputs_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Return all outputs, in order."""
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def text_of(notebook: nbformat.NotebookNode) -> str:
    """Return what a reader without widgets sees."""
    texts = []
    for output in outputs_of(notebook):
        texts.append(output.get("text", ""))
        texts.append(output.get("data", {}).get("text/plain", ""))
    return "\n".join(texts)


@notebooks
def test_a_notebook_runs_and_keeps_its_word(name, tmp_path, monkeypatch):
    for variable in KEYS:
        monkeypatch.setenv(variable, f"{CANARY}-{variable}")
    monkeypatch.setenv("CHUNKUP_STATE", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = fresh(name)

    run(notebook)

    keeps_its_word(notebook, name)
    assert CANARY not in nbformat.writes(notebook)
    assert not any(CANARY.encode() in path.read_bytes() for path in files_below(tmp_path))


def test_without_ffmpeg_the_clip_that_comes_along_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no program at all
    monkeypatch.setenv("CHUNKUP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = fresh("04_twelvelabs")

    run(notebook)

    keeps_its_word(notebook, "04_twelvelabs")
    assert f"{(NOTEBOOKS / 'assets' / 'clip.mp4').stat().st_size:,} bytes" in text_of(notebook)


def test_one_cell_sends_the_protocols_elsewhere(tmp_path, monkeypatch):
    """Servers with the real limits stand for the real services; the environment names them."""
    notebook = fresh("06_inside_a_protocol")
    [switch] = [cell for cell in notebook.cells if cell.source.startswith("SANDBOX = True\n")]
    switch.source = switch.source.replace("SANDBOX = True", "SANDBOX = False", 1)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    sandboxes = OpenAISandbox(), OSSSandbox(bucket="sandbox"), TwelveLabsSandbox()

    with contextlib.ExitStack() as stack:
        for sandbox in sandboxes:
            stack.enter_context(serve(sandbox))
            for name, value in sandbox.environment().items():
                monkeypatch.setenv(name, value)
        run(notebook)
        left = [sandbox.finished() for sandbox in sandboxes]

    text = text_of(notebook)
    assert "280000 bytes · size of the object · CRC-64 of every part" in text
    assert "185929 bytes · MD5 of every part" in text
    assert not any(left)


@notebooks
def test_a_notebook_is_kept_with_the_outputs_of_a_clean_run(name):
    text = (NOTEBOOKS / f"{name}.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)

    keeps_its_word(notebook, name)
    assert "widgets" not in notebook.metadata
    assert not re.search(r"sk-sandbox-|tlk_sandbox_|LTAI[0-9a-f]{8}|[Ss]ignature=(?!•)", text)
    assert "--no-check" not in text
    for path in ("/home/", "/Users/", "/root/", "/work/", "/tmp/"):
        assert path not in text, f"a path of somebody's machine: {path}"


@notebooks
def test_a_table_of_troubles_quotes_what_is_really_said(name):
    """Readers search for the words they see."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    tables = [text.partition("| It says |")[2] for text in texts if "| It says |" in text]
    cells = [cell for table in tables for cell in re.findall(r"(?m)^\| (.+?) \|", table)]
    said = [quote for cell in cells for quote in re.findall(r"`(.+?)`", cell)]
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")

    assert len(said) >= 5
    unknown = {text: never_said(text) for text in said if text not in code and never_said(text)}
    assert not unknown


def test_a_misquoted_trouble_is_found():
    right = "process 4711 is already uploading train.jsonl to openai:fine-tune (62 %); …"
    wrong = right.replace("uploading", "sending")

    assert not never_said(right)
    assert never_said(wrong) == ["already sending train.jsonl to openai:fine-tune (62 %);"]
    assert never_said("Stopped: train.jsonl, 7 of 11 parts kept. Continue with: %chunkup …")


@pytest.mark.parametrize("page", ["README.md", *sorted(p.name for p in NOTEBOOKS.glob("*.ipynb"))])
def test_what_a_page_points_to_is_there(page):
    path = NOTEBOOKS / page if page.endswith(".ipynb") else NOTEBOOKS.parent / page
    texts = [path.read_text()]
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    targets = re.findall(r"\]\(([^)\s]+)\)", "\n".join(texts))

    gone = [
        target for target in targets if "://" not in target and not (path.parent / target).exists()
    ]
    assert not gone


def keeps_its_word(notebook: nbformat.NotebookNode, name: str) -> None:
    """Assert that a notebook ran without an error and shows what it promises."""
    text = text_of(notebook)
    assert not [output for output in outputs_of(notebook) if output.output_type == "error"]
    assert "Traceback" not in text
    for promise in PROMISES[name]:
        assert re.search(promise, text), promise


def files_below(folder: Path) -> list[Path]:
    """Return the files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def never_said(quote: str) -> list[str]:
    """Return what is left of each fragment of a quote, from the first word nobody says."""
    fragments = [fragment.strip() for fragment in quote.split("…")]
    return [left for fragment in fragments if (left := _unsaid(fragment))]


@functools.cache
def _unsaid(text: str, inside: bool = False) -> str:
    """Return the shortest rest that is neither the package's text nor a number or a name.

    Only the two ends of a fragment may lie within one of the package's texts.
    """
    if not text:
        return ""
    rests = [text]
    if varies := VARIES.match(text):
        rests.append(_unsaid(text[varies.end() :], True))
    for end in range(1, len(text) + 1):
        piece = "\0" * inside + text[:end]
        if piece not in WORDS:
            break
        if end == len(text) or piece + "\0" in WORDS:
            rests.append(_unsaid(text[end:], True))
    return min(rests, key=len)


def words_of_the_package() -> str:
    """Return the texts in the package's code, none of them a docstring, between NULs."""
    # What Python and the system say, and others with a full stop that we go on after.
    found = {"AssertionError", "StopIteration", os.strerror(errno.ENOSPC)}
    for path in Path(chunkup_jupyter.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        said_to_nobody = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.add(node.name)
            if id(node) not in said_to_nobody and isinstance(
                text := getattr(node, "value", 0), str
            ):
                found |= {text, text.rstrip(".")}
    return "\0".join(("", *sorted(found), ""))


WORDS = words_of_the_package()
# Numbers with their units, ids, files, destinations, and the names in 07_write_a_provider.
VARIES = re.compile(
    r"\b[0-9A-F]{8}\b|\d[\d,.]*(?: [KMGT]i?B\b| s\b| %)?|\[[\d, ]+\]|'\w+'|\btus\b|\bTestTus\b"
    r"|\b[\w-]+\.(?:jsonl|csv|mp4|bin)\b|\b\w+:(?://[\w-]*|[\w-]+)"
)
