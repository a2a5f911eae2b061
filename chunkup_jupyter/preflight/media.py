"""What a file is by its first bytes, and how long and large a film is by its index."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from ..errors import InvalidUpload
from ..sources import Source

HEAD = 512  # bytes that kind_of looks at
_MOST_BOXES = 4096  # a film has dozens; a fragmented one, thousands at the top

_PREFIXES = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"FLV\x01", "flv"),
    (b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (b"OggS", "ogg"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x00\x00\x01\xb3", "mpeg"),
    (b"ID3", "mp3"),
    (b"fLaC", "flac"),
    (b"#!AMR", "amr"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"%PDF-", "pdf"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"7z\xbc\xaf'\x1c", "7z"),
    (b"Rar!", "rar"),
)
_RIFF = {b"AVI ": "avi", b"WAVE": "wav", b"WEBP": "webp"}
_BRANDS = {
    b"M4A ": "m4a",
    b"M4B ": "m4a",
    b"avif": "avif",
    b"avis": "avif",
    b"heic": "heic",
    b"heix": "heic",
    b"mif1": "heic",
}
_ADTS = (b"\xf0", b"\xf1", b"\xf8", b"\xf9")
_MPEG_AUDIO = (b"\xfa", b"\xfb", b"\xf2", b"\xf3", b"\xe2", b"\xe3", b"\xfc", b"\xfd")
_OLD_QUICKTIME = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")

VIDEO = frozenset({"mp4", "matroska", "avi", "ts", "mpeg", "flv", "asf", "ogg"})
AUDIO = frozenset({"mp3", "aac", "flac", "wav", "aiff", "amr", "m4a", "ogg", "asf"})
IMAGE = frozenset({"jpeg", "png", "gif", "webp", "bmp", "tiff", "heic", "avif"})


def kind_of(head: bytes) -> str:
    """Return what the first ``HEAD`` bytes say: ``mp4``, ``png``, ``text``, …; "" if unknown."""
    for prefix, kind in _PREFIXES:
        if head.startswith(prefix):
            return kind
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "mp4")
    if head[4:8] in _OLD_QUICKTIME:
        return "mp4"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "bmp"
    # Transport streams repeat a mark every 188 bytes; on discs 4 bytes precede each.
    if b"GGG" in (head[0:512:188], head[4:512:192]):
        return "ts"
    if head[:1] == b"\xff" and head[1:2] in _ADTS:
        return "aac"
    if head[:1] == b"\xff" and head[1:2] in _MPEG_AUDIO:
        return "mp3"
    return "text" if _is_text(head) else ""


@dataclass(frozen=True)
class Film:
    """What an MP4 or MOV says of itself. Seconds and pixels; None when it does not say."""

    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    has_video: bool | None = None


async def film(source: Source) -> Film:
    """Return what the index of an MP4 or MOV says, by reading a few hundred bytes of it.

    Raises:
        InvalidUpload: the file is cut short, or has no index.
    """
    name, size = source.info.name, source.info.size
    found: Film | None = None
    async for kind, start, end in _boxes(source, 0, size):
        if end > size and kind in (b"mdat", b"moov", b"moof"):
            raise InvalidUpload(
                f"{name} is cut short: {end - size:,} bytes of its film data are missing; "
                "copy or export it again"
            )
        if kind == b"moov":
            found = await _moov(source, start, end)
        if kind == b"moof" or end > size:
            break  # fragments may be thousands, each a read
        if kind == b"":
            return found or Film()  # not a chain of boxes after all
    if found is None:
        raise InvalidUpload(
            f"{name} has no index (no moov box), so it cannot be played: the recording was not "
            "finished; repair it, or export it again"
        )
    return found


async def _moov(source: Source, start: int, end: int) -> Film:
    seconds: float | None = None
    width = height = None
    tracks, videos, fragmented = 0, 0, False
    async for kind, at, stop in _boxes(source, start, end):
        match kind:
            case b"mvhd":
                seconds = await _duration(source, at, stop)
            case b"mvex":
                fragmented = True  # the length of what follows is not in the index
            case b"cmov" | b"":
                return Film()  # compressed, or damaged in a way that players may forgive
            case b"trak":
                tracks += 1
                found = await _video_track(source, at, stop)
                if found is not None:
                    videos += 1
                    if found[0] * found[1] > (width or 0) * (height or 0):
                        width, height = found
    return Film(None if fragmented else seconds, width, height, bool(videos) if tracks else None)


async def _duration(source: Source, start: int, end: int) -> float | None:
    head = await _bytes(source, start, end, 32)
    wide = head[:1] == b"\x01"
    at = 20 if wide else 12
    scale = int.from_bytes(head[at : at + 4], "big")
    text = head[at + 4 : at + (12 if wide else 8)]
    if not scale or not text or text == b"\xff" * len(text):
        return None
    return int.from_bytes(text, "big") / scale or None


async def _video_track(source: Source, start: int, end: int) -> tuple[int, int] | None:
    """Return width and height in pixels (0 when not said), None when it is no video track."""
    size, video = (0, 0), False
    async for kind, at, stop in _boxes(source, start, end):
        if kind == b"tkhd":
            head = await _bytes(source, at, stop, 96)
            field = 88 if head[:1] == b"\x01" else 76  # 16.16 fixed point, as displayed
            numbers = head[field : field + 8]
            size = int.from_bytes(numbers[:2], "big"), int.from_bytes(numbers[4:6], "big")
        elif kind == b"mdia":
            async for inner, inner_at, inner_stop in _boxes(source, at, stop):
                if inner == b"hdlr":
                    video = (await _bytes(source, inner_at, inner_stop, 12))[8:12] == b"vide"
    return size if video else None


async def _boxes(source: Source, start: int, end: int) -> AsyncIterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of the contents of each box; type b"" ends a broken chain."""
    for _ in range(_MOST_BOXES):
        if end - start < 8:
            return
        head = await _bytes(source, start, end, 16)
        size, kind, body = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if size == 1:
            size, body = int.from_bytes(head[8:16], "big"), start + 16
        elif size == 0:
            size = end - start  # to the end of what contains it
        if start + size < body or not all(32 <= byte < 127 or byte == 0xA9 for byte in kind):
            yield b"", start, end
            return
        yield kind, body, start + size
        start += size
    yield b"", start, end


async def _bytes(source: Source, start: int, end: int, most: int) -> bytes:
    end = min(end, source.info.size)
    return bytes(await source.read(start, min(most, end - start))) if end > start else b""


def _is_text(head: bytes) -> bool:
    if not head or b"\x00" in head:
        return False
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # a character may be cut at the end
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)
