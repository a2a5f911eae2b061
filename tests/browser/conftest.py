"""One JupyterLab and one Chromium for all browser tests; kernels of three behaviours.

ipykernel 7.4 and later, 7.0 to 7.3, and 6 deliver a widget's messages in three ways. A test
that asks for ``kernel`` runs on the installed one and on an older one of each other kind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab
import pytest

OLDER = ("7.3.0", "6.31.0")
SHOTS = os.environ.get("CHUNKUP_SHOTS", "")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel" in metafunc.fixturenames:
        names = ["python3", *(f"ipykernel-{version}" for version in OLDER)]
        metafunc.parametrize("kernel", names, indirect=True)


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
    with lab.server(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def kernel(request: pytest.FixtureRequest, server: lab.Lab) -> str:
    """The name of a kernel that this JupyterLab knows, installed at its first use."""
    name: str = request.param
    spec = server.kernels / name / "kernel.json"
    if name != "python3" and not spec.exists():
        # In a folder that stands before the installed packages: only ipykernel differs.
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        command += [str(spec.parent / "packages"), name.replace("-", "==")]
        subprocess.run(command, check=True)
        path = os.pathsep.join([command[-2], str(Path(__file__).parent.parent)])
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        about = {"display_name": name, "language": "python", "metadata": {"debugger": False}}
        spec.write_text(json.dumps({"argv": argv, "env": {"PYTHONPATH": path}, **about}))
    return name


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
