"""What stays of a notebook without a kernel: saved outputs, as nbconvert writes them."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter  # comes with JupyterLab

pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"

# How the outputs of a cell begin in each of nbconvert's templates, and what comes next.
CELLS = {
    "lab": r'(?s)<div class="jp-Cell-outputWrapper">.*?(?=<div class="jp-Cell |</main>)',
    "classic": r'(?s)<div class="output_wrapper">.*?(?=<div class="cell |</main>)',
}

# What a reader of the converted notebook still finds.
SHOWN = {
    "01_quickstart": [
        "nothing is sent",
        "11 parts",
        "<b>train.jsonl</b>",
        "oss://my-bucket/data/train.jsonl",
        "CRC-64 of every part",
        "<b>film.mp4</b>",
        "from openai import OpenAI",
    ],
    "02_openai": ["nothing is sent", "<b>batch.jsonl</b>", "<b>Unfinished sessions</b>"],
    "03_alibaba_oss": ["nothing is sent", "<b>rides.csv</b>", "CRC-64 of every part"],
    "04_twelvelabs": ["nothing is sent", "<b>film.mp4</b>", "<b>Cleaned</b>"],
    "05_survive_a_crash": ["<b>model.bin</b>", "<b>Would be cleaned</b>"],
    "06_inside_a_protocol": ["SignatureDoesNotMatch", "CRC-64"],
    "07_write_a_provider": ["<b>Providers</b>", "<b>film.bin</b>", "8 passed"],
}

each = pytest.mark.parametrize(
    ("name", "template"), [(name, template) for template in CELLS for name in SHOWN]
)


def read(name: str) -> nbformat.NotebookNode:
    """Return a notebook with the outputs it is kept with."""
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


@functools.cache
def page(name: str, template: str) -> str:
    """Return a notebook as one HTML page of one of nbconvert's own templates."""
    made, _ = HTMLExporter(template_name=template).from_notebook_node(read(name))
    return str(made)


def outputs(name: str, template: str) -> list[str]:
    """Return the parts of a page that are outputs, by cell."""
    return re.findall(CELLS[template], page(name, template))


@each
def test_a_converted_notebook_shows_the_results(name: str, template: str) -> None:
    shown = outputs(name, template)

    assert len(shown) == sum(bool(cell.get("outputs")) for cell in read(name).cells)
    for promise in SHOWN[name]:
        assert promise in "".join(shown), promise


@each
def test_a_converted_notebook_holds_no_script_of_ours(name: str, template: str) -> None:
    """The live view and its script belong to a running kernel."""
    whole = page(name, template)

    assert "<script" not in "".join(outputs(name, template))
    assert "widget-view" not in whole
    assert "anywidget" not in whole


def test_every_notebook_is_looked_at() -> None:
    assert sorted(SHOWN) == sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
