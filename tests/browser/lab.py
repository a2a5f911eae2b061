"""A real JupyterLab and a real browser, driven from tests."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"


@contextmanager
def server(folder: Path) -> Iterator[Lab]:
    """Run JupyterLab with settings, runtime files and notebooks of its own in ``folder``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    env = dict(os.environ)
    for name in ("CONFIG", "RUNTIME", "DATA"):
        env[f"JUPYTER_{name}_DIR"] = str(folder / name.lower())
    env["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "settings")
    env["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / "workspaces")
    env["JUPYTER_PATH"] = str(folder / "kernels" / "share" / "jupyter")
    env["IPYTHONDIR"] = str(folder / "ipython")
    env["CHUNKUP_STATE"] = str(folder / "state")
    env["PYTHONPATH"] = str(Path(__file__).parent.parent)
    quiet = folder / "settings" / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True)
    (quiet / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    work = folder / "work"
    work.mkdir()
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser"),
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={work}",
        "--ServerApp.ip=127.0.0.1",
    ]
    if os.geteuid() == 0:
        command.append("--allow-root")
    with (folder / "lab.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=work, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/api?token={token}", timeout=2).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError((folder / "lab.log").read_text()[-2000:]) from None
                time.sleep(0.1)
        yield Lab(url, token, work, folder / "kernels" / "share" / "jupyter" / "kernels")
    finally:
        process.terminate()
        try:
            process.wait(30)  # it waits for each kernel that is busy
        except subprocess.TimeoutExpired:
            process.kill()


class Lab:
    """One JupyterLab server: where it is, and the folders of its notebooks and kernels."""

    def __init__(self, url: str, token: str, work: Path, kernels: Path) -> None:
        self.url, self.token, self.work, self.kernels = url, token, work, kernels

    def notebook(self, page: Any, cells: list[str], name: str, kernel: str = "python3") -> Notebook:
        """Write a notebook, open it in the page, and wait for its kernel."""
        made = [
            {
                "cell_type": "code",
                "id": f"c{i}",
                "metadata": {},
                "outputs": [],
                "source": text,
                "execution_count": None,
            }
            for i, text in enumerate(cells)
        ]
        spec = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
        content = {"cells": made, "metadata": spec, "nbformat": 4, "nbformat_minor": 5}
        (self.work / name).write_text(json.dumps(content))
        page.goto(f"{self.url}/lab/tree/{name}?token={self.token}&reset")
        notebook = Notebook(page, self, name)
        notebook.ready()
        return notebook


class Notebook:
    """An open notebook."""

    def __init__(self, page: Any, lab: Lab, name: str) -> None:
        self.page, self.lab, self.name = page, lab, name

    def ready(self) -> None:
        """Wait until the kernel is idle, and heard: a first message may go unanswered."""
        self.page.wait_for_function(
            """() => { const w = window.jupyterapp?.shell.currentWidget;
            return w?.context?.isReady && w.sessionContext?.session?.kernel?.status === 'idle'
                && w.content?.widgets?.length > 0; }""",
            timeout=60_000,
        )
        heard = self.page.evaluate(
            """async () => { const late = () => new Promise(r => setTimeout(r, 5000));
            const k = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            for (let tries = 0; tries < 12; tries++) {
              const answer = k.requestExecute({code: '', silent: true}).done.then(() => true);
              if (await Promise.race([answer, late()])) return true;
            } return false; }"""
        )
        assert heard, f"{self.name}: the kernel is idle and answers nothing"

    def run(self, index: int, *, wait: bool = True) -> None:
        """Run a cell; ``wait`` for its end."""
        self.page.evaluate(
            """async ([i, wait]) => { const app = window.jupyterapp;
            const n = app.shell.currentWidget.content; n.activeCellIndex = i; n.deselectAll();
            const done = app.commands.execute('notebook:run-cell'); if (wait) await done; }""",
            [index, wait],
        )

    def execute(self, code: str) -> None:
        """Run code in the kernel without a cell, and wait."""
        self.page.evaluate(
            """async code => { const k = window.jupyterapp.shell.currentWidget.sessionContext
            .session.kernel; await k.requestExecute({code, silent: false}).done; }""",
            code,
        )

    def value(self, expression: str) -> Any:
        """Return the value of a Python expression in the kernel."""
        text = self.page.evaluate(
            """async code => { const k = window.jupyterapp.shell.currentWidget.sessionContext
            .session.kernel; const r = await k.requestExecute({code: '', silent: true,
            user_expressions: {x: code}}).done; const x = r.content.user_expressions.x;
            if (x.status !== 'ok') throw new Error(x.evalue); return x.data['text/plain']; }""",
            f"__import__('json').dumps({expression})",
        )
        return json.loads(json.loads(text) if text[0] == '"' else _unquoted(text))

    def outputs(self, index: int) -> list[Any]:
        """Return a cell's outputs as they would be saved."""
        found: list[Any] = self.page.evaluate(
            "i => window.jupyterapp.shell.currentWidget.content.widgets[i].model.toJSON().outputs",
            index,
        )
        return found

    def save(self) -> Any:
        """Save the notebook and return what is in the file."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        return json.loads((self.lab.work / self.name).read_text())

    def interrupt(self) -> None:
        """Kernel > Interrupt."""
        self.page.evaluate(
            """() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
            .interrupt()"""
        )

    def theme(self, name: str) -> None:
        """Choose ``JupyterLab Dark`` or ``JupyterLab Light``."""
        self.page.evaluate(
            "t => window.jupyterapp.commands.execute('apputils:change-theme', {theme: t})", name
        )
        self.page.wait_for_function(
            "t => document.body.dataset.jpThemeName === t", arg=name, timeout=10_000
        )

    def close(self) -> None:
        """End every kernel."""
        self.page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")


def _unquoted(text: str) -> str:
    import ast

    value: str = ast.literal_eval(text)
    return value


def until(condition: Callable[[], Any], seconds: float = 10.0, every: float = 0.05) -> Any:
    """Return the first true value of ``condition``; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(every)
