"""What happened, what may follow what, and the running total.

``Progress.after(event)`` is the only way progress changes. Which event may follow
which state is the literal table ``NEXT``; anything else raises ``ValueError``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from . import units
from .model import PartReceipt, Result, Session


class State(Enum):
    """Where an upload is. The value is the word people read."""

    PREPARING = "preparing"
    UPLOADING = "uploading"
    PAUSED = "paused"
    COMPLETING = "completing"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.COMPLETED, State.FAILED, State.STOPPED, State.CANCELLED)


@dataclass(frozen=True)
class Event:
    """Something that happened to one upload."""


@dataclass(frozen=True)
class Started(Event):
    """A session is open. ``reused`` are the parts that an earlier run had brought there."""

    session: Session
    reused: tuple[PartReceipt, ...] = ()


@dataclass(frozen=True)
class PartSent(Event):
    """Bytes moved: ``in_flight`` maps part numbers to bytes sent of each.

    At most ten of these a second reach the listeners of one upload. A part that has
    just been taken stands at 0, one whose answer is awaited at its full size.
    """

    in_flight: Mapping[int, int]


@dataclass(frozen=True)
class PartRetried(Event):
    """A request goes out again after ``wait`` seconds; number 0 is no part's."""

    number: int
    attempt: int
    wait: float
    reason: str


@dataclass(frozen=True)
class PartDone(Event):
    """A part is held by the server, verified, and written to the journal.

    ``crc64`` is the CRC-64/XZ of its bytes: what a later run proves the file by.
    """

    receipt: PartReceipt
    crc64: int = 0


@dataclass(frozen=True)
class Paused(Event):
    """No new part is taken; those in flight finish."""


@dataclass(frozen=True)
class Resumed(Event):
    """Parts are taken again."""


@dataclass(frozen=True)
class Waiting(Event):
    """Why nothing moves just now (network gone, limiter, browser tab closed); "" ends it."""

    reason: str


@dataclass(frozen=True)
class Warned(Event):
    """Something the user should know that stops nothing; it stays in ``Progress.warnings``."""

    text: str


@dataclass(frozen=True)
class Restarted(Event):
    """The upload begins anew, and why: the session was lost, or the file changed."""

    reason: str


@dataclass(frozen=True)
class Completing(Event):
    """All parts are there; the provider is asked to put them together."""


@dataclass(frozen=True)
class Processing(Event):
    """The provider has the bytes and is not ready yet."""

    message: str = ""


@dataclass(frozen=True)
class Completed(Event):
    """The provider confirmed."""

    result: Result


@dataclass(frozen=True)
class Stopped(Event):
    """Stopped by the user; session and journal are kept."""


@dataclass(frozen=True)
class Cancelled(Event):
    """Cancelled by the user; nothing is kept but what the provider could not be told of."""


@dataclass(frozen=True)
class Failed(Event):
    """Ended by an error; session and journal are kept if they can be of use."""

    error: BaseException


_END: dict[type[Event], State] = {
    Stopped: State.STOPPED,
    Failed: State.FAILED,
    Cancelled: State.CANCELLED,
}

NEXT: dict[State, dict[type[Event], State]] = {
    State.PREPARING: {
        Waiting: State.PREPARING,
        Warned: State.PREPARING,
        PartRetried: State.PREPARING,
        Restarted: State.PREPARING,
        Paused: State.PAUSED,
        Started: State.UPLOADING,
        Completed: State.COMPLETED,  # it was there already
        **_END,
    },
    State.UPLOADING: {
        PartSent: State.UPLOADING,
        PartRetried: State.UPLOADING,
        PartDone: State.UPLOADING,
        Waiting: State.UPLOADING,
        Warned: State.UPLOADING,
        Paused: State.PAUSED,
        Completing: State.COMPLETING,
        Restarted: State.PREPARING,
        **_END,
    },
    State.PAUSED: {
        PartSent: State.PAUSED,
        PartRetried: State.PAUSED,
        PartDone: State.PAUSED,
        Waiting: State.PAUSED,
        Warned: State.PAUSED,
        Started: State.PAUSED,
        Restarted: State.PAUSED,
        Resumed: State.UPLOADING,  # or preparing, if there is no session yet
        **_END,
    },
    State.COMPLETING: {
        PartRetried: State.COMPLETING,
        Waiting: State.COMPLETING,
        Warned: State.COMPLETING,
        Processing: State.PROCESSING,
        Restarted: State.PREPARING,
        Completed: State.COMPLETED,
        **_END,
    },
    State.PROCESSING: {
        PartRetried: State.PROCESSING,
        Waiting: State.PROCESSING,
        Warned: State.PROCESSING,
        Processing: State.PROCESSING,
        Restarted: State.PREPARING,
        Completed: State.COMPLETED,
        **_END,
    },
    State.COMPLETED: {},
    State.FAILED: {},
    State.STOPPED: {},
    State.CANCELLED: {},
}


@dataclass(frozen=True, repr=False)
class Progress:
    """The running total of one upload. Sizes in bytes, ``started_at`` in Unix seconds.

    ``done`` counts finished parts, ``reused`` those of them an earlier run had sent;
    ``in_flight`` maps part numbers to bytes sent of each. Every update costs
    O(parts in flight), whatever the number of parts.
    """

    total: int = 0
    state: State = State.PREPARING
    done: int = 0
    reused: int = 0
    in_flight: Mapping[int, int] = field(default_factory=dict)
    parts: int = 0
    parts_done: int = 0
    parts_reused: int = 0
    retries: int = 0
    started_at: float = 0.0
    expires_at: float | None = None
    note: str = ""
    """What is being waited for or retried, in words; "" when all is well."""
    warnings: tuple[str, ...] = ()
    """What the user should know, oldest first."""
    result: Result | None = None
    error: BaseException | None = None

    @property
    def sent(self) -> int:
        """Bytes that left, finished parts and parts in flight together; never above total."""
        return min(self.total, self.done + sum(self.in_flight.values()))

    @property
    def percent(self) -> int:
        """0 to 99, and 100 only once the provider has confirmed."""
        if self.state is State.COMPLETED:
            return 100
        return min(99, self.sent * 100 // self.total) if self.total else 0

    def __repr__(self) -> str:
        facts = [self.state.value, f"{self.percent} %"]
        if self.total:
            facts.append(f"{units.size(self.sent)} of {units.size(self.total)}")
        if self.parts:
            facts.append(f"{self.parts_done:,} of {self.parts:,} part{'s' * (self.parts != 1)}")
        facts += [self.note] if self.note else []
        facts += [f"result={self.result.id}"] if self.result else []
        facts += [f"error={self.error}"] if self.error else []
        return f"<Progress: {', '.join(facts)}>"

    def after(self, event: Event) -> Progress:
        """Return the progress once ``event`` has happened.

        Raises:
            ValueError: this event may not follow this state.
        """
        try:
            state = NEXT[self.state][type(event)]
        except KeyError:
            raise ValueError(f"{type(event).__name__} may not follow {self.state.value}") from None
        match event:
            case Started(session, reused):
                size = sum(receipt.size for receipt in reused)
                return replace(
                    self,
                    state=state,
                    total=session.file.size,
                    done=size,
                    reused=size,
                    in_flight={},
                    parts=max(1, -(-session.file.size // session.part_size)),
                    parts_done=len(reused),
                    parts_reused=len(reused),
                    started_at=self.started_at or time.time(),
                    expires_at=session.expires_at,
                    note="",
                )
            case PartSent(in_flight):
                return replace(self, state=state, in_flight=in_flight)
            case PartRetried(number, attempt, wait, reason):
                where = f"part {number}" if number else "request"
                note = f"{where}: {reason}, attempt {attempt + 1} in {wait:.1f} s"
                flight = {n: 0 if n == number else b for n, b in self.in_flight.items()}
                return replace(
                    self, state=state, retries=self.retries + 1, note=note, in_flight=flight
                )
            case PartDone(receipt):
                flight = {n: b for n, b in self.in_flight.items() if n != receipt.number}
                return replace(
                    self,
                    state=state,
                    done=self.done + receipt.size,
                    parts_done=self.parts_done + 1,
                    in_flight=flight,
                    note="",
                )
            case Waiting(reason) | Processing(reason):
                return replace(self, state=state, note=reason)
            case Warned(text):
                return replace(self, state=state, warnings=(*self.warnings, text))
            case Restarted(reason):
                return replace(
                    self,
                    state=state,
                    done=0,
                    reused=0,
                    parts=0,
                    parts_done=0,
                    parts_reused=0,
                    in_flight={},
                    note=reason,
                )
            case Resumed() if not self.parts:
                return replace(self, state=State.PREPARING)
            case Completed(result):
                return replace(self, state=state, result=result, in_flight={}, note="")
            case Failed(error):
                return replace(self, state=state, error=error, in_flight={}, note="")
            case Stopped() | Cancelled():
                return replace(self, state=state, in_flight={}, note="")
            case _:
                return replace(self, state=state)


Listener = Callable[[Event, Progress], Any]
"""Told of every event, on the upload's event loop (the background thread's, or with
``nested`` the caller's); one that raises is dropped. One that returns an awaitable has a
second more when the upload is over, before whoever waits for it goes on."""


class Meter:
    """The rate of one upload, smoothed over about ten seconds, and the time left.

    Feed it ``(time, bytes)`` as often as you like; time in seconds of any clock.
    """

    def __init__(self, window: float = 10.0) -> None:
        self._window = window
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None
        self._rate = 0.0

    def feed(self, now: float, sent: int) -> None:
        """Take a reading. Bytes that go down (a part is sent again) pull the rate down."""
        if self._last is None or self._first is None:
            self._first = self._last = (now, sent)
            return
        elapsed = now - self._last[0]
        if elapsed < 0.05:
            return
        latest = (sent - self._last[1]) / elapsed
        age = now - self._first[0]
        weight = min(1.0, elapsed / min(self._window, max(age, 0.05)))
        self._rate = max(0.0, self._rate + weight * (latest - self._rate))
        self._last = (now, sent)

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self._rate

    def left(self, remaining: int) -> float | None:
        """Return seconds left for ``remaining`` bytes; None in the first three seconds."""
        if self._first is None or self._last is None or self._last[0] - self._first[0] < 3:
            return None
        return remaining / self._rate if self._rate > 0 else None
