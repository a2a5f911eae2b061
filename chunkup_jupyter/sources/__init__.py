"""Bytes from a path, from memory, or from a stream; opened once, checked often.

Offsets and sizes are in bytes. Reading never blocks the event loop for more than one
block.
"""

from __future__ import annotations

import asyncio
import io
import os
from dataclasses import replace
from typing import Any, Protocol, cast, runtime_checkable

from .. import digests
from ..errors import InvalidUpload, NameNeeded
from ..model import FileInfo
from . import remote, urls
from .files import MemorySource, PathSource, media_type_of
from .streams import FileObjectSource, file_name, of_descriptor, seekable, spool

__all__ = [
    "FileObjectSource",
    "MemorySource",
    "PathSource",
    "Source",
    "crc64_of",
    "digest_of",
    "media_type_of",
    "open_source",
    "spool",
]

_DIGEST_BLOCK = 4 << 20  # bytes read at once
_DIGEST_STRETCH = 32 << 20  # bytes hashed before the loop is asked, which may be busy


@runtime_checkable
class Source(Protocol):
    """Where the bytes of one upload come from.

    ``identity`` keys the journal; ``spelled`` is how the user wrote the source, "" when
    it cannot be written again; ``in_order`` says that reads must come in order.
    """

    info: FileInfo
    identity: str
    spelled: str
    in_order: bool

    async def read(self, start: int, size: int) -> bytes | memoryview:
        """Return exactly ``size`` bytes from ``start``. Reads may overlap.

        Raises ``SourceChanged`` when there are fewer, ``SourceGone`` or ``SourceError``
        when they cannot be had.
        """

    def verify(self) -> None:
        """Raise ``SourceChanged`` when the bytes are not those that were opened. Cheap."""

    def close(self) -> None:
        """Let go. May be repeated."""


def open_source(
    source: Any,
    *,
    name: str | None = None,
    media_type: str | None = None,
    size: int | None = None,
    spelled: str | None = None,
) -> Source:
    """Return a source for a path, a URL, bytes, a binary file object, or a source itself.

    ``name`` and ``media_type`` override what the source says of itself; ``spelled``
    overrides how it is written in the line that resumes.

    Raises:
        NameNeeded: bytes or a nameless stream without ``name``.
        NotRegularFile: a directory, a device, a pipe, or a file of no stated size.
        SourceError: it is missing or may not be read; ``errno`` says which.
        InvalidUpload: a text file, a stated ``size`` that differs, a stream beyond its bound.
    """
    opened = _open(source, name)
    try:
        if size is not None and size != opened.info.size:
            raise InvalidUpload(
                f"{opened.info.name} has {opened.info.size:,} bytes, not the stated {size:,}"
            )
        if name is not None and not name.strip():
            raise NameNeeded("the file name is empty; give name=…")
    except InvalidUpload:
        if opened is not source:
            opened.close()
        raise
    if name:
        opened.info = replace(opened.info, name=name, media_type=media_type_of(name))
    if media_type:
        opened.info = replace(opened.info, media_type=media_type)
    if spelled is not None:
        opened.spelled = spelled
    return opened


def _open(source: Any, name: str | None) -> Source:
    if urls.is_remote(source):
        return remote.open_remote(source, name)
    if hasattr(source, "fs") and hasattr(source, "path") and not hasattr(source, "read"):
        return remote.open_file(source, name)  # of ``fsspec.open``, or a universal path
    match source:
        case str() | os.PathLike():
            return PathSource(urls.local(source))
        case bytes() | bytearray() | memoryview():
            return MemorySource(source, name)
        case io.TextIOBase():
            raise InvalidUpload("this file is open as text; open it with mode 'rb'")
        case io.BytesIO():
            # No view of it: one would forbid its owner to write to it or to close it.
            return MemorySource(source.getvalue(), name or file_name(source))
    if isinstance(source, Source):
        return source
    if isinstance(source, io.IOBase) and not source.readable():
        raise InvalidUpload("this file is not open for reading; open it with mode 'rb'")
    if not callable(getattr(source, "read", None)):
        several = "; several go with start_many" if isinstance(source, (list, tuple)) else ""
        raise InvalidUpload(
            f"an object of type {type(source).__name__} cannot be uploaded; give a path, bytes, "
            f"or a binary file{several}"
        )
    if type(source) in (io.BufferedReader, io.BufferedRandom, io.FileIO):
        opened = of_descriptor(source, name)
        if opened is not None:
            return opened
    if seekable(source):
        return FileObjectSource(source, name)
    return spool(source, name)


async def confirm(source: Source) -> None:
    """Raise ``SourceChanged`` when the bytes are not those that were opened.

    Unlike ``verify`` this may take a request, where the source is elsewhere.
    """
    source.verify()
    if isinstance(source, _Confirming):
        await source.confirm()


async def crc64_of(source: Source, start: int, size: int) -> int:
    """Return the CRC-64/XZ of ``size`` bytes from ``start``: the proof of one part."""
    crc = digests.Crc64()
    await _digest(source, crc, start, size)
    return crc.value


async def digest_of(source: Source, name: str) -> str:
    """Return the text of the whole source's ``md5``, ``sha256`` or ``crc64``.

    Reads in order and hashes in a thread; cancelling takes effect within one block.
    """
    digest = digests.new(name)
    await _digest(source, digest, 0, source.info.size)
    return digest.text()


async def _digest(source: Source, digest: digests.Digest, start: int, size: int) -> None:
    end, wanted = start + size, True

    def stretch(at: int) -> None:
        for block in range(at, min(at + _DIGEST_STRETCH, end), _DIGEST_BLOCK):
            if wanted:
                count = min(_DIGEST_BLOCK, end - block)
                digest.update(cast(_Blocking, source).read_blocking(block, count))

    try:
        if isinstance(source, _Blocking):
            for at in range(start, end, _DIGEST_STRETCH):
                await asyncio.to_thread(stretch, at)
        else:
            for at in range(start, end, _DIGEST_BLOCK):
                block = await source.read(at, min(_DIGEST_BLOCK, end - at))
                await asyncio.to_thread(digest.update, block)
    finally:
        wanted = False


@runtime_checkable
class _Confirming(Protocol):
    """A source that has to be asked."""

    async def confirm(self) -> None: ...


@runtime_checkable
class _Blocking(Protocol):
    """A source that a thread can read from."""

    def read_blocking(self, start: int, size: int) -> bytes | memoryview: ...
