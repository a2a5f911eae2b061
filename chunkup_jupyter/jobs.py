"""The handles people hold: ``start()`` and ``upload()``, ``Job``, ``Client`` and ``drive()``."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import shlex
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from . import background, providers
from . import credentials as keys
from . import plan as planning
from .engine import Options, Upload
from .errors import ChunkupError, InvalidUpload, UploadCancelled, UploadInterrupted
from .events import Event, Listener, Meter, Progress, State
from .journal import Entry, Key, Ledger, default_folder, open_journal
from .model import Flow, Provider, Result, Session
from .model import drive as drive_flow
from .pace import START
from .plan import Plan
from .results import UploadResult
from .secrets import Secret
from .sources import Source, open_source
from .transport import Transport
from .units import parse_size
from .wire import Client as Wire
from .wire import HttpClient, Request, Response

T = TypeVar("T")

_jobs: dict[int, Job] = {}
_numbers = itertools.count(1)
_sandboxes: dict[str, Any] = {}
_sandbox_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Order:
    """One upload as it was asked for, everything looked up that can be without a request."""

    source: Any
    dest: str
    name: str | None
    media_type: str | None
    size: int | None
    provider: Provider
    options: Options
    sandbox: bool
    state: Path | None
    ca_bundle: str | None
    spelled: Mapping[str, Any]
    refresh: Callable[[], Provider | None]


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
    sandbox: bool = False,
    check: bool = True,
    key_env: str | None = None,
    credentials: Mapping[str, Any] | None = None,
    ca_bundle: str | None = None,
    state: Path | str | None = "default",
    listeners: Sequence[Listener] = (),
    **fields: Any,
) -> Job:
    """Begin an upload in the background and return its ``Job`` at once.

    ``source`` is a path, bytes (with ``name``), or a binary file object; ``dest`` a
    destination such as ``"openai:fine-tune"``, ``"oss://bucket/key"`` or
    ``"twelvelabs:video"``, or a provider. Running the same call again after a crash
    continues where it stopped; ``fresh`` begins anew.

    ``jobs`` parts are in the air at once (None: found by trying); ``part_size`` is in
    bytes or ``"16M"``; ``verify`` is "auto" or "none"; ``wait_ready`` waits until the
    provider can use the file; ``check`` looks at the content first. ``sandbox`` uploads
    to a server on this machine. ``credentials`` gives keys by field name, or a callable
    that returns them, asked again when they expire; ``key_env`` names an environment
    variable. ``state`` is the journal's folder, None for no journal. Other keywords are
    the provider's own fields.

    Raises:
        InvalidUpload: it cannot work as asked; nothing was sent.
        CredentialsMissing: no key was found.
        SourceError: the source cannot be read.
        AlreadyUploading: another process sends this file to this place.
    """
    order = _order(
        dest,
        source=source,
        name=name,
        media_type=media_type,
        size=size,
        jobs=jobs,
        part_size=part_size,
        verify=verify,
        wait_ready=wait_ready,
        fresh=fresh,
        sandbox=sandbox,
        check=check,
        key_env=key_env,
        given=credentials,
        ca_bundle=ca_bundle,
        state=state,
        fields=fields,
    )
    return Job(order, listeners)


def upload(source: Any, dest: str | Provider, **options: Any) -> UploadResult:
    """Upload and wait: ``start(...).result()``. Works in scripts, cells and running loops."""
    return start(source, dest, **options).result()


def plan(source: Any, dest: str | Provider, **options: Any) -> Plan:
    """Return what ``start`` with the same arguments would do. Sends no request."""
    listeners = options.pop("listeners", ())
    del listeners
    given = options.pop("credentials", None)
    known = {field: options.pop(field) for field in list(options) if field in _ORDER}
    order = _order(dest, source=source, given=given, fields=options, **known)
    opened = _open(order)
    try:
        return _plan(order, opened)
    finally:
        opened.close()


_ORDER = frozenset(
    "name media_type size jobs part_size verify wait_ready fresh sandbox check key_env "
    "ca_bundle state".split()
)


def list_jobs() -> list[Job]:
    """Return this process's jobs, oldest first, whether or not a variable holds them."""
    return [_jobs[number] for number in sorted(_jobs)]


class Job:
    """One upload in the background. Every method may be called from any thread.

    Await it, or call ``result()``; both stop the upload, resumably, when interrupted.
    """

    def __init__(self, order: Order, listeners: Sequence[Listener] = ()) -> None:
        self.id = next(_numbers)
        self._order = order
        self._listeners = list(listeners)
        self._lock = threading.Lock()
        self._task: asyncio.Task[Result] | None = None
        self._wanted = ""
        self.meter = Meter()
        self.started_at = time.time()
        self._begin()
        _jobs[self.id] = self

    # what it is

    @property
    def name(self) -> str:
        """The file's name at the provider."""
        return self._upload.source.info.name

    @property
    def target(self) -> str:
        """Where the file goes, without secrets."""
        return self._order.provider.url

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
        return " ".join([shlex.quote(spelled), *_spell(self._order)])

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
        if background.on_loop():
            raise RuntimeError("waiting for a job on the background thread would never end")
        try:
            return self._done.result(timeout)
        except UploadInterrupted:
            raise
        except KeyboardInterrupt:
            self.stop()
            self.settle(2.0)
            raise self._interrupted() from None

    def __await__(self) -> Generator[Any, None, UploadResult]:
        return self._wait().__await__()

    async def _wait(self) -> UploadResult:
        try:
            # A heartbeat: a kernel's interrupt wakes a sleeping cell, not one that
            # awaits another thread's future (measured: seconds late).
            while not self._done.done():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.stop()
            raise
        return self._done.result()

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
        background.loop().call_soon_threadsafe(self._upload.pause)

    def resume(self) -> None:
        """Go on after ``pause``; begin again, resuming, after a stop or a failure."""
        if self.done() and self.state in (State.STOPPED, State.FAILED):
            self._begin()
        else:
            background.loop().call_soon_threadsafe(self._upload.resume)

    def stop(self) -> None:
        """Drop the parts in flight, keep session and journal: the same line resumes it."""
        self._end("stop")

    def cancel(self) -> None:
        """Drop the parts in flight, make the server forget the session, delete the journal."""
        if self.done() and self.state in (State.STOPPED, State.FAILED):
            self._begin()
        self._end("cancel")

    def _end(self, wanted: str) -> None:
        with self._lock:
            self._wanted = wanted

        def end() -> None:
            if wanted == "cancel":
                self._upload.cancel()
            if self._task is not None:
                self._task.cancel()

        background.loop().call_soon_threadsafe(end)

    # the course of things

    def _begin(self) -> None:
        order = self._order
        source = _open(order)
        try:
            self._plan = _plan(order, source)
            journal = open_journal(
                order.state,
                Key(order.provider.url, order.provider.account, source.identity),
                source={
                    "spelled": source.spelled,
                    "name": source.info.name,
                    "size": source.info.size,
                    "fingerprint": source.info.fingerprint,
                    "words": _spell(order),
                },
            )
        except BaseException:
            source.close()
            raise
        self._wanted = ""
        self._done: Future[UploadResult] = Future()
        self._client: Wire = HttpClient(ca_bundle=order.ca_bundle)
        self._upload = Upload(
            source=source,
            provider=order.provider.for_file(source.info),
            client=self._client,
            journal=journal,
            options=order.options,
            listeners=[self._measure, *self._listeners],
            refresh=self._refresh,
            finished=self._record,
        )
        background.submit(self._live())

    async def _live(self) -> None:
        upload = self._upload
        self._task = asyncio.create_task(upload.run())
        outcome: UploadResult | BaseException
        try:
            if self._wanted:  # asked to end before it began
                self._task.cancel()
            outcome = self._result_of(await self._task)
        except asyncio.CancelledError:
            outcome = (
                self._cancelled()
                if upload.progress.state is State.CANCELLED
                else (self._interrupted())
            )
        except BaseException as error:
            outcome = error
            if isinstance(error, ChunkupError) and self.line:
                error.add_note(f"To go on: %chunkup {self.line}")
        # Whoever waits finds every socket and file closed.
        upload.source.close()
        await self._client.close()
        if isinstance(outcome, UploadResult):
            self._done.set_result(outcome)
        else:
            self._done.set_exception(outcome)

    async def _refresh(self) -> Provider | None:
        fresh = await asyncio.to_thread(self._order.refresh)
        return None if fresh is None else fresh.for_file(self._upload.source.info)

    def _measure(self, event: Event, progress: Progress) -> None:
        self.meter.feed(time.monotonic(), progress.sent - progress.reused)

    def _record(self, result: Result) -> None:
        """Write the finished upload into the ledger; trouble with it never fails an upload."""
        if self._order.state is None or self._order.sandbox:
            return
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
            rate=(progress.total - progress.reused) / elapsed,
            status="processing" if progress.state is State.PROCESSING else "ready",
            url=result.url,
            verified=result.verified,
            expires_at=result.expires_at,
            sandbox=self.sandbox,
            raw=result.raw,
            _provider=self._upload.provider,
            _perform=perform,
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


class Client:
    """A blocking client, to drive flows by hand: ``client(request)`` is the response.

    A context manager; ``close`` ends its connections.
    """

    def __init__(self, *, ca_bundle: str | None = None) -> None:
        self._wire = HttpClient(ca_bundle=ca_bundle)

    def __call__(self, request: Request) -> Response:
        """Send one request, once, and return its answer."""
        return background.submit(self._wire.send(request)).result()

    def close(self) -> None:
        """Close the connections."""
        background.submit(self._wire.close()).result()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def drive(flow: Flow[T], client: Callable[[Request], Response] | None = None) -> T:
    """Run one verb's flow to its end and return its value; nothing is retried.

    ``client`` is any function from request to response: a ``Client``, a sandbox's
    ``handle``, your own. Without one a ``Client`` is made for this call.
    """
    if client is not None:
        return drive_flow(flow, client)
    with Client() as made:
        return drive_flow(flow, made)


def perform(provider: Provider, verb: Callable[[Provider], Flow[T]]) -> T:
    """Run one verb of a provider with retries, and wait for its value."""

    async def run() -> T:
        wire = HttpClient()
        try:
            return await Transport(wire, provider.rules).run(verb(provider))
        finally:
            await wire.close()

    return background.submit(run()).result()


def destination(
    dest: str | Provider,
    *,
    sandbox: bool = False,
    key_env: str | None = None,
    given: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Provider:
    """Return the provider a destination names, with credentials found and options parsed.

    Raises ``InvalidUpload`` and ``CredentialsMissing``.
    """
    fields = dict(fields or {})
    if isinstance(dest, Provider):
        return dataclasses.replace(dest, **fields) if fields else dest
    kind = providers.load(dest)
    declared = {field.name: field for field in dataclasses.fields(kind)}
    for name, value in fields.items():
        if name not in declared or not declared[name].metadata.get("option"):
            options = sorted(n for n, f in declared.items() if f.metadata.get("option"))
            raise InvalidUpload(f"{kind.title} has no option {name!r}; it has {', '.join(options)}")
        parse = declared[name].metadata.get("parse")
        if parse is not None and isinstance(value, str):
            try:
                fields[name] = parse(value)
            except ValueError as error:
                raise InvalidUpload(f"{name}: {error}") from None
    env: Mapping[str, str] = os.environ
    if sandbox:
        env = _sandbox(providers.scheme_of(dest)).sandbox.environment()
    values = given() if callable(given) else dict(given or {})
    found = keys.find(
        kind.needs,
        config_file="" if sandbox else kind.config_file,
        env=env,
        key_env=key_env,
        given={**values, **{n: v for n, v in fields.items() if v is not None}},
        use_keyring=not sandbox,
        service=providers.scheme_of(dest),
    )
    return kind.from_url(dest, **{**found, **fields})


def _order(
    dest: str | Provider,
    *,
    source: Any,
    given: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None,
    fields: Mapping[str, Any],
    name: str | None = None,
    media_type: str | None = None,
    size: int | None = None,
    jobs: int | None = None,
    part_size: int | str | None = None,
    verify: str = "auto",
    wait_ready: bool | None = None,
    fresh: bool = False,
    sandbox: bool = False,
    check: bool = True,
    key_env: str | None = None,
    ca_bundle: str | None = None,
    state: Path | str | None = "default",
) -> Order:
    """Look everything up that needs no request. Raises what ``start`` raises."""
    if verify not in ("auto", "none"):
        raise InvalidUpload(f"verify is 'auto' or 'none', not {verify!r}")
    if jobs is not None and not 1 <= jobs <= 64:
        raise InvalidUpload(f"jobs is a number from 1 to 64, not {jobs}")
    try:
        asked = None if part_size is None else parse_size(part_size)
    except ValueError as error:
        raise InvalidUpload(str(error)) from None
    folder = default_folder() if state == "default" else None if state is None else Path(state)

    def look_up() -> Provider:
        return destination(dest, sandbox=sandbox, key_env=key_env, given=given, fields=fields)

    def refresh() -> Provider | None:
        if isinstance(dest, Provider):
            return None
        fresh_one = look_up()
        return None if fresh_one == provider else fresh_one

    provider = look_up()
    waits = provider.waits_ready if wait_ready is None else wait_ready
    return Order(
        source=source,
        dest=dest if isinstance(dest, str) else provider.url,
        name=name,
        media_type=media_type,
        size=size,
        provider=provider,
        options=Options(
            jobs=jobs,
            part_size=asked,
            verify=verify == "auto",
            wait_ready=waits,
            fresh=fresh,
            check=check,
        ),
        sandbox=sandbox,
        state=folder,
        ca_bundle=ca_bundle,
        spelled={
            "name": name,
            "media_type": media_type,
            "part_size": part_size,
            "jobs": jobs,
            "verify": verify if verify != "auto" else None,
            "wait_ready": wait_ready,
            "sandbox": sandbox or None,
            "check": None if check else False,
            "key_env": key_env,
            **fields,
        },
        refresh=refresh,
    )


def _open(order: Order) -> Source:
    return open_source(order.source, name=order.name, media_type=order.media_type, size=order.size)


def _plan(order: Order, source: Source) -> Plan:
    """Check what can be checked without a request, and say what would be done."""
    provider, file = order.provider.for_file(source.info), source.info
    rules, asked = provider.rules, order.options.part_size
    warnings = (*planning.check_size(file, rules), *provider.check(file))
    if asked is not None:
        planning.check_part_size(asked, file.size, rules)
    notes = []
    if rules.server_decides:
        notes.append(f"{provider.title} decides the part size when the session opens")
    if order.options.verify and rules.digest:
        notes.append(f"the {rules.digest} of the whole file is computed beside the upload")
    return Plan(
        file=file,
        target=provider.url,
        part_size=planning.choose_part_size(file.size, asked or planning.PREFERRED_PART, rules),
        jobs=1 if rules.in_order else order.options.jobs or START,
        in_order=rules.in_order,
        life=rules.life,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def _spell(order: Order) -> list[str]:
    """Return destination and options as words of the magic's line."""
    words = [shlex.quote(order.dest)]
    flags = {
        field.name: field.metadata.get("flag")
        for field in dataclasses.fields(order.provider)
        if field.metadata.get("option")
    }
    for name, value in order.spelled.items():
        if value is None or isinstance(value, Secret):
            continue
        flag = flags.get(name) or "--" + name.replace("_", "-")
        if value is False:
            words.append(f"--no-{flag[2:]}")
        elif value is True:
            words.append(flag)
        elif isinstance(value, Mapping):
            words.extend(f"{flag} {shlex.quote(f'{k}={v}')}" for k, v in value.items())
        else:
            words.append(f"{flag} {shlex.quote(str(value))}")
    return words


def _sandbox(scheme: str) -> Any:
    """Return the server of that provider on this machine, started at its first use."""
    with _sandbox_lock:
        if scheme not in _sandboxes:
            try:
                from .sandbox import Store, load
                from .sandbox.server import serve
            except ImportError as error:
                raise InvalidUpload(
                    "the sandbox needs more packages: pip install 'chunkup-jupyter[sandbox]'"
                ) from error
            try:
                kind = load(scheme)
            except KeyError:
                raise InvalidUpload(f"{scheme} has no sandbox") from None
            _sandboxes[scheme] = serve(kind(store=Store.on_disk()))
        return _sandboxes[scheme]
