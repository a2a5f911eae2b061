"""The panel and the picker in a real JupyterLab: chosen, typed, dropped, uploaded, and seen."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, until

pytestmark = pytest.mark.browser

JSONL = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'

VIEW = ".jp-OutputArea .chunkup"

PICK = """
from chunkup_jupyter.ui.picker import Picker
picker = Picker()
picker
"""
READ = """
import asyncio, hashlib, time, threading
from chunkup_jupyter import background
state = {}
async def pull(source):
    digest, began = hashlib.sha256(), time.monotonic()
    step = (1 if state.get('slow') else 4) << 20
    for start in range(0, source.info.size, step):
        block = await source.read(start, min(step, source.info.size - start))
        state['got'] = start + len(block)
        digest.update(block)
        if state.get('slow'): await asyncio.sleep(.2)
    state['seconds'] = time.monotonic() - began
    state['digest'] = digest.hexdigest()
"""


def test_a_dropped_file_arrives_whole_while_a_cell_runs(
    page: Any, server: Lab, kernel: str
) -> None:
    size = int(os.environ.get("CHUNKUP_PICK_MIB", "20")) << 20
    path = server.work / "film.bin"
    with path.open("wb") as file:
        for seed in range(size >> 20):
            file.write(random.Random(seed).randbytes(1 << 20))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    waits = "while 'digest' not in state: await asyncio.sleep(.05)"
    go = "picker.files and background.submit(pull(picker.files[0]))"
    notebook = server.notebook(page, [PICK, READ, waits], f"pick-{kernel}.ipynb", kernel)
    notebook.run(0)
    notebook.run(1)
    page.set_input_files(".cu-drop input", str(path))
    page.locator(".cu-picked li").wait_for()
    until(lambda: notebook.value("len(picker.files)") == 1)
    refuses = notebook.value("picker.files[0].refuses_to_wait(awaiting=True)")
    if not refuses:
        notebook.execute(go)
        notebook.run(2)
    else:
        notebook.execute(go)
    until(lambda: notebook.value("'digest' in state"), 60)

    assert notebook.value("state['digest']") == digest
    seconds = notebook.value("state['seconds']")
    print(f"{kernel}: {size / seconds / 1e6:.0f} MB/s")
    assert bool(refuses) == (
        tuple(notebook.value("list(__import__('ipykernel').version_info[:2])")) < (7, 0)
    )


def test_several_files_can_be_dropped(page: Any, server: Lab) -> None:
    notebook = server.notebook(page, [PICK], "drop.ipynb")
    notebook.run(0)
    page.locator(".cu-drop").wait_for()
    page.evaluate(
        """() => { const t = new DataTransfer(); t.items.add(new File(['abc'], 'a.txt'));
        t.items.add(new File(['defg'], 'b.txt')); const z = document.querySelector('.cu-drop');
        for (const kind of ['dragenter', 'dragover', 'drop']) z.dispatchEvent(
        new DragEvent(kind, {dataTransfer: t, bubbles: true, cancelable: true})); }"""
    )
    page.locator(".cu-picked li").nth(1).wait_for()

    until(lambda: notebook.value("[f.info.name for f in picker.files]") == ["a.txt", "b.txt"])


def test_after_a_reload_the_same_file_goes_on(page: Any, server: Lab) -> None:
    path = server.work / "again.bin"
    path.write_bytes(random.Random(3).randbytes(40 << 20))
    notebook = server.notebook(page, [PICK, READ], "again.ipynb")
    notebook.run(0)
    notebook.run(1)
    page.set_input_files(".cu-drop input", str(path))
    until(lambda: notebook.value("len(picker.files)") == 1)
    notebook.execute("state['slow'] = True; background.submit(pull(picker.files[0]))")
    until(lambda: notebook.value("state.get('got', 0)") > 0)
    notebook.save()
    page.goto(f"{server.url}/lab/tree/again.ipynb?token={server.token}")
    notebook.ready()
    page.locator(".cu-again").wait_for(timeout=15_000)
    until(lambda: "pick the same file" in notebook.value("picker.files[0].waiting"), 15)
    page.set_input_files(".cu-drop input", str(path))

    until(lambda: notebook.value("'digest' in state"), 30)
    assert notebook.value("state['digest']") == hashlib.sha256(path.read_bytes()).hexdigest()


CANARY = "sk-canary-5d41402abc4b2a76b9719d91"


def test_the_panel_goes_from_click_to_id_and_a_key_leaves_no_trace(page: Any, server: Lab) -> None:
    (server.work / "train.jsonl").write_text(JSONL * 500)
    notebook = server.notebook(
        page, ["from chunkup_jupyter import Panel\npanel = Panel()\npanel"], "panel.ipynb"
    )
    notebook.run(0)
    panel = page.locator(VIEW).first
    panel.get_by_label("Path or pattern").fill("train.js*")
    panel.get_by_label("Path or pattern").press("Enter")
    panel.get_by_label("Purpose").select_option("fine-tune")
    panel.get_by_text("OPENAI_API_KEY: missing").wait_for()
    panel.get_by_label("API key").fill(CANARY)
    panel.get_by_label("API key").press("Enter")
    panel.get_by_text("entered here: found").wait_for()
    assert CANARY not in page.content()
    panel.get_by_text("%chunkup train.jsonl openai:fine-tune --ask-key -b").wait_for()
    panel.get_by_label("Try it in the sandbox").check()
    panel.get_by_text("%chunkup train.jsonl openai:fine-tune --sandbox -b").wait_for()
    panel.get_by_role("button", name="Plan").click()
    panel.get_by_role("row", name="Memory").wait_for()
    panel.get_by_role("button", name="Upload 1 file").click()
    panel.get_by_role("button", name="Copy id").first.click()
    panel.get_by_text("Copied").wait_for()
    wide = picture_of(panel, "panel-wide")
    page.set_viewport_size({"width": 640, "height": 1000})
    narrow = picture_of(panel, "panel-narrow")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    state = page.evaluate(
        """async () => { const w = window.jupyterapp.shell.currentWidget; const m =
        w.content.rendermime; return JSON.stringify(w.model.toJSON()); }"""
    )
    saved = json.dumps(notebook.save())

    assert copied == notebook.value("panel.jobs[0].result(0).id")
    assert wide != narrow
    assert CANARY not in state
    assert CANARY not in saved
    assert CANARY not in notebook.value("repr([w.get_state() for w in (panel, panel.view)])")
    assert not any(
        CANARY.encode() in path.read_bytes()
        for path in server.work.parent.rglob("*")
        if path.is_file()
    )


def picture_of(shown: Any, name: str) -> bytes:
    found: bytes = shown.screenshot()
    if folder := os.environ.get("CHUNKUP_SHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(found)
    return found


def test_the_panel_can_be_worked_with_the_keyboard(page: Any, server: Lab) -> None:
    notebook = server.notebook(page, ["from chunkup_jupyter import Panel\nPanel()"], "keys.ipynb")
    notebook.run(0)
    panel = page.locator(VIEW).first
    panel.get_by_role("tab", name="This machine").focus()
    page.keyboard.press("ArrowRight")
    panel.get_by_text("Drop files here").wait_for()
    page.keyboard.press("ArrowRight")
    panel.get_by_label("Remote address").wait_for()
    panel.get_by_label("Remote address").fill("https://example.org/a.bin")
    page.keyboard.press("Enter")

    panel.get_by_text("https://example.org/a.bin").first.wait_for()
    nameless = panel.locator("button, input, select, canvas").evaluate_all(
        """all => all.filter(e => e.offsetParent !== null && !(e.textContent.trim()
        || e.getAttribute('aria-label') || e.labels?.length || e.title)).map(e => e.outerHTML)"""
    )
    assert nameless == []
