"""What may reach a terminal: no control character, and nothing that fails by being printed."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TextIO

# A file may be called \e]0;…: a terminal would obey. Lines stay lines.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def open_streams() -> None:
    """Make standard output and error take everything: what they cannot spell is escaped.

    One that is closed (``>&-``) is replaced by nothing at all.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  as open as the process
        else:
            stream.reconfigure(errors="backslashreplace")


def let_go(stream: TextIO) -> None:
    """Forget what a stream could not write: Python would try again, and fail, at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def plain(text: str) -> str:
    """Return text of any origin without control characters."""
    return _CONTROL.sub(" ", text)


def tell(text: str, file: TextIO | None = None) -> None:
    """Print to standard error or ``file``; one that cannot be written ends no upload."""
    with contextlib.suppress(OSError):
        print(plain(text), file=file or sys.stderr, flush=True)
