"""The quickstart followed by hand: every cell with Shift+Enter, the panel with the mouse.

A screenshot of what was there when it failed goes to ``screenshots/``; with
``CHUNKUP_SHOTS`` naming a folder, one of each stage goes there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import nbformat
import pytest
from lab import Lab, Notebook

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent.parent
SHOTS = os.environ.get("CHUNKUP_SHOTS")


def test_the_quickstart_can_be_followed_by_hand(page: Any, server: Lab) -> None:
    notebook, cells = opened(page, server)
    panel_at = 1 + next(i for i, cell in enumerate(cells) if "%chunkup panel" in cell.source)

    with pictured(page):
        run(notebook, cells, 0, panel_at)
        picture(page, "quickstart-1-cells")
        uploaded = notebook.value("up.id")
        assert uploaded in shown(notebook, "up = %chunkup train.jsonl", cells)

        panel = cell_of(page, panel_at - 1).locator(".jp-OutputArea .chunkup").first
        clicked = upload_by_clicking(page, panel)
        run(notebook, cells, panel_at, len(cells))
        picture(page, "quickstart-3-end")

        # The id that was clicked for is in a variable, and the bytes are those of the file.
        assert clicked != uploaded
        assert clicked in shown(notebook, "clicked = ", cells)
        assert shown(notebook, "prove(", cells).startswith("identical: ")


def upload_by_clicking(page: Any, panel: Any) -> str:
    """Choose the file, press Upload, and copy the id that the panel shows; return it."""
    panel.scroll_into_view_if_needed()
    panel.get_by_role("button", name="Browse").click()
    panel.get_by_role("button", name="Choose train.jsonl").click()
    panel.get_by_label("Purpose").select_option("fine-tune")
    panel.get_by_label("Try it in the sandbox").check()
    panel.get_by_role("button", name="Plan").click()
    panel.get_by_role("row", name="Memory").wait_for()
    panel.get_by_role("button", name="Upload 1 file").click()
    panel.get_by_role("button", name="Copy id").first.click()
    panel.get_by_text("Copied").first.wait_for()
    picture(page, "quickstart-2-panel")
    copied: str = page.evaluate("navigator.clipboard.readText()")
    assert copied in panel.inner_text()
    return copied


def opened(page: Any, server: Lab) -> tuple[Notebook, list[Any]]:
    """Open a copy of the quickstart without its outputs, so that all that shows is new."""
    copytree(ROOT / "notebooks" / "assets", server.work / "assets")
    content = nbformat.read(ROOT / "notebooks" / "01_quickstart.ipynb", as_version=4)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    name = "01_quickstart.ipynb"
    nbformat.write(content, server.work / name)
    page.goto(f"{server.url}/lab/tree/{name}?token={server.token}&reset")
    notebook = Notebook(page, server, name)
    notebook.ready()
    return notebook, content.cells


def run(notebook: Notebook, cells: list[Any], start: int, end: int) -> None:
    """Click the cell at ``start``; press Shift+Enter on each up to ``end``, waiting for code."""
    page = notebook.page
    cell_of(page, start).click()
    for index in range(start, end):
        page.wait_for_function(f"() => ({ACTIVE})() === {index}")
        page.keyboard.press("Shift+Enter")
        if cells[index].cell_type == "code":
            page.wait_for_function(ENDED, arg=index, timeout=90_000)
            errors = [one for one in notebook.outputs(index) if one["output_type"] == "error"]
            assert not errors, errors


def shown(notebook: Notebook, source: str, cells: list[Any]) -> str:
    """Return the text that stands below the first cell with this source."""
    index = next(i for i, cell in enumerate(cells) if source in cell.source)
    text: str = cell_of(notebook.page, index).locator(".jp-OutputArea").text_content()
    return re.sub(r"\s+", " ", text).strip()


def cell_of(page: Any, index: int) -> Any:
    """Return a cell on the page."""
    return page.locator(".jp-Notebook .jp-Cell").nth(index)


@contextmanager
def pictured(page: Any) -> Iterator[None]:
    """Keep a screenshot of what was there when the body failed."""
    try:
        yield
    except BaseException:
        page.screenshot(path=ROOT / "screenshots" / "quickstart-failed.png")
        raise


def picture(page: Any, name: str) -> None:
    """Keep a screenshot of a stage, if they were asked for."""
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


ACTIVE = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
ENDED = """i => {
    const n = window.jupyterapp.shell.currentWidget;
    return n.content.widgets[i].model.executionCount !== null
        && n.sessionContext.session.kernel.status === 'idle'; }"""
