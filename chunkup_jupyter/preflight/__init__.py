"""Is this file what its purpose demands? Streamed and cheap, before a byte is sent.

What the provider is known to refuse, or could not use, is an ``InvalidUpload`` that says
where and what to do; what may be a mistake is a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .. import units
from ..errors import InvalidUpload
from ..sources import Source
from . import jsonl, media

# What the models Marengo and Pegasus take: "at least 360x360", "between 4 seconds and 2
# hours", Video requirements under "Upload videos", TwelveLabs SDK reference, read 2026-11.
VIDEO_SECONDS, VIDEO_PIXELS = 4.0, 360

IMAGES = frozenset({"png", "jpeg", "webp", "gif"})  # what is known to work for vision
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


async def check(source: Source, kind: str, *, name: str) -> Report:
    """Return what is odd about the file; ``kind`` is a provider's, ``openai:batch`` say.

    Kinds without checks of their own pass. Cancelling takes effect within one block.

    Raises:
        InvalidUpload: the provider would refuse the file or could not use it; the message
            names the first bad line and says how to mend it.
    """
    match kind.removeprefix("azure-").split(":"):
        case ["openai", "fine-tune"]:
            return Report(*await jsonl.read(source, jsonl.Examples(name)))
        case ["openai", "batch"]:
            return Report(*await jsonl.read(source, jsonl.Requests(name, source.info.size)))
        case ["openai", "evals"]:
            return Report(*await jsonl.read(source, jsonl.Objects(name)))
        case ["openai", "vision"]:
            return await _image(source, name, "vision")
        case ["openai", "assistants" | "user_data" as purpose]:
            return _document(name, purpose)
        case ["twelvelabs", "video"]:
            return await _video(source, name)
        case ["twelvelabs", "audio"]:
            return await _audio(source, name)
        case ["twelvelabs", "image"]:
            return await _image(source, name, "image")
    return Report()


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


async def _image(source: Source, name: str, purpose: str) -> Report:
    takes = f"{purpose} takes {_list(IMAGES)}"
    kind = await _kind(source, name, media.IMAGE, "image", takes)
    if not kind:
        return Report((f"{name} is no image of a known type; {takes}",))
    if kind not in IMAGES:
        return Report((f"{name} is a {kind} image; {_list(IMAGES)} are known to work",), "the type")
    return Report((), f"it is a {kind} image")


async def _audio(source: Source, name: str) -> Report:
    advice = "give a file such as .wav, .mp3 or .m4a"
    kind = await _kind(source, name, media.AUDIO | media.VIDEO, "sound", advice)
    if not kind:
        return Report((f"{name} is no sound of a known type; the server will decide",))
    return Report((), f"it is {kind}")


async def _video(source: Source, name: str) -> Report:
    advice = "give a file such as .mp4, .mov, .mkv or .webm"
    kind = await _kind(source, name, media.VIDEO, "video", advice)
    if not kind:
        return Report((f"{name} is no video of a known type; the server will decide",))
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


async def _kind(source: Source, name: str, wanted: frozenset[str], what: str, advice: str) -> str:
    """Return what a file is by its first bytes, "" if unknown; refuse what is surely no such."""
    kind = media.kind_of(bytes(await source.read(0, min(media.HEAD, source.info.size))))
    if kind and kind not in wanted:
        raise InvalidUpload(f"{name} is no {what} but {_called(kind)}; {advice}")
    return kind


def _called(kind: str) -> str:
    return {
        "text": "text (an error page saved under its name, or a pointer to a large file?)",
        "pdf": "a PDF",
        "zip": "a ZIP archive",
    }.get(kind, f"{kind} data")


def _list(kinds: frozenset[str]) -> str:
    return re.sub(", ([a-z]+)$", r" and \1", ", ".join(sorted(kinds)))
