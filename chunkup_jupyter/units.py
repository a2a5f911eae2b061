"""Sizes and times as people write and read them."""

from __future__ import annotations

import re

_SIZE = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_TIME = {"": 1, "S": 1, "M": 60, "H": 3600, "D": 86400, "W": 7 * 86400}


def parse_size(text: str | int) -> int:
    """Return bytes: ``16M``, ``16MiB`` and ``16m`` are 16 × 2^20; ``16MB`` is 16 × 10^6.

    Raises:
        ValueError: with what is possible.
    """
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B)?\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is no size; write bytes, or 512K, 16M, 1.5G")
    number, unit, suffix = float(match[1]), match[2].upper(), (match[3] or "").lower()
    scale = 1000 ** " KMGT".index(unit) if suffix == "b" and unit else _SIZE[unit]
    return int(number * scale)


def parse_duration(text: str | int) -> int:
    """Return seconds: ``90``, ``90s``, ``30m``, ``12h``, ``7d``, ``2w``.

    Raises:
        ValueError: with what is possible.
    """
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([SMHDW]?)\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is no duration; write seconds, or 30m, 12h, 7d")
    return int(float(match[1]) * _TIME[match[2].upper()])


def size(n: float) -> str:
    """Return bytes for a reader, in decimal units: ``0 B``, ``999 B``, ``1.9 GB``."""
    if n < 1000:
        return f"{int(n)} B"
    power = 0
    while n >= 999.5:
        n, power = n / 1000, power + 1
    return f"{n:.3g} {_DECIMAL[power]}" if n < 100 else f"{n:.0f} {_DECIMAL[power]}"


def binary(n: int) -> str:
    """Return a part size (bytes) as people write it: ``16 MiB`` where it is whole."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n >= 1 << power and n % (1 << power) == 0:
            return f"{n >> power:,} {unit}"
    return size(n)


def written(n: int) -> str:
    """Return bytes as they are written on a line, for ``parse_size``: ``16M``, or digits."""
    for unit in "GMK":
        if n >= _SIZE[unit] and n % _SIZE[unit] == 0:
            return f"{n // _SIZE[unit]}{unit}"
    return str(n)


def rate(n: float) -> str:
    """Return bytes a second for a reader: ``38 MB/s``."""
    return f"{size(n)}/s"


def seconds(n: float) -> str:
    """Return a duration for a reader: ``0.4 s``, ``31 s``, ``1 min 22 s``, ``2 h 5 min``."""
    if n < 9.95:
        return f"{n:.1f} s"
    whole = round(n)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    if whole < 86400:
        return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 >= 60 else "")
    return f"{whole // 86400} d" + (f" {whole % 86400 // 3600} h" if whole % 86400 >= 3600 else "")
