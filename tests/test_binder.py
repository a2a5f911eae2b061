"""Binder's files, followed as Binder follows them: install, post-build, start, and use.

What Binder (repo2docker) does with them: ``pip install -r binder/requirements.txt`` in
the root of the repository, then ``binder/postBuild``, and every server is started as
``binder/start COMMAND…``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import venv
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BINDER = ROOT / "binder"
QUICKSTART = "notebooks/01_quickstart.ipynb"


def test_binder_has_what_the_tutorials_import():
    """A tutorial that needs a package which Binder does not install fails there."""
    wanted = (BINDER / "requirements.txt").read_text()
    names = {"openai": "openai", "oss2": "oss2", "twelvelabs": "twelvelabs", "pandas": "pandas"}
    names |= {"alibabacloud_oss_v2": "alibabacloud-oss-v2", "pytest": "pytest"}

    used = set()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                words = "".join(cell["source"]).replace(",", " ").split()
                used |= {
                    after.partition(".")[0]
                    for word, after in pairwise(words)
                    if word in ("import", "from")
                }

    missing = {name for name in used & set(names) if names[name] not in wanted}
    assert not missing


@pytest.mark.slow
@pytest.mark.timeout(900)  # packages that are in no cache are downloaded
def test_binder_opens_the_quickstart_and_it_runs_there(tmp_path):
    """The build steps as written, in an environment of their own, and the notebook in it."""
    home = tmp_path / "home"
    home.mkdir()
    place = _place()
    bins = place / "bin"
    kept = ("PIP_", "SSL_", "REQUESTS_", "HTTP", "http", "NO_PROXY", "no_proxy", "LANG", "LC_")
    env = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    env |= {
        "PATH": f"{bins}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "PIP_NO_COMPILE": "1",  # a third of the time, and Binder's is not ours
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR") or _pip_cache(),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }

    def run(*command):
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    if not (place / "installed").exists():
        venv.create(place, clear=True)
        pip = (sys.executable, "-m", "pip", "--python", str(place))
        run(*pip, "install", "-q", "-r", "binder/requirements.txt")
        (place / "installed").touch()
    run("binder/postBuild")
    executed = tmp_path / "quickstart.ipynb"
    run("binder/start", "jupyter", "execute", QUICKSTART, f"--output={executed}")

    shown = json.dumps(json.loads(executed.read_text()), ensure_ascii=False)
    assert "✓ train.jsonl → file-" in shown
    assert _front_page(env) == f"/lab/tree/{QUICKSTART}"


def _place():
    """Return the environment's folder: fresh for every clone and every change of what it holds."""
    asked = [(BINDER / "requirements.txt").read_bytes(), (ROOT / "pyproject.toml").read_bytes()]
    name = hashlib.sha256(b"\0".join([*asked, sys.version.encode()])).hexdigest()[:12]
    for old in (ROOT / ".cache").glob("binder-*"):
        if old.name != f"binder-{name}":
            shutil.rmtree(old)
    return ROOT / ".cache" / f"binder-{name}"


def _front_page(env):
    """Start the server as Binder does; return where its front page leads."""
    command = ["binder/start", "jupyter", "lab", "--no-browser", "--allow-root"]
    options = [
        "--port=0",
        "--ip=127.0.0.1",
        "--IdentityProvider.token=",
        "--ServerApp.open_browser=0",
    ]
    server = subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = _address(Path(env["HOME"]), time.monotonic() + 60)
        with urllib.request.urlopen(address) as page:
            assert page.status == 200
            return page.url.partition("?")[0].removeprefix(address.rstrip("/"))
    finally:
        server.terminate()
        server.wait(20)


def _address(home, deadline):
    """Return the server's address, from the file it writes when it is up."""
    while time.monotonic() < deadline:
        for path in home.rglob("jpserver-*.json"):
            try:
                return str(json.loads(path.read_text())["url"])
            except ValueError:
                pass  # being written
        time.sleep(0.2)
    raise AssertionError("the server did not come up within a minute")


def _pip_cache():
    """Return pip's own cache, so that nothing is downloaded twice."""
    asked = [sys.executable, "-m", "pip", "cache", "dir"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip()
