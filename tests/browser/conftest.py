"""One JupyterLab and one Chromium for all browser tests; kernels of three behaviours.

``CHUNKUP_KERNELS`` names further kernels as NAME=PYTHON, separated by colons: the
interpreters of environments that have another ipykernel. They are made known to this
JupyterLab only.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab
import pytest

KERNELS = dict(
    pair.split("=", 1) for pair in os.environ.get("CHUNKUP_KERNELS", "").split(":") if pair
)
SHOTS = os.environ.get("CHUNKUP_SHOTS", "")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel" in metafunc.fixturenames:
        metafunc.parametrize("kernel", ["python3", *KERNELS])


# For the module only: while playwright lives, its thread counts as running a loop, and the
# tests of other modules that this process takes up next could start none of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
    if not Path(lab.CHROMIUM).exists():
        pytest.skip(f"there is no {lab.CHROMIUM}")
    with sync.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=lab.CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[lab.Lab]:
    folder = tmp_path_factory.mktemp("lab")
    for name, python in KERNELS.items():
        subprocess.run(
            [python, "-m", "ipykernel", "install", "--prefix", str(folder / "kernels"), "--name",
             name], check=True, capture_output=True,
        )  # fmt: skip
    with lab.server(folder) as running:
        yield running


@pytest.fixture
def page(browser: Any, server: lab.Lab, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of its own; errors of scripts fail the test, kernels end with it."""
    context = browser.new_context(viewport={"width": 1180, "height": 1000})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    made = context.new_page()
    errors: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    yield made
    if SHOTS:
        name = request.node.name.replace("/", "_")
        made.screenshot(path=f"{SHOTS}/{name}.png")
    made.evaluate("() => window.jupyterapp?.serviceManager.sessions.shutdownAll()")
    context.close()
    ours = [error for error in errors if "chunkup" in error or "blob:" in error]
    assert not ours
