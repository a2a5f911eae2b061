"""One upload as its events told it: what the views remember of it, part by part."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ..events import Event, PartDone, PartRetried, PartSent, Progress, Restarted, Started
from ..plan import count, part_at

CELLS = 96  # of the part map in HTML; more parts than that share a cell


@dataclass
class PartRow:
    """What became of one part: bytes, retries, seconds from being taken to being held."""

    number: int
    size: int
    retries: int = 0
    reused: bool = False
    done: bool = False
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell of the part map: how much of it is held, moving, and in trouble (0 to 1)."""

    done: float
    moving: float = 0.0
    reused: bool = False
    retrying: bool = False


@dataclass
class Story:
    """A listener that only remembers. Times are in seconds of the monotonic clock.

    ``began`` is when the session was opened: what came before is no time of the upload.
    Written on the background thread and read on others: readers copy first. Memory
    grows with the parts that were touched, never with bytes.
    """

    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    size: int = 0
    part_size: int = 0
    rows: dict[int, PartRow] = field(default_factory=dict)
    restarts: list[str] = field(default_factory=list)
    _started: bool = False
    _held: list[int] = field(default_factory=list)
    _taken: dict[int, float] = field(default_factory=dict)

    def __call__(self, event: Event, progress: Progress) -> None:
        now = time.monotonic()
        match event:
            case Started(session, reused):
                self.size, self.part_size = session.file.size, session.part_size
                self.began = self.began if self._started else now
                self._started = True
                self._forget()
                for receipt in reused:
                    self._hold(PartRow(receipt.number, receipt.size, reused=True))
            case PartSent(in_flight):
                for number in in_flight:
                    self._taken.setdefault(number, now)
            case PartRetried(number, _, _, reason) if number:
                row = self._row(number)
                row.retries, row.reason = row.retries + 1, reason
            case PartDone(receipt):
                row = self._row(receipt.number)
                row.size = receipt.size
                row.seconds = now - self._taken.pop(receipt.number, now)
                self._hold(row)
            case Restarted(reason):
                self._forget()
                self.restarts.append(reason)
        self.ended = now if progress.state.ended else None

    @property
    def parts(self) -> int:
        """The number of parts; 0 until a session is open."""
        return count(self.size, self.part_size) if self.part_size else 0

    @property
    def elapsed(self) -> float:
        """Seconds from the beginning to now, or to the end."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    def waiting(self, progress: Progress) -> dict[int, str]:
        """Return the parts in flight that wait to be sent again: number → reason."""
        rows = self.rows
        found = {}
        for number, sent in dict(progress.in_flight).items():
            if (row := rows.get(number)) is not None and row.retries and not sent:
                found[number] = row.reason
        return found

    def cells(self, progress: Progress) -> list[Cell]:
        """Return the part map, at most ``CELLS`` cells whatever the number of parts."""
        held, total, rows = list(self._held), self.parts, self.rows
        if not held:
            return []
        moving: dict[int, float] = {}
        trouble = {self._cell(number) for number in self.waiting(progress)}
        for number, sent in dict(progress.in_flight).items():
            at = self._cell(number)
            whole = part_at(number, self.size, self.part_size).size
            moving[at] = moving.get(at, 0.0) + (min(1.0, sent / whole) if whole else 0.0)
        found = []
        for at, done in enumerate(held):
            first, end = -(-at * total // len(held)), -(-(at + 1) * total // len(held))
            share, lone = end - first, rows.get(first + 1)
            reused = share == 1 and lone is not None and lone.reused
            found.append(Cell(done / share, moving.get(at, 0) / share, reused, at in trouble))
        return found

    def _cell(self, number: int) -> int:
        return (number - 1) * len(self._held) // max(1, self.parts)

    def _forget(self) -> None:
        self.rows, self._taken = {}, {}
        self._held = [0] * min(self.parts, CELLS)

    def _hold(self, row: PartRow) -> None:
        self.rows[row.number] = row
        if not row.done and self._held and 1 <= row.number <= self.parts:
            self._held[self._cell(row.number)] += 1
        row.done = True

    def _row(self, number: int) -> PartRow:
        if number not in self.rows:
            size = part_at(number, self.size, self.part_size).size if self.part_size else 0
            self.rows[number] = PartRow(number, size)
        return self.rows[number]
