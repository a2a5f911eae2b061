"""Sizes and times as people write and read them.

``16M`` and ``16MiB`` are 16 × 2^20 bytes, ``16MB`` is 16 × 10^6, as rclone and others read
them. What is measured (files, progress, rates) is shown in decimal units; part sizes and
limits, which are chosen, in the unit in which they are short.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SIZE = {letter: 1 << 10 * power for power, letter in enumerate(("", *"KMGTPE"))}
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_TIME = {"": 1, "S": 1, "M": 60, "H": 3600, "D": 86400, "W": 7 * 86400}


def parse_size(text: str | float) -> int:
    """Return bytes: ``16M``, ``16Mi``, ``16 MiB``, ``16MB``, ``16,000,000``, in any case.

    Raises:
        ValueError: with what is possible.
    """
    if isinstance(text, int):
        return text
    form = r"\s*(\d+|\d{1,3}(?:,\d{3})+|\d+\.\d+)\s*([KMGTPE]?)(i?B|(?<=[KMGTPE])i)?\s*"
    match = re.fullmatch(form, str(text), re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is no size; write bytes, or 512K, 16M, 1.5G")
    number = float(match[1].replace(",", ""))
    unit, suffix = match[2].upper(), (match[3] or "").lower()
    scale = 1000 ** " KMGTPE".index(unit) if suffix == "b" and unit else _SIZE[unit]
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
    return f"{int(n)} B" if n < 1000 else _three_digits(n, 1000, _DECIMAL)


def chosen(n: int) -> str:
    """Return a part size or a limit (bytes) in its own unit: ``16 MiB``, ``1.5 MiB``, ``16 MB``.

    Exact where one digit after the point suffices; else of three digits, as ``48.8 TiB``.
    """
    for power in range(6, 0, -1):
        tenths, rest = divmod(10 * n, 1024**power)
        if not rest and 10 <= tenths < 10240:
            return f"{tenths / 10:g} {_BINARY[power]}"
    return size(n) if n % _SIZE["M"] else _three_digits(n, 1024, _BINARY)


def written(n: int) -> str:
    """Return bytes as they are written on a line, for ``parse_size``: ``16M``, or digits."""
    text = chosen(n).replace(" ", "").replace("iB", "")
    return text if n >= 1000 and parse_size(text) == n else str(n)


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


def _three_digits(n: float, base: int, units: Sequence[str]) -> str:
    power = 0
    while n >= base - 0.5:
        n, power = n / base, power + 1
    return f"{n:.3g} {units[power]}" if n < 100 else f"{n:.0f} {units[power]}"
