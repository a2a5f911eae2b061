"""The live view in a real JupyterLab: seen in light and dark, hovered, reloaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, until

pytestmark = pytest.mark.browser

PRETEND = """
import threading, time
from pretend import PretendJob
from chunkup_jupyter.ui.parts import LiveView
from chunkup_jupyter.ui.widget import Widget
def show(parts, seconds=30, until=1.0, **more):
    global job, view
    job = PretendJob(parts, 1 << 20)
    view = LiveView()
    view.follow(job)
    threading.Thread(target=lambda: job.run(seconds, until=until, **more), daemon=True).start()
    return view
"""

VIEW = ".jp-OutputArea .chunkup"


def picture(page: Any, name: str) -> bytes:
    shown = page.locator(VIEW).last
    shown.scroll_into_view_if_needed()
    found: bytes = shown.screenshot()
    if folder := os.environ.get("CHUNKUP_SHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(found)
    return found


def pixels(page: Any) -> int:
    """Return how many different colours the part map has."""
    found: int = page.locator(f"{VIEW} canvas.cu-map").last.evaluate(
        """c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const s = new Set(); for (let i = 0; i < d.length; i += 4)
        s.add(`${d[i]},${d[i+1]},${d[i+2]},${d[i+3]}`); return s.size; }"""
    )
    return found


def word(page: Any) -> str:
    found: str = page.locator(f"{VIEW} .cu-title .cu-word").last.inner_text()
    return found


def test_the_view_shows_any_number_of_parts_in_light_and_dark(page: Any, server: Lab) -> None:
    numbers = [1, 16, 128, 1000, 10_000]
    cells = [f"show({n}, {20 if n == 1 else 4}, {1 if n == 1 else 0.6})" for n in numbers]
    notebook = server.notebook(page, [PRETEND, *cells], "maps.ipynb")
    notebook.run(0)
    for index, parts in enumerate(numbers, 1):
        notebook.run(index)
        page.locator(f"{VIEW} canvas.cu-map").nth(index - 1).wait_for()
        height = page.locator(VIEW).last.bounding_box()["height"]
        until(lambda: int(word(page).split()[-1].rstrip("%")) >= 5)

        light = picture(page, f"light-{parts}")
        seen = pixels(page)
        notebook.theme("JupyterLab Dark")
        dark = picture(page, f"dark-{parts}")
        notebook.theme("JupyterLab Light")

        assert seen >= 3
        assert light != dark
        assert page.locator(VIEW).last.bounding_box()["height"] == height < 360


def test_hovering_and_the_keyboard_tell_about_a_part(page: Any, server: Lab) -> None:
    notebook = server.notebook(page, [PRETEND, "show(16, 20, 0.5)"], "hover.ipynb")
    notebook.run(0)
    notebook.run(1)
    canvas = page.locator(f"{VIEW} canvas.cu-map").last
    tip = page.locator(f"{VIEW} .cu-tip").last
    canvas.hover(position={"x": 4, "y": 4})
    first = tip.inner_text()
    page.mouse.move(5, 5)
    canvas.focus()
    page.keyboard.press("ArrowRight")

    details = page.get_by_role("button", name="Details").last
    shown = details.get_attribute("aria-expanded"), canvas.is_visible()
    details.click()
    after = details.get_attribute("aria-expanded"), canvas.is_visible()

    assert {shown, after} == {("true", True), ("false", False)}
    assert first.startswith("Part 1 of 16: ")
    assert "bytes 0 to 1,048,575" in first
    assert tip.inner_text().startswith("Part 2 of 16: ")


def test_a_reloaded_page_shows_the_same_and_goes_on(page: Any, server: Lab) -> None:
    notebook = server.notebook(page, [PRETEND, "show(64, 60)"], "reload.ipynb")
    notebook.run(0)
    notebook.run(1)
    until(lambda: not word(page).endswith(" 0%"))
    notebook.save()
    page.goto(f"{server.url}/lab/tree/reload.ipynb?token={server.token}")
    notebook.ready()
    page.wait_for_selector(f"{VIEW} canvas.cu-map", timeout=15_000)
    before = word(page)

    until(lambda: word(page) != before)
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Paused", exact=False).first.wait_for(timeout=3000)
