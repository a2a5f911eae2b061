"""The panel and the picker in a real JupyterLab: chosen, typed, dropped, uploaded, and seen."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, Notebook, until

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
from chunkup_jupyter.jobs import background
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


# What does not fit where a panel is 500 pixels wide.
TOO_WIDE = """view => {
  const root = document.querySelector(view);
  root.style.width = '500px';
  return [root, ...root.querySelectorAll('.cu-card, .cu-row, button')]
    .filter(one => one.offsetParent && one.scrollWidth > one.clientWidth + 1)
    .map(one => `${one.tagName} ${one.className}: ${one.scrollWidth} in ${one.clientWidth}`);
}"""

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
    panel.get_by_role("button", name="Copy the line").click()
    panel.get_by_text("Copied").wait_for()
    line = page.evaluate("() => navigator.clipboard.readText()")
    panel.get_by_text("Copied").wait_for(state="detached")
    panel.get_by_role("button", name="Plan").click()
    panel.get_by_role("row", name="Memory").wait_for()
    panel.get_by_role("button", name="Upload 1 file").click()
    panel.get_by_role("button", name="Copy id").first.click()
    panel.get_by_text("Copied").wait_for()
    wide = picture_of(panel, "panel-wide")
    page.set_viewport_size({"width": 640, "height": 1000})
    narrow = picture_of(panel, "panel-narrow")
    too_wide = page.evaluate(TOO_WIDE, VIEW)
    copied = page.evaluate("() => navigator.clipboard.readText()")
    state = page.evaluate(
        """async () => { const w = window.jupyterapp.shell.currentWidget; const m =
        w.content.rendermime; return JSON.stringify(w.model.toJSON()); }"""
    )
    saved = json.dumps(notebook.save())

    assert copied == notebook.value("panel.jobs[0].result(0).id")
    assert line == "%chunkup train.jsonl openai:fine-tune --sandbox -b"
    assert wide != narrow
    assert too_wide == []
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


@pytest.fixture
def panel(page: Any, server: Lab, request: pytest.FixtureRequest) -> Shown:
    """A panel in a notebook of its own, with three files beside it; nothing is remembered."""
    page.set_default_timeout(15_000)
    shutil.rmtree(server.work.parent / "state", ignore_errors=True)
    for path in server.work.glob("*.jsonl"):
        path.unlink()
    (server.work / "train.jsonl").write_text(JSONL * 500)
    (server.work / "valid.jsonl").write_text(JSONL * 100)
    (server.work / "broken.jsonl").write_text("no json\n")
    cell = "from chunkup_jupyter import Panel, set_bandwidth\npanel = Panel()\npanel"
    notebook = server.notebook(page, [cell], f"{request.node.name}.ipynb")
    notebook.run(0)
    return Shown(page.locator(VIEW).first, notebook)


@dataclass(frozen=True)
class Shown:
    """The panel on the page, and its notebook."""

    box: Any
    notebook: Notebook

    def to_the_sandbox(self, purpose: str) -> None:
        """Choose the sandbox as destination."""
        self.box.get_by_label("Purpose").select_option(purpose)
        self.box.get_by_label("Try it in the sandbox").check()

    def states(self) -> list[str]:
        """Return the state of each file in the queue."""
        found: list[str] = self.box.locator(".cu-file").evaluate_all(
            "all => all.map(e => e.dataset.state)"
        )
        return found


def test_one_failure_stops_no_other_and_can_be_mended(server: Lab, panel: Shown) -> None:
    box, notebook = panel.box, panel.notebook
    panel.to_the_sandbox("fine-tune")
    box.get_by_label("Path or pattern").fill("*.jsonl")
    # Without Add: what stands in the field is meant, too.
    box.locator(".cu-main").click()
    until(lambda: panel.states() == ["failed", "completed", "completed"])
    box.locator(".cu-file").first.click()
    box.get_by_text("broken.jsonl, line 1").first.wait_for()
    (server.work / "broken.jsonl").write_text(JSONL * 20)

    box.get_by_role("button", name="Retry").click()

    until(lambda: panel.states() == ["completed"] * 3)
    assert len(set(notebook.value("[job.result(0).id for job in panel.jobs]"))) == 3
    box.get_by_role("button", name="Clear finished").click()
    box.get_by_text("Clear finished").wait_for(state="hidden")


def test_the_plan_says_what_would_happen(panel: Shown) -> None:
    box = panel.box
    panel.to_the_sandbox("fine-tune")
    box.get_by_label("Path or pattern").fill("train.jsonl")
    box.get_by_role("button", name="Plan").click()
    box.get_by_role("row", name="Parts", exact=False).first.wait_for()

    rows = dict(box.locator(".cu-table tr").evaluate_all(
        "all => all.map(row => [row.children[0].textContent, row.children[1].textContent])"
    ))  # fmt: skip

    assert rows["File"].startswith("train.jsonl · 40 kB")
    assert rows["Parts"] == "1 part"
    assert "at most 64 MiB" in rows["Checked"]
    assert rows["Session"].startswith("open for 1 h")
    assert {"Memory", "Time"} <= rows.keys()


def test_files_are_found_by_looking_and_by_completion(server: Lab, panel: Shown) -> None:
    box = panel.box
    (server.work / "data").mkdir(exist_ok=True)
    (server.work / "data" / "deep.jsonl").write_text(JSONL)
    box.get_by_label("Path or pattern").fill("da")
    until(lambda: "data/" in box.locator("datalist option").evaluate_all(
        "all => all.map(one => one.value)"))  # fmt: skip
    box.get_by_label("Path or pattern").fill("")
    box.get_by_role("button", name="Browse").click()
    box.get_by_label("Choose train.jsonl").click()
    box.get_by_label("Open folder data").click()
    box.get_by_label("Choose deep.jsonl").click()

    chips = box.locator("[aria-label='Chosen files'] li .cu-name")
    until(lambda: chips.all_inner_texts() == ["train.jsonl", "data/deep.jsonl"])
    box.get_by_label("Remove train.jsonl").click()
    until(lambda: chips.all_inner_texts() == ["data/deep.jsonl"])
    assert box.get_by_label("Choose deep.jsonl").get_attribute("aria-pressed") == "true"


def test_an_upload_from_the_browser_survives_a_reload(page: Any, server: Lab, panel: Shown) -> None:
    box, notebook = panel.box, panel.notebook
    mine = server.work / "mine.bin"
    mine.write_bytes(random.Random(7).randbytes(160 << 20))  # far more than the kernel holds
    panel.to_the_sandbox("user_data")
    notebook.execute("set_bandwidth('1M')")
    box.get_by_role("tab", name="My computer").click()
    page.set_input_files(".cu-drop input", str(mine))
    box.get_by_role("tab", name="My computer (1)").wait_for()
    box.get_by_role("button", name="Upload 1 file").click()
    until(lambda: notebook.value("panel.jobs and panel.jobs[0].progress.sent > 0"))
    notebook.save()
    page.goto(f"{server.url}/lab/tree/{notebook.name}?token={server.token}")
    notebook.ready()
    box.get_by_role("tab", name="My computer").click()
    box.get_by_text("pick this file again to continue").wait_for(timeout=20_000)
    notebook.execute("set_bandwidth(None)")
    box.locator(".cu-note", has_text="pick the same file again").wait_for()
    assert box.get_by_role("button", name="Upload", exact=True).is_disabled()

    page.set_input_files(".cu-drop input", str(mine))

    until(lambda: notebook.value("panel.jobs[0].done()"), 30)
    notebook.execute(
        "import hashlib\nfrom chunkup_jupyter import open_sandbox\n"
        "came, digest = panel.jobs[0].result(0), hashlib.sha256()\n"
        "for block in open_sandbox('openai').download(came.id): digest.update(block)"
    )
    assert notebook.value("digest.hexdigest()") == hashlib.sha256(mine.read_bytes()).hexdigest()
    until(lambda: box.locator(".cu-picked li").count() == 0)


def test_what_is_unfinished_can_be_resumed_or_discarded(server: Lab, panel: Shown) -> None:
    box, notebook = panel.box, panel.notebook
    (server.work / "big.bin").write_bytes(random.Random(8).randbytes(40 << 20))
    (server.work / "other.bin").write_bytes(random.Random(9).randbytes(40 << 20))
    notebook.execute(
        "import asyncio, os\nfrom chunkup_jupyter import open_sandbox, start\n"
        "set_bandwidth('1M')\n"
        "os.environ.update(open_sandbox('openai').sandbox.environment())\n"
        "for name in ('big.bin', 'other.bin'):\n"
        "    left = start(name, 'openai:user_data')\n"
        "    while not left.progress.sent: await asyncio.sleep(0.05)\n"
        "    left.stop(); left.settle(5)\n"
        "panel._work.put(panel._look)\nset_bandwidth(None)"
    )
    box.get_by_text("We found 2 unfinished uploads").wait_for()

    box.get_by_label("Discard: other.bin").click()
    box.get_by_text("Really?").click()
    box.get_by_text("We found 1 unfinished upload", exact=True).wait_for()
    box.get_by_label("Resume: big.bin").click()
    until(lambda: notebook.value("len(panel.jobs)") == 1)
    notebook.execute("set_bandwidth(None)")  # its line goes on with the limit it was begun with

    until(lambda: panel.box.locator(".cu-title .cu-word").inner_text() == "Complete", 30)
    box.get_by_text("We found").wait_for(state="hidden")


def test_the_panel_remembers_the_destination_and_no_key(
    page: Any, server: Lab, panel: Shown
) -> None:
    box, notebook = panel.box, panel.notebook
    box.get_by_label("Provider").select_option("oss")
    box.get_by_label("Bucket").fill("my-bucket")
    box.get_by_label("Key", exact=True).fill("dir/")
    box.get_by_label("Access key secret").fill(CANARY)
    box.get_by_label("Access key secret").press("Tab")
    assert box.get_by_label("Access key secret").input_value() == ""
    box.get_by_label("Try it in the sandbox").check()
    box.get_by_label("Path or pattern").fill("train.jsonl")
    box.locator(".cu-main").click()
    until(lambda: notebook.value("[job.done() for job in panel.jobs]") == [True])

    notebook.execute("panel.close()")
    notebook.run(0)
    again = page.locator(VIEW).first
    again.get_by_label("Bucket").wait_for()

    assert again.get_by_label("Bucket").input_value() == "my-bucket"
    assert again.get_by_label("Try it in the sandbox").is_checked()
    assert CANARY not in (server.work.parent / "state" / "panel.json").read_text()


def test_a_file_is_uploaded_with_the_keyboard_alone(page: Any, panel: Shown) -> None:
    box, press = panel.box, page.keyboard.press

    def to(label: str) -> None:
        for _ in range(40):
            press("Tab")
            if label in page.evaluate(
                """() => { const e = document.activeElement; return [e.textContent,
                e.getAttribute('aria-label'), e.labels?.[0]?.textContent].join(' '); }"""
            ):
                return
        raise AssertionError(f"Tab does not lead to {label}")

    box.get_by_role("tab", name="This machine").focus()
    to("Path or pattern")
    page.keyboard.type("train.jsonl")
    press("Enter")
    box.get_by_text("Upload 1 file").wait_for()
    to("Purpose")
    page.keyboard.type("fine")
    to("sandbox")
    press("Space")
    box.get_by_text("%chunkup train.jsonl openai:fine-tune --sandbox -b").wait_for()
    to("Upload 1 file")
    press("Enter")

    until(lambda: box.locator(".cu-title .cu-word").inner_text() == "Complete")


def test_every_text_can_be_read_in_light_and_dark(page: Any, panel: Shown) -> None:
    """WCAG's 4.5 to 1, in the states that have colours of their own."""
    box, notebook = panel.box, panel.notebook
    audit = (Path(__file__).parent / "contrast.js").read_text()

    def unreadable() -> list[Any]:
        found = []
        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            notebook.theme(theme)
            found += box.evaluate(audit)
        notebook.theme("JupyterLab Light")
        return found

    box.get_by_role("button", name="Browse").click()
    box.get_by_label("Choose train.jsonl").click()
    box.get_by_text("More options").click()
    box.get_by_text("OPENAI_API_KEY: missing").wait_for()
    assert unreadable() == []
    panel.to_the_sandbox("fine-tune")
    box.get_by_label("Path or pattern").fill("*.jsonl")
    box.locator(".cu-main").click()
    until(lambda: sorted(panel.states()) == ["completed", "completed", "failed"])
    assert unreadable() == []
    for row in box.locator(".cu-file").all():
        row.click()
        assert unreadable() == []
