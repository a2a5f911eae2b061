"""Is this file what its purpose demands? Streamed and cheap, before a byte is sent.

What the provider is known to refuse is an ``InvalidUpload`` that says where and what to
do; what may be a mistake is a warning.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from . import media, units
from .errors import InvalidUpload
from .sources import Source

FULL = 512 << 20  # bytes; JSON is read at 100 to 300 MB/s, so this takes a few seconds
SAMPLE = 64 << 20  # bytes read at each end of a larger file
_BLOCK = 4 << 20
_LONGEST = 64 << 20  # bytes of one line

# "up to 50,000 requests, … up to 200 MB", Create batch, OpenAI API reference, read 2026-11;
# whether its MB are 10^6 or 2^20 bytes is not said: between the two we warn.
BATCH_REQUESTS = 50_000
BATCH_SIZE, BATCH_WARNING = 200 << 20, 200_000_000
# "at least 10 examples", Fine-tuning guide, OpenAI, read 2026-11.
FINE_TUNE_EXAMPLES = 10
# At least 4 s and 360 × 360 pixels: TwelveLabs' video requirements, read 2026-11.
VIDEO_SECONDS, VIDEO_PIXELS = 4.0, 360

_DOCUMENTS = frozenset(
    # Supported files of file search and code interpreter, OpenAI guides, read 2026-11.
    "c cpp cs css csv doc docx gif go htm html jpeg jpg java js json jsonl md pdf php pkl png "
    "pptx py rb rtf sh svg tar tex ts txt webp xls xlsx xml zip".split()
)


@dataclass(frozen=True)
class Report:
    """What was found. ``checked`` says in words what was looked at, "" for nothing."""

    warnings: tuple[str, ...] = ()
    checked: str = ""


async def check(
    source: Source,
    kind: str,
    *,
    name: str,
    on_bytes: Callable[[int], object] | None = None,
) -> Report:
    """Return what is odd about the file; ``kind`` is a provider's, ``openai:batch`` say.

    Kinds without checks of their own pass. ``on_bytes`` is told of every block read.
    Cancelling takes effect within one block.

    Raises:
        InvalidUpload: the provider would refuse the file or could not use it; the message
            names the first bad line and says how to mend it.
    """
    match kind.removeprefix("azure-").split(":"):
        case ["openai", "fine-tune"]:
            return await _lines(source, name, _Examples(name), on_bytes)
        case ["openai", "batch"]:
            return await _lines(source, name, _Requests(name, source.info.size), on_bytes)
        case ["openai", "evals"]:
            return await _lines(source, name, _Objects(name), on_bytes)
        case ["openai", "vision"]:
            return await _image(source, name, {"png", "jpeg", "webp", "gif"}, "vision")
        case ["openai", "assistants" | "user_data" as purpose]:
            return _document(name, purpose)
        case ["twelvelabs", "video"]:
            return await _video(source, name)
        case ["twelvelabs", "audio"]:
            return await _audio(source, name)
        case ["twelvelabs", "image"]:
            return await _image(source, name, {"png", "jpeg", "webp", "gif"}, "image")
    return Report()


# -- lines of JSON


class _Objects:
    """Any objects. A subclass knows what is in them: ``reason`` is "" or what is wrong."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.warnings: dict[str, str] = {}
        self.count = 0

    def begin(self) -> None:
        if not self.name.lower().endswith(".jsonl"):
            stem = self.name.rpartition(".")[0] or self.name
            raise InvalidUpload(
                f"{self.name} must end in .jsonl for this purpose; "
                f"rename it, or use --name {stem}.jsonl"
            )

    def reason(self, item: dict[str, Any], line: int) -> str:
        return ""

    def end(self, whole: bool) -> None:
        if not self.count:
            raise InvalidUpload(f"{self.name} holds no line; write one JSON object per line")


class _Examples(_Objects):
    """Fine-tuning examples: conversations, prompts with completions, or preferences."""

    def reason(self, item: dict[str, Any], line: int) -> str:
        messages = item.get("messages")
        if messages is None:
            if "prompt" in item and "completion" in item:
                return ""
            if "input" in item and "preferred_output" in item and "non_preferred_output" in item:
                return ""
            return (
                'has no "messages" (nor "prompt" and "completion"); '
                'write {"messages": [{"role": "user", "content": "…"}, …]}'
            )
        if type(messages) is not list or not messages:
            return '"messages" is no list of messages'
        for message in messages:
            if type(message) is not dict:
                return "one of its messages is no object"
            if type(message.get("role")) is not str:
                return 'a message has no "role"; add "system", "user" or "assistant"'
            if "content" not in message and not (
                "tool_calls" in message or "function_call" in message
            ):
                return 'a message has neither "content" nor "tool_calls"'
        return ""

    def end(self, whole: bool) -> None:
        super().end(whole)
        if whole and self.count < FINE_TUNE_EXAMPLES:
            self.warnings["few"] = (
                f"{self.name} has {self.count} examples; fine-tuning wants at least "
                f"{FINE_TUNE_EXAMPLES}"
            )


class _Requests(_Objects):
    """Requests of a batch."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name)
        self.size = size
        self._seen: dict[str, int] = {}

    def begin(self) -> None:
        super().begin()
        if self.size > BATCH_SIZE:
            raise InvalidUpload(
                f"{self.name} has {units.size(self.size)}; a batch takes at most 200 MB: split it"
            )
        if self.size > BATCH_WARNING:
            self.warnings["size"] = f"{self.name} is slightly above 200 MB, a batch's limit"

    def reason(self, item: dict[str, Any], line: int) -> str:
        custom_id = item.get("custom_id")
        if type(custom_id) is not str or not custom_id:
            return 'has no "custom_id"; give every request a text of its own'
        before = self._seen.setdefault(custom_id, line)
        if before != line:
            return f'has the "custom_id" of line {before:,}; make it unique'
        if item.get("method") != "POST":
            return '"method" must be "POST"'
        url = item.get("url")
        if type(url) is not str or not url.startswith("/"):
            return '"url" must be a path such as "/v1/chat/completions"'
        if not url.startswith("/v1/"):
            self.warnings.setdefault(
                "url", f'line {line:,}: "url" does not begin with /v1/, which only Azure takes'
            )
        if type(item.get("body")) is not dict:
            return '"body" must be an object: the request itself'
        if len(self._seen) > BATCH_REQUESTS:
            return f"is one more than the {BATCH_REQUESTS:,} requests a batch takes; split the file"
        return ""


async def _lines(
    source: Source, name: str, shape: _Objects, on_bytes: Callable[[int], object] | None
) -> Report:
    """Read a file of JSON lines: all of it, or both ends of a very large one."""
    shape.begin()
    size = source.info.size
    whole = size <= FULL
    reader = _Reader(name, shape)
    carry = b""
    for start in range(0, size if whole else SAMPLE, _BLOCK):
        block = await source.read(start, min(_BLOCK, size - start))
        carry = await asyncio.to_thread(reader.take, carry, block)
        if on_bytes is not None:
            on_bytes(len(block))
    if whole:
        await asyncio.to_thread(reader.take, carry, b"\n" if carry else b"")
    else:
        reader.place = "after byte {start:,}, line"
        reader.first_byte = size - SAMPLE
        reader.line, carry, cut = 0, b"", True
        for start in range(size - SAMPLE, size, _BLOCK):
            block = await source.read(start, min(_BLOCK, size - start))
            if cut:  # the line in which the sample begins
                _, newline, block = bytes(block).partition(b"\n")
                cut = not newline
            carry = await asyncio.to_thread(reader.take, carry, block)
            if on_bytes is not None:
                on_bytes(_BLOCK)
        await asyncio.to_thread(reader.take, carry, b"\n" if carry else b"")
    shape.end(whole)
    warnings = list(shape.warnings.values())
    if reader.blank:
        warnings.append(
            f"{name} has {reader.blank:,} blank lines, the first is line {reader.first_blank:,}"
        )
    checked = f"{shape.count:,} lines"
    if not whole:
        checked = f"the first and last {units.size(SAMPLE)}"
        warnings.append(f"only {checked} of {name} were checked: it has {units.size(size)}")
    return Report(tuple(warnings), checked)


class _Reader:
    """Parses lines and asks the shape about each."""

    def __init__(self, name: str, shape: _Objects) -> None:
        self.name = name
        self.shape = shape
        self.line = 0
        self.blank = self.first_blank = 0
        self.place = "line"
        self.first_byte = 0
        self._parse = json.JSONDecoder(parse_constant=_no_constant).raw_decode

    def take(self, carry: bytes, block: bytes | memoryview) -> bytes:
        """Check all lines that end in this block; return the beginning of the next."""
        data = carry + bytes(block) if carry else bytes(block)
        cut = data.rfind(b"\n") + 1
        if len(data) - cut > _LONGEST:
            self._refuse(self.line + data.count(b"\n") + 1, "is longer than 64 MiB")
        if not cut:
            return data
        try:
            text = data[:cut].decode()
        except UnicodeDecodeError as error:
            self._no_utf8(data, error.start)
        parse, reason, shape = self._parse, self.shape.reason, self.shape
        number = self.line
        for line in text[:-1].split("\n"):
            number += 1
            try:
                item, end = parse(line)
                if end != len(line) and line[end:].strip(" \t\r"):
                    raise ValueError
            except (ValueError, RecursionError):
                item = self._slowly(line, number)
                if item is None:
                    continue
            if type(item) is not dict:
                self._refuse(number, "is no JSON object; every line is one object in { }")
            wrong = reason(item, number)
            if wrong:
                self._refuse(number, wrong)
            shape.count += 1
        self.line = number
        return data[cut:]

    def _slowly(self, line: str, number: int) -> Any:
        """Parse a line that is unusual; None when it is blank."""
        if not line.strip():
            self.blank += 1
            self.first_blank = self.first_blank or number
            return None
        if number == 1 and line.startswith("\ufeff"):
            self._refuse(
                number, "begins with a byte order mark; save the file as UTF-8 without BOM"
            )
        try:
            return json.loads(line, parse_constant=_no_constant)
        except RecursionError:
            self._refuse(number, "is nested too deeply")
        except json.JSONDecodeError as error:
            # The message names a place in the line; the line itself is the user's data.
            hint = "; is an object spread over several lines?" if line.strip() in ("{", "[") else ""
            self._refuse(number, f"is no JSON: {error.msg} at column {error.colno:,}{hint}")
        except ValueError as error:
            self._refuse(number, f"is no JSON: {error}")

    def _no_utf8(self, data: bytes, at: int) -> NoReturn:
        if self.line == 0 and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            self._refuse(1, "is UTF-16; save the file as UTF-8")
        number = self.line + data.count(b"\n", 0, at) + 1
        self._refuse(number, f"is not UTF-8 (byte 0x{data[at]:02x}); save the file as UTF-8")

    def _refuse(self, number: int, reason: str) -> NoReturn:
        where = self.place.format(start=self.first_byte)
        raise InvalidUpload(f"{self.name}, {where} {number:,}: {reason}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value; write null")


# -- documents, images, sound and film


def _document(name: str, purpose: str) -> Report:
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    if extension in _DOCUMENTS:
        return Report((), f"the extension .{extension}")
    called = f"the extension .{extension}" if extension else "no extension"
    return Report(
        (
            f"{name} has {called}, which is not on OpenAI's list of files for {purpose}; "
            "it may be stored and then be of no use",
        ),
        "the extension",
    )


async def _image(source: Source, name: str, good: set[str], purpose: str) -> Report:
    kind = await _kind(source)
    if kind in media.IMAGE:
        if kind in good:
            return Report((), f"it is a {kind} image")
        return Report((f"{name} is a {kind} image; {_list(good)} are known to work",), "the type")
    if kind:
        raise InvalidUpload(
            f"{name} is no image but {_called(kind)}; {purpose} takes {_list(good)}"
        )
    return Report((f"{name} is no image of a known type; {purpose} takes {_list(good)}",))


async def _audio(source: Source, name: str) -> Report:
    kind = await _kind(source)
    if kind in media.AUDIO or kind in media.VIDEO:
        return Report((), f"it is {kind}")
    if kind:
        raise InvalidUpload(
            f"{name} is no sound but {_called(kind)}; give a file such as .wav, .mp3 or .m4a"
        )
    return Report((f"{name} is no sound of a known type; the server will decide",))


async def _video(source: Source, name: str) -> Report:
    kind = await _kind(source)
    if not kind:
        return Report((f"{name} is no video of a known type; the server will decide",))
    if kind not in media.VIDEO:
        raise InvalidUpload(
            f"{name} is no video but {_called(kind)}; give a file such as .mp4, .mov, .mkv or .webm"
        )
    if kind != "mp4":
        return Report((), f"it is {kind}; length and size are not looked at")
    film = await media.film(source)
    if film.has_video is False:
        raise InvalidUpload(f"{name} has no picture, only sound; upload it as twelvelabs:audio")
    if film.seconds is not None and film.seconds < VIDEO_SECONDS:
        raise InvalidUpload(
            f"{name} lasts {film.seconds:.1f} s; TwelveLabs wants at least "
            f"{VIDEO_SECONDS:.0f} s: join it to another, or loop it"
        )
    width, height = film.width, film.height
    if width and height and min(width, height) < VIDEO_PIXELS:
        raise InvalidUpload(
            f"{name} is {width} × {height} pixels; TwelveLabs wants at least "
            f"{VIDEO_PIXELS} × {VIDEO_PIXELS}: scale it up"
        )
    seen = [f"it lasts {units.seconds(film.seconds)}"] if film.seconds else []
    seen += [f"{width} × {height} pixels"] if width and height else []
    return Report((), ", ".join(seen) or "it is mp4")


async def _kind(source: Source) -> str:
    return media.kind_of(bytes(await source.read(0, min(media.HEAD, source.info.size))))


def _called(kind: str) -> str:
    return {
        "text": "text (an error page saved under its name, or a pointer to a large file?)",
        "pdf": "a PDF",
        "zip": "a ZIP archive",
    }.get(kind, f"{kind} data")


def _list(kinds: set[str]) -> str:
    return re.sub(", ([a-z]+)$", r" and \1", ", ".join(sorted(kinds)))
