"""Tab completion of the magic's line: options, destinations, choices, files, ids, verbs."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterable

from .. import providers
from . import grammar, options, parsers
from .options import VERBS

_MOST = 500  # entries of a folder that are offered


def suggest(line: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the fragment before the cursor and (text, kind) of what may stand there.

    ``line`` is what follows ``%chunkup ``, up to the cursor.
    """
    before, fragment = _split(line)
    words = _words(before)
    last = words[-1] if words else ""
    scheme = next((_known(word) for word in reversed(words) if _known(word)), "")
    if words and words[0] in VERBS:
        return fragment, _of_verb(words[0], words[1:], fragment)
    known = parsers.flags(scheme)
    if last.startswith("-"):
        name = _long(last)
        _, takes, choices = known.get(name, ("", last in ("-j", "-o"), ()))
        if takes:
            return fragment, _starting(choices, fragment, "value")
    if fragment.startswith("-"):
        return fragment, _starting(known, fragment, "option")
    found: list[tuple[str, str]] = []
    if not words and fragment:
        found += _starting(VERBS, fragment, "verb")
    if words or _known(fragment):
        found += _destinations(fragment)
    if not _known(fragment):
        found += [(path, "file") for path in _paths(fragment)]
    if not words and not fragment:
        found += [(verb, "verb") for verb in VERBS]
    return fragment, found


def _of_verb(verb: str, words: list[str], fragment: str) -> list[tuple[str, str]]:
    if fragment.startswith("-"):
        actions = parsers.of_verb(verb)._actions
        names = [text for action in actions for text in action.option_strings]
        return _starting((name for name in names if name.startswith("--")), fragment, "option")
    if words:
        return []
    match verb:
        case "show" | "resume" | "pause" | "cancel":
            from .verbs import known_ids

            return _starting(known_ids(verb), fragment, "upload")
        case "orphans" | "clean" | "doctor":
            return _destinations(fragment)
        case "sandbox":
            return _starting(providers.schemes(), fragment, "provider")
        case "help":
            return _starting([*VERBS, *providers.schemes()], fragment, "word")
    return []


def _destinations(fragment: str) -> list[tuple[str, str]]:
    """Return schemes, and a scheme's purposes, types or buckets seen before."""
    scheme, colon, _ = fragment.partition(":")
    schemes = providers.schemes()
    if not colon:
        return _starting((f"{name}:" for name in schemes), fragment, "destination")
    if scheme not in schemes:
        return []
    # What may follow the colon is what the option of the same meaning takes.
    kind = providers.load(fragment)
    places = [f"{scheme}:{place}" for place in getattr(kind, "places", ())]
    for each in options.own_options(kind).values():
        if each.name in ("purpose", "type"):
            places += [f"{scheme}:{choice}" for choice in each.metadata["choices"]]
    from .verbs import known_places

    places += [place for place in known_places() if place.startswith(f"{scheme}:")]
    return _starting(dict.fromkeys(places), fragment, "destination")


def _paths(fragment: str) -> list[str]:
    """Return files and folders that begin so, spelled as the line needs them."""
    quote = fragment[:1] if fragment[:1] in "'\"" else ""
    bare = fragment[1:] if quote else re.sub(r"\\(.)", r"\1", fragment)
    stem = os.path.expanduser(bare)
    found = []
    for path in sorted(glob.glob(glob.escape(stem) + "*"))[:_MOST]:
        shown = bare + path[len(stem) :]
        ending = "/" if os.path.isdir(path) else ""
        if quote:
            found.append(quote + shown + ending + ("" if ending else quote))
        elif shlex.quote(shown) == shown or shown.startswith("~"):
            found.append(shown + ending)
        else:
            found.append(shlex.quote(shown + ending) if not ending else f"'{shown}/")
    return found


def _split(line: str) -> tuple[str, str]:
    """Return the line before the last word, and the last word as far as it is typed."""
    start, quote, escaped = 0, "", False
    for index, letter in enumerate(line):
        if escaped:
            escaped = False
        elif letter == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter.isspace():
            start = index + 1
    return line[:start], line[start:]


def _words(text: str) -> list[str]:
    try:
        return grammar.words(text)
    except grammar.BadLine:
        return text.split()


def _known(word: str) -> str:
    """Return the scheme of a word that is a destination; else ""."""
    scheme, colon, _ = word.partition(":")
    return scheme if colon and scheme in providers.schemes() else ""


def _long(option: str) -> str:
    return {"-j": "--jobs", "-o": "--out"}.get(option, option)


def _starting(texts: Iterable[str], fragment: str, kind: str) -> list[tuple[str, str]]:
    return [(text, kind) for text in texts if text.startswith(fragment)]
