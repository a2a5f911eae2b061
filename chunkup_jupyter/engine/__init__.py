"""One upload, from start to end. Knows no protocol, shows nothing, and is async only."""

from __future__ import annotations

import asyncio
import itertools
import random
import shlex
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from .. import digests, plan
from ..answers import clean
from ..errors import (
    AuthError,
    IntegrityError,
    OutcomeUnknown,
    ProtocolError,
    ProviderError,
    Refused,
    SessionLost,
    SourceChanged,
)
from ..events import (
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
from ..journal import Acknowledged, Creating, Journal, Record
from ..model import Body, Flow, Held, NotYet, Part, PartReceipt, Provider, Result, Session
from ..sources import Source, confirm, digest_of
from ..transport import Policy, Transport
from ..units import seconds as seconds_text
from ..units import size as size_text
from ..wire import Client, bandwidth
from .feed import HELD, Feed, OrderedFeed
from .pace import Pace
from .reports import Reports
from .resume import Unproved, reusable, unusable
from .telling import Hourglass, Telling, log

T = TypeVar("T")

TICK = 0.1  # seconds between two readings of the bytes in flight
BEAT = 1.0  # seconds between two signs of life: one that is paused for hours lives, too
SENSELESS = 3  # how often a verb is run whose answers make no sense
CONFIRMING = 3600.0  # seconds a provider may take to confirm what it was given
_DICE = random.Random()  # one for all: each weighs 2.5 kB, and a batch has thousands


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


@dataclass(eq=False)
class Upload:
    """One upload. Lives on one event loop; ``run`` is called once.

    ``known`` may return a result that makes the upload needless. ``refresh`` returns the
    provider with fresh credentials, or None when there are no
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
    known: Callable[[Upload], Awaitable[Result | None]] | None = None
    warnings: Sequence[str] = ()
    """What is known to be doubtful before it begins; told first."""
    terms: Mapping[str, Any] = field(default_factory=dict)
    """What is settled when a session opens: a session with other terms is not resumed."""
    undo: str = ""
    """The line that cancels it once it has ended, "" when there is none."""
    policy: Policy = field(default_factory=Policy)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], float] = time.time
    rng: random.Random = _DICE

    def __post_init__(self) -> None:
        self._telling = Telling(self.source.info.size, self.listeners)
        self.session: Session | None = None
        self.ready = not self.provider.waits_ready
        """Whether the provider can use the file; some take minutes after the last byte."""
        self.left = ""
        """What the provider could not be told to forget, in words; "" when it was told."""
        self.pace = Pace(self.options.jobs)
        self._flight: dict[int, int] = {}
        self._sums: dict[int, int] = {}
        self._torn: frozenset[int] = frozenset()
        self._moved = 0
        self._hourglass = Hourglass()
        self._cancelling = False
        self._fresh = self.options.fresh
        self._looked = False
        self._renewing = asyncio.Lock()
        self._gate = asyncio.Event()
        self._gate.set()
        self.transport = Transport(
            self.client,
            self.provider.rules,
            policy=self.policy,
            count=self._count,
            retried=self._retried,
            waiting=lambda reason: self.tell(Waiting(reason)),
            trouble=self.pace.trouble,
            sleep=self.sleep,
            now=self.now,
            rng=self.rng,
        )
        hear = getattr(self.source, "on_waiting", None)
        if hear is not None:  # a file in a browser, whose page may be closed
            hear(lambda reason: self.tell(Waiting(reason)))

    # what may be asked of a running upload

    def pause(self) -> None:
        """Open no session and take no new part; those in flight finish."""
        if self.progress.state in (State.PREPARING, State.UPLOADING):
            self._gate.clear()
            self.tell(Paused())

    def resume(self) -> None:
        """Take parts again."""
        if self.progress.state is State.PAUSED:
            self.tell(Resumed())
            self._gate.set()

    def cancel(self) -> None:
        """Make the cancellation of ``run``'s task abort the session instead of keeping it."""
        self._cancelling = True

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._telling.progress

    def tell(self, event: Event) -> None:
        """Let the listeners know of something."""
        self._telling.tell(event)

    async def ask(self, verb: Callable[[Provider], Flow[T]]) -> T:
        """Run one verb, as stubbornly as everything else."""
        return await self._run(verb)

    async def run(self) -> Result:
        """Upload. Returns what the provider confirmed.

        Cancelling the task stops the upload and keeps what is needed to resume it.
        Raises the first real cause of a failure.
        """
        bandwidth.sender.set(self)  # what its tasks send counts as one
        self._beat()
        try:
            return await self._to_its_end()
        finally:
            self._next_beat.cancel()

    async def _to_its_end(self) -> Result:
        try:
            await self._preflight()
            there = None if self.known is None else await self.known(self)
            await self._gate.wait()
            result = there or await self._persist()
        except asyncio.CancelledError:
            if self._cancelling:
                await self._give_up()
                self.tell(Cancelled())
            else:
                self.journal.close()
                self.tell(Stopped())
            raise
        except BaseException as error:
            failure = _first_cause(error)
        else:
            try:
                if there is None:
                    self.finished(result)
            except Exception:
                log.exception("a finished upload could not be noted")
            self.journal.discard()
            self.tell(Completed(result))
            return result
        # Outside the handler: the group it came in would stay with it, and IPython shows
        # a whole traceback of whatever a group is with.
        if isinstance(failure, (SourceChanged, IntegrityError)):
            await self._give_up()  # nothing of it can be used again, and sessions cost money
        elif self.journal.replay().session is None and (
            _said_no(failure) or not self.transport.reached
        ):
            self.journal.discard()  # no session came about: there is nothing to go on with
        else:
            self.journal.close()
        self.tell(Failed(failure))
        raise failure from failure.__cause__

    async def listened(self, within: float) -> None:
        """Wait for the listeners that are still at it, ``within`` seconds at most."""
        await self._telling.heard(within)

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
        for warning in self.warnings:
            self.tell(Warned(warning))
        if self.options.check and self.provider.kind:
            from .. import preflight

            name = self.source.info.name
            report = await preflight.check(self.source, self.provider.kind, name=name)
            for warning in report.warnings:
                self.tell(Warned(warning))

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
                    case IntegrityError(final=False, parts=torn) if torn and not self._torn:
                        self._torn = torn  # and the rest of the session is sound
                        self._flight.clear()
                        self.tell(Restarted(str(cause)))
                        continue
                    case IntegrityError(final=False) if IntegrityError not in mended:
                        mended.add(IntegrityError)
                        await self._abort()
                    case _:
                        raise
                await self._begin_anew(str(cause))

    async def _once(self) -> Result:
        rules = self.provider.rules
        names = rules.part_digests if self.options.verify else ()
        wanted = rules.digest if self.options.verify or self.provider.states_digest else None
        session, reused = await self._open()
        self.session = session
        self._sums = {done.receipt.number: done.crc64 for done in reused}
        receipts = {done.receipt.number: done.receipt for done in reused}
        self.tell(Started(session, tuple(receipts.values())))
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
            await self._gate.wait()
            await confirm(self.source)
            await self._gate.wait()
            self.tell(Completing())
            whole: str | None = None
            if isinstance(feed, OrderedFeed):
                whole = await feed.finish(session.file.size)
            elif digest is not None:
                whole = await digest
                self.source.verify()
        finally:
            if digest is not None:
                digest.cancel()
                await asyncio.gather(digest, return_exceptions=True)
        ordered = [receipts[number] for number in sorted(receipts)]
        result = await self._until(
            lambda provider: provider.complete(session, ordered, whole), CONFIRMING
        )
        if not isinstance(result, Result):
            raise OutcomeUnknown(
                f"{self.provider.title} has every part and did not confirm the file within "
                f"{seconds_text(CONFIRMING)}; run the same line again to ask it"
            )
        return await self._wait_ready(result) if self.options.wait_ready else result

    async def _wait_ready(self, result: Result) -> Result:
        try:
            ready = await self._until(
                lambda provider: provider.ready(result), self.options.ready_within
            )
        except Refused:
            self.journal.discard()  # the provider has the bytes and cannot use them
            raise
        self.ready = isinstance(ready, Result)
        return ready if isinstance(ready, Result) else result

    async def _until(
        self, verb: Callable[[Provider], Flow[Result | NotYet]], within: float
    ) -> Result | NotYet:
        """Run a verb until it is a result; after ``within`` seconds take what there is."""
        waited = 0.0
        while True:
            answer = await self._run(verb)
            if isinstance(answer, Result):
                return answer
            self.tell(Processing(answer.message))
            if waited >= within:
                return answer
            await self.sleep(answer.retry_after)
            waited += answer.retry_after

    # opening a session, or finding the old one

    async def _open(self) -> tuple[Session, Sequence[PartDone]]:
        past = self.journal.replay()
        self._warn_of_journal()
        if (old := past.session) is not None:
            file, rules = self.source.info, self.provider.rules
            asked = self.options.part_size
            if asked is not None:  # as the rules would have it
                asked = plan.choose_part_size(file.size, asked, rules)
            reason = unusable(past, file, asked, self.now(), self.terms)
            if self._fresh:
                self._fresh = False
                reason = "a fresh start was asked for"
            if reason:
                await self._abort()
            else:
                self.session = old

                async def ask() -> Held:
                    return await self._run(lambda provider: provider.held(old))

                try:
                    sound = await reusable(old, past, self.source, rules, ask)
                    return old, [one for one in sound if one.receipt.number not in self._torn]
                except SessionLost as error:
                    reason = str(error)
                except Unproved as error:
                    reason = str(error)
                    await self._abort()
            await self._begin_anew(reason)
        file = self.source.info
        preferred = self.options.part_size or self._preferred()
        part_size = plan.choose_part_size(file.size, preferred, self.provider.rules)
        if self.options.check and not self._looked:
            self._looked = True
            await self._warn_of_object()
        await self._gate.wait()
        await self._note(Creating())
        session = await self._run(lambda provider: provider.create(file, part_size))
        session = replace(session, terms=self.terms)
        await self._note(Started(session))
        return session, ()

    async def _warn_of_object(self) -> None:
        """Say so when something stands already where the file goes, as far as can be asked."""
        file = self.source.info
        try:
            found = await self._run(lambda provider: provider.existing(file))
        except ProviderError:
            return  # opening the session will tell what is wrong
        if found is not None:
            self.tell(
                Warned(f"{found.id} exists already ({size_text(found.size)}) and is replaced")
            )

    def _preferred(self) -> int:
        """Return the part size to wish for, in bytes."""
        return HELD // 8 if self.source.in_order else plan.PREFERRED_PART

    async def _begin_anew(self, reason: str) -> None:
        self.session = None
        self._torn = frozenset()
        self._flight.clear()
        self._sums.clear()
        self.journal.reset()
        self.tell(Restarted(reason))

    # parts

    async def _send_parts(
        self, session: Session, receipts: dict[int, PartReceipt], feed: Feed
    ) -> None:
        rules = self.provider.rules
        todo = (part for part in plan.parts(session) if part.number not in receipts)
        workers = min(
            1 if rules.in_order else self.pace.most,
            plan.count(session.file.size, session.part_size) - len(receipts),
        )
        if self.source.in_order:
            bound = isinstance(feed, OrderedFeed)
            workers = min(workers, HELD // session.part_size if bound else 1)
        reports = Reports(self._acknowledge, rules.report_every) if rules.report_every else None
        turn = asyncio.Lock()
        try:
            async with asyncio.TaskGroup() as both:
                ticker = both.create_task(self._tick())
                async with asyncio.TaskGroup() as group:
                    for _ in range(workers):
                        group.create_task(self._work(session, todo, receipts, feed, turn, reports))
                if reports is not None:
                    await reports.finish()
                ticker.cancel()
        finally:
            if reports is not None:
                await reports.drop()
            self._flight.clear()

    async def _work(
        self,
        session: Session,
        todo: Iterator[Part],
        receipts: dict[int, PartReceipt],
        feed: Feed,
        turn: asyncio.Lock,
        reports: Reports | None,
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
                await self._note(done)
                self._flight.pop(part.number, None)
                receipts[part.number] = done.receipt
                self._sums[part.number] = done.crc64
                self.tell(done)
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
                self._retried(part.number, 1, 0.0, str(error))
                continue
            if not body.whole:  # an earlier run had sent it, or its end was known first
                async for _ in body:
                    pass
            crc = body.digest("crc64")
            assert crc is not None
            return PartDone(receipt, int(crc))
        raise AssertionError("unreachable")

    async def _acknowledge(self, receipts: Sequence[PartReceipt]) -> None:
        session = self.session
        assert session is not None
        await self._run(lambda provider: provider.acknowledge(session, receipts))
        await self._note(Acknowledged(tuple(receipt.number for receipt in receipts)))

    async def _run(self, verb: Callable[[Provider], Flow[T]], number: int = 0) -> T:
        """Run a verb; again after a senseless answer, and once with fresh credentials."""
        senseless, renewed = 0, False
        while True:
            provider = self.provider
            try:
                return await self.transport.run(verb(provider), number)
            except AuthError as error:
                if not error.expired or renewed or not await self._renewed(provider):
                    raise
                renewed = True
            except ProtocolError as error:
                senseless += 1
                if senseless == SENSELESS:
                    raise
                wait = self.policy.wait(senseless, self.rng)
                self._retried(number, senseless, wait, str(error))
                await self.sleep(wait)

    async def _renewed(self, used: Provider) -> bool:
        """Put a provider with fresher credentials in the place of ``used``, if there is one."""
        async with self._renewing:
            if self.provider is not used:
                return True  # another part met the same, and was first
            fresh = None if self.refresh is None else await self.refresh()
            if fresh is None or fresh == used:
                return False
            self.provider = fresh
            return True

    async def _give_up(self) -> None:
        """Have it forgotten there and here; here only once it is forgotten there."""
        if await _undisturbed(self._abort(self.undo)):
            self.journal.discard()
        else:
            self.journal.close()

    async def _abort(self, undo: str = "") -> bool:
        """Make the server forget the session; say whether it could be told, and warn if not.

        ``undo`` is the line that tries it again, if the journal is kept for it.
        """
        session = self.session or self.journal.replay().session
        if session is None:
            return True
        patient = Transport(
            self.client,
            self.provider.rules,
            policy=replace(self.policy, attempts=3),
            sleep=self.sleep,
            rng=self.rng,
        )
        # Twice: a part that was in flight may have landed after the first.
        try:
            async with asyncio.timeout(15):
                for _ in range(2):
                    await patient.run(self.provider.abort(session))
        except Exception:
            self._warn_of_left(session, undo if self.journal.kept else "")
            return False
        finally:
            self.session = None
        return True

    # telling

    def _beat(self) -> None:
        """Let other processes know that this one lives, now and from now on."""
        self.journal.beat(f"{self.progress.percent} %")
        self._next_beat = asyncio.get_running_loop().call_later(BEAT, self._beat)

    def _count(self, number: int, size: int) -> None:
        if number in self._flight:
            self._moved += max(0, size - self._flight[number])
            self._flight[number] = size

    def _retried(self, number: int, attempt: int, wait: float, reason: str) -> None:
        if number in self._flight:
            self._flight[number] = 0  # what was sent of it counts no more
        self.tell(PartRetried(number, attempt, wait, reason))

    def _watch_time(self, now: float) -> None:
        session = self.session
        expires = None if session is None else session.expires_at
        remains = None if expires is None else expires - self.now()
        left = self.progress.total - self.progress.sent
        if warning := self._hourglass.warning(now, self._moved, left, remains):
            self.tell(Warned(warning))

    def _warn_of_left(self, session: Session, undo: str) -> None:
        self.left = (
            f"{self.provider.title} could not be told to forget upload "
            f"{clean(session.upload_id, 60)}"
        )
        if undo:
            self.left += f"; once it can be reached, run {undo}"
        elif session.expires_at is not None:
            self.left += f"; it lapses in {seconds_text(max(0, session.expires_at - self.now()))}"
        else:
            url = shlex.quote(self.provider.url)
            self.left += f"; once it can be reached, %chunkup orphans {url} lists it"
        self.tell(Warned(self.left))

    async def _note(self, record: Record) -> None:
        await self.journal.write(record)
        self._warn_of_journal()

    def _warn_of_journal(self) -> None:
        if self.journal.problem and self.journal.problem not in self.progress.warnings:
            self.tell(Warned(self.journal.problem))

    async def _tick(self) -> None:
        """Ten times a second, tell how far the parts in flight are, and look at the source."""
        told: dict[int, int] = {}
        loop = asyncio.get_running_loop()
        for tick in itertools.count(1):
            await asyncio.sleep(TICK)
            self.pace.observe(loop.time(), self._moved)
            self._watch_time(loop.time())
            if tick % 5 == 0:  # a part may be on its way for minutes
                self.source.verify()
            if self._flight != told:
                told = dict(self._flight)
                self.tell(PartSent(told))


async def _undisturbed(work: Coroutine[Any, Any, T]) -> T:
    """Finish ``work`` however often the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    return task.result()


def _said_no(error: BaseException) -> bool:
    """Say whether the server refused, so that nothing happened behind our back."""
    return isinstance(error, ProviderError) and 400 <= (error.status or 0) < 500


def _first_cause(error: BaseException) -> BaseException:
    """Return the first real cause inside a group, so that users meet it, not the group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
