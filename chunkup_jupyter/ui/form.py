"""What the panel asks, and the ``%chunkup`` line that its answers mean. No widget here.

The panel starts exactly what the line says: it is built from the answers, read by the
same grammar as the magic's, and handed to the same function.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import credentials, providers, units
from ..journal import default_folder
from ..model import Provider
from ..sources import urls
from . import grammar, options, words

MOST = 200  # entries of a folder that are shown
FILES = 500  # files that one pattern may mean

# What people look for first; the rest waits behind "More options".
_FIRST = ("region", "endpoint")
_HIDDEN = ("purpose", "type")  # they are the word after the colon
_COMMON = (
    ("--jobs", "Parts at once", "found by trying", "1 to 64"),
    ("--part-size", "Part size", "planned from the size", "such as 16M"),
    ("--files", "Files at once", "2", "how many files are on their way at once"),
    ("--bwlimit", "Rate limit", "none", "bytes a second of all uploads together, such as 10M"),
)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")


@dataclass(frozen=True)
class Answers:
    """What the form holds. No key ever: those go another way.

    ``place`` are the destination's words in order (purpose, or bucket and key);
    ``options`` are texts by flag, "" for not given, "on" for a ticked one.
    """

    scheme: str = ""
    place: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    sandbox: bool = False
    key_env: str = ""
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Answers:
        """Return the answers in a message of the page; what makes no sense is left out."""
        scheme = str(message.get("scheme", ""))
        options = message.get("options") or {}
        key_env = str(message.get("key_env", "")).strip()
        return cls(
            scheme=scheme if scheme in providers.schemes() else "",
            place=tuple(str(word).strip() for word in message.get("place") or ()),
            options={str(k): str(v).strip() for k, v in options.items() if str(v).strip()},
            sandbox=bool(message.get("sandbox")),
            # Somebody may paste the key itself there: it must not come back.
            key_env=key_env if is_variable(key_env) else "",
            sources=tuple(str(one) for one in message.get("sources") or () if str(one).strip()),
        )


def is_variable(text: str) -> bool:
    """Say whether a text looks like an environment variable's name and not like a key."""
    return bool(_VARIABLE.fullmatch(text)) and len(text) <= 64


def schema() -> list[dict[str, Any]]:
    """Return what may be asked of each installed provider, as plain values."""
    found = []
    for scheme in providers.schemes():
        with contextlib.suppress(Exception):  # a plugin that cannot be loaded is left out
            found.append(_asked(scheme, providers.load(f"{scheme}:")))
    return found


def _asked(scheme: str, kind: type[Provider]) -> dict[str, Any]:
    own = options.own_options(kind)
    fields = []
    for flag, each in own.items():
        if each.name in _HIDDEN:
            continue
        meta = each.metadata
        usual = each.default if isinstance(each.default, str) else ""
        fields.append(
            {
                "flag": flag,
                "label": label_of(each.name),
                "help": meta["help"],
                "usual": usual or meta.get("metavar") or "",
                "choices": list(meta["choices"]),
                "toggle": bool(meta["toggle"]),
                "first": each.name in _FIRST,
            }
        )
    common = [
        {"flag": flag, "label": label, "help": help_, "usual": usual, "choices": []}
        | {"toggle": False, "first": False}
        for flag, label, usual, help_ in _COMMON
    ]
    return {
        "scheme": scheme,
        "title": kind.title,
        "place": _place(scheme, kind, own),
        "fields": [*common, *fields],
    }


def _place(scheme: str, kind: type[Provider], own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the words a destination is made of: one, or those between the slashes."""
    form = kind.form or f"{scheme}:WORD"
    if "://" in form:
        words = form.partition("://")[2].split("/")
        return [
            {"label": word.capitalize(), "choices": [], "help": _HELP.get(word, "")}
            for word in words
        ]
    named = [each for each in own.values() if each.name in _HIDDEN]
    choices = list(getattr(kind, "places", ()))
    for each in named:
        choices += [choice for choice in each.metadata["choices"] if choice not in choices]
    label = named[0].name.capitalize() if named else "Destination"
    return [{"label": label, "choices": choices, "help": ""}]


_HELP = {"KEY": "name, or folder/"}


def label_of(name: str) -> str:
    """Return a field's name as a label: ``api_key`` is ``API key``."""
    words = name.replace("_", " ").split()
    shown = " ".join(
        w.upper() if w in ("api", "id", "url", "acl", "hls", "ad") else w for w in words
    )
    return shown[:1].upper() + shown[1:]


def badges(scheme: str, given: Mapping[str, object], sandbox: bool, key_env: str) -> dict[str, Any]:
    """Return whether the keys are there, and where they were found; names only."""
    if not scheme:
        return {"found": False, "text": "", "needs": []}
    kind = providers.load(f"{scheme}:")
    if sandbox:
        return {"found": True, "text": "no key needed: a server on this machine", "needs": []}
    places = credentials.located(
        kind.needs,
        config_file=kind.config_file,
        key_env=key_env or None,
        given=given,
        service=scheme,
    )
    secret = [need for need in kind.needs if need.secret]
    required = [need for need in secret if need.required] or secret
    # Where none is required, one of several will do.
    some = any if not any(need.required for need in secret) else all
    found = some(places[need.field] for need in required)
    names = dict.fromkeys(places[need.field] for need in required if places[need.field])
    shown = ", ".join("entered here" if name == "given" else name for name in names)
    return {
        "found": found,
        "text": f"{shown}: found" if found else f"{_missing(required, places, key_env)}: missing",
        "needs": [
            {"field": need.field, "label": label_of(need.field), "required": need.required}
            for need in (secret if not found or given else [])
        ],
    }


def _missing(required: Sequence[Any], places: Mapping[str, str], key_env: str) -> str:
    if key_env:
        return key_env
    gone = [need for need in required if not places[need.field]]
    return ", ".join(need.variables[0] if need.variables else need.field for need in gone)


def dest_of(answers: Answers) -> str:
    """Return the destination; "" when it is not complete yet."""
    if not answers.scheme:
        return ""
    form = providers.load(f"{answers.scheme}:").form
    place = answers.place
    if "://" in form:
        head, rest = (place or ("",))[0], "/".join(place[1:])
        return f"{answers.scheme}://{head}/{rest}" if head else ""
    return f"{answers.scheme}:{place[0]}" if place and place[0] else ""


def words_of(answers: Answers, *, asked: bool = False) -> list[str]:
    """Return the line's words after the sources; ``asked`` when a key was typed."""
    found = [dest_of(answers)]
    asks = {one["flag"]: one for one in _fields(answers.scheme)}
    for flag, value in answers.options.items():
        if flag in asks and value != asks[flag]["usual"]:
            found += [flag] if asks[flag]["toggle"] else [f"{flag}={value}"]
    if answers.sandbox:
        found.append("--sandbox")
    elif answers.key_env:
        found.append(f"--key-env={answers.key_env}")
    elif asked:
        found.append("--ask-key")
    return found


def _fields(scheme: str) -> list[dict[str, Any]]:
    return [] if not scheme else list(_asked(scheme, providers.load(f"{scheme}:"))["fields"])


def line_of(answers: Answers, picked: int = 0, *, asked: bool = False) -> tuple[str, str]:
    """Return the arguments of ``%chunkup`` that do the same, and what no line can say.

    ``picked`` files are the browser's. The first is "" while something is missing, and
    when an address cannot be written out: its query may be a password.
    """
    missing = ["files"] * (not answers.sources and not picked)
    missing += ["a destination"] * (not dest_of(answers))
    if missing:
        return "", f"choose {' and '.join(missing)}"
    if any(urls.shown(one) != one for one in answers.sources):
        return "", "the query of an address may be a password: no line shows it"
    beside = ""
    if picked:
        files = "1 file" if picked == 1 else f"{picked} files"
        them = "it" if picked == 1 else "them"
        beside = f"{files} of your computer: only this panel can send {them}"
    if not answers.sources:
        return "", beside
    text = shlex.join([*answers.sources, *words_of(answers, asked=asked), "-b"])
    return text, f"and {beside}" if beside else ""


def understood(answers: Answers, *, asked: bool = False) -> grammar.Line:
    """Return the answers as the magic's grammar reads them.

    Raises:
        BadLine: they cannot be understood; the message is for the reader.
    """
    if not dest_of(answers):
        raise grammar.BadLine("choose where the files go")
    line = grammar.parse(["x", *words_of(answers, asked=asked), "-b"])
    return replace(line, sources=answers.sources)


def expand(text: str) -> list[dict[str, str]]:
    """Return the files that a path or a pattern means, sorted; an address is itself.

    Each with ``path``, with ``size`` in words, and as it may be ``shown``.

    Raises:
        BadLine: there is no such file; the message is for the reader.
    """
    text = urls.local(text.strip())
    if urls.is_remote(text):
        return [_found(text)]
    path = os.path.expanduser(text)
    said = words.shown(text, 80)
    if os.path.isdir(path):
        raise grammar.BadLine(f"{said} is a folder: {os.path.join(said, '*')} means its files")
    if os.path.lexists(path):
        return [_found(path)]
    if not glob.has_magic(path):
        raise grammar.BadLine(f"there is no file {said}")
    found = sorted(one for one in glob.iglob(path, recursive=True) if os.path.isfile(one))
    if not found:
        raise grammar.BadLine(f"no file is called {said}")
    if len(found) > FILES:
        raise grammar.BadLine(f"{said} means {len(found):,} files; the panel takes {FILES}")
    return [_found(one) for one in found]


def _found(path: str) -> dict[str, str]:
    if urls.is_remote(path):
        return {"path": path, "size": "", "shown": words.shown(urls.shown(path))}
    size = ""
    with contextlib.suppress(OSError):
        size = units.size(os.stat(path).st_size)
    path = _spelled(path)
    return {"path": path, "size": size, "shown": words.shown(path)}


def listing(folder: str) -> dict[str, Any]:
    """Return a folder's entries for the file browser: folders first, hidden ones not."""
    path = Path(os.path.expanduser(folder or ".")).resolve()
    if not path.is_dir():
        path = path.parent
    rows: list[dict[str, Any]] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    with contextlib.suppress(OSError):
                        rows.append(_row(entry))
    except OSError as error:
        return {"folder": str(path), "rows": [], "problem": error.strerror or str(error)}
    rows.sort(key=lambda row: (not row["folder"], row["name"].lower()))
    return {
        "folder": str(path),
        "parent": str(path.parent),
        "rows": rows[:MOST],
        "more": max(0, len(rows) - MOST),
    }


def _row(entry: os.DirEntry[str]) -> dict[str, Any]:
    folder = entry.is_dir()
    return {
        "name": entry.name,
        "path": _spelled(entry.path),
        "folder": folder,
        "size": "" if folder else units.size(entry.stat().st_size),
    }


def completions(text: str) -> list[str]:
    """Return paths that begin so, folders with a slash at their end."""
    stem = os.path.expanduser(text)
    found = sorted(glob.glob(glob.escape(stem) + "*"))[:50]
    return [text + path[len(stem) :] + "/" * os.path.isdir(path) for path in found]


def _spelled(path: str) -> str:
    """Return a path as one writes it on the line here: relative below the working folder."""
    with contextlib.suppress(ValueError, OSError):
        relative = os.path.relpath(path)
        if not relative.startswith(".."):
            path = relative
    # Alone it would be read as an option or as a verb.
    return os.path.join(os.curdir, path) if path[:1] == "-" or path in options.VERBS else path


# -- remembered between sessions: never a key, never a file


def remembered(folder: Path | None = None) -> dict[str, Any]:
    """Return the destination that was used last, and each provider's answers."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(((folder or default_folder()) / "panel.json").read_text("utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def remember(answers: Answers, folder: Path | None = None) -> None:
    """Keep what was answered for the next panel. Trouble with it is no trouble."""
    place = folder or default_folder()
    kept = remembered(place)
    own = dict(kept.get("providers") or {})
    own[answers.scheme] = {
        "place": list(answers.place),
        "options": dict(answers.options),
        "key_env": answers.key_env,
    }
    content = {"scheme": answers.scheme, "sandbox": answers.sandbox, "providers": own}
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = place / f"panel.json.{os.getpid()}"
        fresh.write_text(json.dumps(content), encoding="utf-8")
        fresh.chmod(0o600)
        fresh.replace(place / "panel.json")
