"""What stays of a notebook without a kernel: saved outputs, as nbconvert writes them."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter  # comes with JupyterLab

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


@pytest.fixture(scope="module")
def page():
    """Return the quickstart as one HTML page of nbconvert's own template."""
    notebook = nbformat.read(NOTEBOOKS / "01_quickstart.ipynb", as_version=4)
    made, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    return made


def outputs(page):
    """Return the parts of a page that are outputs of cells."""
    return "".join(
        re.findall(r'(?s)<div class="jp-Cell-outputWrapper">.*?(?=<div class="jp-Cell )', page)
    )


@pytest.mark.slow
def test_a_converted_notebook_shows_the_results(page):
    shown = outputs(page)

    for promise in (
        "nothing is sent",
        "11 parts",
        "<b>train.jsonl</b>",
        "oss://my-bucket/data/train.jsonl",
        "CRC-64 of every part",
        "<b>film.mp4</b>",
        "from openai import OpenAI",
    ):
        assert promise in shown, promise


@pytest.mark.slow
def test_a_converted_notebook_holds_no_script_of_ours(page):
    """The live view and its script belong to a running kernel."""
    shown = outputs(page)

    assert "<script" not in shown
    assert "widget-view" not in page
    assert "anywidget" not in page
