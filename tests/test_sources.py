"""Sources give exactly the bytes that were there when they were opened, or say why not."""

from __future__ import annotations

import asyncio
import errno
import io
import mmap
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from chunkup_jupyter import digests, sources
from chunkup_jupyter.errors import (
    InvalidUpload,
    NameNeeded,
    NotRegularFile,
    SourceChanged,
    SourceError,
    SourceGone,
)
from chunkup_jupyter.sources import (
    FileObjectSource,
    MemorySource,
    PathSource,
    Source,
    crc64_of,
    digest_of,
    files,
    open_source,
    spool,
)

DATA = bytes(range(256)) * 5000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(DATA)
    return path


async def whole(source: Source, block: int = 300_001) -> bytes:
    size = source.info.size
    pieces = [bytes(await source.read(at, min(block, size - at))) for at in range(0, size, block)]
    return b"".join(pieces)


class Stream(io.RawIOBase):
    """A pipe-like object: readable, not seekable."""

    def __init__(self, data: bytes, name: str | None = None) -> None:
        self._file = io.BytesIO(data)
        if name:
            self.name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)


# -- paths


def test_a_path_gives_its_bytes_name_size_and_type(file: Path) -> None:
    source = open_source(str(file))

    assert asyncio.run(whole(source)) == DATA
    assert (source.info.name, source.info.size) == ("film.mp4", len(DATA))
    assert source.info.media_type == "video/mp4"
    assert source.identity == f"path:{file.resolve()}"
    assert source.spelled == str(file)
    assert not source.in_order


def test_one_file_has_one_identity_however_it_is_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(file)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    opened = [
        open_source(way)
        for way in (file, "film.mp4", "./film.mp4", "~/film.mp4", tmp_path / "link")
    ]

    assert len({source.identity for source in opened}) == 1
    assert [source.spelled for source in opened][1:4] == ["film.mp4", "./film.mp4", "~/film.mp4"]


def test_a_name_and_a_type_can_be_given(file: Path) -> None:
    assert open_source(file, name="data.jsonl").info.media_type == "application/jsonl"
    assert open_source(file, media_type="text/plain").info.media_type == "text/plain"
    assert open_source(file, name="x.bin").info.name == "x.bin"


def test_a_fingerprint_is_that_of_the_file_and_moves_when_it_is_written(file: Path) -> None:
    first = open_source(file).info.fingerprint

    assert open_source(file).info.fingerprint == first
    os.utime(file, ns=(1, 1))
    assert open_source(file).info.fingerprint != first


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", "application/jsonl"),
        ("a.MKV", "video/x-matroska"),
        ("a.tar.gz", "application/gzip"),
        ("a", "application/octet-stream"),
        ("a.unheardof", "application/octet-stream"),
        ("a.pdf", "application/pdf"),
    ],
)
def test_media_types_are_guessed_from_names(name: str, expected: str) -> None:
    assert sources.media_type_of(name) == expected


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(NotRegularFile, match="is a pipe"):
        open_source(tmp_path / "pipe")


def test_folders_devices_and_sockets_are_refused(tmp_path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.close()

    with pytest.raises(NotRegularFile, match="is a directory"):
        open_source(tmp_path)
    with pytest.raises(NotRegularFile, match="device"):
        open_source("/dev/null")
    with pytest.raises(NotRegularFile, match="socket"):
        open_source(tmp_path / "s")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_a_file_that_the_system_makes_up_is_refused_with_the_reason() -> None:
    with pytest.raises(NotRegularFile, match="0 bytes and holds more"):
        open_source("/proc/self/status")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file") as caught:
        open_source(tmp_path / "nothing")

    assert caught.value.errno == errno.ENOENT
    assert "[Errno" not in str(caught.value)


def test_links_in_a_circle_say_so(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    with pytest.raises(SourceError, match="leads back to itself"):
        open_source(tmp_path / "a")


def test_a_file_that_may_not_be_read_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:  # root may read everything, so the mode will not do
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.os, "open", refuse)

    with pytest.raises(SourceError, match="permission denied") as caught:
        open_source(file)
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize("odd", ["a\0b", 5, None, object()])
def test_what_is_no_source_is_refused(odd: Any) -> None:
    with pytest.raises((SourceError, InvalidUpload)):
        open_source(odd)


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    source = open_source(tmp_path / "empty")

    assert source.info.size == 0
    assert asyncio.run(source.read(0, 0)) == b""


def test_a_name_that_is_no_text_becomes_one(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.bin"
    with open(path, "wb"):
        pass

    assert open_source(os.fsdecode(path)).info.name == "\ufffd.bin"


# -- changes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"x" * len(DATA)), "was written to"),
        (lambda path: os.truncate(path, 1000), "now has 1,000"),
        (lambda path: path.write_bytes(DATA + b"more"), "now has"),
        (lambda path: os.utime(path, ns=(1, 1)), "was written to"),
    ],
)
def test_a_change_is_noticed(file: Path, change: Any, message: str) -> None:
    source = open_source(file)
    source.verify()

    os.utime(file, ns=(5, 5))
    source = open_source(file)
    change(file)

    with pytest.raises(SourceChanged, match=message):
        source.verify()


def test_a_rename_or_removal_does_no_harm(file: Path, tmp_path: Path) -> None:
    source = open_source(file)

    (tmp_path / "new").write_bytes(b"other bytes")
    os.replace(tmp_path / "new", file)

    source.verify()
    assert asyncio.run(whole(source)) == DATA


def test_missing_bytes_are_an_error_at_once(file: Path) -> None:
    source = open_source(file)
    os.truncate(file, 1000)

    with pytest.raises(SourceChanged, match="ends at byte 1,000"):
        asyncio.run(source.read(500, 1000))


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, SourceError), (errno.ESTALE, SourceGone)])
def test_a_failing_disk_is_a_source_error(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    source = open_source(file)

    def fail(*_: object) -> bytes:
        raise OSError(number, "trouble")

    monkeypatch.setattr(files.os, "pread", fail)

    with pytest.raises(kind, match="trouble") as caught:
        asyncio.run(source.read(0, 10))
    assert caught.value.errno == number


# -- reading beside a loop


def test_what_is_not_at_hand_is_read_in_a_thread(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(file)
    threads = []
    pread = os.pread

    def watched(*arguments: Any) -> bytes:
        threads.append(threading.current_thread() is threading.main_thread())
        return pread(*arguments)

    def not_cached(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(files.os, "pread", watched)
    monkeypatch.setattr(files.os, "preadv", not_cached, raising=False)
    source._nowait = 8  # type: ignore[attr-defined]

    assert asyncio.run(whole(source)) == DATA
    assert not any(threads)


@pytest.mark.skipif(sys.platform != "linux", reason="RWF_NOWAIT is Linux")
def test_what_the_page_cache_holds_is_read_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(file)
    monkeypatch.setattr(files.os, "preadv", lambda *_: 1)
    monkeypatch.setattr(files.asyncio, "to_thread", None)

    assert asyncio.run(whole(source)) == DATA


def test_where_the_system_cannot_say_the_first_read_is_measured(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hop to a thread for sixteen blocks from a fast disk, one for each from a slow one."""
    source = open_source(file)
    source._nowait = None  # type: ignore[attr-defined]
    hops = []
    to_thread = asyncio.to_thread

    async def counted(*arguments: Any) -> Any:
        hops.append(1)
        return await to_thread(*arguments)

    monkeypatch.setattr(files.asyncio, "to_thread", counted)
    monkeypatch.setattr(files, "_slow", lambda size, seconds: False)
    asyncio.run(whole(source, len(DATA) // 16))
    fast = len(hops)
    monkeypatch.setattr(files, "_slow", lambda size, seconds: True)
    source._credit = 0  # type: ignore[attr-defined]
    asyncio.run(whole(source, len(DATA) // 16))

    assert (fast, len(hops) - fast) == (1, 16)


def test_a_file_system_that_refuses_the_question_is_asked_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(file)
    asked = []

    def unsupported(*_: object) -> int:
        asked.append(1)
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(files.os, "preadv", unsupported, raising=False)
    source._nowait = 8  # type: ignore[attr-defined]

    assert asyncio.run(whole(source)) == DATA
    assert len(asked) == 1


def test_the_kernel_may_give_less_than_asked_for(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(file)
    pread = os.pread
    monkeypatch.setattr(
        files.os, "pread", lambda fd, size, start: pread(fd, min(size, 1000), start)
    )

    assert asyncio.run(source.read(3, 4567)) == DATA[3:4570]


def test_closing_waits_for_a_read_that_was_given_up(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its descriptor's number could by then belong to another file."""
    source = open_source(file)
    descriptor = source._file  # type: ignore[attr-defined]
    entered, leave = threading.Event(), threading.Event()
    pread = os.pread

    def slow(*arguments: Any) -> bytes:
        entered.set()
        assert leave.wait(20)
        return pread(*arguments)

    monkeypatch.setattr(files.os, "pread", slow)
    thread = threading.Thread(target=source.read_blocking, args=(0, 10))  # type: ignore[attr-defined]
    thread.start()
    assert entered.wait(20)

    source.close()
    os.fstat(descriptor)  # still ours
    leave.set()
    thread.join(20)

    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def test_a_closed_source_says_so(file: Path) -> None:
    source = open_source(file)
    source.close()
    source.close()

    with pytest.raises(SourceError, match="was closed"):
        asyncio.run(source.read(0, 1))


# -- memory


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_read_without_a_copy(kind: Any) -> None:
    data = kind(DATA)

    source = open_source(data, name="x.bin")
    block = asyncio.run(source.read(10, 1000))

    assert isinstance(block, memoryview)
    assert block == DATA[10:1010]
    assert block.obj is (data.obj if kind is memoryview else data)
    assert source.info.fingerprint == "sha256:" + digests.of("sha256", DATA)
    assert source.spelled == ""


def test_bytes_need_a_name() -> None:
    with pytest.raises(NameNeeded, match="name=") as caught:
        open_source(b"abc")

    assert isinstance(caught.value, TypeError)
    with pytest.raises(NameNeeded):
        open_source(b"abc", name=" ")


def test_equal_bytes_of_one_name_are_one_source() -> None:
    assert (
        open_source(b"abc", name="x").identity
        == open_source(bytearray(b"abc"), name="x").identity
        != open_source(b"abd", name="x").identity
    )


def test_a_stated_size_that_differs_is_refused(file: Path) -> None:
    assert open_source(b"abc", name="x", size=3).info.size == 3
    with pytest.raises(InvalidUpload, match="3 bytes, not the stated 4"):
        open_source(b"abc", name="x", size=4)
    with pytest.raises(InvalidUpload, match="not the stated"):
        open_source(file, size=1)


def test_wide_items_and_gaps_in_memory_are_understood() -> None:
    import array

    numbers = memoryview(array.array("I", [1, 2, 3]))

    assert asyncio.run(whole(open_source(numbers, name="x"))) == numbers.tobytes()
    assert open_source(memoryview(b""), name="x").info.size == 0
    with pytest.raises(InvalidUpload, match="gaps"):
        open_source(memoryview(b"abcdef")[::2], name="x")


# -- file objects


def test_an_open_file_is_read_whole_whatever_its_position(file: Path) -> None:
    with file.open("rb") as opened:
        opened.read(777)
        source = open_source(opened)

        assert asyncio.run(whole(source)) == DATA
        assert opened.tell() == 777
    assert source.identity == f"path:{file.resolve()}"
    assert asyncio.run(source.read(0, 3)) == DATA[:3]  # its owner closed his, not ours


def test_what_is_written_and_not_flushed_counts(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w+b") as opened:
        opened.write(b"abc")

        source = open_source(opened)

        assert source.info.size == 3
        source.verify()


def test_a_deleted_temporary_file_needs_a_name_and_has_no_path() -> None:
    with tempfile.TemporaryFile() as opened:
        opened.write(b"abc")
        with pytest.raises(NameNeeded):
            open_source(opened)

        source = open_source(opened, name="x")

        assert asyncio.run(whole(source)) == b"abc"
        assert (source.identity, source.spelled) == ("stream:x:3", "")


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_text_files_are_refused(file: Path, mode: str) -> None:
    with file.open(mode, encoding="latin-1") as opened:
        with pytest.raises(InvalidUpload, match="'rb'"):
            open_source(opened)


def test_write_only_files_are_refused(file: Path) -> None:
    with file.open("ab") as opened:
        with pytest.raises(InvalidUpload, match="not open for reading"):
            open_source(opened)


def test_objects_that_can_seek_are_read_in_place(tmp_path: Path) -> None:
    import gzip

    with gzip.open(tmp_path / "x.gz", "wb") as packed:
        packed.write(DATA)
    with gzip.open(tmp_path / "x.gz") as opened:
        source = open_source(opened, name="x")

        assert isinstance(source, FileObjectSource)
        assert asyncio.run(whole(source)) == DATA
        source.verify()
        os.utime(tmp_path / "x.gz", ns=(1, 1))
        with pytest.raises(SourceChanged):
            source.verify()
        source.close()
        assert not opened.closed


def test_mapped_memory_and_bytesio_are_sources(file: Path) -> None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert asyncio.run(whole(open_source(mapped, name="x"))) == DATA
    buffer = io.BytesIO(DATA)
    buffer.seek(5)
    assert isinstance(source := open_source(buffer, name="x"), MemorySource)
    buffer.write(b"more than there is")
    buffer.close()
    assert asyncio.run(whole(source)) == DATA


def test_reads_of_one_object_do_not_disturb_each_other() -> None:
    class Slow(io.BytesIO):
        """Gives other threads every chance between seek and read."""

        def read(self, size: int | None = -1, /) -> bytes:
            threading.Event().wait(0.001)
            return super().read(min(size or 0, 700))

    source = FileObjectSource(Slow(DATA), "x")

    async def both() -> list[bytes]:
        starts = range(0, 20_000, 1000)
        return await asyncio.gather(*(source.read(at, 1000) for at in starts))

    assert b"".join(asyncio.run(both())) == DATA[:20_000]


def test_an_object_that_shrinks_is_noticed() -> None:
    file = io.BytesIO(DATA)
    source = FileObjectSource(file, "x")
    file.truncate(10)

    with pytest.raises(SourceChanged, match="too early"):
        asyncio.run(source.read(0, 100))
    with pytest.raises(SourceChanged, match="now has 10"):
        source.verify()


# -- streams


def test_a_small_stream_is_kept_in_memory() -> None:
    source = open_source(Stream(DATA, "dir/x.bin"))

    assert isinstance(source, MemorySource)
    assert asyncio.run(whole(source)) == DATA
    assert source.info.name == "x.bin"


def test_a_larger_stream_goes_to_a_private_file_that_vanishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    source = spool(Stream(DATA), "x.bin", memory=1000)

    assert isinstance(source, PathSource)
    assert asyncio.run(whole(source)) == DATA
    mode = os.fstat(source._file).st_mode
    assert stat.S_IMODE(mode) & 0o077 == 0
    assert list(tmp_path.iterdir()) == []  # unlinked already: no crash leaves it behind
    assert source.identity == spool(Stream(DATA), "x.bin").identity
    assert source.info.fingerprint.startswith("sha256:")
    source.close()


def test_a_stream_beyond_its_bound_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidUpload, match="more than the 100 kB"):
        spool(Stream(DATA), "x", memory=1000, quota=100_000)


def test_a_pipe_from_a_process_is_a_stream(file: Path) -> None:
    with subprocess.Popen(["cat", str(file)], stdout=subprocess.PIPE) as process:
        source = open_source(process.stdout, name="x")

    assert asyncio.run(whole(source)) == DATA


def test_a_stream_needs_a_name_and_bytes() -> None:
    class Text(Stream):
        def read(self, size: int = -1) -> Any:
            return "text"

    with pytest.raises(NameNeeded):
        open_source(Stream(DATA))
    with pytest.raises(InvalidUpload, match="text"):
        open_source(Text(b""), name="x")


# -- digests


@pytest.mark.parametrize("kind", ["path", "memory", "object"])
def test_digests_are_those_of_the_whole_and_of_a_part(
    kind: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_DIGEST_BLOCK", 100_000)
    monkeypatch.setattr(sources, "_DIGEST_STRETCH", 300_000)
    source = {
        "path": lambda: open_source(file),
        "memory": lambda: open_source(DATA, name="x"),
        "object": lambda: FileObjectSource(io.BytesIO(DATA), "x"),
    }[kind]()

    for name in ("md5", "sha256", "crc64"):
        assert asyncio.run(digest_of(source, name)) == digests.of(name, DATA)
    part = asyncio.run(crc64_of(source, 12_345, 567_890))

    assert part == int(digests.of("crc64", DATA[12_345 : 12_345 + 567_890]))


def test_a_source_that_only_reads_in_order_can_be_digested() -> None:
    class Picked:
        in_order, identity, spelled = True, "browser:x", ""
        info = MemorySource(DATA, "x").info

        async def read(self, start: int, size: int) -> bytes:
            return DATA[start : start + size]

        def verify(self) -> None: ...
        def close(self) -> None: ...

    picked = Picked()

    assert open_source(picked) is picked
    assert asyncio.run(digest_of(picked, "md5")) == digests.of("md5", DATA)


def test_a_digest_stops_within_a_block_when_cancelled(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_DIGEST_BLOCK", 1000)
    source = open_source(file)
    assert isinstance(source, PathSource)
    begun, cancelled = threading.Event(), threading.Event()
    read, asked = source.read_blocking, []

    def watched(start: int, size: int) -> bytes:
        asked.append(start)
        begun.set()
        assert cancelled.wait(10)
        return read(start, size)

    monkeypatch.setattr(source, "read_blocking", watched)

    async def main() -> None:
        task = asyncio.create_task(digest_of(source, "md5"))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()

    asyncio.run(main())  # waits for the thread

    assert asked == [0]
    source.close()


def test_a_digest_of_a_file_cut_short_fails(file: Path) -> None:
    source = open_source(file)
    os.truncate(file, 100)

    with pytest.raises(SourceChanged):
        asyncio.run(digest_of(source, "md5"))
