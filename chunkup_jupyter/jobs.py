"""The handles people hold: ``start()``, ``upload()`` and ``Job``."""

from __future__ import annotations

import asyncio
import itertools
import os
import shlex
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from . import background, nested, reuse
from .by_hand import perform
from .engine import Options, Upload
from .errors import ChunkupError, InvalidUpload, UploadCancelled, UploadInterrupted
from .events import Event, Listener, Meter, Progress, State
from .journal import Entry, Key, Ledger, open_journal
from .model import Provider, Result, Session
from .orders import Order, open_for, place, plan_for, words_of
from .plan import Plan
from .results import UploadResult
from .sources import Source
from .transport import Policy
from .wire import Client as Wire
from .wire import HttpClient

_jobs: dict[int, Job] = {}
_numbers = itertools.count(1)
_KEPT = 100  # ended jobs that are remembered
_BEAT = 0.25  # seconds


def start(
    source: Any,
    dest: str | Provider,
    *,
    name: str | None = None,
    media_type: str | None = None,
    size: int | None = None,
    jobs: int | None = None,
    part_size: int | str | None = None,
    verify: str = "auto",
    wait_ready: bool | None = None,
    fresh: bool = False,
    reuse: bool = False,
    sandbox: bool = False,
    check: bool = True,
    key_env: str | None = None,
    credentials: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    ca_bundle: str | None = None,
    state: Path | str | None = "default",
    policy: Policy | None = None,
    listeners: Sequence[Listener] = (),
    **fields: Any,
) -> Job:
    """Begin an upload in the background and return its ``Job`` at once.

    ``source`` is a path, a URL that fsspec opens (``s3://…``), bytes (with ``name``), or a
    binary file object, which goes up from its first byte to its last, wherever it was read
    to (several files go with ``start_many``); ``dest`` is a destination such as
    ``"openai:fine-tune"``, ``"oss://bucket/key"`` or ``"twelvelabs:video"``, or a provider.
    Running the same call again after a crash continues where it stopped; ``fresh`` begins
    anew.

    ``jobs`` parts are in the air at once (None: found by trying); ``part_size`` is in
    bytes or ``"16M"``; ``verify`` is "auto" or "none"; ``wait_ready`` waits until the
    provider can use the file; ``check`` looks at the content first. ``sandbox`` uploads
    to a server on this machine. ``credentials`` gives keys by field name, or a callable
    that returns them, asked again when they expire; ``key_env`` names an environment
    variable. ``reuse`` sends nothing when history knows these bytes there and the provider
    confirms it. ``state`` is the journal's folder, None for no journal; ``policy`` says how
    stubborn to be when the network fails. Other keywords are the provider's own fields.

    Raises:
        InvalidUpload: it cannot work as asked; nothing was sent.
        CredentialsMissing: no key was found.
        SourceError: the source cannot be read.
        AlreadyUploading: another process sends this file to this place.
    """
    order = place(
        source,
        dest,
        name=name,
        media_type=media_type,
        size=size,
        jobs=jobs,
        part_size=part_size,
        verify=verify,
        wait_ready=wait_ready,
        fresh=fresh,
        reuse=reuse,
        sandbox=sandbox,
        check=check,
        key_env=key_env,
        credentials=credentials,
        ca_bundle=ca_bundle,
        state=state,
        policy=policy,
        **fields,
    )
    return Job(order, listeners)


def upload(
    source: Any, dest: str | Provider, *, nested: bool = False, client: Any = None, **options: Any
) -> UploadResult:
    """Upload and wait: ``start(...).result()``. Works in scripts, cells and running loops.

    ``nested`` runs the upload on the caller's running loop instead of the background
    one, for callers who hand over what is bound to it: ``client``, their own
    ``httpx.AsyncClient`` (used as it stands, never closed), an async source, async
    listeners. Everything asyncio that has to be patched for it is put back.

    Raises what ``start`` raises and whatever ends the upload.
    """
    if not nested:
        if client is not None:
            raise InvalidUpload("a client is bound to your loop: add nested=True to use it there")
        return start(source, dest, **options).result()
    listeners = options.pop("listeners", ())
    order = place(source, dest, **options)
    return Job(order, listeners, nested=True, client=client).result()


def plan(source: Any, dest: str | Provider, **options: Any) -> Plan:
    """Return what ``start`` with the same arguments would do.

    Sends no request to the provider; a source that is elsewhere is asked for its size.
    """
    options.pop("listeners", None)
    return plan_of(place(source, dest, **options))


def plan_of(order: Order) -> Plan:
    """Return what this order would do."""
    opened = open_for(order)
    try:
        found = plan_for(order, opened)
        earlier = earlier_of(order, opened)
        if earlier and not opened.in_order:
            known = background.submit(reuse.match(opened, earlier)).result()
            if known is not None:
                found = replace(found, notes=(*found.notes, reuse.offer(known, time.time())))
        return found
    finally:
        opened.close()


def earlier_of(order: Order, source: Source) -> Sequence[Entry]:
    """Return the uploads in history that may have been of these bytes, to this place."""
    if order.state is None or order.sandbox:
        return ()
    provider, entries = order.provider.for_file(source.info), Ledger(order.state).entries()
    size = source.info.size
    return reuse.candidates(entries, provider.url, provider.account, size, time.time())


def list_jobs() -> list[Job]:
    """Return this process's jobs, oldest first, whether or not a variable holds them.

    Of those that have ended, the last hundred.
    """
    return [_jobs[number] for number in sorted(_jobs)]


class Job:
    """One upload in the background. Every method may be called from any thread.

    Await it, or call ``result()``; both stop the upload, resumably, when interrupted.
    """

    def __init__(
        self,
        order: Order,
        listeners: Sequence[Listener] = (),
        *,
        nested: bool = False,
        client: Any = None,
        lent: Wire | None = None,
    ) -> None:
        self.id = next(_numbers)
        self._order = order
        self._nested = nested
        self._own_client = client
        self._lent = lent  # connections shared with others, who close them; used once
        self._loop = background.loop()
        self._listeners = list(listeners)
        self._lock = threading.Lock()
        self._task: asyncio.Task[Result] | None = None
        self._wanted = ""
        self.meter = Meter()
        self.started_at = time.time()
        self._begin(order.options)
        _remember(self)

    # what it is

    @property
    def name(self) -> str:
        """The file's name at the provider."""
        return self._upload.source.info.name

    @property
    def target(self) -> str:
        """Where the file goes, without secrets."""
        return self._upload.provider.url

    @property
    def title(self) -> str:
        """The vendor's name."""
        return self._order.provider.title

    @property
    def sandbox(self) -> bool:
        """Whether it goes to a server on this machine."""
        return self._order.sandbox

    @property
    def plan(self) -> Plan:
        """What was planned."""
        return self._plan

    @property
    def progress(self) -> Progress:
        """The running total."""
        return self._upload.progress

    @property
    def state(self) -> State:
        """Where the upload is."""
        return self.progress.state

    @property
    def error(self) -> BaseException | None:
        """What ended it, None while it runs and when it succeeded."""
        if not self._done.done():
            return None
        return self._done.exception()

    @property
    def session(self) -> Session | None:
        """The server's open upload, None before there is one."""
        return self._upload.session

    @property
    def numbers_done(self) -> frozenset[int]:
        """The numbers of the parts that are there, for a view that comes late."""
        return frozenset(self._upload._sums)

    @property
    def jobs(self) -> int:
        """How many parts may be in the air now."""
        return self._upload.pace.limit

    @property
    def line(self) -> str:
        """The arguments of ``%chunkup`` that continue this upload; "" when it has none."""
        spelled = self._upload.source.spelled
        if not spelled:
            return ""
        return " ".join([shlex.quote(spelled), *words_of(self._order)])

    def __repr__(self) -> str:
        progress = self.progress
        where = " (sandbox)" if self.sandbox else ""
        what = f"{self.name} → {self.target}{where}"
        return f"<Job {self.id}: {what}, {progress.state.value}, {progress.percent} %>"

    # waiting for it

    def done(self) -> bool:
        """Say whether it has ended, one way or another."""
        return self._done.done()

    def result(self, timeout: float | None = None) -> UploadResult:
        """Wait and return the result.

        Raises what ended the upload; ``TimeoutError`` after ``timeout`` seconds (the
        upload goes on); ``UploadInterrupted`` when interrupted, having stopped it.
        """
        if background.on_loop() and not self._done.done():
            raise RuntimeError("waiting for a job on the background thread would never end")
        self._refuse_to_wait(awaiting=False)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            # A heartbeat here, too: an interrupt that reaches another thread, and any on
            # Windows, is heard only by one who is not asleep for good.
            while not self.settle(_BEAT if deadline is None else min(_BEAT, _left(deadline))):
                if deadline is not None and not _left(deadline):
                    raise TimeoutError(f"{self.name} is still on its way; it goes on")
            return self._done.result()
        except UploadInterrupted:
            raise
        except KeyboardInterrupt:
            self.stop()
            self.settle(2.0)
            raise self._interrupted() from None

    def __await__(self) -> Generator[Any, None, UploadResult]:
        return self._wait().__await__()

    def _refuse_to_wait(self, *, awaiting: bool) -> None:
        """Raise when the bytes come through the thread that is about to wait for them."""
        refuses = getattr(self._upload.source, "refuses_to_wait", None)
        here = threading.current_thread() is threading.main_thread()
        if refuses is None or not here or self.state.ended:
            return
        if reason := refuses(awaiting=awaiting):
            raise InvalidUpload(reason)

    async def _wait(self) -> UploadResult:
        self._refuse_to_wait(awaiting=True)
        try:
            # A heartbeat: a kernel's interrupt wakes a sleeping cell, not one that
            # awaits another thread's future (measured: seconds late).
            while not self._done.done():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.stop()
            raise
        return self._done.result()

    async def ended(self) -> None:
        """Wait for the end, whatever it is; stops nothing when cancelled."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        self._done.add_done_callback(lambda _: loop.call_soon_threadsafe(over.set))
        await over.wait()

    def settle(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the end, whatever it is; say whether it came."""
        try:
            self._done.exception(timeout)
        except TimeoutError:
            return False
        return True

    # steering it

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener(event, progress)`` on the background thread; return its end."""
        with self._lock:
            self._listeners.append(listener)
            self._upload.listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                for known in (self._listeners, self._upload.listeners):
                    if listener in known:
                        known.remove(listener)

        return unsubscribe

    def pause(self) -> None:
        """Take no new part; those in flight finish."""
        self._loop.call_soon_threadsafe(self._upload.pause)

    def resume(self) -> None:
        """Go on after ``pause``; begin again, resuming, after a stop or a failure."""
        if self.done() and self.state in (State.STOPPED, State.FAILED):
            self._begin(replace(self._order.options, fresh=False))
        else:
            self._loop.call_soon_threadsafe(self._upload.resume)

    def stop(self) -> None:
        """Drop the parts in flight, keep session and journal: the same line resumes it."""
        self._end("stop")

    def cancel(self) -> None:
        """Drop the parts in flight, make the server forget the session, delete the journal."""
        if self.done() and self.state in (State.STOPPED, State.FAILED):
            self._begin(replace(self._order.options, fresh=False))
        self._end("cancel")

    def _end(self, wanted: str) -> None:
        with self._lock:
            self._wanted = wanted

        def end() -> None:
            if wanted == "cancel":
                self._upload.cancel()
            if self._task is not None:
                self._task.cancel()

        self._loop.call_soon_threadsafe(end)

    # the course of things

    def _begin(self, options: Options) -> None:
        order = self._order
        source = open_for(order)
        try:
            self._plan = plan_for(order, source)
            provider = order.provider.for_file(source.info)
            journal = open_journal(
                order.state,
                Key(provider.url, provider.account, source.identity),
                source={
                    "spelled": source.spelled,
                    "name": source.info.name,
                    "size": source.info.size,
                    "fingerprint": source.info.fingerprint,
                    "words": words_of(order),
                },
            )
        except BaseException:
            source.close()
            raise
        self._wanted = ""
        self._task = None
        self._same_as = ""
        self._earlier: Sequence[Entry] = ()
        self._done: Future[UploadResult] = Future()
        lent, self._lent = self._lent, None
        self._own = HttpClient(ca_bundle=order.asked.ca_bundle, client=self._own_client)
        self._client: Wire = lent or self._own
        self._upload = Upload(
            source=source,
            provider=provider,
            client=self._client,
            journal=journal,
            options=options,
            policy=order.asked.policy or Policy(),
            listeners=[self._measure, *self._listeners],
            refresh=self._refresh,
            finished=self._record,
            known=self._known,
            warnings=self._plan.warnings,
            terms=provider.terms
            | ({"media_type": order.asked.media_type} if order.asked.media_type else {}),
        )
        if self._nested:
            nested.run(self._live())
        else:
            background.submit(self._live())

    async def _live(self) -> None:
        upload = self._upload
        task = asyncio.create_task(upload.run())
        await asyncio.sleep(0)  # a task cancelled before its first step would tidy nothing up
        self._task = task
        if self._wanted:  # asked to end before it began
            if self._wanted == "cancel":  # its own turn on the loop may come after the task's
                upload.cancel()
            task.cancel()
        outcome: UploadResult | BaseException
        try:
            outcome = self._result_of(await task)
        except asyncio.CancelledError:
            cancelled = upload.progress.state is State.CANCELLED
            outcome = self._cancelled() if cancelled else self._interrupted()
        except BaseException as error:
            outcome = error
            if isinstance(error, ChunkupError) and self.line:
                error.add_note(f"To go on: %chunkup {self.line}")
        try:  # whoever waits finds every socket and file closed
            upload.source.close()
            await self._own.close()
        finally:
            if isinstance(outcome, UploadResult):
                self._done.set_result(outcome)
            else:
                self._done.set_exception(outcome)

    async def _refresh(self) -> Provider | None:
        fresh = await asyncio.to_thread(self._order.refresh)
        return None if fresh is None else fresh.for_file(self._upload.source.info)

    def _measure(self, event: Event, progress: Progress) -> None:
        self.meter.feed(time.monotonic(), progress.sent - progress.reused)

    async def _known(self, upload: Upload) -> Result | None:
        """Offer what history knows of these bytes, or take it when that was asked for."""
        self._earlier = earlier_of(self._order, upload.source)
        found = await reuse.settle(upload, self._earlier, reuse=self._order.asked.reuse)
        if found is not None:
            upload.ready, self._same_as = True, found.id
        return found

    def _record(self, result: Result) -> None:
        """Write the finished upload into the ledger; trouble with it never fails an upload."""
        if self._order.state is None or self._order.sandbox:
            return
        known = reuse.with_checksum(self._earlier, self._upload.checksum)
        self._same_as = "" if known is None else known.id
        made = self._result_of(result)
        Ledger(self._order.state).add(
            Entry(
                when=time.time(),
                name=made.name,
                size=made.size,
                target=made.target,
                provider=made.provider,
                account=self._order.provider.account,
                id=made.id,
                checksum=self._upload.checksum,
                verified=made.verified,
                expires_at=made.expires_at,
                elapsed=made.elapsed,
                parts=made.parts,
                url=made.url,
            )
        )

    def _result_of(self, result: Result) -> UploadResult:
        progress = self._upload.progress
        elapsed = max(1e-6, time.time() - (progress.started_at or self.started_at))
        return UploadResult(
            id=result.id,
            provider=self.title,
            target=self._upload.provider.url,
            name=self.name,
            size=progress.total,
            parts=progress.parts,
            reused=progress.parts_reused,
            retries=progress.retries,
            elapsed=elapsed,
            rate=(progress.total - progress.reused) / elapsed if progress.parts else 0.0,
            status="ready" if self._upload.ready else "processing",
            url=result.url,
            verified=result.verified,
            expires_at=result.expires_at,
            sandbox=self.sandbox,
            same_as=self._same_as,
            raw=result.raw,
            _provider=self._upload.provider,
            _perform=partial(perform, ca_bundle=self._order.asked.ca_bundle),
        )

    def _interrupted(self) -> UploadInterrupted:
        progress = self.progress
        text = f"stopped at {progress.percent} %; "
        text += (
            f"{progress.parts_done} of {progress.parts} parts are kept"
            if (progress.parts)
            else "nothing was sent yet"
        )
        if self.line:
            text += f". To go on: %chunkup {self.line}"
        return UploadInterrupted(text)

    def _cancelled(self) -> UploadCancelled:
        return UploadCancelled(f"{self.name}: cancelled; nothing of it is kept")


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _remember(job: Job) -> None:
    ended = [number for number, known in sorted(_jobs.items()) if known.done()]
    for number in ended[: max(0, len(ended) - _KEPT)]:
        _jobs.pop(number, None)
    _jobs[job.id] = job


def _forked() -> None:
    """In a forked child: the uploads go on in the parent, and nobody waits for them here."""
    for job in _jobs.values():
        if not job.done():
            job._done = Future()
            job._done.set_exception(
                ChunkupError(f"{job.name} is uploaded by the process this one was forked from")
            )
    _jobs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
