"""Files from the laptop: a ``Source`` whose bytes live in the browser.

The kernel pulls. It asks for ranges of a file over the widget's comm, the page answers
with slices of it, in any order; nothing of the file is kept beyond a few blocks. A page
that was closed or loaded anew is waited for, until the same file is picked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import traitlets
from IPython import get_ipython

from .. import units
from ..errors import SourceChanged, SourceError, SourceGone
from ..model import FileInfo
from ..sources import media_type_of
from . import assets
from .bars import is_vs_code
from .blocks import MOST, Blocks
from .parts import answer_while_busy

CAREFUL = 512 << 10  # bytes of the first blocks where 1 MB is known to fail (Colab)
PATIENCE = 10.0  # seconds without an answer after which a block is asked for again
HURRY = 2.0  # seconds in which a page that still has the file would have answered


class BrowserSource:
    """One file in somebody's browser: a ``Source`` that is read front to back.

    Any range may be read, and again; in order is fastest. When nobody answers, reads
    wait, ``waiting`` says why, and those who asked with ``on_waiting`` are told, and told
    "" when it goes on: the same file was picked again.
    """

    in_order = True
    spelled = ""

    def __init__(
        self,
        name: str,
        size: int,
        modified: int,
        ask: Callable[[str, Sequence[tuple[int, int]]], None],
        *,
        media_type: str = "",
        block: int = MOST,
    ) -> None:
        self.key = f"{name}:{size}:{modified}"
        self.identity = f"browser:{self.key}"
        kind = media_type_of(name)
        if kind == "application/octet-stream" and media_type:
            kind = media_type
        # Another file may have the same name, size and time, so what no checksum covers is
        # trusted only as long as this one stays picked.
        self.info = FileInfo(name, size, kind, f"browser:{size}:{modified}:{uuid.uuid4().hex}")
        self.waiting = ""
        self.beside = False
        """Whether its messages came on a thread of their own, so that a busy cell is no harm."""
        self._ask = ask
        self._blocks = Blocks(size, block)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None
        self._error: SourceError | None = None
        self._told: list[Callable[[str], None]] = []
        self._reading: list[tuple[int, int]] = []
        self._silent = 0
        self._pinged = 0.0
        self._doubt = 0.0  # since when the page may be gone; 0 when it is not in doubt
        self._removed = False

    async def read(self, start: int, size: int) -> bytes | memoryview:
        """Return exactly ``size`` bytes from ``start``; wait as long as it takes.

        Raises ``SourceChanged`` when the file has fewer or was written to, ``SourceGone``
        when it was taken out of the picker.
        """
        if start < 0 or size < 0 or start + size > self.info.size:
            raise SourceChanged(f"{self.info.name} has no {size:,} bytes at {start:,}")
        if size == 0:
            return b""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._news = loop, asyncio.Event()
        self._reading.append((start, start + size))
        try:
            return await self._read(start, size)
        finally:
            self._reading.remove((start, start + size))

    async def _read(self, start: int, size: int) -> bytes | memoryview:
        news = self._news
        assert news is not None
        while True:
            news.clear()
            self.verify()
            with self._lock:
                found = self._blocks.take(start, size)
                if found is not None:
                    self._blocks.forget(self._reading)
                asks = []
                if not self.waiting:
                    asks = self._blocks.wanted(start, size, time.monotonic(), self._reading)
            if asks:
                self._send(asks)
            if found is not None:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    await news.wait()
            self._look_at_the_clock()

    def on_waiting(self, told: Callable[[str], None]) -> None:
        """Call ``told(reason)`` when reads wait for the page, ``told("")`` when they go on.

        On the loop that reads, once there is one.
        """
        self._told.append(told)

    def verify(self) -> None:
        """Raise when the page said that the file changed, or that it is no longer picked."""
        if self._removed:
            raise SourceGone(f"{self.info.name} was taken out of the picker; pick it again")
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let go of what is held. It may be read again: then the page is asked again."""
        with self._lock:
            self._blocks.clear()

    def refuses_to_wait(self, *, awaiting: bool) -> str:
        """Return why a cell must not wait for an upload of this file; "" when it may.

        ``awaiting``: the cell awaits; else it blocks. Messages of the page that came on
        a thread of their own come while a cell runs, too. On the main thread they reach
        a cell that awaits from ipykernel 7.4 on, and no other.
        """
        if self.beside or (awaiting and _handles_while_awaiting()):
            return ""
        return (
            f"{self.info.name} is in your browser, and this kernel cannot hear the browser "
            "while a cell runs: waiting here would never end. Let it run in the background "
            "and ask for its result in a later cell"
        )

    def __repr__(self) -> str:
        return f"<BrowserSource {self.info.name}, {units.size(self.info.size)}>"

    # -- what the page says, on any thread

    def answered(self, start: int, data: memoryview) -> None:
        """Take in a slice."""
        with self._lock:
            self._blocks.answer(start, data, time.monotonic())
        self._silent, self._doubt = 0, 0.0
        self._wait("")

    def picked(self) -> None:
        """The page has the file, again or still."""
        self._error, self._silent, self._doubt, self._removed = None, 0, 0.0, False
        with self._lock:
            self._blocks.again(smaller=False)
        self._wait("")

    def doubted(self) -> None:
        """A page came or went: the one that had the file may be gone."""
        self._doubt = time.monotonic()
        self._wake()

    def failed(self, reason: str) -> None:
        """The page cannot read the file any more."""
        self._error = SourceChanged(
            f"the browser cannot read {self.info.name} any more ({reason}): it was changed, "
            "moved or deleted; pick it again"
        )
        self._wake()

    def removed(self) -> None:
        """The user took the file out of the picker."""
        self._removed = True
        self._wake()

    def _wake(self) -> None:
        news = self._news
        if news is not None:
            self._on_loop(news.set)

    def _on_loop(self, call: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None:
            call()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(call)

    def _wait(self, reason: str) -> None:
        if reason != self.waiting:
            self.waiting = reason
            self._on_loop(self._tell)
        self._wake()

    def _tell(self) -> None:
        for told in self._told:
            with contextlib.suppress(Exception):  # whoever listens, the bytes go on
                told(self.waiting)

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        gone = bool(self._doubt) and now - self._doubt > HURRY
        with self._lock:
            late = self._blocks.late(now, PATIENCE)
            if late or gone:
                self._blocks.again(smaller=late)
        if late:
            self._silent += 1
        if (gone or self._silent >= 2) and not self.waiting:
            self._wait(f"the page that has {self.info.name} is gone: pick the same file again")
        if self.waiting and now - self._pinged > PATIENCE / 2:
            self._pinged = now
            self._send([])

    def _send(self, asks: Sequence[tuple[int, int]]) -> None:
        """Ask the page for ranges; for none: whether it still has the file."""
        with contextlib.suppress(Exception):  # a comm that is gone: the clock will tell
            self._ask(self.key, asks)


class Picker(anywidget.AnyWidget):
    """A drop zone. ``files`` are the sources picked so far; ``on_pick`` tells of new ones.

    Made to be shown in a cell, or inside the panel. Removing a file in the page ends
    its upload with ``SourceGone``.
    """

    _esm = assets.script("dom", "fields", "picker")
    _css = assets.style()
    listed: Any = traitlets.List().tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        answer_while_busy(self)
        self.files: list[BrowserSource] = []
        self._block = first_block()
        self._told: list[Callable[[list[BrowserSource]], None]] = []
        self._guard = threading.RLock()
        self.on_msg(self._said)

    def on_pick(self, told: Callable[[list[BrowserSource]], None]) -> None:
        """Call ``told(sources)`` whenever files were picked; on a thread of the kernel's."""
        self._told.append(told)

    def drop(self, source: BrowserSource) -> None:
        """Forget a file that is no longer needed, and let the page forget it."""
        with self._guard:
            self.files = [one for one in self.files if one is not source]
        self.send({"t": "drop", "file": source.key})
        self._list()

    def __repr__(self) -> str:
        return ", ".join(source.info.name for source in self.files) or "no files picked yet"

    def _said(self, _: Any, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        with contextlib.suppress(KeyError, TypeError, ValueError, IndexError):
            match content.get("t"):
                case "slice":
                    source = self._source(content["file"])
                    source.answered(int(content["start"]), memoryview(buffers[0]).cast("B"))
                case "picked":
                    self._picked(content["files"])
                case "error":
                    self._source(content["file"]).failed(str(content["reason"])[:200])
                case "gone":
                    source = self._source(content["file"])
                    source.removed()
                    with self._guard:
                        self.files = [one for one in self.files if one is not source]
                    self._list()
                case "hello" | "bye":
                    for source in self.files:
                        source.doubted()
                    self.send({"t": "who", "files": [source.key for source in self.files]})
                case "have":
                    for key in content["files"]:
                        self._source(key).picked()

    def _source(self, key: str) -> BrowserSource:
        return next(one for one in self.files if one.key == key) if self._has(key) else _missing()

    def _has(self, key: str) -> bool:
        return any(one.key == key for one in self.files)

    def _picked(self, files: Sequence[dict[str, Any]]) -> None:
        fresh: list[BrowserSource] = []
        beside = threading.current_thread() is not threading.main_thread()
        for file in files:
            source = BrowserSource(
                os.path.basename(str(file["name"])) or "file",
                int(file["size"]),
                int(file["modified"]),
                self._ask,
                media_type=str(file.get("type", "")),
                block=self._block,
            )
            with self._guard:
                if self._has(source.key):
                    source = self._source(source.key)
                else:
                    source.on_waiting(lambda reason: self._list())
                    self.files = [*self.files, source]
                    fresh.append(source)
            source.beside = beside
            source.picked()
        self._list()
        for told in self._told if fresh else ():
            told(fresh)

    def _ask(self, key: str, asks: Sequence[tuple[int, int]]) -> None:
        if asks:
            self.send({"t": "ask", "file": key, "ranges": [list(one) for one in asks]})
        else:
            self.send({"t": "who", "files": [key]})

    def _list(self) -> None:
        with self._guard:
            self.listed = [
                {
                    "file": one.key,
                    "name": one.info.name,
                    "size": units.size(one.info.size),
                    "waiting": bool(one.waiting),
                }
                for one in self.files
            ]


def first_block() -> int:
    """Return the size of the first blocks, in bytes, that this front end surely takes.

    Asked for while a cell runs: it tells VS Code also where that came from afar.
    """
    code = any(name in os.environ for name in ("VSCODE_PID", "VSCODE_CWD", "VSCODE_CLI"))
    code = code or is_vs_code(get_ipython())
    return CAREFUL if code or "google.colab" in sys.modules else MOST


def _handles_while_awaiting() -> bool:
    kernel = sys.modules.get("ipykernel")
    return kernel is not None and tuple(getattr(kernel, "version_info", ()))[:2] >= (7, 4)


def _missing() -> BrowserSource:
    raise KeyError("no such file")
