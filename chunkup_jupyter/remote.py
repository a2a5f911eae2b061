"""Files that are elsewhere, as sources: whatever fsspec opens, read in ranges.

``s3://``, ``gs://``, ``hf://``, ``memory://`` and the like go through their fsspec
libraries, which find their own credentials; ``https://`` uses fsspec's connections.
The query of a URL may be a password: it is never shown, logged, or written anywhere.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from .errors import InvalidUpload, NameNeeded, SourceChanged, SourceError
from .files import MemorySource, PathSource, media_type_of
from .model import FileInfo
from .streams import spool

T = TypeVar("T")

CHUNK = 4 << 20  # bytes asked for at once; what waits for a provider's part is pulled in these
AHEAD = 7  # chunks on their way beyond the one that is needed: 32 MiB in all
ATTEMPTS = 4  # of one range, 0.5 to 2 s apart
LOOKS = 60.0  # seconds between two questions whether the source is still the same

_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*([A-Za-z][A-Za-z0-9+.-]+)://")

# Which package brings which kind of address, beside fsspec itself.
_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub",
    "http": "aiohttp", "https": "aiohttp", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "oss": "ossfs",
}  # fmt: skip
_MARKS = (
    "ETag", "etag", "e_tag", "md5Hash", "generation", "VersionId", "blob_id", "Content-MD5",
    "LastModified", "last_modified", "Last-Modified", "updated", "mtime", "modified",
)  # fmt: skip


def is_remote(source: object) -> bool:
    """Say whether a source is spelled as a URL (``C:\\x`` is a drive)."""
    return isinstance(source, str) and _URL.match(source) is not None and not _is_file(source)


def local(source: Any) -> Any:
    """Return the path that a ``file://`` URL means; anything else as it is."""
    if not isinstance(source, str) or not _is_file(source):
        return source
    return url2pathname(urlsplit(source).path)


def is_web(url: str) -> bool:
    """Say whether it is a page or file of a web server."""
    return url.lower().startswith(("http://", "https://"))


def plain(url: str) -> str:
    """Return a URL without query, fragment and login; a path as it is."""
    if not is_remote(url):
        return url
    if is_web(url):
        scheme, host, path, _, _ = urlsplit(url)
        return urlunsplit((scheme, host.rpartition("@")[2], path, "", ""))
    scheme, colons, rest = url.rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{colons}{host.rpartition('@')[2]}{slash}{path}".partition("?")[0]


def shown(source: object) -> str:
    """Return a source as it may be shown."""
    return plain(str(source))


def matching(url: str) -> list[tuple[str, int]]:
    """Return the files that a pattern such as ``s3://bucket/*.csv`` matches, with sizes."""
    system, path = _system(url)

    def look() -> list[tuple[str, int]]:
        found = system.glob(path, detail=True)
        return [
            (system.unstrip_protocol(name), int(info.get("size") or 0))
            for name, info in sorted(found.items())
            if info.get("type") == "file"
        ]

    return _asking(url, look)


def below(url: str) -> list[tuple[str, str, int]] | None:
    """Return the files below a folder: URL, relative path, size; None when it is no folder."""
    system, path = _system(url)

    def look() -> list[tuple[str, str, int]] | None:
        if not system.isdir(path):
            return None
        found = system.find(path, detail=True)
        start = len(path.rstrip("/")) + 1
        return [
            (system.unstrip_protocol(name), name[start:], int(info.get("size") or 0))
            for name, info in sorted(found.items())
        ]

    return _asking(url, look)


def open_remote(url: str, name: str | None = None) -> RemoteSource | MemorySource | PathSource:
    """Return a source for a URL. One request asks for its size.

    What cannot be read in ranges, or does not say its size, is read to its end first,
    within the bounds of a stream.

    Raises:
        InvalidUpload: a package is missing, the address is of no known kind, or the
            file is larger than what is kept of a stream.
        SourceError: it is not there, or may not be read.
    """
    system, path = _system(url)
    far: Far = _Web(system, url, own=True) if is_web(url) else _Files(system, path, url)
    return _opened(far, url, name)


def open_file(file: Any, name: str | None = None) -> RemoteSource | MemorySource | PathSource:
    """Return a source for what ``fsspec.open`` returned: not opened, with credentials."""
    url = file.fs.unstrip_protocol(file.path)
    far: Far = _Web(file.fs, url) if is_web(url) else _Files(file.fs, file.path, url)
    return _opened(far, url, name)


def _opened(far: Far, url: str, name: str | None) -> RemoteSource | MemorySource | PathSource:
    called = name or unquote(plain(url).rstrip("/").rpartition("/")[2])
    if not called or (is_web(url) and plain(url).endswith("://" + called)):
        far.close()
        raise NameNeeded(f"{shown(url)} names no file; give --name (name=…)")
    try:
        look = _in_thread(far.look())
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


@dataclass(frozen=True)
class Look:
    """What the other side says of a file. ``size`` in bytes, None when it does not say."""

    size: int | None
    mark: str = ""
    ranges: bool = True


class Far(Protocol):
    """One file elsewhere. Its coroutines may be awaited on any loop."""

    async def look(self) -> Look:
        """Ask for size and mark. Raises ``SourceError``."""

    async def fetch(self, start: int, end: int) -> bytes:
        """Return the bytes of a range; fewer when there are no more."""

    def stream(self) -> Any:
        """Return a binary file object over all of it."""

    def close(self) -> None:
        """Let go."""


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
                if attempt == ATTEMPTS or isinstance(error, (SourceChanged, _Final)):
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


class _Files:
    """A file of any fsspec file system."""

    def __init__(self, system: Any, path: str, url: str) -> None:
        self._system, self._path, self._url = system, path, url

    async def look(self) -> Look:
        def ask() -> Any:
            self._system.invalidate_cache()
            return self._system.info(self._path)

        info = await self._run(ask)
        if info.get("type") == "directory":
            raise SourceError(f"{shown(self._url)} is a folder; add -r for what is in it")
        marks = [f"{name}={info[name]}" for name in _MARKS if info.get(name) is not None]
        if not marks:
            with suppress(Exception):  # not every file system knows
                marks = [str(await self._run(lambda: self._system.modified(self._path)))]
        size = info.get("size")
        return Look(None if size is None else int(size), " ".join(marks))

    async def fetch(self, start: int, end: int) -> bytes:
        if self._system.async_impl and self._system.loop is not None:
            # On fsspec's own loop: no thread waits, and cancelling gets through.
            return await _elsewhere(
                self._url,
                self._system.loop,
                self._system._cat_file(self._path, start=start, end=end),
            )
        return await self._run(lambda: self._system.cat_file(self._path, start=start, end=end))

    def stream(self) -> Any:
        return _asking(self._url, lambda: self._system.open(self._path, "rb"))

    def close(self) -> None:
        pass

    async def _run(self, ask: Callable[[], T]) -> T:
        return await asyncio.to_thread(_asking, self._url, ask)


class _Web:
    """A file of a web server, over the connections of fsspec's ``HTTPFileSystem``.

    Every answer is held against the first: a server that forgets about ranges, or a
    file that was replaced, is noticed with the next range.
    """

    def __init__(self, system: Any, url: str, *, own: bool = False) -> None:
        self._system, self._url, self._own = system, url, own
        self._loop: asyncio.AbstractEventLoop = system.loop
        self._mark: str | None = None

    async def look(self) -> Look:
        return await _elsewhere(self._url, self._loop, self._ask())

    async def fetch(self, start: int, end: int) -> bytes:
        return await _elsewhere(self._url, self._loop, self._get(start, end))

    def stream(self) -> Any:
        return _Stream(self._url, self._loop, self._begin())

    def close(self) -> None:
        if self._own and self._system._session is not None:
            asyncio.run_coroutine_threadsafe(self._system._session.close(), self._loop)

    async def _ask(self) -> Look:
        """Ask for the first byte: it says more than HEAD, which signed URLs may not allow."""
        async with await self._begin({"Range": "bytes=0-0"}) as answer:
            if answer.status == 416:
                return Look(0)
            mark = self._mark_of(answer)
            if answer.status != 206:
                length = answer.headers.get("Content-Length", "")
                return Look(int(length) if length.isdigit() else None, mark, ranges=False)
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            self._mark = mark
            return Look(int(total) if total.isdigit() else None, mark)

    async def _get(self, start: int, end: int) -> bytes:
        async with await self._begin({"Range": f"bytes={start}-{end - 1}"}) as answer:
            changed = answer.status in (200, 416) or (
                self._mark is not None and self._mark_of(answer) != self._mark
            )
            if changed:
                raise SourceChanged(f"{shown(self._url)} was replaced during the upload")
            return bytes(await answer.read())

    async def _begin(self, headers: dict[str, str] | None = None) -> Any:
        session = await self._system.set_session()
        url = self._system.encode_url(self._url)
        given = {**self._system.kwargs.get("headers", {}), **(headers or {})}
        options = {name: v for name, v in self._system.kwargs.items() if name != "headers"}
        given["Accept-Encoding"] = "identity"
        answer = await session.get(url, headers=given, **options)
        if answer.status >= 400 and answer.status != 416:
            answer.release()
            raise _refused(self._url, answer.status)
        return answer

    @staticmethod
    def _mark_of(answer: Any) -> str:
        found = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        return str(found or "")


class _Stream:
    """A web server's answer as a file object for a thread."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop, begin: Any) -> None:
        self._url, self._loop = url, loop
        self._answer = self._run(begin)

    def read(self, size: int) -> bytes:
        return bytes(self._run(self._answer.content.read(size)))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._answer.close)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return _in_thread(_elsewhere(self._url, self._loop, work))


def _is_file(url: str) -> bool:
    return url.lower().startswith(("file://", "local://"))


def _system(url: str) -> tuple[Any, str]:
    """Return the file system a URL belongs to, and its path there."""
    found = _URL.match(url)
    scheme = found[1].lower() if found else ""
    package = _PACKAGES.get(scheme, "")
    try:
        import fsspec.core
    except ImportError:
        raise _missing(url, scheme, "") from None
    options: dict[str, Any] = {}
    if is_web(url):
        # Our own connections, closed with the source; proxies as everywhere.
        options = {"client_kwargs": {"trust_env": True}, "skip_instance_cache": True}
    try:
        system, path = fsspec.core.url_to_fs(url, **options)
    except ImportError:
        trouble: Exception = _missing(url, scheme, package)
    except ValueError as error:
        reason = f"fsspec knows no {scheme}://" if "not known" in str(error) else ""
        trouble = InvalidUpload(f"{shown(url)} cannot be opened: {reason or _said(error)}")
    except Exception as error:
        trouble = SourceError(f"{shown(url)} cannot be opened: {_said(error)}")
    else:
        return system, path
    raise trouble


def _missing(url: str, scheme: str, package: str) -> InvalidUpload:
    more = f" {package or _PACKAGES.get(scheme, '')}".rstrip()
    if more.strip() == "aiohttp":  # comes with the extra
        more = ""
    return InvalidUpload(
        f"reading {shown(url)} needs more packages: pip install 'chunkup-jupyter[remote]'{more}"
    )


def _refused(url: str, status: int) -> SourceError:
    kind = SourceError if status >= 500 or status in (408, 425, 429) else _Final
    return kind(f"{shown(url)} cannot be read: its server answered {status}")


class _Final(SourceError):
    """Trying again will not help."""


def _said(error: BaseException) -> str:
    """Return what an error says, without queries and logins of the addresses in it."""
    text = re.sub(r"(://)[^/\s'\"@]*@", r"\1", str(error))
    text = re.sub(r"\?[^\s'\"<>)]*", "", text)
    return " ".join(text.split())[:300] or type(error).__name__


def _translated(url: str, error: BaseException) -> SourceError:
    match error:
        case SourceError():
            return error
        case FileNotFoundError():
            return _Final(f"there is no {shown(url)}")
        case PermissionError():
            return _Final(f"{shown(url)} may not be read: {_said(error)}")
        case IsADirectoryError():
            return _Final(f"{shown(url)} is a folder; add -r for what is in it")
        case ImportError():
            return _Final(f"{shown(url)} cannot be read: {_said(error)}")
    return SourceError(f"{shown(url)} cannot be read: {_said(error)}")


def _asking(url: str, ask: Callable[[], T]) -> T:
    """Ask a file system; its errors become ours, without the addresses they hold."""
    try:
        return ask()
    except Exception as error:
        trouble = _translated(url, error)
    raise trouble.with_traceback(None)


async def _elsewhere(url: str, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Await work on another loop; its errors become ours, without the addresses they hold."""
    future: Future[T] = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        trouble = _translated(url, error)
    raise trouble.with_traceback(None)


def _in_thread(work: Awaitable[T]) -> T:
    """Run a coroutine to its end in a thread of its own: the caller may have a loop."""
    answer: Future[T] = Future()

    async def awaited() -> T:
        return await work

    def run() -> None:
        try:
            answer.set_result(asyncio.run(awaited()))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="chunkup-look", daemon=True).start()
    return answer.result()
