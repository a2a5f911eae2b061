"""A file that its purpose would refuse is found before a byte is sent; a good one passes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chunkup_jupyter.errors import InvalidUpload
from chunkup_jupyter.preflight import Report, check, jsonl, media
from chunkup_jupyter.sources import Source, open_source

EXAMPLE = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}


def request(number: int, **changes: Any) -> dict[str, Any]:
    line = {
        "custom_id": f"request-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": []},
        **changes,
    }
    return {name: value for name, value in line.items() if value is not ...}


def lines(*items: Any) -> bytes:
    return b"".join(
        (item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in items
    )


def look(data: bytes, kind: str, name: str = "data.jsonl", read: list[int] | None = None) -> Report:
    """Check bytes; ``read`` is given the size of every block that was looked at."""
    return asyncio.run(check(watched(data, name, [] if read is None else read), kind, name=name))


def watched(data: bytes, name: str, read: list[int]) -> Source:
    source: Any = open_source(data, name=name)
    plain = source.read

    async def reading(start: int, size: int) -> memoryview:
        read.append(size)
        return await plain(start, size)

    source.read = reading
    return source


@pytest.fixture(params=[7, 4 << 20], ids=["tiny blocks", "large blocks"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_BLOCK", request.param)


# -- JSON lines


@pytest.mark.usefixtures("block")
def test_good_examples_pass() -> None:
    tools = {"messages": [{"role": "assistant", "tool_calls": []}]}
    completion = {"prompt": "a", "completion": "b"}
    preference = {"input": {}, "preferred_output": [], "non_preferred_output": []}
    accents = {"messages": [{"role": "user", "content": "naïve 日本 🎉 \u2028 \x85"}]}
    text = json.dumps(accents, ensure_ascii=False).encode()

    report = look(lines(*[EXAMPLE] * 8, tools, completion, preference, text), "openai:fine-tune")

    assert report == Report((), "12 lines")


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("data", [lines(*[EXAMPLE] * 12)[:-1], lines(*[EXAMPLE] * 12)])
def test_the_last_newline_may_be_missing(data: bytes) -> None:
    assert look(data, "openai:fine-tune").checked == "12 lines"


def test_carriage_returns_and_blanks_around_lines_are_fine() -> None:
    data = lines(*[EXAMPLE] * 10).replace(b"\n", b" \r\n").replace(b'{"mess', b' {"mess')

    assert look(data, "openai:fine-tune") == Report((), "10 lines")


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b'{"messages": [}', "is no JSON"),
        (b'{"a": 1} {"b": 2}', "is no JSON"),
        (b"{'a': 1}", "is no JSON"),
        (b'{"a": "b', "Unterminated string starting at column 7"),
        (b"{", "spread over several lines"),
        (b'{"messages": NaN}', "write null"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b'{"text": "\xff"}', "not UTF-8 (byte 0xff)"),
        (b'{"text": "\xc3', "not UTF-8"),
        ({"text": "a"}, 'has no "messages"'),
        ({"messages": []}, "no list of messages"),
        ({"messages": {}}, "no list of messages"),
        ({"messages": ["a"]}, "no object"),
        ({"messages": [{"content": "a"}]}, 'no "role"'),
        ({"messages": [{"role": 1, "content": "a"}]}, 'no "role"'),
        ({"messages": [{"role": "user"}]}, 'neither "content" nor "tool_calls"'),
    ],
)
def test_the_first_bad_line_is_named(bad: Any, message: str) -> None:
    data = lines(*[EXAMPLE] * 3, bad, *[EXAMPLE] * 3, b"{another")

    with pytest.raises(InvalidUpload) as caught:
        look(data, "openai:fine-tune")

    assert str(caught.value).startswith("data.jsonl, line 4: ")
    assert message in str(caught.value)


def test_data_of_the_user_is_not_quoted() -> None:
    with pytest.raises(InvalidUpload) as caught:
        look(lines(b'{"messages": "my private diary" oops}'), "openai:fine-tune")

    assert "diary" not in str(caught.value)


def test_other_encodings_are_named_with_the_fix() -> None:
    with pytest.raises(InvalidUpload, match=r"line 1: is UTF-16.*UTF-8"):
        look('{"a": 1}\n'.encode("utf-16"), "openai:fine-tune")
    with pytest.raises(InvalidUpload, match="line 1: begins with a byte order mark"):
        look(lines(EXAMPLE).decode().encode("utf-8-sig"), "openai:fine-tune")


def test_blank_lines_are_a_warning() -> None:
    report = look(lines(*[EXAMPLE] * 10, b"", b"  ", EXAMPLE), "openai:fine-tune")

    assert report.warnings == ("data.jsonl has 2 blank lines, the first is line 11",)


def test_few_examples_are_a_warning_and_none_is_an_error() -> None:
    assert "at least 10" in look(lines(EXAMPLE), "openai:fine-tune").warnings[0]
    for empty in (b"", b"\n\n"):
        with pytest.raises(InvalidUpload, match="holds no line"):
            look(empty, "openai:fine-tune")


@pytest.mark.parametrize("kind", ["openai:fine-tune", "openai:batch", "openai:evals"])
def test_the_extension_must_be_jsonl_and_the_fix_is_said(kind: str) -> None:
    with pytest.raises(InvalidUpload, match=r"--name train\.jsonl"):
        look(lines(EXAMPLE), kind, name="train.json")


def test_an_endless_line_is_refused_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_LONGEST", 1000)
    monkeypatch.setattr(jsonl, "_BLOCK", 100)

    with pytest.raises(InvalidUpload, match="line 2: is longer"):
        look(lines(EXAMPLE) + b"x" * 5000, "openai:fine-tune")


# -- batches


@pytest.mark.usefixtures("block")
def test_a_good_batch_passes() -> None:
    assert look(lines(*map(request, range(30))), "openai:batch") == Report((), "30 lines")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"custom_id": ...}, 'no "custom_id"'),
        ({"custom_id": 7}, 'no "custom_id"'),
        ({"custom_id": "request-1"}, 'the "custom_id" of line 2'),
        ({"method": "GET"}, '"method" must be "POST"'),
        ({"url": "https://api.openai.com/v1/chat/completions"}, "must be a path"),
        ({"url": ...}, "must be a path"),
        ({"body": "text"}, '"body" must be an object'),
    ],
)
def test_a_bad_request_is_named(changes: dict[str, Any], message: str) -> None:
    data = lines(*map(request, range(4)), request(4, **changes), request(5))

    with pytest.raises(InvalidUpload) as caught:
        look(data, "openai:batch")

    assert str(caught.value).startswith("data.jsonl, line 5: ")
    assert message in str(caught.value)


def test_more_requests_than_a_batch_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BATCH_REQUESTS", 20)

    look(lines(*map(request, range(20))), "openai:batch")
    with pytest.raises(InvalidUpload, match=r"line 21: .*split the file"):
        look(lines(*map(request, range(21))), "openai:batch")


def test_a_batch_that_is_too_large_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = lines(*map(request, range(20)))
    monkeypatch.setattr(jsonl, "BATCH_WARNING", len(data) - 1)
    assert "slightly above 200 MB" in look(data, "openai:batch").warnings[0]
    monkeypatch.setattr(jsonl, "BATCH_SIZE", len(data) - 1)

    read: list[int] = []
    with pytest.raises(InvalidUpload, match="at most 200 MB: split it"):
        look(data, "openai:batch", read=read)
    assert not read


def test_addresses_without_v1_are_azures() -> None:
    report = look(lines(*[request(n, url="/chat/completions") for n in range(3)]), "openai:batch")

    assert report.warnings == ('line 1: "url" does not begin with /v1/, which only Azure takes',)


def test_evals_are_objects_of_any_kind() -> None:
    assert look(lines({"item": {}}, {}), "openai:evals").checked == "2 lines"
    with pytest.raises(InvalidUpload, match="line 2"):
        look(lines({}, b"oops"), "openai:evals")


# -- large files


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Good lines whose middle is not looked at."""
    data = lines(*[EXAMPLE] * 1000)
    monkeypatch.setattr(jsonl, "FULL", 50_000)
    monkeypatch.setattr(jsonl, "SAMPLE", 10_000)
    monkeypatch.setattr(jsonl, "_BLOCK", 1000)
    return data


def test_of_a_very_large_file_both_ends_are_checked_and_that_is_said(sampled: bytes) -> None:
    read: list[int] = []

    report = look(sampled, "openai:fine-tune", read=read)

    assert sum(read) == 20_000
    assert "only the first and last 10 kB" in report.warnings[0]


@pytest.mark.parametrize(
    ("at", "message"),
    [(0.05, "data.jsonl, line "), (0.95, r"data.jsonl, after byte [\d,]+, line \d")],
)
def test_a_bad_line_at_either_end_of_a_large_file_is_found(
    sampled: bytes, at: float, message: str
) -> None:
    place = sampled.index(b"\n", int(len(sampled) * at)) + 1

    with pytest.raises(InvalidUpload, match=message):
        look(sampled[:place] + b"oops\n" + sampled[place:], "openai:fine-tune")


def test_checking_stops_within_a_block_when_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_BLOCK", 1000)
    data = lines(*[EXAMPLE] * 1000)
    read: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(
            check(watched(data, "x.jsonl", read), "openai:fine-tune", name="x.jsonl")
        )
        while not read:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert sum(read) < len(data)


# -- documents and images

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
JPEG = b"\xff\xd8\xff\xe0" + bytes(100)
PDF = b"%PDF-1.7\n" + bytes(100)


@pytest.mark.parametrize("purpose", ["assistants", "user_data"])
def test_documents_are_judged_by_their_extension(purpose: str) -> None:
    assert look(PDF, f"openai:{purpose}", "a.PDF").warnings == ()
    assert "extension .exe" in look(b"", f"openai:{purpose}", "a.exe").warnings[0]
    assert "no extension" in look(b"", f"openai:{purpose}", "README").warnings[0]


@pytest.mark.parametrize("kind", ["openai:vision", "twelvelabs:image"])
def test_images_are_judged_by_their_bytes(kind: str) -> None:
    assert look(PNG, kind, "a.txt").warnings == ()
    assert look(JPEG, kind, "a.txt").warnings == ()
    assert "bmp image" in look(b"BM" + bytes(100), kind, "a.bmp").warnings[0]
    with pytest.raises(InvalidUpload, match="a PDF"):
        look(PDF, kind, "a.png")
    with pytest.raises(InvalidUpload, match="no image but text"):
        look(b"version https://git-lfs.github.com/spec/v1\n", kind, "a.png")


@pytest.mark.parametrize("kind", ["oss", "", "somebody:else", "openai:unheard-of"])
def test_kinds_without_rules_pass_unread(kind: str) -> None:
    class Unreadable:
        info = open_source(b"x", name="x").info

    assert asyncio.run(check(Unreadable(), kind, name="x")) == Report()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x1aE\xdf\xa3", "matroska"),
        (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"RIFF\0\0\0\0WAVEfmt ", "wav"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        ((b"G" + bytes(187)) * 3, "ts"),
        (bytes(4) + (b"G" + bytes(191)) * 3, "ts"),
        (b"\x00\x00\x01\xba", "mpeg"),
        (b"\xff\xfb\x90", "mp3"),
        (b"\xff\xf1P", "aac"),
        (b"ID3\x04", "mp3"),
        (b"\0\0\0 ftypisom", "mp4"),
        (b"\0\0\0 ftypM4A ", "m4a"),
        (b"\0\0\0 ftypheic", "heic"),
        (b"\0\0\0\x08wide", "mp4"),
        (b"Good morning", "text"),
        ("Größe 日本".encode()[:-1], "text"),
        (b"BMW is a car maker", "text"),
        (b"\xff\xfea\0b\0", ""),
        (b"\x01\x02\x03", ""),
        (b"", ""),
    ],
)
def test_first_bytes_tell_the_kind(head: bytes, kind: str) -> None:
    assert media.kind_of(head) == kind


# -- films


def box(kind: bytes, *content: bytes, large: bool = False) -> bytes:
    body = b"".join(content)
    if large:
        return struct.pack(">I4sQ", 1, kind, 16 + len(body)) + body
    return struct.pack(">I4s", 8 + len(body), kind) + body


def track(width: int, height: int, handler: bytes = b"vide", version: int = 0) -> bytes:
    lead = bytes([version]) + bytes(87 if version else 75)
    return box(
        b"trak",
        box(b"tkhd", lead, struct.pack(">II", width << 16, height << 16)),
        box(b"mdia", box(b"hdlr", bytes(8), handler, bytes(12))),
    )


def mvhd(seconds: float, version: int = 0) -> bytes:
    if version:
        return box(b"mvhd", b"\1" + bytes(19), struct.pack(">IQ", 600, int(seconds * 600)))
    return box(b"mvhd", bytes(12), struct.pack(">II", 600, int(seconds * 600)))


def mp4(*moov: bytes, first: bool = True, large: bool = False) -> bytes:
    index, data = box(b"moov", *moov), box(b"mdat", bytes(5000), large=large)
    return box(b"ftyp", b"isom", bytes(4)) + (index + data if first else data + index)


SOUND = track(0, 0, b"soun")


@pytest.mark.parametrize("first", [True, False], ids=["index first", "index last"])
@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("large", [False, True])
def test_a_film_says_how_long_and_large_it_is(first: bool, version: int, large: bool) -> None:
    data = mp4(
        mvhd(12.5, version), SOUND, track(1920, 1080, version=version), first=first, large=large
    )

    report = look(data, "twelvelabs:video", "a.mp4")

    assert report == Report((), "it lasts 12 s, 1920 × 1080 pixels")


@pytest.mark.parametrize(
    ("film", "message"),
    [
        (mp4(mvhd(3.9), track(640, 360)), "lasts 3.9 s.*at least 4 s"),
        (mp4(mvhd(10), track(640, 359)), "640 × 359 pixels.*scale it up"),
        (mp4(mvhd(10), track(320, 640)), "320 × 640"),
        (mp4(mvhd(10), SOUND), "only sound; upload it as twelvelabs:audio"),
        (mp4(mvhd(10), track(640, 360))[:-1], "cut short: 1 bytes"),
        (mp4(mvhd(10), track(640, 360), first=False)[:-1], "cut short: 1 bytes"),
        (mp4(mvhd(10), track(640, 360), first=False)[:3000], "cut short"),
        (box(b"ftyp", b"isom") + box(b"mdat", bytes(100)), "no moov box.*not finished"),
        (PDF, "a PDF"),
        (b"<!DOCTYPE html><html>", "an error page"),
        (b"\0\0\0 ftypM4A " + bytes(100), "no video but m4a"),
    ],
)
def test_a_film_that_would_be_refused_is_refused_with_the_fix(film: bytes, message: str) -> None:
    with pytest.raises(InvalidUpload, match=message):
        look(film, "twelvelabs:video", "a.mp4")


@pytest.mark.parametrize(
    "film",
    [
        mp4(mvhd(4), track(360, 360)),
        mp4(mvhd(0), box(b"mvex"), track(640, 360)),
        mp4(mvhd(1), box(b"mvex"), track(640, 360)),
        mp4(box(b"cmov", bytes(30))),
        mp4(mvhd(10), track(0, 0)),
        mp4(box(b"mvhd", bytes(12), bytes(4), b"\xff" * 4), track(640, 360)),
        mp4(mvhd(10), b"\0\0\0\3trak"),
        mp4(mvhd(10)),
        mp4(mvhd(10), track(640, 360)) + b"TAGged by something",
        b"\x1aE\xdf\xa3" + bytes(50),
        b"\x01\x02\x03",
    ],
    ids=[
        "just enough",
        "in fragments",
        "first fragment",
        "compressed index",
        "no dimensions",
        "no duration",
        "odd box",
        "no tracks",
        "text at the end",
        "mkv",
        "unknown",
    ],
)
def test_what_cannot_be_told_passes(film: bytes) -> None:
    look(film, "twelvelabs:video", "a.mp4")


def test_only_the_index_of_a_film_is_read() -> None:
    data = mp4(mvhd(10), SOUND, track(640, 360), first=False)
    data = data.replace(box(b"mdat", bytes(5000)), box(b"mdat", bytes(5_000_000)))
    source = open_source(data, name="a.mp4")
    read: list[int] = []

    class Counting:
        info = source.info

        async def read(self, start: int, size: int) -> bytes | memoryview:
            read.append(size)
            return await source.read(start, size)

    report = asyncio.run(check(Counting(), "twelvelabs:video", name="a.mp4"))  # type: ignore[arg-type]

    assert "10 s" in report.checked
    assert sum(read) < 2000


def test_nonsense_in_a_film_ends_quickly_and_never_badly() -> None:
    good = mp4(mvhd(10), SOUND, track(640, 360))
    rng = random.Random(7)

    for _ in range(500):
        data = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(12, 700)] = rng.randrange(256)
        with contextlib.suppress(InvalidUpload):
            look(bytes(data), "twelvelabs:video", "a.mp4")


def test_sound_is_judged_by_its_bytes() -> None:
    for good in (b"ID3\4", b"RIFF\0\0\0\0WAVE", b"fLaC", b"\0\0\0 ftypM4A ", mp4(SOUND)):
        assert look(good, "twelvelabs:audio", "a").warnings == ()
    assert "the server will decide" in look(b"\1\2", "twelvelabs:audio", "a").warnings[0]
    with pytest.raises(InvalidUpload, match="no sound but png"):
        look(PNG, "twelvelabs:audio", "a.mp3")


def test_the_clip_beside_the_notebooks_is_a_film_that_twelvelabs_takes() -> None:
    """It stands in for theirs where there is no ffmpeg, in the notebooks that name it."""
    folder = Path(__file__).parent.parent / "notebooks"
    clip = folder / "assets" / "clip.mp4"

    film = asyncio.run(media.film(open_source(clip)))
    report = asyncio.run(check(open_source(clip), "twelvelabs:video", name="clip.mp4"))

    assert film.has_video
    assert film.seconds is not None
    assert film.seconds >= 4
    assert min(film.width or 0, film.height or 0) >= 360
    assert report.warnings == ()
    named = [path.stem for path in folder.glob("*.ipynb") if "assets/clip.mp4" in path.read_text()]
    assert {"01_quickstart", "04_twelvelabs"} <= set(named)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_films_that_ffmpeg_makes_are_understood(tmp_path: Path) -> None:
    def make(name: str, size: str, seconds: str, *options: str) -> Source:
        film = ["-f", "lavfi", "-i", f"color=size={size}:rate=5", "-t", seconds]
        path = tmp_path / name
        subprocess.run(
            ["ffmpeg", "-v", "error", *film, "-pix_fmt", "yuv420p", *options, os.fspath(path)],
            check=True,
        )
        return open_source(path)

    for name, options in (
        ("a.mp4", ()),
        ("b.mp4", ("-movflags", "faststart")),
        ("c.mov", ()),
        ("d.mp4", ("-movflags", "frag_keyframe+empty_moov")),
        ("e.mkv", ()),
        ("f.ts", ()),
        ("g.avi", ()),
    ):
        source = make(name, "640x360", "5", *options)
        report = asyncio.run(check(source, "twelvelabs:video", name=name))
        assert report.warnings == ()
    with pytest.raises(InvalidUpload, match=r"lasts 2\.0 s"):
        asyncio.run(check(make("h.mp4", "640x360", "2"), "twelvelabs:video", name="h.mp4"))
    with pytest.raises(InvalidUpload, match="320 × 240"):
        asyncio.run(check(make("i.mp4", "320x240", "5"), "twelvelabs:video", name="i.mp4"))
