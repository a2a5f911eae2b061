"""One understood line, carried out: the same for the magic and the shell.

``steps`` is a generator that yields every job somebody has to wait for, so that the
same code serves a cell that awaits, a function that blocks, and a script. An interrupt
is thrown into it.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import jobs, orders, providers
from ..errors import ChunkupError, InvalidUpload, UploadInterrupted
from ..plan import Plan
from ..secrets import Secret
from . import words
from .bars import View
from .grammar import Line

BEAT = 0.1  # seconds; an interrupt wakes a cell that sleeps, not one that awaits a thread

Steps = Generator["jobs.Job", None, Any]


class SomeFailed(ChunkupError):
    """Several files were sent, and some did not arrive. ``results`` has all of them."""

    def __init__(self, message: str, results: list[Any]) -> None:
        super().__init__(message)
        self.results = results


@dataclass
class Trail:
    """What became of a line: for binding variables and for the words of an error."""

    job: jobs.Job | None = None
    shown: bool = False
    """Whether the last view left the result on screen."""
    bound: tuple[str, ...] = field(default=())


def steps(
    line: Line,
    view: Callable[[Line], View],
    trail: Trail,
    bind: Callable[[Any], None] = lambda value: None,
) -> Steps:
    """Carry out an upload line; return a plan, a result, a job, or a list of them.

    ``view`` makes the view of one upload; ``bind`` is given whatever a variable should
    hold: the result, or the job before its error is raised.
    """
    given = ask(line) if line.ask_key else None
    options = line.arguments()
    if len(line.sources) > 1:
        _must_hold_many(line, given)
    if line.dry_run:
        plans = [jobs.plan(s, line.dest, credentials=given, **options) for s in line.sources]
        return plans[0] if len(plans) == 1 else plans
    found: list[Any] = []
    for source in line.sources:
        shows = view(line)
        trail.job = None
        try:
            job = trail.job = jobs.start(
                source, line.dest, listeners=[shows], credentials=given, **options
            )
            shows.follow(job)
            trail.shown = shows.shows_result
            if not line.detach:
                yield from _until_done(job, shows)
            found.append(job if line.detach else job.result(0))
        except UploadInterrupted:
            bind(trail.job)
            raise
        except ChunkupError as error:
            if len(line.sources) == 1:
                if trail.job is not None:
                    bind(trail.job)
                raise
            found.append(trail.job or error)
    value = found[0] if len(line.sources) == 1 else found
    bind(value)
    failed = [name for name, one in zip(line.sources, found, strict=True) if _failed(one)]
    if failed:
        names = ", ".join(failed[:5]) + (" …" if len(failed) > 5 else "")
        raise SomeFailed(f"{len(failed)} of {len(found)} uploads failed: {names}", found)
    return value


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


def ask(line: Line) -> Mapping[str, Secret]:
    """Ask for the keys of the line's provider at the keyboard; they are stored nowhere."""
    kind = providers.load(line.dest)
    found = {}
    for need in kind.needs:
        if need.secret and need.required:
            label = need.variables[0] if need.variables else need.field
            try:
                text = getpass.getpass(f"{kind.title}, {label}: ")
            except (EOFError, NotImplementedError, RuntimeError) as error:
                raise InvalidUpload("--ask-key needs somebody at a keyboard") from error
            if text:
                found[need.field] = Secret(text)
    return found


def plan_words(plan: Plan, line: Line) -> str:
    """Return a plan as text."""
    return words.plan_text(plan, sandbox=line.sandbox)


def _until_done(job: jobs.Job, view: View) -> Steps:
    """Yield the job until it has ended; stop it when interrupted. Ends its view."""
    try:
        yield job
    except KeyboardInterrupt:
        job.stop()
        job.settle(2.0)
        view.close()
        raise UploadInterrupted(_stopped(job)) from None
    view.close()


def _stopped(job: jobs.Job) -> str:
    text = f"stopped at {job.progress.percent} %"
    return f"{text}. To go on: %chunkup {job.line}" if job.line else text


def _failed(one: Any) -> bool:
    return isinstance(one, BaseException) or getattr(one, "error", None) is not None


def _must_hold_many(line: Line, given: Mapping[str, Any] | None) -> None:
    where = orders.destination(
        line.dest,
        sandbox=line.sandbox,
        key_env=line.key_env,
        given=given,
        fields=line.fields,
    )
    if not where.holds_many:
        raise InvalidUpload(f"{line.dest} names one file; {len(line.sources)} cannot all go there")
