"""Which ranges of a browser's file are there, asked for, or missing."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 4 << 20  # bytes of a block; a message of 10 MiB loses the connection, silently
LEAST = 64 << 10  # bytes
WINDOW = 4  # blocks asked for ahead
HELD = 32 << 20  # bytes of one file in memory at most, asked for or there


class Blocks:
    """Which ranges of one file are there, asked for, or missing. Pure: no clock of its own.

    Offsets and sizes are in bytes, ``now`` in seconds of any clock. Answers may come in
    any order, twice, or never; ranges never overlap.
    """

    def __init__(self, size: int, block: int = MOST) -> None:
        self.size = size
        self.block = block
        self.asked: dict[int, int] = {}
        self.there: dict[int, memoryview] = {}
        self._answers = 0
        self._since = 0.0  # of the last answer, or of the first question after it

    @property
    def held(self) -> int:
        """Bytes that are there or under way."""
        return sum(map(len, self.there.values())) + sum(self.asked.values())

    def take(self, start: int, size: int) -> bytes | memoryview | None:
        """Return the range when all of it is there; without a copy when it is in one block."""
        pieces: list[memoryview] = []
        at, end = start, start + size
        for first in sorted(self.there):
            data = self.there[first]
            if first <= at < first + len(data):
                pieces.append(data[at - first : end - first])
                at += len(pieces[-1])
                if at >= end:
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return None

    def wanted(
        self, start: int, size: int, now: float, reading: Sequence[tuple[int, int]] = ()
    ) -> list[tuple[int, int]]:
        """Return what to ask for, so that a range comes and those after it follow.

        ``reading`` are the ranges (start, end) that somebody waits for: they stay.
        """
        asks: list[tuple[int, int]] = []
        ahead = min(self.size, max(start + size, start + WINDOW * self.block))
        for first, end in self._gaps(start, self.size):
            at = first
            # Whole blocks only: one is asked for when it begins within the window.
            while at < min(end, ahead):
                step = min(self.block, end - at)
                needed = at < start + size
                room = self._make_room(step, [*reading, (start, ahead)])
                if not needed and (len(self.asked) >= WINDOW or not room):
                    return asks
                if not self.asked:
                    self._since = now
                self.asked[at] = step
                asks.append((at, step))
                at += step
            if at >= ahead:
                break
        return asks

    def answer(self, start: int, data: memoryview, now: float) -> bool:
        """Take in an answer; say whether it was waited for."""
        size = self.asked.pop(start, None)
        if size is None or not len(data):
            return False
        # Longer when it was asked for before the blocks got smaller; what it brings
        # beyond is under way by itself.
        self.there[start] = data[:size]
        self._since = now
        self._answers += 1
        if self._answers % 8 == 0:
            self.block = min(MOST, self.block * 2)
        return True

    def forget(self, reading: Sequence[tuple[int, int]]) -> None:
        """Let go of what lies before everything that somebody reads."""
        floor = min((start for start, _ in reading), default=0)
        for first in [f for f, data in self.there.items() if f + len(data) <= floor]:
            del self.there[first]

    def late(self, now: float, patience: float) -> bool:
        """Say whether no answer at all has come for that long."""
        return bool(self.asked) and now - self._since >= patience

    def again(self, *, smaller: bool = True) -> None:
        """Ask anew for all that has not come, in smaller blocks."""
        if smaller:
            self.block = max(LEAST, self.block // 2)
        self._answers = 0
        self.asked.clear()

    def clear(self) -> None:
        """Let go of everything."""
        self.asked.clear()
        self.there.clear()

    def _gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        known = sorted([(f, f + len(d)) for f, d in self.there.items()] + self._under_way())
        gaps, at = [], start
        for first, last in known:
            if first >= end:
                break
            if last <= at:
                continue
            if first > at:
                gaps.append((at, first))
            at = last
        if at < end:
            gaps.append((at, end))
        return gaps

    def _under_way(self) -> list[tuple[int, int]]:
        return [(first, first + size) for first, size in self.asked.items()]

    def _make_room(self, room: int, keep: Sequence[tuple[int, int]]) -> bool:
        """Let go of blocks nobody reads until there is room; say whether there is."""
        for first in sorted(self.there):
            if self.held + room <= HELD:
                break
            last = first + len(self.there[first])
            if not any(first < end and last > start for start, end in keep):
                del self.there[first]
        return self.held + room <= HELD
