"""One understood line, carried out: the same for the magic and the shell.

``steps`` is a generator that yields every job somebody has to wait for, so that the
same code serves a cell that awaits, a function that blocks, and a script. An interrupt
is thrown into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import warnings
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .. import jobs, providers
from ..errors import ChunkupError, CredentialsMissing, InvalidUpload, UploadInterrupted
from ..jobs import batch, many
from ..plan import Plan
from ..secrets import Secret
from ..sources import choosing
from ..wire.bandwidth import set_bandwidth
from .bars import View
from .grammar import Line

BEAT = 0.1  # seconds; an interrupt wakes a cell that sleeps, not one that awaits a thread

Steps = Generator["jobs.Job | batch.Batch", None, Any]


@dataclass
class Trail:
    """What became of a line: for binding variables and for the words of an error."""

    job: jobs.Job | batch.Batch | None = None
    shown: bool = False
    """Whether the last view left the result on screen."""
    bound: tuple[str, ...] = field(default=())


def steps(
    line: Line,
    view: Callable[..., View],
    trail: Trail,
    bind: Callable[[Any], None] = lambda value: None,
) -> Steps:
    """Carry out an upload line; return a plan, a result or a job, or those of several files.

    ``view`` makes the view of one upload, called with ``many=True`` that of several;
    ``bind`` is given whatever a variable should hold: the result, or the job before its
    error is raised. ``--bwlimit`` holds for every upload of this process, until changed.
    """
    options = options_of(line)
    if line.bwlimit is not None and not line.dry_run:
        set_bandwidth(line.bwlimit)
    if choosing.is_many(line.sources, recursive=line.recursive):
        return (yield from _several(line, options, view, trail, bind))
    if line.include or line.exclude:
        raise InvalidUpload("--include and --exclude choose among the files of a folder or pattern")
    (source,) = line.sources
    if line.dry_run:
        (plan,) = _planned(lambda **more: [jobs.plan(source, line.dest, **more)], line, options)
        return plan
    shows = view(line)
    job = trail.job = jobs.start(source, line.dest, listeners=[shows], **options)
    shows.follow(job)
    trail.shown = shows.shows_result
    if line.detach:
        bind(job)
        return job
    try:
        yield from _until_done(job, shows)
        value = job.result(0)
    except ChunkupError:
        bind(job)
        raise
    bind(value)
    return value


def _several(
    line: Line,
    options: dict[str, Any],
    view: Callable[..., View],
    trail: Trail,
    bind: Callable[[Any], None],
) -> Steps:
    """Carry out a line that means several files, however many there are."""
    options = {**options, **line.choices()}
    if options.pop("name"):
        raise InvalidUpload("--name is for one file; there may be several here")
    if line.dry_run:
        return _planned(
            lambda **more: many.plan_many(line.sources, line.dest, **more), line, options
        )
    shows = view(line, many=True)
    uploads = trail.job = many.start_many(line.sources, line.dest, **options)
    shows.follow(uploads)
    trail.shown = shows.shows_result
    if line.detach:
        bind(uploads)
        return uploads
    try:
        yield from _until_done(uploads, shows)
    except UploadInterrupted:
        bind(uploads)
        raise
    results = uploads.result(0)
    bind(results)
    return results.check()


def _planned(make: Callable[..., list[Plan]], line: Line, options: dict[str, Any]) -> list[Plan]:
    """Return what would be done; a key that is missing is told, because none is sent."""
    try:
        return make(**options)
    except CredentialsMissing as error:
        needs = providers.load(line.dest).needs
        blank = {need.field: "none" for need in needs if need.required}
        plans = make(**{**options, "credentials": blank, "key_env": None})
        return [replace(plan, warnings=(*plan.warnings, str(error))) for plan in plans]


def again(job: jobs.Job, view: View, trail: Trail, *, detach: bool = False) -> Steps:
    """Go on with a job that was paused, stopped or failed; return its result."""
    trail.job = job
    job.subscribe(view)
    job.resume()
    view.follow(job)
    trail.shown = view.shows_result
    if detach:
        return job
    yield from _until_done(job, view)
    return job.result(0)


def block(going: Steps) -> Any:
    """Run steps to their end, blocking; an interrupt stops the job, resumably."""
    try:
        job = next(going)
        while True:
            try:
                while not job.settle(BEAT):
                    pass
            except KeyboardInterrupt as interrupt:
                job = going.throw(interrupt)
            else:
                job = next(going)
    except StopIteration as end:
        return end.value


async def beat(going: Steps) -> Any:
    """Run steps to their end, awaiting; a cancelled cell stops the job, resumably."""
    try:
        job = next(going)
        while True:
            try:
                while not job.done():  # noqa: ASYNC110  a foreign event would not be woken
                    await asyncio.sleep(BEAT)
            except (asyncio.CancelledError, KeyboardInterrupt):
                job = going.throw(KeyboardInterrupt())
            else:
                job = next(going)
    except StopIteration as end:
        return end.value


def options_of(line: Line) -> dict[str, Any]:
    """Return what ``jobs.start`` takes beside source and destination; may ask for a key."""
    asks = line.ask_key and not line.sandbox
    return {**line.arguments(), "credentials": ask(line) if asks else None}


def ask(line: Line) -> Mapping[str, Secret]:
    """Ask for the keys of the line's provider at the keyboard; they are stored nowhere."""
    if line.keys:
        return line.keys
    kind = providers.load(line.dest)
    found = {}
    for need in kind.needs:
        if need.secret and need.required:
            label = need.variables[0] if need.variables else need.field
            try:
                with warnings.catch_warnings():
                    # Without a terminal it would warn, and read what everybody sees.
                    warnings.simplefilter("error", getpass.GetPassWarning)
                    text = getpass.getpass(f"{kind.title}, {label}: ")
            except (
                EOFError,
                NotImplementedError,
                RuntimeError,
                getpass.GetPassWarning,
            ) as error:
                raise InvalidUpload("--ask-key needs somebody at a keyboard") from error
            if text:
                found[need.field] = Secret(text)
    return found


def _until_done(job: jobs.Job | batch.Batch, view: View) -> Steps:
    """Yield the job until it has ended; stop it when interrupted. Ends its view."""
    try:
        yield job
    except KeyboardInterrupt:
        job.stop()
        for wait in (lambda: job.settle(2.0), view.close):
            with contextlib.suppress(KeyboardInterrupt):  # again: then nobody wants to wait
                wait()
        raise UploadInterrupted(_stopped(job)) from None
    view.close()


def _stopped(job: jobs.Job | batch.Batch) -> str:
    text = f"stopped at {job.progress.percent} %"
    return f"{text}. To go on: %chunkup {job.line}" if job.line else text
