"""A clock for tests: Unix seconds, moved by hand."""

from __future__ import annotations


class Clock:
    """Stands until ``time`` is set."""

    def __init__(self, time: float = 1_800_000_000.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time
