"""Which options there are: those of every upload, each verb's, and a provider's own.

A provider's options come from its fields (``model.option``), so that a new provider
brings its own.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import units
from ..errors import InvalidUpload

if TYPE_CHECKING:
    from ..model import Provider

PROGRESS = ("auto", "widget", "html", "text", "none")
VERIFY = ("auto", "none")

VERBS: dict[str, str] = {
    "list": "what is running and what is unfinished",
    "show": "one upload in full: show ID",
    "resume": "go on with a paused, stopped or failed upload: resume [ID]",
    "pause": "take no new part: pause [ID]",
    "cancel": "stop, and make the provider forget the upload: cancel [ID]",
    "history": "finished uploads, newest last",
    "orphans": "unfinished sessions that a provider still holds: orphans [DEST]",
    "clean": "abort and forget old unfinished uploads: clean --older-than 2d",
    "doctor": "what is found and what is missing on this machine",
    "panel": "the upload panel with buttons, in a notebook",
    "providers": "where files can go, and each destination's form",
    "sandbox": "keep a local server up, from a shell: sandbox openai|oss|twelvelabs",
    "help": "this text, or one verb's or provider's: help [WORD]",
}


def of_uploads(parser: argparse.ArgumentParser) -> None:
    """Add the options that every upload takes, whatever its destination."""
    add = parser.add_argument
    size, toggle = _typed(units.parse_size), argparse.BooleanOptionalAction
    add(
        "-j", "--jobs", "--parallel", "--concurrency", "--max-workers",
        type=_typed(_jobs), metavar="N|auto", help="parts in flight at once (found by trying)",
    )  # fmt: skip
    add(
        "--part-size", "--chunk-size", "--block-size", type=size, metavar="SIZE",
        help="such as 16M (16 × 2^20 bytes); planned from file and provider",
    )  # fmt: skip
    add("--name", metavar="NAME", help="the file's name at the provider")
    add(
        "--media-type", "--mime-type", "--content-type", metavar="TYPE",
        help="guessed from the name",
    )  # fmt: skip
    add(
        "--verify", "--checksum", choices=VERIFY, metavar="auto|none",
        help="compare checksums (auto)",
    )  # fmt: skip
    add(
        "--disable-crc64", dest="verify", action="store_const", const="none",
        help=argparse.SUPPRESS,
    )  # fmt: skip
    add("--wait-ready", action=toggle, help="wait until the provider has processed the file")
    add(
        "-n", "--dry-run", "--plan", "--no-execute", action="store_true",
        help="show the plan; send nothing",
    )  # fmt: skip
    add(
        "-b", "--detach", "--background", "--no-wait", action="store_true",
        help="return the job at once (notebooks)",
    )  # fmt: skip
    add("--wait", dest="detach", action="store_false", help=argparse.SUPPRESS)
    add(
        "--fresh", "--no-resume", "--restart", action="store_true",
        help="begin anew instead of going on",
    )  # fmt: skip
    add(
        "--reuse", action="store_true",
        help="send nothing that history says is there, once the provider agrees",
    )  # fmt: skip
    add("-r", "--recursive", action="store_true", help="a folder means the files below it")
    add(
        "--include", action="append", metavar="PATTERN",
        help="of folders and patterns only these, such as '*.csv'; may be repeated",
    )  # fmt: skip
    add("--exclude", action="append", metavar="PATTERN", help="and not these; may be repeated")
    add(
        "--bwlimit", type=size, metavar="RATE",
        help="bytes a second of all uploads together, such as 10M; 0 for no limit",
    )  # fmt: skip
    add("--files", type=_typed(_positive), metavar="N", help="files on their way at once (2)")
    add("--check", action=toggle, help="look at the file before sending it")
    add("--progress", choices=PROGRESS, metavar="|".join(PROGRESS), help="how to show progress")
    add("--sandbox", action=toggle, help="upload to a local server that speaks the same protocol")
    add(
        "-o", "--out", type=_typed(_identifier), metavar="NAME",
        help="the variable that gets the result, or the job on failure (notebooks)",
    )  # fmt: skip
    add("--key-env", metavar="VARIABLE", help="the environment variable that holds the key")
    add("--ask-key", action="store_true", help="type the key when asked; it is stored nowhere")
    add("--debug", action="store_true", help="add the traceback to an error")


def of_verb(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options that a verb takes."""
    add = parser.add_argument
    add("--debug", action="store_true", help="add the traceback to an error")
    if verb in ("history", "list"):
        add("--limit", type=_typed(_positive), metavar="N", help="the newest N only")
    if verb == "clean":
        add(
            "--older-than", type=_typed(units.parse_duration), metavar="TIME",
            help="such as 12h or 2d; required",
        )  # fmt: skip
        add("-n", "--dry-run", action="store_true", help="say what would go; abort nothing")
    if verb in ("orphans", "clean", "doctor", "resume"):
        toggle = argparse.BooleanOptionalAction
        add("--sandbox", action=toggle, help="ask the local server instead of the real service")
        add("--key-env", metavar="VARIABLE", help="the environment variable that holds the key")
        add("--ask-key", action="store_true", help="type the key when asked")
    if verb == "resume":
        add("-b", "--detach", "--background", action="store_true", help="return the job at once")
        add("--progress", choices=PROGRESS, metavar="|".join(PROGRESS), help="how to show it")


def of_provider(
    group: argparse._ArgumentGroup, provider: type[Provider], parser: argparse.ArgumentParser
) -> None:
    """Add a provider's own options to a group of its name, but none that ``parser`` has."""
    taken = parser._option_string_actions
    for flag, each in own_options(provider).items():
        meta = each.metadata
        names = [name for name in (flag, *_dashed(meta["aliases"])) if name not in taken]
        if flag in taken:  # a common option of that name comes first
            continue
        options: dict[str, Any] = {"dest": ":" + each.name, "help": _help(meta)}
        if meta["toggle"]:
            options["action"] = "store_true"
        elif meta["repeat"]:
            options |= {"action": _Pairs, "metavar": meta["metavar"] or "K=V"}
        else:
            shown, plain = "|".join(meta["choices"]), each.name.rpartition("_")[2].upper()
            metavar = meta["metavar"] or (shown if 0 < len(shown) < 24 else plain)
            options |= {"type": _typed(meta["parse"] or str), "metavar": metavar}
        group.add_argument(*names, **options)


def _help(meta: Mapping[str, Any]) -> str:
    text = str(meta["help"]).replace("%", "%%")
    shown = "|".join(meta["choices"])
    return f"{text}: {', '.join(meta['choices'])}" if len(shown) >= 24 else text


def _dashed(aliases: Iterable[str]) -> list[str]:
    return [text if text.startswith("-") else f"--{text}" for text in aliases]


def own_options(provider: type[Provider]) -> dict[str, dataclasses.Field[Any]]:
    """Return a provider's fields that are options, by their flag (``--purpose``)."""
    found = {}
    for each in dataclasses.fields(provider):
        if each.metadata.get("option"):
            flag = each.metadata.get("flag") or each.name.replace("_", "-")
            found["--" + flag.lstrip("-")] = each
    return found


class _Pairs(argparse.Action):
    """Collect ``K=V`` into a dictionary."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        key, equals, value = str(values).partition("=")
        if not equals or not key:
            parser.error(f"{option_string} takes KEY=VALUE")
        pairs = {**getattr(namespace, self.dest, {}), key: value}
        setattr(namespace, self.dest, pairs)


def _typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return ``read`` with its ``ValueError`` sentence kept by argparse."""

    def typed(text: str) -> Any:
        try:
            return read(text)
        except (ValueError, InvalidUpload) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def _jobs(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise ValueError(f"{text!r} is neither a number from 1 to 64 nor auto")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is no number of one or more")
    return int(text)


def _identifier(text: str) -> str:
    if not text.isidentifier():
        raise ValueError(f"{text!r} cannot be a variable's name")
    return text
