"""Files elsewhere: found, read in ranges, watched for changes, and never named in full."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.server
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from worlds import PART, QUICK, World, random_bytes, world

from chunkup_jupyter.errors import InvalidUpload, NameNeeded, SourceChanged, SourceError
from chunkup_jupyter.events import State
from chunkup_jupyter.sources import Source, confirm, far, open_source, remote
from chunkup_jupyter.sources.choosing import choose

CANARY = "canary-9f3c"
BIG = 3 * remote.CHUNK + 12_345


class Server:
    """A web server of one file, whose manners can be changed. Counts what it is asked."""

    def __init__(self, content: bytes) -> None:
        self.content, self.tag, self.ranges, self.length = content, '"v1"', True, True
        self.encoding = ""
        self.surplus = self.poured = 0  # bytes sent beyond a range: to be, and so far
        self.fails = 0
        self.status = 0
        self.asked: list[str] = []
        self.most = self._now = 0
        self._lock = threading.Lock()
        ours = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                ours._answer(self)

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/folder/film%20one.mp4"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: Any) -> None:
        asked = request.headers.get("Range", "")
        with self._lock:
            self.asked.append(asked)
            self._now += 1
            self.most = max(self.most, self._now)
            status = self.status
            if not status and self.fails and asked != "bytes=0-0":
                self.fails -= 1
                status = 503
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
        body = b"" if status else self.content
        request.send_response(status or (206 if found and self.ranges else 200))
        if found and self.ranges and not status:
            first, last = int(found[1]), int(found[2])
            body = self.content[first : last + 1]
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        if self.tag:
            request.send_header("ETag", self.tag)
        if self.encoding:
            request.send_header("Content-Encoding", self.encoding)
        surplus = self.surplus if asked != "bytes=0-0" else 0
        if self.length:
            request.send_header("Content-Length", str(len(body) + surplus))
        else:
            request.send_header("Connection", "close")
        request.end_headers()
        if found is None or found[2] != "0" or self.ranges:
            with contextlib.suppress(ConnectionError):
                request.wfile.write(body)
                for _ in range(0, surplus, 1 << 16):
                    request.wfile.write(bytes(1 << 16))
                    self.poured += 1 << 16
        with self._lock:
            self._now -= 1


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(random_bytes(BIG))
    yield made
    made.close()


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def whole(source: Source, step: int = remote.CHUNK) -> bytes:
    """Read a source from front to back, as an upload does."""

    async def read() -> bytes:
        size = source.info.size
        blocks = [bytes(await source.read(at, min(step, size - at))) for at in range(0, size, step)]
        await confirm(source)
        source.close()
        return b"".join(blocks)

    return asyncio.run(read())


# -- what there is


@pytest.mark.parametrize("step", [remote.CHUNK, 1 << 20, 5 << 20, 3_000_001])
def test_any_file_system_is_read_from_front_to_back(memory: Any, step: int) -> None:
    data = random_bytes(BIG)
    memory.pipe("/folder/train.jsonl", data)

    source = open_source("memory://folder/train.jsonl")

    assert (source.info.name, source.info.size) == ("train.jsonl", BIG)
    assert source.info.media_type == "application/jsonl"
    assert source.identity == source.identity == "remote:memory://folder/train.jsonl"
    assert source.spelled == "memory://folder/train.jsonl"
    assert whole(source, step) == data


def test_a_web_server_is_read_in_several_ranges_at_once(server: Server) -> None:
    source = open_source(server.url)

    assert (source.info.name, source.info.size) == ("film one.mp4", BIG)
    assert whole(source) == server.content
    assert server.most > 1
    assert len(server.asked) == 2 + 4  # two looks, four ranges: nothing is fetched twice


def test_a_place_in_the_middle_costs_no_more_than_itself(server: Server) -> None:
    async def read() -> bytes:
        source = open_source(server.url)
        found = bytes(await source.read(BIG - 1000, 1000))
        source.close()
        return found

    assert asyncio.run(read()) == server.content[-1000:]
    assert server.asked == ["bytes=0-0", f"bytes={BIG - 1000}-{BIG - 1}"]


def test_an_empty_file_elsewhere_is_empty(memory: Any) -> None:
    memory.pipe("/empty.txt", b"")

    assert whole(open_source("memory://empty.txt")) == b""


@pytest.mark.parametrize("length", [True, False])
def test_what_cannot_be_read_in_ranges_is_read_to_its_end_first(
    server: Server, length: bool
) -> None:
    server.ranges, server.length = False, length

    source = open_source(server.url)

    assert (source.info.name, source.info.size) == ("film one.mp4", BIG)
    assert source.spelled == server.url
    assert whole(source) == server.content


def test_a_stream_beyond_its_bound_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.ranges = False
    monkeypatch.setattr("chunkup_jupyter.sources.streams.SPOOL_QUOTA", 1 << 20)

    with pytest.raises(InvalidUpload, match=r"film one\.mp4 .* more than the 1\.05 MB"):
        open_source(server.url)


def test_what_fsspec_opened_keeps_its_credentials(memory: Any) -> None:
    memory.pipe("/folder/a.bin", b"abc")

    source = open_source(fsspec.open("memory://folder/a.bin"))

    assert (source.info.name, source.spelled) == ("a.bin", "memory:///folder/a.bin")
    assert whole(source) == b"abc"


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "with space.txt"
    path.write_text("x")

    source = open_source(path.as_uri())

    assert source.identity == f"path:{path.resolve()}"
    source.close()


# -- what changes, and what fails


def test_a_file_replaced_between_ranges_is_noticed(server: Server) -> None:
    async def read() -> None:
        source = open_source(server.url)
        server.tag = '"v2"'
        try:
            await source.read(0, 100)
        finally:
            source.close()

    with pytest.raises(SourceChanged, match="was replaced"):
        asyncio.run(read())


def test_a_file_replaced_after_the_last_byte_is_noticed(memory: Any) -> None:
    memory.pipe("/a.bin", b"old")
    source = open_source("memory://a.bin")

    async def read() -> None:
        assert await source.read(0, 3) == b"old"
        memory.pipe("/a.bin", b"new")
        await confirm(source)

    with pytest.raises(SourceChanged, match=r"memory://a\.bin was replaced"):
        asyncio.run(read())


def test_looking_is_rare_and_what_it_finds_stops_the_upload(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watch() -> None:
        source = open_source(server.url)
        for _ in range(100):
            source.verify()
        assert server.asked == ["bytes=0-0"]
        server.tag = '"v2"'
        monkeypatch.setattr(remote, "LOOKS", 0.0)
        while True:
            source.verify()
            await asyncio.sleep(0.01)

    with pytest.raises(SourceChanged, match="was replaced"):
        asyncio.run(asyncio.wait_for(watch(), 20))


def test_a_range_that_failed_is_asked_for_again(server: Server) -> None:
    server.fails = 2

    assert whole(open_source(server.url)) == server.content


def test_more_than_was_asked_for_is_not_read(server: Server) -> None:
    async def read() -> None:
        source = open_source(server.url)
        server.surplus = 256 << 20
        try:
            await source.read(BIG - 1000, 1000)
        finally:
            source.close()

    with pytest.raises(SourceChanged, match=r"has 1,001 bytes .* where 1,000 should be"):
        asyncio.run(read())
    assert server.poured < server.surplus


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "X-What"])
def test_what_is_sent_encoded_is_refused(server: Server, encoding: str, ranges: bool) -> None:
    """Nobody asked for that: what comes of it would be some other file."""
    server.content = gzip.compress(bytes(BIG))
    server.encoding, server.ranges = encoding, ranges

    with pytest.raises(SourceError, match=f"(?i)sent {encoding}-encoded .* download it"):
        whole(open_source(server.url))


@pytest.mark.parametrize(("status", "asks"), [(404, 1), (403, 1)])
def test_a_server_that_says_no_is_believed(server: Server, status: int, asks: int) -> None:
    server.status = status

    with pytest.raises(SourceError, match=f"its server answered {status}"):
        open_source(server.url)
    assert len(server.asked) == asks


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://nothing/here.bin", "there is no memory://nothing/here.bin"),
        ("http://127.0.0.1:9/x.bin", "cannot be read"),
        ("nonsense://x/y.bin", "fsspec knows no nonsense://"),
        ("s3://bucket/key", r"pip install 'chunkup-jupyter\[remote\]' s3fs"),
        ("gs://bucket/key", "gcsfs"),
        ("hf://datasets/a/b.csv", "huggingface_hub"),
    ],
)
def test_what_cannot_be_had_says_why(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("s3fs", "gcsfs", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises((SourceError, InvalidUpload), match=said):
        open_source(url)


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)

    with pytest.raises(InvalidUpload, match=r"pip install 'chunkup-jupyter\[remote\]'$"):
        open_source("https://example.org/a.bin")


def test_a_page_without_a_name_needs_one(server: Server) -> None:
    bare = server.url.partition("/folder")[0]

    with pytest.raises(NameNeeded, match="give --name"):
        open_source(bare)
    named = open_source(bare + "/", name="film.mp4")
    named.close()
    assert named.info.name == "film.mp4"


# -- what is never shown


@pytest.mark.parametrize("trouble", ["none", "status", "change", "cut off"])
def test_the_query_and_the_login_are_found_nowhere(
    server: Server, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.url.replace("//", f"//user:{CANARY}@") + f"?sig={CANARY}"
    said = []
    with caplog.at_level(logging.DEBUG):
        try:
            if trouble == "status":
                server.status = 403
            source = open_source(url)
            said += [source.identity, source.spelled, repr(source), repr(source.info)]
            if trouble == "change":
                server.tag = '"v2"'
            elif trouble == "cut off":
                server.status = 400
            whole(source)
        except SourceError as error:
            said += traceback.format_exception(error)
            said.append(repr(chain(error)))
        else:
            assert trouble == "none"

    assert said
    assert CANARY not in "".join(said) + caplog.text
    assert "%20one.mp4" in "".join(said) or "film one" in "".join(said)


def test_what_a_library_says_loses_queries_and_logins() -> None:
    said = far._said(OSError(f"403, url='https://me:{CANARY}@host/a?sig={CANARY}&b=1', no"))

    assert said == "403, url='https://host/a', no"


def chain(error: BaseException | None) -> list[BaseException]:
    """Return an error with everything it hangs on."""
    return [] if error is None else [error, *chain(error.__cause__), *chain(error.__context__)]


def test_one_file_is_the_same_whatever_signs_it(server: Server) -> None:
    one, other = (open_source(f"{server.url}?sig={n}") for n in (1, 2))

    assert one.identity == other.identity == f"remote:{server.url}"
    assert one.spelled == ""
    one.close()
    other.close()


# -- several


def test_patterns_and_folders_work_elsewhere(memory: Any) -> None:
    for name in ("b.csv", "a.csv", "deep/c.csv", "d.txt"):
        memory.pipe(f"/data/{name}", b"x" * 5)

    matched = choose(["memory://data/*.csv"])
    below = choose(["memory://data"], recursive=True, exclude=["*.txt"])

    assert [one.source for one in matched] == ["memory:///data/a.csv", "memory:///data/b.csv"]
    assert [(one.name, one.size) for one in below] == [
        ("a.csv", 5), ("b.csv", 5), ("deep/c.csv", 5),
    ]  # fmt: skip


def test_a_question_mark_in_a_url_is_no_pattern(server: Server) -> None:
    (found,) = choose([f"{server.url}?a=[1]"])

    assert found.source == f"{server.url}?a=[1]"


# -- all the way


@pytest.fixture(params=["openai", "oss", "twelvelabs"])
def place(request: pytest.FixtureRequest) -> Iterator[World]:
    made = world(request.param)
    yield made
    made.close()


def test_a_file_elsewhere_arrives_whole(place: World, server: Server) -> None:
    server.content = random_bytes(7 * PART + 1)

    result = place.start(server.url).result(60)

    place.arrived(server.content)
    assert (result.name, result.size) == ("film one.mp4", len(server.content))


def test_a_file_elsewhere_resumes(server: Server, tmp_path: Path) -> None:
    place = world("oss")
    server.content = random_bytes(7 * PART + 1)

    def stop(event: Any, progress: Any) -> None:
        if progress.parts_done == 3 and progress.state is State.UPLOADING:
            first.stop()

    options = {"state": tmp_path, "policy": QUICK, "jobs": 1}
    first = place.start(server.url + "?sig=1", listeners=[stop], **options)
    first.settle(30)
    result = place.start(server.url + "?sig=2", **options).result(60)

    place.arrived(server.content)
    assert result.reused >= 3
    place.close()


@pytest.mark.parametrize("when", [0, 8])
def test_a_file_replaced_on_its_way_never_arrives(server: Server, when: int) -> None:
    """Also when its last byte had been read: the server is asked once more."""
    place = world("oss")
    server.content = random_bytes(7 * PART + 1)

    def replace(event: Any, progress: Any) -> None:
        if progress.parts_done >= when:
            server.tag = '"v2"'

    job = place.start(server.url, listeners=[replace], jobs=1)

    with pytest.raises(SourceChanged):
        job.result(60)
    assert place.sandbox.finished() == {}
    place.close()
