"""How fast a file comes from a real Chromium into a kernel, and through it: MB/s and memory.

    python tests/benchmarks/picker.py [MIB]

First into the kernel alone, then on to the OpenAI sandbox, which runs in this process.
Chromium is driven over its own protocol: playwright mirrors every websocket frame, which
halves the speed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import websocket

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
import lab

from chunkup_jupyter import open_sandbox

CELL = """
import hashlib, os, threading, time
from chunkup_jupyter.jobs import background
from chunkup_jupyter import start
from chunkup_jupyter.ui.picker import Picker
picker, state = Picker(), {}
def memory():
    return int(open('/proc/self/smaps_rollup').read().split('Pss:')[1].split()[0]) >> 10
async def pull(source):
    digest = hashlib.sha256()
    for at in range(0, source.info.size, 4 << 20):
        digest.update(await source.read(at, min(4 << 20, source.info.size - at)))
    return digest.hexdigest()
def go(source):
    began, state['base'], state['peak'] = time.monotonic(), memory(), 0
    if 'OPENAI_API_KEY' in os.environ:
        made = start(source, 'openai:user_data', state=None)
    else:
        made = background.submit(pull(source))
    while not made.done():
        state['peak'] = max(state['peak'], memory())
        time.sleep(.05)
    state['seconds'] = time.monotonic() - began
    state['end'] = str(made.result(0))
picker.on_pick(lambda sources: threading.Thread(target=go, args=sources).start())
picker
"""


class Chromium:
    """One page over the DevTools protocol."""

    def __init__(self, folder: Path) -> None:
        self._numbers = itertools.count(1)
        options = "--headless=new --no-sandbox --remote-debugging-port=0 --remote-allow-origins=*"
        command = [lab.CHROMIUM, *options.split(), f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        port_file = folder / "DevToolsActivePort"
        lab.until(lambda: port_file.exists() and port_file.read_text(), 20)
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as found:
            page = next(one for one in json.load(found) if one["type"] == "page")
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60)
        self.do("Emulation.setFocusEmulationEnabled", enabled=True)

    def do(self, method: str, **params: Any) -> Any:
        """Send one command and return its result."""
        number = next(self._numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == number:
                return answer.get("result")

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited."""
        found = self.do(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        return found["result"].get("value")

    def close(self) -> None:
        """End the browser."""
        self.socket.close()
        self.process.terminate()
        self.process.wait(10)


def main(size: int) -> None:
    """Bring one file of ``size`` MiB into the kernel, and through it; print the figures."""
    with tempfile.TemporaryDirectory() as name:
        path, digest = Path(name) / "film.bin", hashlib.sha256()
        with path.open("wb") as file:
            for seed in range(size):
                block = random.Random(seed).randbytes(1 << 20)
                digest.update(block)
                file.write(block)
        found = bring(path, Path(name) / "in", {})
        assert found["end"] == digest.hexdigest()
        report("into the kernel", size, found)

        sandbox = open_sandbox("openai")
        found = bring(path, Path(name) / "through", sandbox.sandbox.environment())
        came = hashlib.sha256()
        for block in sandbox.download(found["end"]):
            came.update(block)
        assert came.digest() == digest.digest()
        report("to the sandbox", size, found)


def bring(path: Path, folder: Path, env: dict[str, str]) -> Any:
    """Pick a file in a JupyterLab with these variables; return what became of it."""
    folder.mkdir()
    os.environ.update(env)
    with lab.server(folder) as server:
        cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": CELL}
        cell["execution_count"] = None
        content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        content["metadata"] = {"kernelspec": {"name": "python3", "display_name": "python3"}}
        (server.work / "a.ipynb").write_text(json.dumps(content))
        chromium = Chromium(folder / "chromium")
        kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"

        def state() -> Any:
            time.sleep(0.5)
            text = chromium.value(
                f"{kernel}.requestExecute({{code: '', user_expressions: {{x:"
                " '__import__(\"json\").dumps(state)'}}).done.then(r =>"
                " r.content.user_expressions.x.data['text/plain'])"
            )
            found = json.loads(text.strip("'"))
            return found if "end" in found else None

        try:
            url = f"{server.url}/lab/tree/a.ipynb?token={server.token}&reset"
            chromium.do("Page.navigate", url=url)
            lab.until(lambda: chromium.value(f"{kernel}.status === 'idle'"), 60)
            chromium.value("window.jupyterapp.commands.execute('notebook:run-cell')")
            lab.until(lambda: chromium.value("!!document.querySelector('.cu-drop input')"), 20)
            root = chromium.do("DOM.getDocument")["root"]["nodeId"]
            node = chromium.do("DOM.querySelector", nodeId=root, selector=".cu-drop input")
            chromium.do("DOM.setFileInputFiles", files=[str(path)], nodeId=node["nodeId"])
            return lab.until(state, 60 + path.stat().st_size / 10e6)
        finally:
            chromium.close()


def report(where: str, size: int, found: Any) -> None:
    """Print the figures."""
    rate = size * (1 << 20) / found["seconds"] / 1e6
    print(f"{size} MiB {where}: {rate:.0f} MB/s, kernel +{found['peak'] - found['base']} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
