"""The panel as an application of its own: a notebook that Voila serves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from lab import until

pytestmark = pytest.mark.browser

JSONL = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Serve a notebook with the panel; return its address."""
    pytest.importorskip("voila", reason="voila is not installed")
    cell = {
        "cell_type": "code",
        "id": "panel",
        "metadata": {},
        "outputs": [],
        "source": "%load_ext chunkup_jupyter\n%chunkup panel",
        "execution_count": None,
    }
    spec = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    content = {"cells": [cell], "metadata": spec, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "app.ipynb").write_text(json.dumps(content))
    (tmp_path / "train.jsonl").write_text(JSONL * 500)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "CHUNKUP_STATE": str(tmp_path / "state")}
    for name in ("CONFIG", "RUNTIME", "DATA"):
        env[f"JUPYTER_{name}_DIR"] = str(tmp_path / name.lower())
    env["IPYTHONDIR"] = str(tmp_path / "ipython")
    command = [sys.executable, "-m", "voila", "app.ipynb", "--no-browser", f"--port={port}"]
    with (tmp_path / "voila.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "voila.log").read_text()[-2000:]
        try:
            urlopen(f"{url}voila/static/", timeout=2).close()
        except HTTPError:
            return True  # an answer is an answer
        except URLError:
            return False
        return True

    try:
        until(answers, 60, 0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def test_voila_serves_the_panel_and_it_brings_files_to_their_ids(
    browser: Any, served: str, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text(JSONL * 100_000)  # 8 MB: more than one block
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(served)
    panel = page.locator(".chunkup").first
    panel.get_by_label("Purpose").select_option("fine-tune", timeout=60_000)
    panel.get_by_label("Try it in the sandbox").check()
    panel.get_by_label("Path or pattern").fill("train.jsonl")
    panel.get_by_label("Path or pattern").press("Enter")
    panel.get_by_role("tab", name="My computer").click()
    page.set_input_files(".cu-drop input", str(mine))
    panel.get_by_role("button", name="Upload 2 files").click()
    panel.locator(".cu-file").nth(1).wait_for()

    until(lambda: panel.locator(".cu-file[data-state=completed]").count() == 2, 30)
    ids = panel.locator(".cu-file .cu-word").all_inner_texts()
    page.close()

    assert all(one.startswith("file-") for one in ids)
    assert not [error for error in errors if "chunkup" in error or "blob:" in error]
