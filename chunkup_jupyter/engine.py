"""One upload, from start to end. Knows no protocol, shows nothing, and is async only."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from . import digests, plan
from .errors import (
    AuthError,
    IntegrityError,
    ProviderError,
    Refused,
    SessionLost,
    SourceChanged,
)
from .events import (
    Cancelled,
    Completed,
    Completing,
    Event,
    Failed,
    Listener,
    PartDone,
    PartRetried,
    PartSent,
    Paused,
    Processing,
    Progress,
    Restarted,
    Resumed,
    Started,
    State,
    Stopped,
    Waiting,
    Warned,
)
from .feed import HELD, Feed, OrderedFeed
from .journal import Acknowledged, Creating, Journal, Past
from .model import Body, Flow, NotYet, Part, PartReceipt, Provider, Result, Session
from .pace import Pace
from .sources import Source, crc64_of, digest_of
from .transport import Policy, Transport
from .wire import Client

T = TypeVar("T")

log = logging.getLogger("chunkup_jupyter")

TICK = 0.1  # seconds between two readings of the bytes in flight
MARGIN = 120.0  # seconds a session must still live to be worth resuming


@dataclass(frozen=True)
class Options:
    """What the caller may choose. ``jobs`` None lets the engine find the number.

    ``part_size`` in bytes, None for a size of our choosing; ``verify`` False skips the
    digests that cost time (never the size checks); ``ready_within`` in seconds; ``check``
    looks at the content before a byte is sent.
    """

    jobs: int | None = None
    part_size: int | None = None
    verify: bool = True
    wait_ready: bool = False
    ready_within: float = 3600.0
    fresh: bool = False
    check: bool = True


@dataclass
class Upload:
    """One upload. Lives on one event loop; ``run`` is called once.

    ``refresh`` returns the provider with fresh credentials, or None when there are no
    fresher ones. ``finished`` is called once the provider has confirmed, before the
    journal is discarded.
    """

    source: Source
    provider: Provider
    client: Client
    journal: Journal
    options: Options = field(default_factory=Options)
    listeners: list[Listener] = field(default_factory=list)
    refresh: Callable[[], Awaitable[Provider | None]] | None = None
    finished: Callable[[Result], None] = lambda result: None
    policy: Policy = field(default_factory=Policy)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.progress = Progress(total=self.source.info.size)
        self.session: Session | None = None
        self.pace = Pace(self.options.jobs)
        self._flight: dict[int, int] = {}
        self._sums: dict[int, int] = {}
        self._moved = 0
        self._cancelling = False
        self._fresh = self.options.fresh
        self._gate = asyncio.Event()
        self._gate.set()
        self.transport = Transport(
            self.client,
            self.provider.rules,
            policy=self.policy,
            count=self._count,
            retried=lambda *facts: self._emit(PartRetried(*facts)),
            waiting=lambda reason: self._emit(Waiting(reason)),
            trouble=self.pace.trouble,
            sleep=self.sleep,
            now=self.now,
            rng=self.rng,
        )

    # what may be asked of a running upload

    def pause(self) -> None:
        """Take no new part; those in flight finish."""
        if self.progress.state is State.UPLOADING:
            self._gate.clear()
            self._emit(Paused())

    def resume(self) -> None:
        """Take parts again."""
        if self.progress.state is State.PAUSED:
            self._emit(Resumed())
            self._gate.set()

    def cancel(self) -> None:
        """Make the cancellation of ``run``'s task abort the session instead of keeping it."""
        self._cancelling = True

    async def run(self) -> Result:
        """Upload. Returns what the provider confirmed.

        Cancelling the task stops the upload and keeps what is needed to resume it.
        Raises the first real cause of a failure.
        """
        try:
            await self._preflight()
            result = await self._persist()
        except asyncio.CancelledError:
            if self._cancelling:
                await asyncio.shield(self._abort())
                self.journal.discard()
                self._emit(Cancelled())
            else:
                self.journal.close()
                self._emit(Stopped())
            raise
        except BaseException as error:
            cause = _first_cause(error)
            if isinstance(cause, (SourceChanged, IntegrityError)):
                # Nothing of it can be used again, and sessions cost money.
                await self._abort()
                self.journal.discard()
            else:
                self.journal.close()
            self._emit(Failed(cause))
            raise cause from cause.__cause__
        self.finished(result)
        self.journal.discard()
        self._emit(Completed(result))
        return result

    @property
    def checksum(self) -> str:
        """The CRC-64/XZ of the whole file, decimal; "" until every part is done."""
        session = self.session
        if session is None or len(self._sums) < plan.count(session.file.size, session.part_size):
            return ""
        whole = 0
        for part in plan.parts(session):
            whole = digests.combine_crc64(whole, self._sums[part.number], part.size)
        return str(whole)

    # the course of things

    async def _preflight(self) -> None:
        """Look at the content, if its kind has rules; warnings are shown, not obeyed."""
        if self.options.check and self.provider.kind:
            from . import preflight

            name = self.source.info.name
            report = await preflight.check(self.source, self.provider.kind, name=name)
            for warning in report.warnings:
                self._emit(Warned(warning))

    async def _persist(self) -> Result:
        """Run once, and once more after each kind of trouble a new session can mend."""
        mended: set[type[Exception]] = set()
        while True:
            try:
                return await self._once()
            except BaseException as error:
                cause = _first_cause(error)
                match cause:
                    case SessionLost() if SessionLost not in mended:
                        mended.add(SessionLost)
                    case IntegrityError(final=False) if IntegrityError not in mended:
                        mended.add(IntegrityError)
                        await self._abort()
                    case _:
                        raise
                await self._begin_anew(str(cause))

    async def _once(self) -> Result:
        rules = self.provider.rules
        names = rules.part_digests if self.options.verify else ()
        wanted = rules.digest if self.options.verify else None
        session, reused = await self._open()
        self.session = session
        self._emit(Started(session, tuple(reused)))
        receipts = {receipt.number: receipt for receipt in reused}
        feed = (
            OrderedFeed(self.source, names, wanted)
            if self.source.in_order and session.part_size <= HELD
            else Feed(self.source, names)
        )
        digest: asyncio.Task[str | None] | None = None
        if wanted is not None and not isinstance(feed, OrderedFeed):
            digest = asyncio.create_task(digest_of(self.source, wanted))
        try:
            await self._send_parts(session, receipts, feed)
            self.source.verify()
            self._emit(Completing())
            whole: str | None = None
            if isinstance(feed, OrderedFeed) and wanted is not None:
                whole = await feed.finish(session.file.size)
            elif digest is not None:
                whole = await digest
                self.source.verify()
        finally:
            if digest is not None and not digest.done():
                digest.cancel()
                with suppress(asyncio.CancelledError):
                    await digest
        ordered = [receipts[number] for number in sorted(receipts)]
        result = await self._until(
            lambda provider: provider.complete(session, ordered, whole), None
        )
        assert isinstance(result, Result)
        if self.options.wait_ready:
            result = await self._wait_ready(result)
        return result

    async def _wait_ready(self, result: Result) -> Result:
        try:
            ready = await self._until(
                lambda provider: provider.ready(result), self.options.ready_within
            )
        except Refused:
            self.journal.discard()  # the provider has the bytes and cannot use them
            raise
        return ready if isinstance(ready, Result) else result

    async def _until(
        self, verb: Callable[[Provider], Flow[Result | NotYet]], within: float | None
    ) -> Result | NotYet:
        """Run a verb until it is a result; after ``within`` seconds take what there is."""
        waited = 0.0
        while True:
            answer = await self._run(verb)
            if isinstance(answer, Result):
                return answer
            self._emit(Processing(answer.message))
            if within is not None and waited >= within:
                return answer
            await self.sleep(answer.retry_after)
            waited += answer.retry_after

    # opening a session, or finding the old one

    async def _open(self) -> tuple[Session, Sequence[PartReceipt]]:
        past = self.journal.replay()
        self._warn_of_journal()
        if past.session is not None:
            self.session = past.session
            if self._fresh:
                self._fresh = False
                await self._abort()
                await self._begin_anew("a fresh start was asked for")
            elif reason := self._unusable(past.session):
                await self._begin_anew(reason)
            else:
                try:
                    return past.session, await self._reusable(past.session, past)
                except SessionLost as error:
                    await self._begin_anew(str(error))
        file = self.source.info
        preferred = self.options.part_size or self._preferred()
        part_size = plan.choose_part_size(file.size, preferred, self.provider.rules)
        await self.journal.write(Creating())
        session = await self._run(lambda provider: provider.create(file, part_size))
        await self.journal.write(Started(session))
        return session, ()

    def _preferred(self) -> int:
        """Return the part size to wish for, in bytes."""
        if self.source.in_order:
            return HELD // 8
        return plan.PREFERRED_PART

    def _unusable(self, session: Session) -> str:
        """Return why an old session cannot be resumed, "" when it can."""
        file = self.source.info
        if session.file.size != file.size:
            return (
                f"{file.name} changed since (it had {session.file.size:,} bytes, now "
                f"{file.size:,}); starting again"
            )
        asked = self.options.part_size
        if asked is not None and asked != session.part_size:
            return f"another part size was asked for ({asked:,} bytes); starting again"
        if session.expires_at is not None and session.expires_at - self.now() < MARGIN:
            return "the earlier session expired; starting again"
        return ""

    async def _reusable(self, session: Session, past: Past) -> Sequence[PartReceipt]:
        """Return receipts of parts the server has and this file still holds, proved by CRC."""
        whole = len(past.parts) == plan.count(session.file.size, session.part_size)
        try:
            held = await self._run(lambda provider: provider.held(session))
        except SessionLost:
            if not whole:
                raise
            held = None  # it may be gone because it was completed: that verb can tell
        known = {number: done.receipt for number, done in past.parts.items()}
        sums = {number: f"crc64:{done.crc64}" for number, done in past.parts.items()}
        if isinstance(held, int):
            known = {n: r for n, r in known.items() if self._end(session, n) <= held}
        elif held is not None:
            listed = {receipt.number: receipt for receipt in held}
            if not self.provider.rules.report_every:
                # The list is all the server has; of reported parts it has only those.
                known = {n: r for n, r in known.items() if n in listed}
            for n, r in listed.items():
                if n not in known or (r.token and r.token != known[n].token):
                    known[n], sums[n] = r, r.checksum
        proved = []
        for number in sorted(known):
            receipt = known[number]
            if plan.fits(receipt, session) and await self._proved(session, number, sums[number]):
                proved.append(receipt)
        if isinstance(held, int) and len(proved) < len(known):
            raise SessionLost("the file changed since; starting again")
        return proved

    async def _proved(self, session: Session, number: int, checksum: str) -> bool:
        """Say whether the file's bytes of this part still have that checksum."""
        part = plan.part_at(number, session.file.size, session.part_size)
        name, _, value = checksum.partition(":")
        if name != "crc64":
            return False
        self._sums[number] = await crc64_of(self.source, part.start, part.size)
        return str(self._sums[number]) == value

    @staticmethod
    def _end(session: Session, number: int) -> int:
        part = plan.part_at(number, session.file.size, session.part_size)
        return part.start + part.size

    async def _begin_anew(self, reason: str) -> None:
        self.session = None
        self._flight.clear()
        self._sums.clear()
        self.journal.reset()
        self._emit(Restarted(reason))

    # parts

    async def _send_parts(
        self, session: Session, receipts: dict[int, PartReceipt], feed: Feed
    ) -> None:
        rules = self.provider.rules
        todo = (part for part in plan.parts(session) if part.number not in receipts)
        workers = 1 if rules.in_order else self.pace.most
        if isinstance(feed, OrderedFeed):
            workers = min(workers, HELD // session.part_size)
        reports = _Reports(self, session) if rules.report_every else None
        turn = asyncio.Lock()
        ticker = asyncio.create_task(self._tick())
        try:
            async with asyncio.TaskGroup() as group:
                total = plan.count(session.file.size, session.part_size) - len(receipts)
                for _ in range(min(workers, total)):
                    group.create_task(self._work(session, todo, receipts, feed, turn, reports))
            if reports is not None:
                await reports.close()
        finally:
            ticker.cancel()
            with suppress(asyncio.CancelledError):
                await ticker
            if reports is not None:
                reports.drop()
            self._flight.clear()

    async def _work(
        self,
        session: Session,
        todo: Iterator[Part],
        receipts: dict[int, PartReceipt],
        feed: Feed,
        turn: asyncio.Lock,
        reports: _Reports | None,
    ) -> None:
        while True:
            await self.pace.enter()
            try:
                async with turn:  # ordered sources are pulled in the order parts are taken
                    await self._gate.wait()
                    part = next(todo, None)
                    if part is None:
                        return
                    self._flight[part.number] = 0
                    body = await feed.body(part)
                done = await self._send(session, part, body)
                feed.forget(part)
                await self.journal.write(done)
                self._flight.pop(part.number, None)
                receipts[part.number] = done.receipt
                self._sums[part.number] = done.crc64
                self._emit(done)
                if reports is not None:
                    reports.add(done.receipt)
            finally:
                self.pace.leave()

    async def _send(self, session: Session, part: Part, body: Body) -> PartDone:
        """Send one part; once more when the server got other bytes."""
        for last in (False, True):
            self.source.verify()
            try:
                receipt = await self._run(
                    lambda provider: provider.put_part(session, part, body), part.number
                )
            except IntegrityError as error:
                if last or error.final:
                    error.final = True
                    raise
                self._emit(PartRetried(part.number, 1, 0.0, str(error)))
                continue
            crc = body.digest("crc64")
            assert crc is not None
            return PartDone(receipt, int(crc))
        raise AssertionError("unreachable")

    async def _run(self, verb: Callable[[Provider], Flow[T]], number: int = 0) -> T:
        """Run a verb; once more with fresh credentials when the old ones expired."""
        try:
            return await self.transport.run(verb(self.provider), number)
        except AuthError as error:
            if not error.expired or self.refresh is None:
                raise
            fresh = await self.refresh()
            if fresh is None:
                raise
            self.provider = fresh
            return await self.transport.run(verb(self.provider), number)

    async def _abort(self) -> None:
        """Make the server forget the session, as far as it can be reached."""
        session = self.session
        if session is None:
            return
        patient = Transport(
            self.client,
            self.provider.rules,
            policy=Policy(attempts=3),
            sleep=self.sleep,
            rng=self.rng,
        )
        # Twice: a part that was in flight may have landed after the first.
        with suppress(ProviderError, TimeoutError, Exception):
            async with asyncio.timeout(15):
                for _ in range(2):
                    await patient.run(self.provider.abort(session))
        self.session = None

    # telling

    def _count(self, number: int, size: int) -> None:
        if number in self._flight:
            self._moved += max(0, size - self._flight[number])
            self._flight[number] = size

    def _warn_of_journal(self) -> None:
        if self.journal.problem and self.journal.problem not in self.progress.warnings:
            self._emit(Warned(self.journal.problem))

    async def _tick(self) -> None:
        """Ten times a second, tell how far the parts in flight are."""
        told: dict[int, int] = {}
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK)
            self.pace.observe(loop.time(), self._moved)
            if self._flight != told:
                told = dict(self._flight)
                self._emit(PartSent(told))
                self.journal.beat(f"{self.progress.percent} %")
                self._warn_of_journal()

    def _emit(self, event: Event) -> None:
        if self.progress.state.ended:
            return
        self.progress = self.progress.after(event)
        for listener in list(self.listeners):
            try:
                listener(event, self.progress)
            except Exception:
                # A broken view must not stop an upload.
                log.exception("a progress listener failed and was dropped")
                with suppress(ValueError):
                    self.listeners.remove(listener)


class _Reports:
    """Acknowledges finished parts in batches as they land, one batch at a time."""

    def __init__(self, upload: Upload, session: Session) -> None:
        self._upload = upload
        self._session = session
        self._pending: list[PartReceipt] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, receipt: PartReceipt) -> None:
        """Note a finished part; a full batch goes out at once."""
        self._pending.append(receipt)
        every = self._upload.provider.rules.report_every
        if len(self._pending) >= every and (self._task is None or self._task.done()):
            if self._task is not None:
                self._task.result()
            self._task = asyncio.create_task(self._flush())

    async def close(self) -> None:
        """Send what is left."""
        if self._task is not None:
            await self._task
        await self._flush()

    def drop(self) -> None:
        """Send nothing more: completion, or the next run, reports again."""
        if self._task is not None and not self._task.done():
            self._task.cancel()

    async def _flush(self) -> None:
        every = self._upload.provider.rules.report_every
        while self._pending:
            batch, self._pending = self._pending[:every], self._pending[every:]
            await self._upload._run(self._verb(batch))
            await self._upload.journal.write(Acknowledged(tuple(r.number for r in batch)))

    def _verb(self, batch: Sequence[PartReceipt]) -> Callable[[Provider], Flow[None]]:
        return lambda provider: provider.acknowledge(self._session, batch)


def _first_cause(error: BaseException) -> BaseException:
    """Return the first real cause inside a group, so that users meet it, not the group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
