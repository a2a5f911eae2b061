"""An error as one screen: what failed, why, what is kept, what to run now."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

from .. import errors, units
from ..events import Progress
from ..sources import urls
from . import words

_PASSING = (408, 409, 423, 425, 429)  # answers that say: not now
NAMED = 8  # failed files that one screen names


def rows(
    error: BaseException,
    job: Any = None,
    *,
    prompt: str = "%chunkup ",
    progress: Progress | None = None,
) -> list[tuple[str, str]]:
    """Return an error as (label, text) rows; ``job`` adds what is kept and what to run.

    ``prompt`` stands before the line that resumes: ``%chunkup `` or ``chunkup ``.
    """
    found = [("What", _what(error, job)), ("Why", words.shown(error) or type(error).__name__)]
    found += _server(error)
    progress = progress or getattr(job, "progress", None)
    discarded = isinstance(error, (errors.SourceChanged, errors.IntegrityError))
    if progress is not None and not discarded and (text := kept(progress, job)):
        found.append(("Kept", text))
    if left := getattr(job, "left", ""):
        found.append(("Warning", words.shown(left)))
    advice = now(error)
    if advice:
        found.append(("Now", advice))
    line = getattr(job, "line", "")
    if line and may_help(error):
        found.append(("Run" if advice else "Now", words.command(prompt, line)))
    return found


def screen(
    error: BaseException,
    job: Any = None,
    *,
    prompt: str = "%chunkup ",
    bound: tuple[str, ...] = (),
    debug: bool = False,
    sandbox: bool = False,
    sources: tuple[Sequence[str], str] = ((), ""),
) -> str:
    """Return an error as text of a few lines; ``debug`` adds the traceback below.

    ``bound`` are the variables that hold the job; ``sources`` and destination are named
    when there is no job yet.
    """
    if isinstance(error, errors.UploadInterrupted):
        return words.marked(interrupted(job, prompt=prompt, bound=bound), sandbox)
    if isinstance(error, errors.UploadCancelled):
        name = words.shown(getattr(job, "name", "the upload"))
        text = f"Cancelled: {name}; {gone(job)}"
        return words.marked(text + _in(bound), sandbox)
    if isinstance(error, errors.SomeFailed):
        text = some_failed(error, job, prompt=prompt, bound=bound)
        return words.marked(text + (_traces(error) if debug else ""), sandbox)
    if job is None and not sources[0] and not debug:
        return words.marked(f"✗ {words.shown(error)}", sandbox)
    found = rows(error, job, prompt=prompt)
    if job is None and sources[0]:
        named = ", ".join(map(urls.shown, sources[0]))  # a query may be a password
        found[0] = ("What", f"{words.title(named, sources[1])} was not started")
    if bound:
        found.append(("Job", f"the job is in {' and '.join(bound)}; its .error is this error"))
    if not debug and not isinstance(error, errors.InvalidUpload):
        found.append(("More", "--debug adds the traceback"))
    (_, title), *rest = found
    text = f"✗ {title}\n{_indented(rest)}"
    if debug:
        text += "\n\n" + "".join(traceback.format_exception(error)).rstrip()
    return words.marked(text, sandbox)


def some_failed(
    error: errors.SomeFailed, job: Any, *, prompt: str = "%chunkup ", bound: tuple[str, ...] = ()
) -> str:
    """Return which of several files did not arrive and why, on one screen."""
    failed = list(getattr(error.results, "failed", {}).items())
    lines = [
        (words.shown(name, 60), words.shown(reason, 160) or type(reason).__name__)
        for name, reason in failed[:NAMED]
    ]
    if len(failed) > NAMED:
        lines.append(("", f"and {len(failed) - NAMED:,} more"))
    reasons = [reason for _, reason in failed]
    advice = {now(reason) for reason in reasons}
    if len(advice) == 1 and (text := advice.pop()):
        lines.append(("Now", text))
    line = getattr(job, "line", "")
    if line and any(map(may_help, reasons)):
        lines.append(("Run", words.command(prompt, line)))
    if bound:
        lines.append(
            ("Results", f"in {' and '.join(bound)}; .failed has these, .retry() begins them")
        )
    target = getattr(job, "target", "")
    title = f"{len(failed):,} of {words.plural(len(error.results), 'file')} did not arrive"
    return f"✗ {title}{f' at {target}' if target else ''}\n{_indented(lines)}"


def _traces(error: errors.SomeFailed) -> str:
    failed = getattr(error.results, "failed", {})
    return "".join(f"\n\n{''.join(traceback.format_exception(one))}" for one in failed.values())


def interrupted(job: Any, *, prompt: str = "%chunkup ", bound: tuple[str, ...] = ()) -> str:
    """Return the one line that an interrupt ends with."""
    progress, line = getattr(job, "progress", None), getattr(job, "line", "")
    text = f"Stopped: {words.shown(getattr(job, 'name', 'the upload'))}"
    if progress is not None and progress.parts:
        done, of = progress.parts_done, words.plural(progress.parts, "part")
        there = getattr(job, "kept", done)
        if hasattr(job, "items"):
            text += f", {done:,} of {words.plural(progress.parts, 'file')} arrived"
        else:
            text += f", {there:,} of {of} kept" if there or not done else ", nothing kept on disk"
    if line:
        text += f". Go on with: {words.command(prompt, line)}"
    elif getattr(job, "kept", 0):
        text += ". Go on with the same call"
    return text + _in(bound)


def gone(job: Any) -> str:
    """Return what a cancelled upload leaves behind, as a phrase."""
    return words.shown(getattr(job, "left", "")) or "nothing of it can be resumed"


def kept(progress: Progress, job: Any = None) -> str:
    """Return what an ended upload leaves behind, as a phrase; "" when there was nothing."""
    if not progress.parts:
        return ""
    there = getattr(job, "kept", progress.parts_done)
    if not there and progress.parts_done:
        return "nothing on disk"
    text = f"{there:,} of {words.plural(progress.parts, 'part')}"
    if there == progress.parts_done:
        text += f" ({units.size(progress.done)})"
    if progress.expires_at is not None:
        text += f"; the session closes at {words.when(progress.expires_at)}"
    return text


def now(error: BaseException) -> str:
    """Return what to do about this kind of error; "" when its message says it."""
    match error:
        case errors.AuthError():
            return "check the key and its permissions; the same line goes on afterwards"
        case errors.SourceChanged():
            return "let the file come to rest; the same line then begins anew"
        case errors.Unreachable():
            return "when the network is back, the same line goes on"
        case errors.OutcomeUnknown():
            return "look at the provider whether the file is there before sending it again"
        case errors.SourceGone():
            return "bring the source back; the same line then goes on"
    return ""


def may_help(error: BaseException) -> bool:
    """Say whether the same line may do better; not when it would only be refused again."""
    match error:
        case errors.InvalidUpload() | errors.InsecureConnection() | errors.UploadCancelled():
            return False
        case errors.NotRegularFile() | errors.Refused(code="FileAlreadyExists"):
            return False
        case errors.Refused():
            return not 400 <= (error.status or 0) < 500 or error.status in _PASSING
    return True


def install(error: BaseException, text: str) -> None:
    """Make IPython show ``text`` instead of a traceback for this one error."""
    error._render_traceback_ = text.splitlines  # type: ignore[attr-defined]


def _in(bound: Sequence[str]) -> str:
    return f"   (the job is in {' and '.join(bound)})" if bound else ""


def _what(error: BaseException, job: Any) -> str:
    name, target = getattr(job, "name", ""), getattr(job, "target", "")
    where = words.title(name, target) if name else "the upload"
    match error:
        case errors.InvalidUpload() | errors.CredentialsMissing():
            return f"{where} was not started" if name else "nothing was sent"
        case errors.OutcomeUnknown():
            return f"{where}: it is not known whether it arrived"
    return f"{where} failed"


def _server(error: BaseException) -> list[tuple[str, str]]:
    """Return who answered what, as far as the message does not say it."""
    if not isinstance(error, errors.ProviderError):
        return []
    said = []
    if error.host:
        said.append(error.host)
    if error.status:
        said.append(f"HTTP {error.status}")
    if error.code:
        said.append(words.shown(error.code, 80))
    if error.request_id:
        said.append(f"request id {words.shown(error.request_id, 100)}")
    return [("Server", " · ".join(said))] if said else []


def _indented(found: list[tuple[str, str]]) -> str:
    return "\n".join(f"  {line}" for line in words.aligned(found).splitlines())
