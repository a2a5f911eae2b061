"""Every notebook runs top to bottom in a fresh kernel, without an account, and keeps its word."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"

# What a notebook promises its reader, as it stands in its outputs.
PROMISES = {
    "01_quickstart": [
        r"11 parts of 16 MiB",
        r"✓ train\.jsonl → file-\w+",
        r"✓ train\.jsonl → oss://my-bucket/data/train\.jsonl",
        r"✓ film\.mp4 → \w+",
        r"(?s)identical: [0-9a-f]{64}.*identical: oss://.*identical: \w+",
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
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None) if cell.cell_type != "code" else cell.update(outputs=[])

    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": NOTEBOOKS}}
    ).execute()

    keeps_its_word(notebook, name)
    assert CANARY not in nbformat.writes(notebook)
    assert not any(CANARY.encode() in path.read_bytes() for path in files_below(tmp_path))


@notebooks
def test_a_notebook_is_kept_with_the_outputs_of_a_clean_run(name):
    text = (NOTEBOOKS / f"{name}.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)

    keeps_its_word(notebook, name)
    assert "widgets" not in notebook.metadata
    for path in ("/home/", "/Users/", "/root/", "/work/", "/tmp/"):
        assert path not in text, f"a path of somebody's machine: {path}"


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
