"""Several files in one call: which are meant, where each goes, and their batch begun."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..errors import InvalidUpload
from ..plan import Plan
from ..sources import urls
from ..sources.choosing import Chosen, choose
from . import plan_of
from .batch import FILES, Batch, BatchResult, order_of
from .orders import Order, check_number, place, words_of


def start_many(
    sources: Iterable[Any],
    dest: Any,
    *,
    files: int = FILES,
    recursive: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    **options: Any,
) -> Batch:
    """Begin uploading several files and return their ``Batch`` at once.

    ``sources`` are paths, URLs, patterns (``"data/*.csv"``), with ``recursive`` folders,
    or anything else ``start`` takes; ``include`` and ``exclude`` are patterns that choose
    among what patterns and folders hold. ``files`` of them are on their way at once.
    One that fails does not stop the others. Other options are those of ``start``.

    Raises what ``start`` raises about the destination, ``InvalidUpload`` when it cannot
    hold several files, and ``SourceError`` when nothing matches. What is wrong with one
    file alone is that file's error.
    """
    check_number("files", files)
    sources = _listed(sources)
    listeners = options.pop("listeners", ())
    chosen, order = _chosen(
        sources, dest, recursive=recursive, include=include, exclude=exclude, **options
    )
    words = _words(sources, order, files, recursive, include, exclude)
    return Batch(chosen, order, files=files, listeners=listeners, words=words)


def upload_many(sources: Iterable[Any], dest: Any, **options: Any) -> BatchResult:
    """Upload several files and wait for all.

    Raises what ``start_many`` raises, and ``SomeFailed`` (its ``results`` hold every
    result and every error) when not all of them arrived.
    """
    return start_many(sources, dest, **options).result().check()


def plan_many(sources: Iterable[Any], dest: Any, **options: Any) -> list[Plan]:
    """Return what ``start_many`` with the same arguments would do, file by file."""
    return [plan_of(order) for order in orders_of(sources, dest, **options)]


def orders_of(sources: Iterable[Any], dest: Any, **options: Any) -> list[Order]:
    """Return the order of each file that ``start_many`` would begin; raises what it raises."""
    for word in ("files", "listeners"):
        options.pop(word, None)
    chosen, order = _chosen(_listed(sources), dest, **options)
    return [order_of(one, order) for one in chosen]


def _chosen(
    sources: Sequence[Any],
    dest: Any,
    *,
    recursive: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    **options: Any,
) -> tuple[list[Chosen], Order]:
    """Return the files and the order they share; refuse what cannot go there."""
    for word in ("name", "size"):
        if options.get(word) is not None:
            raise InvalidUpload(f"{word} is for one file; there may be several here")
    chosen = choose(sources, recursive=recursive, include=include, exclude=exclude)
    order = place(None, dest, **options)
    provider = order.provider
    if not provider.holds_many and (len(chosen) > 1 or chosen[0].name is not None):
        raise InvalidUpload(
            f"{provider.url} names one file; {len(chosen)} cannot all go there. "
            "A folder ends in a slash"
        )
    if not provider.keeps_paths:
        return [replace(one, name=None) for one in chosen], order
    at: dict[str, Any] = {}
    for one in chosen:
        name = one.called
        if name in at:
            raise InvalidUpload(
                f"{urls.shown(at[name])} and {urls.shown(one.source)} would both become "
                f"{provider.url}{name}; upload their folder with -r, or one after the other"
            )
        at[name] = one.source
    return chosen, order


def _listed(sources: Any) -> list[Any]:
    """Return the sources as a list; one alone is a list of one."""
    alone = isinstance(sources, (str, bytes, os.PathLike)) or hasattr(sources, "read")
    return [sources] if alone else list(sources)


def _words(
    sources: Sequence[Any],
    order: Order,
    files: int,
    recursive: bool,
    include: Sequence[str],
    exclude: Sequence[str],
) -> list[str]:
    """Return the words of the line that does the same; none when a source has no spelling."""
    texts = [str(one) for one in sources if hasattr(one, "__fspath__") or isinstance(one, str)]
    if len(texts) < len(sources) or any(urls.shown(text) != text for text in texts):
        return []
    words = [shlex.quote(text) for text in texts] + words_of(order)
    words += ["-r"] if recursive else []
    words += [f"--include {shlex.quote(text)}" for text in include]
    words += [f"--exclude {shlex.quote(text)}" for text in exclude]
    return words + ([f"--files {files}"] if files != FILES else [])
