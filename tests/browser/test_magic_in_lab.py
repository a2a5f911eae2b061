"""``%chunkup`` in a real JupyterLab: clicked, interrupted, completed, saved, without widgets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from lab import Lab, until

pytestmark = pytest.mark.browser

JSONL = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
VIEW = ".jp-OutputArea .chunkup"
LOAD = "%load_ext chunkup_jupyter"
SLOW = "%chunkup big.bin oss://bucket/key --sandbox --part-size 1M --bwlimit 2M"

# Milliseconds from a click to what it does, as the page sees it; null after three seconds.
CLICKED = """async ([view, name, word]) => {
  const shown = [...document.querySelectorAll(view)].at(-1), began = performance.now();
  [...shown.querySelectorAll('button')].find(b => b.textContent === name).click();
  while (!shown.querySelector('.cu-title .cu-word').textContent.startsWith(word)) {
    if (performance.now() - began > 3000) return null;
    await new Promise(done => setTimeout(done, 5));
  }
  return performance.now() - began;
}"""


@pytest.fixture
def work(server: Lab) -> Lab:
    (server.work / "train.jsonl").write_text(JSONL * 500)
    (server.work / "broken.jsonl").write_text("no JSON\n" * 500)
    with (server.work / "big.bin").open("wb") as file:
        file.truncate(64 << 20)
    return server


@pytest.mark.parametrize("where", ["a cell", "a function"])
def test_a_waiting_cell_hears_clicks_and_interrupt(
    page: Any, work: Lab, kernel: str, where: str
) -> None:
    """ipykernel 6 hears no click while a cell runs: the view says so, and Interrupt works."""
    upload = SLOW if where == "a cell" else f"def send():\n    {SLOW}\nsend()"
    notebook = work.notebook(
        page, [LOAD, upload, "after = 1"], f"waits-{kernel}-{len(where)}.ipynb", kernel
    )
    notebook.run(0)
    notebook.run(1, wait=False)
    notebook.run(2, wait=False)
    page.locator(f"{VIEW} .cu-word", has_text="Uploading").wait_for()
    if "6." in kernel:
        page.get_by_role("button", name="Pause").click()
        page.get_by_text("The kernel is busy").first.wait_for(timeout=2000)
    else:
        paused = page.evaluate(CLICKED, [VIEW, "Pause", "Paused"])
        resumed = page.evaluate(CLICKED, [VIEW, "Resume", "Uploading"])
        print(f"{kernel}, {where}: paused in {paused:.0f} ms, resumed in {resumed:.0f} ms")
    notebook.interrupt()
    page.get_by_text("Stopped: big.bin").first.wait_for(timeout=4000)
    until(lambda: notebook.value("_chunkup.state.value") == "stopped")

    (error,) = [one for one in notebook.outputs(1) if one["output_type"] == "error"]
    (line,) = error["traceback"]
    assert "Go on with: %chunkup big.bin oss://bucket/key" in line
    assert notebook.value("'after' in globals()") is False
    assert page.locator(f"{VIEW} canvas").count() == 0


def test_a_detached_upload_is_paused_gone_on_with_and_cancelled(page: Any, work: Lab) -> None:
    notebook = work.notebook(page, [LOAD, f"job = {SLOW} -b"], "detached.ipynb")
    notebook.run(0)
    notebook.run(1)
    page.get_by_text("runs in the background").wait_for()
    page.locator(f"{VIEW} .cu-word", has_text="Uploading").wait_for()
    assert page.evaluate(CLICKED, [VIEW, "Pause", "Paused"]) is not None
    assert page.evaluate(CLICKED, [VIEW, "Resume", "Uploading"]) is not None
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Really discard?").click()

    until(lambda: notebook.value("job.state.value") == "cancelled")
    page.get_by_text("was cancelled").wait_for()


def test_what_stays_in_the_file_is_static_and_true(page: Any, work: Lab) -> None:
    lines = ["%chunkup train.jsonl openai:fine-tune", "%chunkup broken.jsonl openai:fine-tune"]
    notebook = work.notebook(
        page, [LOAD, *(f"{line} --sandbox --progress widget" for line in lines)], "static.ipynb"
    )
    for cell in range(3):
        notebook.run(cell)
    until(lambda: "text/html" in json.dumps(notebook.outputs(2)))
    saved = notebook.save()
    sent, failed = (json.dumps(cell["outputs"]) for cell in saved["cells"][1:])

    assert "file-" in sent
    assert "line 1" in failed
    assert "Traceback" not in failed
    assert "widgets" not in saved["metadata"]
    for text in (sent, failed):
        assert "widget-view" not in text
        assert "<script" not in text
    page.goto(f"{work.url}/lab/tree/static.ipynb?token={work.token}&reset")
    page.locator(".jp-RenderedHTMLCommon > table").nth(1).wait_for()


@pytest.fixture(params=["@jupyter-widgets/jupyterlab-manager", "anywidget"])
def without(request: pytest.FixtureRequest, work: Lab) -> Iterator[None]:
    """A JupyterLab in which an extension is missing that widgets need."""
    path = work.work.parent / "config" / "labconfig" / "page_config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"disabledExtensions": {request.param: True}}))
    yield
    path.unlink()


@pytest.mark.usefixtures("without")
def test_without_widgets_the_view_is_html_that_goes_on(page: Any, work: Lab) -> None:
    notebook = work.notebook(page, [LOAD, SLOW], "bare.ipynb")
    notebook.run(0)
    notebook.run(1, wait=False)
    shown = page.locator(".jp-RenderedHTMLCommon [role=group]")
    shown.wait_for(timeout=10_000)
    before = shown.inner_text()
    until(lambda: shown.inner_text() != before)
    notebook.interrupt()

    page.get_by_text("Stopped: big.bin").first.wait_for(timeout=4000)
    page.locator(".jp-RenderedHTMLCommon > table").wait_for()


@pytest.mark.parametrize("jedi", [True, False], ids=["jedi", "no jedi"])
def test_tab_completes_an_assigned_line(page: Any, work: Lab, jedi: bool) -> None:
    cells = [f"{LOAD}\n%config Completer.use_jedi = {jedi}", ""]
    notebook = work.notebook(page, cells, f"tab-{jedi}.ipynb")
    notebook.run(0)
    editor = page.locator(".jp-Notebook .cm-content").nth(1)
    editor.click()
    for typed, offered in [
        ("x = %chunkup trai", "train.jsonl"),
        (" openai:f", "openai:fine-tune"),
        (" --expi", "--expires-after"),
    ]:
        page.keyboard.type(typed)
        page.keyboard.press("Tab")
        page.locator(".jp-Completer-item", has_text=offered).wait_for()
        page.keyboard.press("Enter")

    line = "x = %chunkup train.jsonl openai:fine-tune --expires-after"
    until(lambda: editor.inner_text().strip() == line)
