"""Multipart forms, read where they are stored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from . import Blob, Call


class BadForm(ValueError):
    """What was sent is no multipart form."""


@dataclass(frozen=True)
class Field:
    """One field of a form; ``filename`` is None unless it is a file."""

    name: str
    filename: str | None
    data: Blob


def form(call: Call) -> Iterator[Field]:
    """Yield the fields of a multipart form, their data by reference: nothing is copied.

    Raises:
        BadForm: with what is wrong, when it is asked for the first field.
    """
    kind = call.headers.get("content-type", "")
    found = re.search(r'boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', kind)
    if not kind.lower().startswith("multipart/form-data") or not found:
        raise BadForm("The request must be multipart/form-data with a boundary.")
    mark = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
    body = call.body
    at, end = 0, False
    if body.read(len(mark)) != mark:
        raise BadForm("The form does not begin with its boundary.")
    starts = [(0, len(mark))]
    starts += [(place, len(mark) + 2) for place in _places(body, b"\r\n" + mark)]
    fields: list[tuple[int, int]] = []  # from the end of one mark to the next
    for place, length in starts:
        after = body.slice(place + length, 2).read()
        if after not in (b"\r\n", b"--"):
            continue  # a longer word that begins like the boundary
        if place:
            fields.append((at, place))
        at = place + length
        if end := after == b"--":
            break
    if not end or len(fields) > 100:
        raise BadForm("The form does not end with its boundary.")
    for start, stop in fields:
        yield _field(body.slice(start, stop - start))


def _field(part: Blob) -> Field:
    head, gap, _ = part.read(8 << 10).partition(b"\r\n\r\n")
    text = head.decode("utf-8", "replace")
    name = re.search(r'content-disposition: *form-data;[^\r\n]*?\bname="([^"\r\n]*)"', text, re.I)
    if not gap or not name:
        raise BadForm("A part of the form has no name.")
    filename = re.search(r'\bfilename="([^"\r\n]*)"', text)
    start = len(head) + len(gap)
    return Field(name[1], filename[1] if filename else None, part.slice(start, part.size - start))


def _places(blob: Blob, wanted: bytes) -> Iterator[int]:
    """Yield where ``wanted`` stands, block by block."""
    tail, read = b"", 0
    for block in blob.blocks():
        window, begin = tail + block, read - len(tail)
        at = window.find(wanted)
        while at >= 0:
            yield begin + at
            at = window.find(wanted, at + 1)
        read += len(block)
        tail = window[-(len(wanted) - 1) :]
