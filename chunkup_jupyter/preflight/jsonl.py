"""Files of JSON lines: is each line what the purpose demands? Read as a stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from .. import units
from ..errors import InvalidUpload
from ..sources import Source

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


async def read(source: Source, shape: Objects) -> tuple[tuple[str, ...], str]:
    """Return warnings, and what was looked at: all of a file, or both ends of a very large one.

    Cancelling takes effect within one block. Raises ``InvalidUpload``, which names the
    first bad line.
    """
    shape.begin()
    name, size = shape.name, source.info.size
    whole = size <= FULL
    reader = _Reader(name, shape)
    await _take(source, 0, size if whole else SAMPLE, reader, last=whole)
    if not whole:
        reader.begin_anew(size - SAMPLE)
        await _take(source, size - SAMPLE, size, reader, last=True, cut=True)
    shape.end(whole)
    warnings = list(shape.warnings.values())
    if reader.blank:
        warnings.append(
            f"{name} has {reader.blank:,} blank lines, the first is line {reader.first_blank:,}"
        )
    if whole:
        return tuple(warnings), f"{shape.count:,} lines"
    checked = f"the first and last {units.size(SAMPLE)}"
    warnings.append(f"only {checked} of {name} were checked: it has {units.size(size)}")
    return tuple(warnings), checked


async def _take(
    source: Source, start: int, end: int, reader: _Reader, *, last: bool, cut: bool = False
) -> None:
    """Read a stretch in blocks; ``cut`` says that it begins within a line, which is left out."""
    carry = b""
    for at in range(start, end, _BLOCK):
        block = await source.read(at, min(_BLOCK, end - at))
        if cut:
            _, newline, block = bytes(block).partition(b"\n")
            cut = not newline
        carry = await asyncio.to_thread(reader.take, carry, block)
    if last and carry:  # the last line may lack its newline
        await asyncio.to_thread(reader.take, carry, b"\n")


class Objects:
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


class Examples(Objects):
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


class Requests(Objects):
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


class _Reader:
    """Parses lines and asks the shape about each."""

    def __init__(self, name: str, shape: Objects) -> None:
        self.name = name
        self.shape = shape
        self.line = 0
        self.blank = self.first_blank = 0
        self.place = "line"
        self.first_byte = 0
        self._parse = json.JSONDecoder(parse_constant=_no_constant).raw_decode

    def begin_anew(self, first_byte: int) -> None:
        """Count lines from this byte on."""
        self.place, self.first_byte, self.line = "after byte {start:,}, line", first_byte, 0

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
            what = error.msg.removesuffix(" at")  # "Unterminated string starting at"
            self._refuse(number, f"is no JSON: {what} at column {error.colno:,}{hint}")
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
