"""One file elsewhere: asked what it is, and for its bytes in ranges.

``s3://``, ``gs://``, ``hf://``, ``memory://`` and the like go through their fsspec
libraries, which find their own credentials; ``https://`` uses fsspec's connections.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..errors import InvalidUpload, SourceChanged, SourceError
from .urls import is_web, scheme_of, shown

T = TypeVar("T")

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


class Files:
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
            return await elsewhere(
                self._url,
                self._system.loop,
                self._system._cat_file(self._path, start=start, end=end),
            )
        return await self._run(lambda: self._system.cat_file(self._path, start=start, end=end))

    def stream(self) -> Any:
        return asking(self._url, lambda: self._system.open(self._path, "rb"))

    def close(self) -> None:
        pass

    async def _run(self, ask: Callable[[], T]) -> T:
        return await asyncio.to_thread(asking, self._url, ask)


class Web:
    """A file of a web server, over the connections of fsspec's ``HTTPFileSystem``.

    Every answer is held against the first: a server that forgets about ranges, or a
    file that was replaced, is noticed with the next range.
    """

    def __init__(self, system: Any, url: str, *, own: bool = False) -> None:
        self._system, self._url, self._own = system, url, own
        self._loop: asyncio.AbstractEventLoop = system.loop
        self._mark: str | None = None

    async def look(self) -> Look:
        return await elsewhere(self._url, self._loop, self._ask())

    async def fetch(self, start: int, end: int) -> bytes:
        return await elsewhere(self._url, self._loop, self._get(start, end))

    def stream(self) -> Any:
        return Stream(self._url, self._loop, self._begin())

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
            block, most = bytearray(), end - start + 1  # one too many tells of more
            while more := await answer.content.read(most - len(block)):
                block += more
            return bytes(block)

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
        encoding = answer.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):  # ranges of it would not be ranges of the file
            answer.close()
            raise Final(
                f"{shown(self._url)} is sent {encoding[:20]}-encoded though plain was asked for; "
                "download it, and upload the file"
            )
        return answer

    @staticmethod
    def _mark_of(answer: Any) -> str:
        found = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        return str(found or "")


class Stream:
    """A web server's answer as a file object for a thread."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop, begin: Any) -> None:
        self._url, self._loop = url, loop
        self._answer = self._run(begin)

    def read(self, size: int) -> bytes:
        return bytes(self._run(self._answer.content.read(size)))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._answer.close)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return in_thread(elsewhere(self._url, self._loop, work))


def system_of(url: str) -> tuple[Any, str]:
    """Return the file system a URL belongs to, and its path there."""
    scheme = scheme_of(url)
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
    kind = SourceError if status >= 500 or status in (408, 425, 429) else Final
    return kind(f"{shown(url)} cannot be read: its server answered {status}")


class Final(SourceError):
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
            return Final(f"there is no {shown(url)}")
        case PermissionError():
            return Final(f"{shown(url)} may not be read: {_said(error)}")
        case IsADirectoryError():
            return Final(f"{shown(url)} is a folder; add -r for what is in it")
        case ImportError():
            return Final(f"{shown(url)} cannot be read: {_said(error)}")
    return SourceError(f"{shown(url)} cannot be read: {_said(error)}")


def asking(url: str, ask: Callable[[], T]) -> T:
    """Ask a file system; its errors become ours, without the addresses they hold."""
    try:
        return ask()
    except Exception as error:
        trouble = _translated(url, error)
    raise trouble.with_traceback(None)


async def elsewhere(url: str, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Await work on another loop; its errors become ours, without the addresses they hold."""
    future: Future[T] = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        trouble = _translated(url, error)
    raise trouble.with_traceback(None)


def in_thread(work: Awaitable[T]) -> T:
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
