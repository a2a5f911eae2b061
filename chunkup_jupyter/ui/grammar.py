"""One grammar for the magic and the shell: ``SOURCE... DEST [options]``, or a verb.

A provider's own options come from its fields (``model.option``), so that a new
provider brings its own. Nothing here touches a file, a key or the network.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from .. import providers, units
from ..errors import InvalidUpload
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

# A literal key would stay in the notebook, in the history and in `ps`.
_KEYS = frozenset(
    "--api-key --apikey --key --token --secret --secret-key --password --access-key "
    "--access-key-id --access-key-secret --access-id --security-token --session-token "
    "--openai-api-key --ad-token".split()
)
_NO_KEYS = (
    "a key is never written on the line: it would stay in the notebook and in the history.\n"
    "Set the provider's usual environment variable, name another with --key-env NAME, "
    "or be asked with --ask-key."
)


class BadLine(Exception):
    """The line cannot be understood. The message is for the reader and ends the call."""


class HelpAsked(Exception):
    """``--help`` was on the line; the argument is the text to show."""


@dataclass(frozen=True)
class Line:
    """A line, understood. Sizes in bytes; None means that the user said nothing.

    ``verb`` is "" for an upload. ``words`` are a verb's arguments. ``fields`` are the
    provider's own options by field name, parsed. ``given`` names the common options
    that stood on the line, so that settings fill only the others.
    """

    verb: str = ""
    words: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    dest: str = ""
    jobs: int | None = None
    part_size: int | None = None
    name: str | None = None
    media_type: str | None = None
    verify: str = "auto"
    wait_ready: bool | None = None
    dry_run: bool = False
    detach: bool = False
    fresh: bool = False
    reuse: bool = False
    check: bool = True
    recursive: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    files: int = 2
    bwlimit: int | None = None
    progress: str = "auto"
    sandbox: bool = False
    out: str | None = None
    key_env: str | None = None
    ask_key: bool = False
    debug: bool = False
    assigned: str | None = None
    older_than: int | None = None
    limit: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    given: frozenset[str] = frozenset()

    def settle(self, settings: Mapping[str, Any]) -> Line:
        """Return the line with settings filled in where the user said nothing."""
        return dataclasses.replace(
            self, **{name: value for name, value in settings.items() if name not in self.given}
        )

    def arguments(self) -> dict[str, Any]:
        """Return what ``jobs.start`` and ``jobs.plan`` take besides source and destination."""
        names = "name media_type jobs part_size verify wait_ready fresh reuse sandbox check key_env"
        return {**{name: getattr(self, name) for name in names.split()}, **self.fields}

    def choices(self) -> dict[str, Any]:
        """Return what ``batch.start_many`` takes besides that."""
        return {name: getattr(self, name) for name in "recursive include exclude files".split()}


def words(line: str, *, posix: bool = os.name != "nt") -> list[str]:
    """Split a line as a shell does; a trailing ``;`` and a `` # comment`` are dropped.

    On Windows a backslash is a letter like any other, and quotes are taken off.

    Raises:
        BadLine: a quotation is not closed.
    """
    line = _uncommented(line, posix).rstrip()
    line = line[:-1] if line.endswith(";") else line
    try:
        tokens = shlex.split(line, posix=posix)
    except ValueError as error:
        raise BadLine(f"cannot read the line: {str(error).lower()}") from None
    if posix:
        return tokens
    return [
        token[1:-1] if len(token) > 1 and token[0] == token[-1] and token[0] in "'\"" else token
        for token in tokens
    ]


def parse(line: str | Sequence[str]) -> Line:
    """Return what a line asks for.

    Raises:
        BadLine: it cannot be understood; the message says what is possible.
        HelpAsked: ``--help`` was asked for.
    """
    tokens = words(line) if isinstance(line, str) else list(line)
    assigned = None
    if tokens and tokens[0].startswith("--assigned="):
        assigned = tokens.pop(0).partition("=")[2]
    _refuse_keys(tokens)
    if not tokens:
        raise BadLine("say what goes where: SOURCE DEST, as in: train.jsonl openai:fine-tune")
    found = _verb(tokens) if tokens[0] in VERBS else _upload(tokens)
    return dataclasses.replace(found, assigned=assigned)


def help_text(word: str = "") -> str:
    """Return the help: all of it, or one verb's, or one provider's.

    Raises:
        BadLine: there is no such word.
    """
    if not word:
        return _whole_help()
    if word in VERBS and word != "help":
        return _verb_parser(word).format_help()
    scheme = word.partition(":")[0]
    if scheme in providers.schemes():
        return _own_help(scheme, providers.load(f"{scheme}:"))
    raise BadLine(f"there is no help on {word!r}{_meant(word, [*VERBS, *providers.schemes()])}")


def _whole_help() -> str:
    """Return the help with every installed provider's options in a group of its name.

    Each group is made alone: two providers may spell an option alike.
    """
    own = _installed()
    forms = _forms(own)
    head, verbs, foot = _parser({}, forms).format_help().partition("\nverbs:")
    groups = [_own_help(scheme, provider) for scheme, provider in own.items()]
    return head + "".join(f"\n{group}" for group in groups) + verbs + foot


def _own_help(scheme: str, provider: type[Provider]) -> str:
    parser = _Parser(prog=scheme)
    formatter = parser._get_formatter()
    group = parser.add_argument_group(scheme)
    _add_own(group, provider, _parser({}))
    formatter.start_section(scheme)
    formatter.add_arguments(group._group_actions)
    formatter.end_section()
    return formatter.format_help()


def own_options(provider: type[Provider]) -> dict[str, dataclasses.Field[Any]]:
    """Return a provider's fields that are options, by their flag (``--purpose``)."""
    found = {}
    for each in dataclasses.fields(provider):
        if each.metadata.get("option"):
            flag = each.metadata.get("flag") or each.name.replace("_", "-")
            found["--" + flag.lstrip("-")] = each
    return found


def flags(scheme: str = "") -> dict[str, tuple[str, bool, tuple[str, ...]]]:
    """Return the options that may follow: flag → (help, takes a value, choices).

    With a scheme those of its provider are among them.
    """
    own = {}
    if scheme in providers.schemes():
        own[scheme] = providers.load(f"{scheme}:")
    found: dict[str, tuple[str, bool, tuple[str, ...]]] = {}
    for action in _parser(own)._actions:
        if action.help is argparse.SUPPRESS:
            continue
        given = tuple(map(str, action.choices or ()))
        options = [text for text in action.option_strings if text.startswith("--")]
        # The first spelling is the name; the aliases are understood, not advertised.
        shown = [text for text in options if text == options[0] or text.startswith("--no-")]
        for text in shown:
            found[text] = (action.help or "", action.nargs != 0, given)
    for provider in own.values():
        for flag, each in own_options(provider).items():
            if flag in found and (choices := tuple(each.metadata["choices"])):
                found[flag] = (*found[flag][:2], choices)
    return found


# -- uploads


def _upload(tokens: Sequence[str]) -> Line:
    known = providers.schemes()
    trouble: BadLine | None = None
    # Whose options may stand here depends on the destination, and which word that is
    # depends on whose options stand here: try every word that could be it.
    for token in reversed(tokens):
        scheme = _scheme(token)
        if scheme not in known:
            continue
        try:
            space = _parser({scheme: providers.load(token)}).read(tokens)
        except BadLine as error:
            trouble = error
            continue
        if space.words and space.words[-1] == token:
            return _line(space)
    if trouble is not None:
        raise trouble
    space = _parser({}).read(tokens, lenient=True)
    raise BadLine(_no_destination(space.words, known))


def _line(space: argparse.Namespace) -> Line:
    *sources, dest = space.words
    if not sources:
        raise BadLine(f"say which file goes to {dest}: SOURCE {dest}")
    given = vars(space)
    common = {f.name for f in dataclasses.fields(Line)} - {"fields", "given", "words"}
    values = {name: value for name, value in given.items() if name in common}
    own = {name[1:]: value for name, value in given.items() if name.startswith(":")}
    for name in ("include", "exclude"):
        values |= {name: tuple(values[name])} if name in values else {}
    line = Line(sources=tuple(sources), dest=dest, fields=own, given=frozenset(values), **values)
    if line.name and (len(sources) > 1 or line.recursive):
        raise BadLine("--name is for one file; there are several here")
    return line


def _no_destination(found: Sequence[str], known: Sequence[str]) -> str:
    known_forms = _forms(_installed())
    forms = "\n".join(f"  {form}" for form in known_forms)
    if not found:
        return "say what goes where: SOURCE DEST, as in: train.jsonl openai:fine-tune"
    last = found[-1]
    scheme = _scheme(last)
    if scheme:
        text = f"no provider is called {scheme!r}{_meant(scheme, known)}"
    elif len(found) == 1 and not os.path.splitext(last)[1] and "/" not in last:
        guess = _meant(last, VERBS)
        text = f"{last!r} is no verb{guess}" if guess else f"say where {last} goes"
    elif len(found) == 1:
        text = f"say where {last} goes: a destination follows the file"
    else:
        text = f"{last!r} is no destination: it needs a colon{_meant(last + ':', known_forms)}"
    return f"{text}\nDestinations:\n{forms}"


def _forms(own: Mapping[str, type[Provider]]) -> list[str]:
    """Return what each provider's destinations look like."""
    return [provider.form or f"{scheme}:…" for scheme, provider in own.items()]


def _scheme(token: str) -> str:
    """Return a destination's scheme; "" when there is none (``C:\\x`` is a drive)."""
    scheme, colon, _ = token.partition(":")
    letters = scheme.replace("-", "").replace("+", "").replace(".", "")
    return scheme.lower() if colon and len(scheme) > 1 and letters.isalnum() else ""


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, and never repeats a value in a message: it may be a key."""

    def __init__(self, **options: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, formatter_class=_Formatter, **options)
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="show this text")

    def error(self, message: str) -> NoReturn:
        raise BadLine(message)

    def read(self, tokens: Sequence[str], *, lenient: bool = False) -> argparse.Namespace:
        space, rest = self.parse_known_intermixed_args(list(tokens))
        unknown = [token.partition("=")[0] for token in rest if token.startswith("-")]
        if unknown:
            known = [text for action in self._actions for text in action.option_strings]
            raise BadLine(f"there is no option {unknown[0]} here{_meant(unknown[0], known)}")
        if rest and not lenient:
            raise BadLine("there are more words than this takes")
        return space


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        # Uploads show every provider's options, whichever was named.
        whole = isinstance(parser, _Parser) and parser.prog == "chunkup"
        raise HelpAsked(help_text() if whole else parser.format_help())


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Aligned in 96 columns, each option once: its name, then what else is understood."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=96)
        self._action_max_length = 28  # one column for all groups

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


def _parser(own: Mapping[str, type[Provider]], forms: Sequence[str] = ()) -> _Parser:
    parser = _Parser(
        prog="chunkup",
        usage="chunkup SOURCE... DEST [options]    or    chunkup VERB [words]",
        description=(
            "Bring files to a provider in parts: parallel, resumable, verified. Run the same "
            "line\nagain to go on where an upload stopped.\n\n"
            "destinations:\n" + "\n".join(f"  {form}" for form in forms)
        ),
        epilog="verbs:\n" + "\n".join(f"  {verb:<12}{text}" for verb, text in VERBS.items()),
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS, default=[])
    _common(parser)
    for scheme, provider in own.items():
        _add_own(parser.add_argument_group(scheme), provider, parser)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
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


def _add_own(
    group: argparse._ArgumentGroup, provider: type[Provider], parser: argparse.ArgumentParser
) -> None:
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
    return None if text == "auto" else _positive(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is no number of one or more")
    return int(text)


def _identifier(text: str) -> str:
    if not text.isidentifier():
        raise ValueError(f"{text!r} cannot be a variable's name")
    return text


def _installed() -> dict[str, type[Provider]]:
    """Return the providers by scheme; one that cannot be imported is left out."""
    found = {}
    for scheme in providers.schemes():
        try:
            found[scheme] = providers.load(f"{scheme}:")
        except Exception:
            continue
    return found


# -- verbs


def _verb(tokens: Sequence[str]) -> Line:
    verb, *rest = tokens
    if verb == "sandbox":  # has options of its own
        return Line(verb=verb, words=tuple(rest))
    own: dict[str, type[Provider]] = {}
    for token in rest:
        if _scheme(token) in providers.schemes():
            own = {_scheme(token): providers.load(token)}
    space = _verb_parser(verb, own).read(rest)
    given = vars(space)
    values = {name: value for name, value in given.items() if name[0] != ":" and name != "words"}
    fields = {name[1:]: value for name, value in given.items() if name[0] == ":"}
    line = Line(
        verb=verb, words=tuple(space.words), fields=fields, given=frozenset(values), **values
    )
    most = {"list": 0, "history": 0, "panel": 0, "providers": 0}.get(verb, 1)
    if len(line.words) > most:
        raise BadLine(
            f"{verb} takes {'one word at most' if most else 'no words'}; "
            f"a file of that name is written ./{verb}"
        )
    if verb == "show" and not line.words:
        raise BadLine("show what? `list` has the names")
    return line


def _verb_parser(verb: str, own: Mapping[str, type[Provider]] = {}) -> _Parser:
    parser = _Parser(
        prog=f"chunkup {verb}",
        usage=f"chunkup {verb} [words] [options]",
        description=VERBS[verb],
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS, default=[])
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
    for scheme, provider in own.items():
        _add_own(parser.add_argument_group(scheme), provider, parser)
    return parser


# -- words


def _refuse_keys(tokens: Sequence[str]) -> None:
    for token in tokens:
        name = token.partition("=")[0].lower().replace("_", "-")
        if name in _KEYS:
            raise BadLine(f"{name}: {_NO_KEYS}")


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _uncommented(line: str, posix: bool) -> str:
    """Return the line up to a ``#`` that begins a word outside quotes."""
    quote, escaped, before = "", False, " "
    for index, letter in enumerate(line):
        if escaped:
            escaped = False
        elif letter == "\\" and posix and quote != "'":
            escaped = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and before.isspace():
            return line[:index]
        before = letter
    return line
