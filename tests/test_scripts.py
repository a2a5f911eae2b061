"""The scripts of the widgets: well formed, and their pure functions right."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPTS = sorted((HERE.parent / "chunkup_jupyter" / "ui").glob("*.js"))

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_well_formed(path: Path) -> None:
    command = ["node", "--check", "--input-type=module"]

    ran = subprocess.run(command, input=path.read_text(), capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr


def test_pure_functions_do_what_they_say() -> None:
    tests = [str(path) for path in sorted((HERE / "js").glob("*.test.mjs"))]

    ran = subprocess.run(["node", "--test", *tests], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout[-5000:]
