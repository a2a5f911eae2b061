"""One grammar for the magic and the shell: ``SOURCE... DEST [options]``, or a verb.

Nothing here touches a file, a key or the network.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import providers, units
from ..model import Provider
from ..secrets import Secret
from . import parsers
from .options import VERBS
from .parsers import BadLine as BadLine
from .parsers import HelpAsked as HelpAsked

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


@dataclass(frozen=True)
class Line:
    """A line, understood. Sizes in bytes; None means that the user said nothing.

    ``verb`` is "" for an upload. ``words`` are a verb's arguments. ``fields`` are the
    provider's own options by field name, parsed. ``given`` names the common options
    that stood on the line, so that settings fill only the others. ``keys`` were given
    beside the line: ``ask_key`` need not ask for them.
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
    keys: Mapping[str, Secret] = field(default_factory=dict, repr=False)

    def settle(self, settings: Mapping[str, Any]) -> Line:
        """Return the line with settings filled in where the user said nothing."""
        return dataclasses.replace(
            self, **{name: value for name, value in settings.items() if name not in self.given}
        )

    def arguments(self) -> dict[str, Any]:
        """Return what ``jobs.start`` and ``jobs.plan`` take besides source and destination."""
        names = "name media_type jobs part_size verify wait_ready fresh reuse sandbox check key_env"
        found = {name: getattr(self, name) for name in names.split()}
        if self.part_size is not None:
            found["part_size"] = units.written(self.part_size)  # it is told to the reader again
        return {**found, **self.fields}

    def choices(self) -> dict[str, Any]:
        """Return what ``many.start_many`` takes besides that."""
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
        raise BadLine(
            f"cannot read the line: {str(error).lower()}; a name with an apostrophe in it "
            "stands in double quotes"
        ) from None
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
        raise BadLine(
            "say what goes where: SOURCE DEST, as in: train.jsonl openai:fine-tune\n"
            "--help shows all options and verbs"
        )
    found = _verb(tokens) if tokens[0] in VERBS else _upload(tokens)
    return dataclasses.replace(found, assigned=assigned)


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
            space = parsers.of_upload({scheme: providers.load(token)}).read(tokens)
        except BadLine as error:
            trouble = error
            continue
        if space.words and space.words[-1] == token:
            return _line(space)
    if trouble is not None:
        raise trouble
    space = parsers.of_upload({}).read(tokens, lenient=True)
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
    known_forms = parsers.forms(parsers.installed())
    forms = "\n".join(f"  {form}" for form in known_forms)
    if not found:
        return "say what goes where: SOURCE DEST, as in: train.jsonl openai:fine-tune"
    last = found[-1]
    scheme = _scheme(last)
    early = [word for word in found[:-1] if _scheme(word) in known]
    if early and not scheme:
        return f"the destination comes last: {last} {early[0]}"
    if scheme:
        text = f"no provider is called {scheme!r}{parsers.meant(scheme, known)}"
    elif len(found) == 1 and not os.path.splitext(last)[1] and "/" not in last:
        guess = parsers.meant(last, VERBS)
        text = f"{last!r} is no verb{guess}" if guess else f"say where {last} goes"
    elif len(found) == 1:
        text = f"say where {last} goes: a destination follows the file"
    else:
        text = (
            f"{last!r} is no destination: it needs a colon{parsers.meant(last + ':', known_forms)}"
        )
    return f"{text}\nDestinations:\n{forms}"


def _scheme(token: str) -> str:
    """Return a destination's scheme; "" when there is none (``C:\\x`` is a drive)."""
    scheme, colon, _ = token.partition(":")
    letters = scheme.replace("-", "").replace("+", "").replace(".", "")
    return scheme.lower() if colon and len(scheme) > 1 and letters.isalnum() else ""


def _verb(tokens: Sequence[str]) -> Line:
    verb, *rest = tokens
    if verb == "sandbox":  # has options of its own
        return Line(verb=verb, words=tuple(rest))
    own: dict[str, type[Provider]] = {}
    for token in rest:
        if _scheme(token) in providers.schemes():
            own = {_scheme(token): providers.load(token)}
    space = parsers.of_verb(verb, own).read(rest)
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
        raise BadLine("show what? `list` has the ids")
    if verb == "clean" and line.older_than is None:
        raise BadLine("say how old: clean --older-than 2d")
    if verb == "doctor" and line.words and _scheme(f"{line.words[0]}:") not in providers.schemes():
        known = providers.schemes()
        raise BadLine(f"doctor knows {', '.join(known)}{parsers.meant(line.words[0], known)}")
    return line


def _refuse_keys(tokens: Sequence[str]) -> None:
    for token in tokens:
        name = token.partition("=")[0].lower().replace("_", "-")
        if name in _KEYS:
            raise BadLine(f"{name}: {_NO_KEYS}")


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
