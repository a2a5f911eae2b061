"""The exam every provider sits.

Subclass ``ProviderConformance`` in a test file, name a sandbox and a provider, and
pytest runs it::

    class TestMine(ProviderConformance):
        def sandbox(self, now):
            made = MineSandbox(now=now)
            made.shrink(max_part=16)       # so that a hundred bytes cross every boundary
            return made

        def provider(self, sandbox, now):
            return Mine.from_url("mine:thing", base_url=sandbox.base_url, key=Secret("…"), now=now)

It asks one question in many ways: did the bytes arrive, all of them, once?
It needs pytest; the examples that involve chance are seeded and say their seed.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

from . import plan
from .answers import clean
from .engine import Options, Upload
from .errors import ChunkupError, SessionLost
from .events import Completed, Event, PartDone, Progress, Restarted, State
from .journal import Journal, Key, MemoryLines
from .model import Body, FileInfo, Provider, Result, Session, drive
from .sandbox import Sandbox
from .sandbox.faults import COMMON, Fault, Faulty
from .sources import open_source
from .wire import MemoryClient, Patience, Request, Response
from .wire.client import HttpClient


class Crash(BaseException):
    """The process dies here: nothing after it runs, nothing is tidied up."""


@dataclass
class Clock:
    """A clock that moves only when somebody sleeps. Seconds."""

    time: float = 1_800_000_000.0

    def now(self) -> float:
        """Return the time."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Let time pass, and others run."""
        self.time += seconds
        await asyncio.sleep(0)


@dataclass
class Dying:
    """A client whose process dies at its ``life``-th request, before or after it is sent."""

    inner: MemoryClient
    life: int
    after: bool = False

    async def send(
        self, request: Request, count: Any = None, patience: Patience = Patience()
    ) -> Response:
        """Send the request, unless this is where the process dies."""
        self.life -= 1
        if self.life == 0:
            if self.after:
                with suppress(Exception):
                    await self.inner.send(request, count, patience)
            raise Crash
        return await self.inner.send(request, count, patience)

    async def close(self) -> None:
        """Do nothing."""


@dataclass
class Diary:
    """What listeners were told in one run."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event, progress: Progress) -> None:
        """Note an event, and check what holds after every one."""
        assert 0 <= progress.sent <= progress.total
        assert progress.percent < 100 or progress.state is State.COMPLETED
        self.events.append(event)

    def done(self) -> list[int]:
        """Return the numbers of the parts finished since it last began anew."""
        numbers: list[int] = []
        for event in self.events:
            if isinstance(event, Restarted):
                numbers.clear()
            elif isinstance(event, PartDone):
                numbers.append(event.receipt.number)
        return numbers

    def restarted(self) -> bool:
        """Say whether the upload began anew."""
        return any(isinstance(event, Restarted) for event in self.events)


class ProviderConformance:
    """The exam. Subclasses name a sandbox and a provider."""

    uploads: ClassVar[int] = 700
    """How many random uploads the first question makes."""
    sizes: ClassVar[tuple[int, int]] = (1, 300)
    """The least and the most bytes of a random file."""
    part_sizes: ClassVar[tuple[int, ...]] = (7, 16, 50, 300)
    """What a random upload wishes for, in bytes; a server that decides overrules it."""
    rates: ClassVar[tuple[float, ...]] = (0.0, 0.1, 0.3)
    """How probable a fault is at each request, one of these for each upload."""
    faults: ClassVar[tuple[Fault, ...]] = COMMON
    """What may happen to a request."""
    file_name: ClassVar[str] = "file.bin"

    def sandbox(self, now: Callable[[], float]) -> Sandbox:
        """Return a sandbox with small limits, in memory."""
        raise NotImplementedError

    def provider(self, sandbox: Sandbox, now: Callable[[], float]) -> Provider:
        """Return the provider that sends to it."""
        raise NotImplementedError

    def result_id(self, result: Result) -> str:
        """Return the key of the result in ``sandbox.finished()``."""
        return result.id

    # 1. any upload arrives whole

    def test_any_upload_arrives_whole(self) -> None:
        """Random sizes, part sizes, faults and crashes; nothing done is done twice."""
        for seed in range(self.uploads):
            rng = random.Random(seed)
            try:
                asyncio.run(self._arrives(rng))
            except BaseException as error:
                error.add_note(f"seed {seed} of {type(self).__name__}")
                raise

    async def _arrives(self, rng: random.Random) -> None:
        clock = Clock()
        sandbox = self.sandbox(clock.now)
        faulty = Faulty(
            sandbox,
            rate=rng.choice(self.rates),
            faults=self.faults,
            random=rng,
            sleep=lambda seconds: None,
        )
        data = rng.randbytes(rng.randint(*self.sizes))
        part_size = rng.choice(self.part_sizes)
        lines = MemoryLines()
        done: set[int] = set()
        for _ in range(6):
            client: Any = MemoryClient(faulty.handle)
            if rng.random() < 0.5:
                client = Dying(client, rng.randint(1, 12), rng.random() < 0.5)
            diary = Diary()
            upload = self._upload(sandbox, clock, client, data, lines, part_size, rng, diary)
            try:
                result = await upload.run()
            except Crash:
                pass
            else:
                self._check(sandbox, result, data, diary)
                again = done.intersection(diary.done())
                assert diary.restarted() or not again, f"parts {sorted(again)} were sent twice"
                return
            if diary.restarted():
                done.clear()
            done.update(diary.done())
        # Crashed every time: the last run is left in peace.
        diary = Diary()
        client = MemoryClient(faulty.handle)
        upload = self._upload(sandbox, clock, client, data, lines, part_size, rng, diary)
        self._check(sandbox, await upload.run(), data, diary)

    def _check(self, sandbox: Sandbox, result: Result, data: bytes, diary: Diary) -> None:
        made = sandbox.finished()[self.result_id(result)]
        assert made.sha256() == hashlib.sha256(data).hexdigest(), "other bytes arrived"
        assert isinstance(diary.events[-1], Completed)
        assert result.size == len(data)

    def _upload(
        self,
        sandbox: Sandbox,
        clock: Clock,
        client: Any,
        data: bytes,
        lines: MemoryLines,
        part_size: int,
        rng: random.Random,
        diary: Diary,
    ) -> Upload:
        provider = self.provider(sandbox, clock.now)
        source = open_source(data, name=self.file_name)
        provider = provider.for_file(source.info)
        wish = None if provider.rules.server_decides else part_size
        # One key for all: a fresh sandbox has fresh keys, and must be asked all the same.
        journal = Journal(lines, Key("exam", "", source.identity))
        return Upload(
            source,
            provider,
            client,
            journal,
            Options(jobs=rng.choice((1, 3, 5)), part_size=wish, check=False),
            [diary],
            sleep=clock.sleep,
            now=clock.now,
            rng=rng,
        )

    # 2. every verb may be repeated

    def test_every_verb_may_be_repeated(self) -> None:
        """Twice create, twice each part, twice complete, twice abort."""
        clock = Clock()
        sandbox = self.sandbox(clock.now)
        provider, session, data = self._session(sandbox, clock)
        receipts = []
        for part in plan.parts(session):
            piece = data[part.start : part.start + part.size]
            drive(provider.put_part(session, part, Body.of(piece)), sandbox.handle)
            receipts.append(drive(provider.put_part(session, part, Body.of(piece)), sandbox.handle))
        for _ in range(2):
            for start in range(0, len(receipts), max(1, provider.rules.report_every)):
                batch = receipts[start : start + max(1, provider.rules.report_every)]
                drive(provider.acknowledge(session, batch), sandbox.handle)
        digest = hashlib.md5(data).hexdigest() if provider.rules.digest == "md5" else None
        results = []
        for _ in range(2):
            while True:
                answer = drive(provider.complete(session, receipts, digest), sandbox.handle)
                if isinstance(answer, Result):
                    break
                clock.time += answer.retry_after
            results.append(answer)

        assert results[0].id == results[1].id
        assert sandbox.finished()[self.result_id(results[0])].read() == data

    def test_abort_may_be_repeated(self) -> None:
        """A session that is aborted twice is gone, and nothing was made of it."""
        clock = Clock()
        sandbox = self.sandbox(clock.now)
        provider, session, data = self._session(sandbox, clock)
        part = plan.part_at(1, session.file.size, session.part_size)
        drive(provider.put_part(session, part, Body.of(data[: part.size])), sandbox.handle)

        drive(provider.abort(session), sandbox.handle)
        drive(provider.abort(session), sandbox.handle)

        assert not sandbox.finished()

    def test_what_is_held_can_be_told(self) -> None:
        """After one part the server holds that part, or cannot say."""
        clock = Clock()
        sandbox = self.sandbox(clock.now)
        provider, session, data = self._session(sandbox, clock)
        part = plan.part_at(1, session.file.size, session.part_size)
        receipt = drive(
            provider.put_part(session, part, Body.of(data[: part.size])), sandbox.handle
        )
        drive(provider.acknowledge(session, [receipt]), sandbox.handle)

        held = drive(provider.held(session), sandbox.handle)

        if isinstance(held, int):
            assert held == part.size
        elif held is not None:
            assert [(had.number, had.size) for had in held] == [(1, part.size)]

    def test_a_session_survives_its_json(self) -> None:
        """What the journal keeps is the session, whole."""
        clock = Clock()
        sandbox = self.sandbox(clock.now)
        _, session, _ = self._session(sandbox, clock)

        assert Session.from_json(session.to_json()) == session

    def test_a_session_the_server_forgot_begins_anew(self) -> None:
        """Between two runs the session is gone; the second run still delivers."""
        asyncio.run(self._forgotten())

    async def _forgotten(self) -> None:
        clock, rng = Clock(), random.Random(1)
        sandbox = self.sandbox(clock.now)
        data = rng.randbytes(self.sizes[1])
        lines = MemoryLines()
        dying = Dying(MemoryClient(sandbox.handle), 4)
        with suppress(Crash):
            await self._upload(
                sandbox, clock, dying, data, lines, self.part_sizes[0], rng, Diary()
            ).run()
        fresh = self.sandbox(clock.now)
        client, diary = MemoryClient(fresh.handle), Diary()
        upload = self._upload(fresh, clock, client, data, lines, self.part_sizes[0], rng, diary)

        result = await upload.run()

        self._check(fresh, result, data, diary)

    # 3. no secret shows

    def test_no_secret_shows(self) -> None:
        """Keys stand in requests to their own host, and nowhere else."""
        clock = Clock()
        sandbox = self.sandbox(clock.now)
        provider, session, data = self._session(sandbox, clock)
        part = plan.part_at(1, session.file.size, session.part_size)
        flow = provider.put_part(session, part, Body.of(data[: part.size]))
        shown = [repr(provider), str(provider.url), provider.account, repr(session)]
        request = next(flow)
        shown += [repr(request), repr(flow), str(session.to_json())]
        refused = Response(403, content=b'{"error": {"message": "no"}}', url=request.url)
        try:
            while True:
                shown.append(repr(flow.send(refused)))
        except (ChunkupError, StopIteration) as error:
            shown += [str(error), repr(error)]
        for key, value in sandbox.announce().items():
            if "key" in key or "secret" in key or "token" in key:
                assert not any(value in text for text in shown), f"{key} shows"

    # 4. over a real port

    def test_pause_stop_resume_and_cancel_over_a_port(self) -> None:
        """The same engine and sockets: a stopped upload goes on, a cancelled one is gone."""
        from .sandbox.server import serve

        sandbox = self.sandbox(Clock().now)
        with serve(sandbox):
            asyncio.run(self._port(sandbox))

    async def _port(self, sandbox: Sandbox) -> None:
        data = random.Random(7).randbytes(self.sizes[1])
        lines = MemoryLines()
        first = await self._stopped_after_one_part(sandbox, data, lines)

        diary = Diary()
        wire = HttpClient()
        try:
            upload = self._upload(
                sandbox, Clock(), wire, data, lines, self.part_sizes[0], random.Random(2), diary
            )
            upload.sleep = asyncio.sleep
            paused: list[bool] = []

            def pause(event: Event, progress: Progress) -> None:
                if isinstance(event, PartDone) and not paused:
                    paused.append(True)
                    upload.pause()
                    asyncio.get_running_loop().call_soon(upload.resume)

            upload.listeners.append(pause)
            result = await upload.run()
        finally:
            await wire.close()

        self._check(sandbox, result, data, diary)
        assert not set(first) & set(diary.done())

        cancelled = await self._stopped_after_one_part(sandbox, data, MemoryLines(), cancel=True)
        assert cancelled
        assert list(sandbox.finished()) == [self.result_id(result)]

    async def _stopped_after_one_part(
        self, sandbox: Sandbox, data: bytes, lines: MemoryLines, cancel: bool = False
    ) -> list[int]:
        wire, diary = HttpClient(), Diary()
        try:
            upload = self._upload(
                sandbox, Clock(), wire, data, lines, self.part_sizes[0], random.Random(1), diary
            )
            upload.options = Options(jobs=1, part_size=upload.options.part_size, check=False)
            task = asyncio.create_task(upload.run())

            def stop(event: Event, progress: Progress) -> None:
                if isinstance(event, PartDone):
                    if cancel:
                        upload.cancel()
                    task.cancel()

            upload.listeners.append(stop)
            with suppress(asyncio.CancelledError):
                await task
        finally:
            await wire.close()
        assert upload.progress.state is (State.CANCELLED if cancel else State.STOPPED)
        return diary.done()

    # helpers

    def _session(self, sandbox: Sandbox, clock: Clock) -> tuple[Provider, Session, bytes]:
        data = random.Random(3).randbytes(self.sizes[1])
        provider = self.provider(sandbox, clock.now)
        file = FileInfo(self.file_name, len(data))
        provider = provider.for_file(file)
        size = plan.choose_part_size(len(data), self.part_sizes[0], provider.rules)
        try:
            session = drive(provider.create(file, size), sandbox.handle)
        except SessionLost as error:  # a create that answers so makes no sense
            raise AssertionError(clean(error)) from error
        return provider, session, data
