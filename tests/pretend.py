"""A job that only pretends: real events in a legal order, no bytes. For views."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from chunkup_jupyter.events import (
    Completed,
    Completing,
    Event,
    Meter,
    PartDone,
    PartRetried,
    PartSent,
    Paused,
    Progress,
    Resumed,
    Started,
    State,
)
from chunkup_jupyter.model import FileInfo, PartReceipt, Result, Session
from chunkup_jupyter.plan import Plan, count, part_at


class PretendJob:
    """Looks like a ``jobs.Job``; ``tell`` makes things happen, ``run`` a whole upload."""

    def __init__(
        self, parts: int = 16, part_size: int = 16 << 20, name: str = "train.jsonl"
    ) -> None:
        self.name, self.target, self.sandbox = name, "openai:fine-tune", False
        self.size = parts * part_size - part_size // 3
        self.file = FileInfo(name, self.size)
        self.plan = Plan(self.file, self.target, part_size, 4)
        self.session: Session | None = None
        self.progress = Progress(total=self.size)
        self.meter = Meter()
        self.asked: list[str] = []
        self.numbers_done: frozenset[int] = frozenset()
        self._listeners: list[Callable[[Event, Progress], None]] = []
        self._go = threading.Event()
        self._go.set()
        self._stop = False

    @property
    def state(self) -> State:
        return self.progress.state

    @property
    def line(self) -> str:
        return f"{self.name} {self.target}"

    def subscribe(self, listener: Any) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, event: Event) -> None:
        """Let something happen."""
        self.progress = self.progress.after(event)
        self.meter.feed(time.monotonic(), self.progress.sent - self.progress.reused)
        for listener in list(self._listeners):
            listener(event, self.progress)

    def start(self, reused: int = 0, life: float | None = 3600) -> None:
        """Open the session; the first ``reused`` parts are there already."""
        expires = None if life is None else time.time() + life
        self.session = Session("upload_1", self.file, self.plan.part_size, {}, expires)
        self.tell(Started(self.session, tuple(self.receipt(n) for n in range(1, reused + 1))))

    def receipt(self, number: int) -> PartReceipt:
        return PartReceipt(number, part_at(number, self.size, self.plan.part_size).size, "etag")

    def pause(self) -> None:
        self.asked.append("pause")
        if self.state is State.UPLOADING:
            self._go.clear()
            self.tell(Paused())

    def resume(self) -> None:
        self.asked.append("resume")
        if self.state is State.PAUSED:
            self.tell(Resumed())
            self._go.set()

    def cancel(self) -> None:
        self.asked.append("cancel")
        self._stop = True

    def run(
        self, seconds: float, *, jobs: int = 8, reused: float = 0.0, trouble: float = 0.02,
        until: float = 1.0, seed: int = 1,
    ) -> None:  # fmt: skip
        """Upload for about ``seconds``, up to the share ``until``, in this thread."""
        rng = random.Random(seed)
        total = count(self.size, self.plan.part_size)
        first = int(total * reused)
        self.start(first)
        ticks = max(2, int(seconds / 0.1))
        todo = list(range(first + 1, total + 1))
        pace = max(1.0, len(todo)) / ticks  # parts a tick
        flight: dict[int, float] = {}
        retried = set()
        end = int(total * until)
        while (todo or flight) and self.progress.parts_done < end and not self._stop:
            self._go.wait()
            while todo and len(flight) < max(jobs, pace):
                flight[todo.pop(0)] = 0.0
            for number in list(flight):
                flight[number] += pace / max(1, len(flight)) * rng.uniform(0.4, 1.6)
                if flight[number] >= 1.15:
                    del flight[number]
                    self.tell(PartDone(self.receipt(number)))
                elif rng.random() < trouble and number not in retried and flight[number] < 1:
                    retried.add(number)
                    flight[number] = -0.3 * pace
                    self.tell(PartRetried(number, 1, 1.5, "503 Service Unavailable"))
            sizes = {n: self.receipt(n).size for n in flight}
            self.tell(PartSent({n: int(max(0, min(1, f)) * sizes[n]) for n, f in flight.items()}))
            time.sleep(0.1)

    def finish(self) -> None:
        """Let the provider confirm."""
        self.tell(Completing())
        self.tell(Completed(Result("file-abc123", size=self.size, verified=("md5",))))
