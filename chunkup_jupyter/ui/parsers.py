"""Parsers made of the options, and the help they give."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from .. import __version__, providers
from ..model import Provider
from . import options
from .options import VERBS


class BadLine(Exception):
    """The line cannot be understood. The message is for the reader and ends the call."""


class HelpAsked(Exception):
    """``--help`` was on the line; the argument is the text to show."""


def of_upload(own: Mapping[str, type[Provider]], destinations: Sequence[str] = ()) -> Parser:
    """Return the parser of an upload line, with the options of these providers by scheme."""
    parser = Parser(
        prog="chunkup",
        usage="chunkup SOURCE... DEST [options]    or    chunkup VERB [words]",
        description=(
            "Bring files to a provider in parts: parallel, resumable, verified.\n"
            "Run the same line again to go on where an upload stopped.\n\n"
            "examples (in a notebook: up = %chunkup …, and the result is in up):\n"
            "  chunkup train.jsonl openai:fine-tune\n"
            "  chunkup lecture.mp4 twelvelabs:video --sandbox --dry-run\n"
            "  chunkup -r data oss://my-bucket/dir/ --include '*.csv' -j 8\n"
            "  chunkup resume\n\n"
            "destinations:\n" + "\n".join(f"  {form}" for form in destinations)
        ),
        epilog="verbs:\n"
        + "\n".join(f"  {verb:<12}{text}" for verb, text in VERBS.items())
        + "\n\nexit status in a shell:\n"
        "  0 the provider confirmed; 1 the upload failed; 130 interrupted\n"
        "  2 nothing was sent: mend the line, the file or the key",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS, default=[])
    options.of_uploads(parser)
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="show the version")
    for scheme, provider in own.items():
        options.of_provider(parser.add_argument_group(scheme), provider, parser)
    return parser


def of_verb(verb: str, own: Mapping[str, type[Provider]] = {}) -> Parser:
    """Return the parser of what follows a verb."""
    parser = Parser(
        prog=f"chunkup {verb}",
        usage=f"chunkup {verb} [words] [options]",
        description=VERBS[verb],
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS, default=[])
    options.of_verb(parser, verb)
    for scheme, provider in own.items():
        options.of_provider(parser.add_argument_group(scheme), provider, parser)
    return parser


def help_text(word: str = "") -> str:
    """Return the help: all of it, or one verb's, or one provider's.

    Raises:
        BadLine: there is no such word.
    """
    if not word:
        return _whole_help()
    if word in VERBS and word != "help":
        return of_verb(word).format_help()
    scheme = word.partition(":")[0]
    if scheme in providers.schemes():
        return _own_help(scheme, providers.load(f"{scheme}:"))
    raise BadLine(f"there is no help on {word!r}{meant(word, [*VERBS, *providers.schemes()])}")


def _whole_help() -> str:
    """Return the help with every installed provider's options in a group of its name.

    Each group is made alone: two providers may spell an option alike.
    """
    own = installed()
    head, verbs, foot = of_upload({}, forms(own)).format_help().partition("\nverbs:")
    groups = [_own_help(scheme, provider) for scheme, provider in own.items()]
    return head + "".join(f"\n{group}" for group in groups) + verbs + foot


def _own_help(scheme: str, provider: type[Provider]) -> str:
    parser = Parser(prog=scheme)
    formatter = parser._get_formatter()
    group = parser.add_argument_group(scheme)
    options.of_provider(group, provider, of_upload({}))
    formatter.start_section(scheme)
    formatter.add_arguments(group._group_actions)
    formatter.end_section()
    return formatter.format_help()


def flags(scheme: str = "") -> dict[str, tuple[str, bool, tuple[str, ...]]]:
    """Return the options that may follow: flag → (help, takes a value, choices).

    With a scheme those of its provider are among them.
    """
    own = {}
    if scheme in providers.schemes():
        own[scheme] = providers.load(f"{scheme}:")
    found: dict[str, tuple[str, bool, tuple[str, ...]]] = {}
    for action in of_upload(own)._actions:
        if action.help is argparse.SUPPRESS:
            continue
        given = tuple(map(str, action.choices or ()))
        spelled = [text for text in action.option_strings if text.startswith("--")]
        # The first spelling is the name; the aliases are understood, not advertised.
        shown = [text for text in spelled if text == spelled[0] or text.startswith("--no-")]
        for text in shown:
            found[text] = (action.help or "", action.nargs != 0, given)
    for provider in own.values():
        for flag, each in options.own_options(provider).items():
            if flag in found and (choices := tuple(each.metadata["choices"])):
                found[flag] = (*found[flag][:2], choices)
    return found


def forms(own: Mapping[str, type[Provider]]) -> list[str]:
    """Return what each provider's destinations look like."""
    return [provider.form or f"{scheme}:…" for scheme, provider in own.items()]


def installed() -> dict[str, type[Provider]]:
    """Return the providers by scheme; one that cannot be imported is left out."""
    found = {}
    for scheme in providers.schemes():
        try:
            found[scheme] = providers.load(f"{scheme}:")
        except Exception:
            continue
    return found


def meant(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` when a known word is close; else ""."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""


def _whose(flag: str) -> str:
    """Return ``; it belongs to oss`` when another provider has that option; else ""."""
    owners = [
        scheme
        for scheme, provider in installed().items()
        if flag in of_upload({scheme: provider})._option_string_actions
    ]
    return f"; it belongs to {' and '.join(owners)}" if owners else ""


class Parser(argparse.ArgumentParser):
    """Raises instead of exiting, and never repeats a value in a message: it may be a key."""

    def __init__(self, **more: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, formatter_class=_Formatter, **more)
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="show this text")

    def error(self, message: str) -> NoReturn:
        # argparse names an option with all its aliases: "argument -j/--jobs/--parallel: …".
        named = re.match(r"argument (?:-\w/)?([^/:]+)[^:]*: (.*)", message, re.DOTALL)
        text = f"{named[1]}: {named[2]}" if named else message
        raise BadLine(text.replace("expected one argument", "a value is missing"))

    def read(self, tokens: Sequence[str], *, lenient: bool = False) -> argparse.Namespace:
        """Return what the words say; ``lenient`` lets words without a place pass.

        What follows a ``--`` is no option, whatever it looks like.
        """
        at = tokens.index("--") if "--" in tokens else len(tokens)
        space, rest = self.parse_known_intermixed_args(list(tokens[:at]))
        space.words += tokens[at + 1 :]
        unknown = [token.partition("=")[0] for token in rest if token.startswith("-")]
        if unknown:
            known = [text for action in self._actions for text in action.option_strings]
            hint = _whose(unknown[0]) or meant(unknown[0], known)
            raise BadLine(f"there is no option {unknown[0]} here{hint}")
        if rest and not lenient:
            raise BadLine("there are more words than this takes")
        return space


class _Version(argparse.Action):
    def __call__(self, *_: object) -> None:
        raise HelpAsked(f"chunkup {__version__}")


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        # Uploads show every provider's options, whichever was named.
        whole = isinstance(parser, Parser) and parser.prog == "chunkup"
        raise HelpAsked(help_text() if whole else parser.format_help())


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Aligned in the 80 columns of a cell beside a sidebar, each option once."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=80)
        self._action_max_length = 26  # one column for all groups

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        short = [text for text in action.option_strings if not text.startswith("--")]
        long = [text for text in action.option_strings if text.startswith("--")]
        shown = [*short[:1], *long[:1]]
        if isinstance(action, argparse.BooleanOptionalAction):
            shown = [*short[:1], "--[no-]" + long[0][2:]]
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        return ", ".join(shown) + value
