"""Several uploads to one destination: a queue, a state for each file, one answer for all."""

from __future__ import annotations

import asyncio
import itertools
import shlex
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NoReturn, overload

from ..errors import InvalidUpload, SomeFailed, UploadCancelled, UploadInterrupted
from ..events import Cancelled, Event, Failed, Listener, Meter, Progress, State, Stopped, Waiting
from ..sources import urls
from ..sources.choosing import Chosen
from ..wire.client import HttpClient
from . import Job, background
from .orders import Order, words_of
from .results import UploadResult
from .waiting import Waited

FILES = 2  # on their way at once; each has its parts in parallel already


class Item:
    """One file of a batch: first it waits for its turn, then it has a ``job``.

    ``queue`` puts it into the batch's queue again.
    """

    def __init__(self, chosen: Chosen, order: Order, queue: Callable[[Sequence[Item]], None]):
        self.order = order_of(chosen, order)
        self.size = chosen.size
        self.job: Job | None = None
        source = chosen.source
        named = isinstance(source, str)
        self.path = urls.shown(source) if named else ""
        """How the source was written; "" for objects."""
        self.name = chosen.called
        self.target, self.sandbox = order.provider.url, order.sandbox
        self._queue = queue
        self._progress = Progress(total=chosen.size).after(Waiting("it waits for its turn"))

    @property
    def progress(self) -> Progress:
        """The running total."""
        return self._progress if self.job is None else self.job.progress

    @property
    def state(self) -> State:
        """Where the file is."""
        return self.progress.state

    @property
    def waiting(self) -> bool:
        """Whether its turn has not come."""
        return self.job is None and not self._progress.state.ended

    @property
    def meter(self) -> Meter | None:
        """The rate of its upload."""
        return None if self.job is None else self.job.meter

    @property
    def outcome(self) -> UploadResult | BaseException | None:
        """The result or the error; None while there is neither."""
        if self.job is None:
            return self._progress.error
        if not self.job.done():
            return None
        return self.job.error or self.job.result(0)

    @property
    def total(self) -> int:
        """The size in bytes, as far as it is known."""
        return self.progress.total or self.size

    def __repr__(self) -> str:
        return f"<{self.name}: {'waiting' if self.waiting else self.state.value}>"

    def pause(self) -> None:
        """Take no new part; before its turn there is nothing to pause."""
        if self.job is not None:
            self.job.pause()

    def resume(self) -> None:
        """Go on with it; what failed before it had a job gets a new turn."""
        if self.job is not None:
            self.job.resume()
        elif self.state in (State.FAILED, State.STOPPED):
            self._again()
            self._queue([self])

    def cancel(self) -> None:
        """Cancel it; before its turn it gives that up."""
        if self.job is not None:
            self.job.cancel()
        else:
            self._end(Cancelled())

    def _end(self, event: Event) -> None:
        """End without a job."""
        if not self._progress.state.ended:
            self._progress = self._progress.after(event)
            error: BaseException | None = None
            if isinstance(event, Stopped):
                error = UploadInterrupted(f"{self.name} was not begun")
            elif isinstance(event, Cancelled):
                error = UploadCancelled(f"{self.name} was cancelled before it began")
            if error is not None:
                self._progress = replace(self._progress, error=error)

    def _again(self) -> None:
        self.job = None
        self._progress = Progress(total=self.size).after(Waiting("it waits for its turn"))


class Batch(Waited["BatchResult"]):
    """Several uploads in the background. Every method may be called from any thread.

    ``items`` are the files in order. Await it, or call ``result()``; both stop the
    uploads, resumably, when interrupted.
    """

    def __init__(
        self,
        chosen: Sequence[Chosen],
        order: Order,
        *,
        files: int = FILES,
        listeners: Sequence[Listener] = (),
        words: Sequence[str] = (),
    ) -> None:
        self.items = tuple(Item(one, order, self._begin) for one in chosen)
        self.files = files
        self.target = order.provider.url
        self.title = order.provider.title
        self.sandbox = order.sandbox
        self.started_at = time.time()
        self.meter = Meter()
        self._order = order
        self._listeners = tuple(listeners)
        self._words = tuple(words)
        self._loop = background.loop()
        self._paused = False
        self._wanted = ""
        self._lock = threading.Lock()
        self._queue: deque[Item] = deque()
        self._busy = False  # somebody works on the queue
        self._done: Future[None] = Future()
        self._begin(self.items)

    # what it is

    @property
    def name(self) -> str:
        """How many files there are, in words."""
        return f"{len(self.items)} file{'s' * (len(self.items) != 1)}"

    @property
    def jobs(self) -> list[Job]:
        """The uploads that have begun."""
        return [item.job for item in self.items if item.job is not None]

    @property
    def state(self) -> State:
        """Where they are together; the worst state once they have ended."""
        states = {item.state for item in self.items}
        if not self.done():
            return State.PAUSED if self._paused else State.UPLOADING
        for state in (State.FAILED, State.STOPPED, State.CANCELLED):
            if state in states:
                return state
        return State.COMPLETED

    @property
    def progress(self) -> Progress:
        """All files together, as one: here the parts are the files."""
        each = [item.progress for item in self.items]
        total = sum(item.total for item in self.items)
        done = sum(1 for one in each if one.state is State.COMPLETED)
        return Progress(
            total=total,
            state=self.state,
            done=sum(one.sent for one in each),
            reused=sum(one.reused for one in each),
            parts=len(each),
            parts_done=done,
            retries=sum(one.retries for one in each),
            started_at=self.started_at,
        )

    @property
    def failed(self) -> dict[str, BaseException]:
        """What failed so far, and why."""
        return self._results().failed

    @property
    def error(self) -> BaseException | None:
        """What ended it: ``SomeFailed``, or None while it runs and when all arrived."""
        return self._results().trouble() if self.done() else None

    @property
    def line(self) -> str:
        """The arguments of ``%chunkup`` that go on with what is not there yet; "" for none."""
        left = [item for item in self.items if item.state is not State.COMPLETED]
        if not left or not self._words or not self._order.by_line:
            return ""
        if 0 < len(left) <= 3 and len(left) < len(self.items):
            spelled = [item.job.line if item.job is not None else "" for item in left]
            if len(left) == 1 and spelled[0]:
                return spelled[0]
            if all(item.path and item.order.asked.name is None for item in left):
                paths = [shlex.quote(item.path) for item in left]
                return " ".join([*paths, *words_of(self._order)])
        # Files that are there already need not go again.
        again = [] if len(left) == len(self.items) else ["--reuse"]
        return " ".join(dict.fromkeys([*self._words, *again]))

    def __len__(self) -> int:
        return len(self.items)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a batch lives in this process; keep batch.result().to_dict()")

    def __repr__(self) -> str:
        counts = Counter("waiting" if one.waiting else one.state.value for one in self.items)
        states = ", ".join(f"{number} {state}" for state, number in counts.items())
        where = " (sandbox)" if self.sandbox else ""
        return f"<Batch: {self.name} → {self.target}{where}: {states}>"

    # waiting for it

    def interrupted(self) -> UploadInterrupted:
        """Return the error that an interrupt ends with."""
        there = sum(1 for item in self.items if item.state is State.COMPLETED)
        text = f"stopped: {there} of {self.name} arrived"
        return UploadInterrupted(f"{text}. To go on: %chunkup {self.line}" if self.line else text)

    def _future(self) -> Future[None]:
        return self._done

    def _outcome(self) -> BatchResult:
        return self._results()

    def _coming(self) -> Iterable[Any]:
        return [item.order.source for item in self.items if not item.state.ended]

    # steering it

    def pause(self) -> None:
        """Take no new part and begin no new file; parts in flight finish."""
        self._paused = True
        for job in self.jobs:
            job.pause()

    def resume(self) -> None:
        """Go on after ``pause``; begin what was stopped or failed again, resuming."""
        self._paused = False
        if self.done():
            self.retry()
        for job in self.jobs:
            if not job.done():
                job.resume()

    def retry(self) -> Batch:
        """Put the files that failed or were stopped into the queue again, and return self."""
        if not self.done():
            raise InvalidUpload("some of these files are still on their way")
        again = [one for one in self.items if one.state in (State.FAILED, State.STOPPED)]
        for item in again:
            item._again()
        self._paused = False
        self._begin(again)
        return self

    def stop(self) -> None:
        """Stop every upload, resumably; what has not begun stays where it is."""
        self._end("stop")

    def cancel(self) -> None:
        """Cancel every upload that has not ended; files that arrived stay there."""
        self._end("cancel")

    def _end(self, wanted: str) -> None:
        self._wanted = wanted
        for item in self.items:
            if item.job is not None and not item.job.done():
                item.job.stop() if wanted == "stop" else item.job.cancel()

    # the course of things

    def _begin(self, items: Sequence[Item]) -> None:
        """Put files into the queue, and see that somebody works on it."""
        with self._lock:
            self._queue.extend(items)
            if self._busy or not items:
                return
            self._busy, self._wanted, self._done = True, "", Future()
            background.submit(self._live(self._done))

    def _any(self) -> bool:
        """Say whether a file waits. Once none does, the next one begins anew."""
        with self._lock:
            self._busy = bool(self._queue)
            return self._busy

    async def _live(self, done: Future[None]) -> None:
        wire = HttpClient(ca_bundle=self._order.asked.ca_bundle)
        meter = asyncio.create_task(self._measure())
        try:
            while self._any():
                workers = min(self.files, len(self._queue))
                await asyncio.gather(*(self._work(wire) for _ in range(workers)))
        finally:
            meter.cancel()
            await wire.close()
            done.set_result(None)

    async def _work(self, wire: HttpClient) -> None:
        while self._queue:
            while self._paused and not self._wanted:  # noqa: ASYNC110  set from any thread
                await asyncio.sleep(0.1)
            if not self._queue:
                return
            item = self._queue.popleft()
            if item.state.ended:  # cancelled while it waited
                continue
            if self._wanted:
                item._end(Stopped() if self._wanted == "stop" else Cancelled())
                continue
            try:
                await self._send(item, wire)
            except Exception as error:
                item._end(Failed(error))

    async def _send(self, item: Item, wire: HttpClient) -> None:
        # In a thread: opening a file and taking its journal's lock may wait.
        job = item.job = await asyncio.to_thread(Job, item.order, self._listeners, lent=wire)
        if self._paused:
            job.pause()
        if self._wanted == "stop":
            job.stop()
        elif self._wanted or item._progress.state is State.CANCELLED:
            job.cancel()
        await job.ended()

    async def _measure(self) -> None:
        for _ in itertools.count():
            each = [item.progress for item in self.items]
            self.meter.feed(time.monotonic(), sum(one.sent - one.reused for one in each))
            await asyncio.sleep(0.5)

    def _results(self) -> BatchResult:
        return BatchResult(self)


class BatchResult(Sequence["UploadResult | BaseException | None"]):
    """What became of several files, in order: a result for each that arrived, else its error.

    None stands for a file that has not ended. Pickling keeps the outcomes alone.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._outcomes = [item.outcome for item in batch.items]
        self.names = [item.path or item.name for item in batch.items]
        """The files, as they were written."""

    @property
    def ids(self) -> list[str]:
        """The ids of the files that arrived, in order."""
        return [one.id for one in self._outcomes if isinstance(one, UploadResult)]

    @property
    def failed(self) -> dict[str, BaseException]:
        """The files that did not arrive, and why."""
        pairs = zip(self.names, self._outcomes, strict=True)
        return {name: one for name, one in pairs if isinstance(one, BaseException)}

    def check(self) -> BatchResult:
        """Return self; raise ``SomeFailed`` when not every file arrived."""
        trouble = self.trouble()
        if trouble is not None:
            raise trouble
        return self

    def trouble(self) -> SomeFailed | None:
        """Return the error that says which files did not arrive, None when all did."""
        failed = self.failed
        if not failed:
            return None
        names = ", ".join(list(failed)[:5]) + (" …" if len(failed) > 5 else "")
        return SomeFailed(f"{len(failed)} of {len(self)} uploads failed: {names}", self)

    def retry(self) -> Batch:
        """Upload what failed again, resuming; return the batch."""
        return self.batch.retry()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "batch"}

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the facts as plain values, file by file."""
        return [
            one.to_dict()
            if isinstance(one, UploadResult)
            else {"name": name, "error": str(one), "kind": type(one).__name__}
            for name, one in zip(self.names, self._outcomes, strict=True)
        ]

    @overload
    def __getitem__(self, index: int) -> UploadResult | BaseException | None: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[UploadResult | BaseException | None]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._outcomes[index]

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        lines = [
            f"✗ {name}: {one}" if isinstance(one, BaseException) else f"{one!r}"
            for name, one in zip(self.names, self._outcomes, strict=True)
        ]
        return "\n".join(lines)


def order_of(one: Chosen, order: Order) -> Order:
    """Return the order of one file among those of ``order``."""
    name = None if one.name is None or "/" not in one.name else one.name
    return replace(order, source=one.source, asked=replace(order.asked, name=name))
