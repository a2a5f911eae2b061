"""Which files are meant: paths, patterns, and folders with what is below them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..errors import InvalidUpload, SourceError
from . import remote, urls


@dataclass(frozen=True)
class Chosen:
    """One file that is meant. ``name`` is its path below the folder it was found in.

    None when it was named itself. ``size`` in bytes, 0 when nobody has looked yet.
    """

    source: Any
    name: str | None = None
    size: int = 0

    @property
    def called(self) -> str:
        """Its name, else the one it has by itself."""
        source = self.source
        if self.name is not None:
            return self.name
        if isinstance(source, str):
            return urls.plain(source).replace("\\", "/").rstrip("/").rpartition("/")[2]
        info = getattr(source, "info", None)
        return str(getattr(info, "name", None) or getattr(source, "name", None) or "a stream")


def is_many(sources: Sequence[Any], *, recursive: bool = False) -> bool:
    """Say whether several files may be meant, however many are there."""
    return len(sources) != 1 or recursive or _is_pattern(sources[0])


def choose(
    sources: Iterable[Any],
    *,
    recursive: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[Chosen]:
    """Return the files that are meant, each once, those of a pattern or folder sorted.

    ``include`` and ``exclude`` are patterns for names, folders and relative paths; they
    choose among what was found, never among what was named. Links are followed.

    Raises:
        InvalidUpload: a folder without ``recursive``; a choice where nothing is to choose.
        SourceError: nothing matches, or a folder may not be read.
    """
    found: list[Chosen] = []
    searched = False
    for source in sources:
        if not isinstance(source, (str, os.PathLike)):
            found.append(Chosen(source))
            continue
        text = os.fsdecode(os.fspath(source))
        several = _below(text) if recursive else None
        if several is None and _is_pattern(text):
            several = _matching(text, recursive)
        if several is None:
            found.append(_named(text))
            continue
        searched = True
        kept = [one for one in several if _wanted(one, include, exclude)]
        if not kept:
            how = " and the patterns given" if several else ""
            raise SourceError(f"nothing matches {urls.shown(text)}{how}")
        found += kept
    if (include or exclude) and not searched:
        raise InvalidUpload(
            "include and exclude choose among the files of a folder (with -r) or of a pattern"
        )
    if not found:
        raise InvalidUpload("no file was named")
    once: dict[Any, Chosen] = {}
    for one in found:
        once.setdefault(_identity(one), one)
    return list(once.values())


def _identity(one: Chosen) -> Any:
    """Return what two mentions of one file share."""
    if not isinstance(one.source, str):
        return id(one.source)
    if urls.is_remote(one.source):
        return one.source
    name = one.name or os.path.basename(one.source)
    return os.path.realpath(os.path.expanduser(one.source)), name


def _is_pattern(source: Any) -> bool:
    if not isinstance(source, (str, os.PathLike)):
        return False
    text = os.path.expanduser(os.fsdecode(os.fspath(source)))
    if urls.is_remote(text):
        # A question mark begins a query there, and pages have no listing.
        return any(letter in text for letter in "*[") and not urls.is_web(text)
    return glob.has_magic(text) and not os.path.lexists(text)


def _named(text: str) -> Chosen:
    full = os.path.expanduser(text)
    if urls.is_remote(text):
        return Chosen(text)
    if os.path.isdir(full):
        raise InvalidUpload(f"{text} is a folder; add -r (recursive=True) for what is in it")
    return Chosen(text, None, _size(full))


def _matching(text: str, recursive: bool) -> list[Chosen]:
    """Return the files a pattern matches; with ``recursive`` also those in its folders."""
    if urls.is_remote(text):
        return [Chosen(url, None, size) for url, size in remote.matching(text)]
    found = []
    for path in sorted(glob.iglob(os.path.expanduser(text), recursive=True)):
        if not os.path.isdir(path):
            found.append(Chosen(path, None, _size(path)))
        elif recursive and "**" not in text:
            top = os.path.basename(os.path.normpath(path))
            found += [Chosen(one, f"{top}/{name}", _size(one)) for one, name in _walk(path)]
    return found


def _below(text: str) -> list[Chosen] | None:
    """Return the files below a folder, None when it is no folder."""
    if urls.is_remote(text):
        if urls.is_web(text):
            return None
        below = remote.below(text)
        return None if below is None else [Chosen(*one) for one in below]
    folder = os.path.expanduser(text)
    if not os.path.isdir(folder):
        return None
    return [Chosen(path, name, _size(path)) for path, name in _walk(folder)]


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each file below a folder with its relative path, sorted; no folder twice."""

    def refused(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from error

    seen = set()
    for here, folders, files in os.walk(folder, onerror=refused, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for file in sorted(files):
            path = os.path.join(here, file)
            yield path, os.path.relpath(path, folder).replace(os.sep, "/")


def _wanted(one: Chosen, include: Sequence[str], exclude: Sequence[str]) -> bool:
    name = one.name or os.path.basename(urls.plain(one.source))
    words = (name, *name.split("/"))

    def fits(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(word, pattern) for pattern in patterns for word in words)

    return (not include or fits(include)) and not fits(exclude)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # it fails by itself when its turn comes
