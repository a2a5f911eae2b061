"""The handles people hold: ``start()``, ``upload()`` and ``Job``."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from ..engine import Options
from ..errors import ChunkupError, InvalidUpload, UploadInterrupted
from ..events import Event, Listener, Meter, Progress, State
from ..journal import MemoryLines
from ..model import Provider, Session
from ..plan import Plan
from ..transport import Policy
from ..wire import Client as Wire
from . import background, nested
from .orders import Order, open_for, place
from .preview import preview
from .results import UploadResult
from .run import Run
from .waiting import Waited

_jobs: dict[int, Job] = {}
_numbers = itertools.count(1)
_KEPT = 100  # ended jobs that are remembered


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
    stubborn to be when the network fails. Each of ``listeners`` is called as ``subscribe``
    says: it must return at once, an async one may take its time. Other keywords are the
    provider's own fields.

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

    The file is looked at as ``check`` would; the provider is sent no request, a source
    that is elsewhere is only asked for its size (one that does not say it, or offers no
    ranges, is read). Raises what ``start`` raises before a request, whatever is wrong with
    the content among it.
    """
    options.pop("listeners", None)
    return plan_of(place(source, dest, **options))


def plan_of(order: Order) -> Plan:
    """Return what this order would do."""
    opened = open_for(order)
    looking = background.submit(preview(order, opened))
    try:
        return looking.result()
    finally:
        looking.cancel()
        opened.close()


def list_jobs() -> list[Job]:
    """Return this process's jobs, oldest first, whether or not a variable holds them.

    Of those that have ended, the last hundred.
    """
    return [_jobs[number] for number in sorted(_jobs)]


class Job(Waited[UploadResult]):
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
        self.meter = Meter()
        self.started_at = time.time()
        self._order = order
        self._nested = nested
        self._client = client
        self._memory = MemoryLines()
        self._lock = threading.Lock()
        self._listeners: list[Listener] = [self._measure, *listeners]
        self._begin(order.options, lent)
        _remember(self)

    # what it is

    @property
    def name(self) -> str:
        """The file's name at the provider."""
        return self._run.upload.source.info.name

    @property
    def target(self) -> str:
        """Where the file goes, without secrets."""
        return self._run.upload.provider.url

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
        return self._run.plan

    @property
    def progress(self) -> Progress:
        """The running total."""
        return self._run.upload.progress

    @property
    def state(self) -> State:
        """Where the upload is."""
        return self.progress.state

    @property
    def error(self) -> BaseException | None:
        """What ended it, None while it runs and when it succeeded."""
        if not self._run.done.done():
            return None
        return self._run.done.exception()

    @property
    def session(self) -> Session | None:
        """The server's open upload, None before there is one."""
        return self._run.upload.session

    @property
    def numbers_done(self) -> frozenset[int]:
        """The numbers of the parts that are there, for a view that comes late."""
        return frozenset(self._run.upload._sums)

    @property
    def jobs(self) -> int:
        """How many parts may be in the air now."""
        return self._run.upload.pace.limit

    @property
    def line(self) -> str:
        """The arguments of ``%chunkup`` that continue this upload; "" when it has none."""
        return self._run.line

    @property
    def kept(self) -> int:
        """How many finished parts the same call would find on disk, from now on."""
        return self._run.kept

    @property
    def left(self) -> str:
        """What the provider could not be told to forget, in words; "" when it was told."""
        return self._run.upload.left

    def __reduce__(self) -> NoReturn:
        raise TypeError("a job lives in this process; keep job.result().to_dict()")

    def __repr__(self) -> str:
        progress = self.progress
        where = " (sandbox)" if self.sandbox else ""
        what = f"{self.name} → {self.target}{where}"
        return f"<Job {self.id}: {what}, {progress.state.value}, {progress.percent} %>"

    # waiting for it

    def interrupted(self) -> UploadInterrupted:
        """Return the error that an interrupt ends with."""
        return self._run.interrupted()

    def _future(self) -> Future[UploadResult]:
        return self._run.done

    def _outcome(self) -> UploadResult:
        return self._run.done.result()

    def _coming(self) -> Iterable[Any]:
        return () if self.state.ended else (self._run.upload.source,)

    # steering it

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener(event, progress)`` on the background thread; return its end.

        It must return at once: all uploads wait for it. An async one may take its time.
        One that raises is dropped.
        """
        with self._lock:
            self._listeners.append(listener)
            self._run.upload.listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                for known in (self._listeners, self._run.upload.listeners):
                    if listener in known:
                        known.remove(listener)

        return unsubscribe

    def pause(self) -> None:
        """Take no new part; those in flight finish."""
        self._run.pause()

    def resume(self) -> None:
        """Go on after ``pause``; begin again, resuming, after a stop or a failure.

        Raises ``InvalidUpload`` after a cancel: there is nothing to go on with.
        """
        if self.done() and self.state is State.CANCELLED:
            raise InvalidUpload(f"{self.name} was cancelled; start it anew")
        if self.done() and self.state in (State.STOPPED, State.FAILED):
            self._begin(replace(self._order.options, fresh=False))
        else:
            self._run.resume()

    def stop(self) -> None:
        """Drop the parts in flight, keep session and journal: the same line resumes it."""
        self._run.end("stop")

    def cancel(self) -> None:
        """Drop the parts in flight, make the server forget the session, delete the journal."""
        if self.done() and self.state in (State.STOPPED, State.FAILED):
            self._begin(replace(self._order.options, fresh=False))
        self._run.end("cancel")

    def _begin(self, options: Options, lent: Wire | None = None) -> None:
        """Begin a run; ``lent`` are connections shared with others, who close them."""
        self._run = Run(
            self._order,
            options,
            self._listeners,
            memory=self._memory,
            client=self._client,
            lent=lent,
        )
        if self._nested:
            nested.run(self._run.live())
        else:
            background.submit(self._run.live())

    def _measure(self, event: Event, progress: Progress) -> None:
        self.meter.feed(time.monotonic(), progress.sent - progress.reused)


def _remember(job: Job) -> None:
    ended = [number for number, known in sorted(_jobs.items()) if known.done()]
    for number in ended[: max(0, len(ended) - _KEPT)]:
        _jobs.pop(number, None)
    _jobs[job.id] = job


def _forked() -> None:
    """In a forked child: the uploads go on in the parent, and nobody waits for them here."""
    for job in _jobs.values():
        if not job.done():
            job._run.done = Future()
            job._run.done.set_exception(
                ChunkupError(f"{job.name} is uploaded by the process this one was forked from")
            )
    _jobs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
