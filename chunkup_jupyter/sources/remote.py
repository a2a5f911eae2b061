"""Files that are elsewhere, as sources: whatever fsspec opens, read in ranges."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import unquote

from ..errors import NameNeeded, SourceChanged, SourceError
from ..model import FileInfo
from .far import Far, Files, Final, Look, Web, asking, in_thread, system_of
from .files import MemorySource, PathSource, media_type_of
from .streams import spool
from .urls import is_web, plain, shown

CHUNK = 4 << 20  # bytes asked for at once; what waits for a provider's part is pulled in these
AHEAD = 7  # chunks on their way beyond the one that is needed: 32 MiB in all
ATTEMPTS = 4  # of one range, 0.5 to 2 s apart
LOOKS = 60.0  # seconds between two questions whether the source is still the same


def matching(url: str) -> list[tuple[str, int]]:
    """Return the files that a pattern such as ``s3://bucket/*.csv`` matches, with sizes."""
    system, path = system_of(url)

    def look() -> list[tuple[str, int]]:
        found = system.glob(path, detail=True)
        return [
            (system.unstrip_protocol(name), int(info.get("size") or 0))
            for name, info in sorted(found.items())
            if info.get("type") == "file"
        ]

    return asking(url, look)


def below(url: str) -> list[tuple[str, str, int]] | None:
    """Return the files below a folder: URL, relative path, size; None when it is no folder."""
    system, path = system_of(url)

    def look() -> list[tuple[str, str, int]] | None:
        if not system.isdir(path):
            return None
        found = system.find(path, detail=True)
        start = len(path.rstrip("/")) + 1
        return [
            (system.unstrip_protocol(name), name[start:], int(info.get("size") or 0))
            for name, info in sorted(found.items())
        ]

    return asking(url, look)


def open_remote(url: str, name: str | None = None) -> RemoteSource | MemorySource | PathSource:
    """Return a source for a URL. One request asks for its size.

    What cannot be read in ranges, or does not say its size, is read to its end first,
    within the bounds of a stream.

    Raises:
        InvalidUpload: a package is missing, the address is of no known kind, or the
            file is larger than what is kept of a stream.
        SourceError: it is not there, or may not be read.
    """
    system, path = system_of(url)
    far: Far = Web(system, url, own=True) if is_web(url) else Files(system, path, url)
    return _opened(far, url, name)


def open_file(file: Any, name: str | None = None) -> RemoteSource | MemorySource | PathSource:
    """Return a source for what ``fsspec.open`` returned: not opened, with credentials."""
    url = file.fs.unstrip_protocol(file.path)
    far: Far = Web(file.fs, url) if is_web(url) else Files(file.fs, file.path, url)
    return _opened(far, url, name)


def _opened(far: Far, url: str, name: str | None) -> RemoteSource | MemorySource | PathSource:
    called = name or unquote(plain(url).rstrip("/").rpartition("/")[2])
    if not called or (is_web(url) and plain(url).endswith("://" + called)):
        far.close()
        raise NameNeeded(f"{shown(url)} names no file; give --name (name=…)")
    try:
        look = in_thread(far.look())
        if look.size is not None and look.ranges:
            return RemoteSource(far, url, called, look)
        stream = far.stream()
        try:
            opened = spool(stream, called)
        finally:
            stream.close()
    except BaseException:
        far.close()
        raise
    far.close()
    opened.spelled = url if url == plain(url) else ""
    return opened


class RemoteSource:
    """A file elsewhere, read in order with several ranges on their way at once.

    Reads elsewhere in the file work, too, and cost a request each. A provider that
    wants the digest of the whole gets it on the way: nothing is fetched twice for it.
    """

    in_order = True

    def __init__(self, far: Far, url: str, name: str, look: Look) -> None:
        assert look.size is not None
        self._far = far
        self._mark = look.mark
        self._label = shown(url)
        self._trouble: SourceError | None = None
        self._coming: dict[int, asyncio.Task[bytes]] = {}
        self._next = 0  # where a reader in order will go on
        self._looked = time.monotonic()
        self._looking: asyncio.Task[None] | None = None
        self.info = FileInfo(name, look.size, media_type_of(name), look.mark)
        self.identity = f"remote:{plain(url)}"
        self.spelled = url if url == plain(url) else ""

    async def read(self, start: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``start``."""
        if start != self._next and size < CHUNK:  # somebody looks something up
            return await self._exactly(start, start + size)
        self._next = start + size
        first, last = start // CHUNK, max(start, start + size - 1) // CHUNK
        for number in [number for number in self._coming if not first <= number <= last + AHEAD]:
            self._coming.pop(number).cancel()
        end = min(last + AHEAD, max(0, self.info.size - 1) // CHUNK)
        for number in range(first, end + 1):
            if number not in self._coming:
                task = self._coming[number] = asyncio.create_task(self._chunk(number))
                # What nobody waited for must not complain about it.
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
        tasks = [self._coming[number] for number in range(first, last + 1)]
        try:
            chunks = [await asyncio.shield(task) for task in tasks]
        except asyncio.CancelledError:
            if any(task.cancelled() for task in tasks):  # another reader is elsewhere
                return await self._exactly(start, start + size)
            raise
        offset = start - first * CHUNK
        whole = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return whole if len(whole) == size else whole[offset : offset + size]

    async def _chunk(self, number: int) -> bytes:
        start = number * CHUNK
        return await self._exactly(start, min(self.info.size, start + CHUNK))

    async def _exactly(self, start: int, end: int) -> bytes:
        """Fetch a range, again when the way there failed."""
        if end <= start:
            return b""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                block = await self._far.fetch(start, end)
            except SourceError as error:
                if attempt == ATTEMPTS or isinstance(error, (SourceChanged, Final)):
                    raise
                await asyncio.sleep(0.25 * 2**attempt)
                continue
            if len(block) != end - start:
                raise SourceChanged(
                    f"{self._label} has {len(block):,} bytes at {start:,} where "
                    f"{end - start:,} should be: it changed"
                )
            return block
        raise AssertionError("unreachable")

    def verify(self) -> None:
        """Raise ``SourceChanged`` when the last look at the source said so.

        Looking is a request: it is done beside the upload, once a minute.
        """
        if self._trouble is not None:
            raise self._trouble
        if time.monotonic() - self._looked >= LOOKS:
            self._looked = time.monotonic()
            self._looking = asyncio.get_running_loop().create_task(self._look_again())

    async def confirm(self) -> None:
        """Ask now whether the source is still the one that was read."""
        look = await self._far.look()
        if (look.size, look.mark) != (self.info.size, self._mark):
            raise SourceChanged(f"{self._label} was replaced during the upload")

    async def _look_again(self) -> None:
        try:
            await self.confirm()
        except SourceChanged as error:
            self._trouble = error
        except SourceError:
            pass  # the next range will tell

    def close(self) -> None:
        """Let go of what is on its way."""
        tasks = [*self._coming.values(), *([self._looking] if self._looking else [])]
        self._coming.clear()
        for task in tasks:
            if not task.done():
                task.get_loop().call_soon_threadsafe(task.cancel)
        self._far.close()
