"""The verbs: what runs, what is unfinished, what was sent, and tidying up after it.

Each returns a ``Told``: the same facts as text and as HTML. Only ``orphans``, ``clean``
and ``cancel`` send requests, and they say to whom.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .. import jobs, journal, providers, units
from ..errors import AlreadyUploading, ChunkupError, InvalidUpload
from ..events import State
from ..jobs import by_hand, orders
from ..journal import Unfinished
from ..model import Provider, Session
from . import cards, grammar, options, parsers, words
from .bars import View
from .grammar import Line
from .running import Steps, Trail, again, ask, steps

Row = Sequence[str]


@dataclass(frozen=True)
class Told:
    """What a verb has to say, as text and as HTML."""

    text: str
    html: str


def carry_out(
    line: Line,
    view: Callable[[Line], View],
    trail: Trail,
    *,
    prompt: str = "%chunkup ",
) -> Steps:
    """Carry out a verb; return a ``Told``, or what ``resume`` and ``panel`` return."""
    if line.verb == "resume":
        return (yield from _resume(line, view, trail))
    if line.verb == "panel":
        from . import panel

        made: Any = panel.Panel  # its base class has no types
        return made(sandbox=line.sandbox)
    return _VERBS[line.verb](line, prompt)


def known_ids(verb: str) -> list[str]:
    """Return the ids that may follow a verb."""
    kinds: dict[str, Callable[[Any], bool]] = {
        "pause": lambda job: job.state is State.UPLOADING,
        "resume": lambda job: job.state in _RESUMABLE,
        "cancel": lambda job: job.state not in (State.COMPLETED, State.CANCELLED),
    }
    wanted = kinds.get(verb, lambda job: True)
    found = [str(job.id) for job in jobs.list_jobs() if wanted(job)]
    return found if verb == "pause" else found + [one.id[:8] for one in _waiting()]


def known_places() -> list[str]:
    """Return destinations that were used before, the latest first."""
    entries = journal.Ledger(journal.default_folder()).entries()
    targets = [entry.target for entry in reversed(entries)]
    targets += [one.target for one in journal.unfinished()]
    folders = [f"{target.rpartition('/')[0]}/" for target in targets if "://" in target]
    return list(dict.fromkeys([*folders, *targets]))


# -- what is there


def _list(line: Line, prompt: str) -> Told:
    rows: list[Row] = []
    for job in jobs.list_jobs():
        progress = job.progress
        waits = words.shown(progress.note, 80)
        if progress.error is not None:
            waits = words.shown(progress.error, 80)
        rows.append(
            (
                str(job.id),
                job.name + (" (sandbox)" if job.sandbox else ""),
                job.target,
                words.headline(progress),
                " · ".join(words.parts(progress)),
                waits,
            )
        )
    for one in _waiting():
        state = f"running in process {one.pid}" if one.pid else "unfinished"
        rows.append(
            (one.id[:8], one.name, one.target, state, so_far(one), one.progress or life(one))
        )
    if line.limit:
        rows = rows[-line.limit :]
    head = ("Id", "File", "To", "State", "Parts", "Note")
    return _table("Uploads", head, rows, empty="nothing is running and nothing is unfinished")


def _show(line: Line, prompt: str) -> Told:
    found = _find(line.words[0])
    if not isinstance(found, Unfinished):
        html = cards.job_html(found)
        text = words.sentence(found.name, found.target, found.progress, found.meter)
        if found.state.ended:
            text = cards.ended_text(found, found.progress, None)
        return Told(text if found.state.ended else words.marked(text, found.sandbox), html)
    rows = [
        ("Id", found.id),
        ("Size", units.size(found.size)),
        ("Kept", so_far(found)),
        ("Began", words.when(found.started_at) if found.started_at else "unknown"),
    ]
    if left := life(found):
        rows.append(("Session", left))
    if found.pid:
        rows.append(("Running", f"in process {found.pid}: {found.progress}".rstrip(": ")))
    if again_with := _line_of(found):
        rows.append(("Go on", f"{prompt}{again_with}"))
    return _facts("Unfinished", words.title(found.name, found.target), rows)


def _history(line: Line, prompt: str) -> Told:
    entries = journal.Ledger(journal.default_folder()).entries()
    now = time.time()
    rows = []
    for entry in entries[-(line.limit or 50) :]:
        expires = ""
        if entry.expires_at is not None:
            gone = entry.expires_at <= now
            expires = f"{'expired' if gone else 'expires'} {words.when(entry.expires_at)}"
        rows.append(
            (
                words.when(entry.when),
                entry.name,
                entry.target,
                units.size(entry.size),
                words.shown(entry.id, 120),
                entry.checksum,
                expires,
            )
        )
    head = ("When", "File", "To", "Size", "Id", "Checksum", "Expiry")
    return _table("History", head, rows, empty="nothing was uploaded from here yet")


def _providers(line: Line, prompt: str) -> Told:
    rows = []
    for scheme in providers.schemes():
        try:
            kind = providers.load(f"{scheme}:")
        except Exception as error:
            rows.append((scheme, "", f"cannot be loaded: {words.shown(error, 120)}"))
            continue
        own = ", ".join(options.own_options(kind))
        rows.append((kind.title, kind.form or f"{scheme}:…", own))
    return _table("Providers", ("Name", "Destination", "Its own options"), rows, empty="")


def _help(line: Line, prompt: str) -> Told:
    text = parsers.help_text(line.words[0] if line.words else "").rstrip()
    return Told(text, f"<pre>{escape(text)}</pre>")


# -- steering


def _pause(line: Line, prompt: str) -> Told:
    job = _running(line, (State.UPLOADING,), "running")
    job.pause()
    return _said(f"pausing {job.name}; parts in flight finish. Go on with: {prompt}resume {job.id}")


_RESUMABLE = (State.PAUSED, State.STOPPED, State.FAILED)


def _resume(line: Line, view: Callable[[Line], View], trail: Trail) -> Steps:
    if line.words:
        found = _find(line.words[0])
    else:
        candidates: list[Any] = [job for job in jobs.list_jobs() if job.state in _RESUMABLE]
        candidates = candidates or [one for one in _waiting() if not one.pid]
        if not candidates:
            raise InvalidUpload("nothing waits to be resumed")
        found = candidates[-1]
    if not isinstance(found, Unfinished):
        if found.state not in _RESUMABLE:
            raise InvalidUpload(f"{found.name} is {found.state.value}; there is nothing to resume")
        return (yield from again(found, view(line), trail, detach=line.detach))
    if found.pid:
        raise AlreadyUploading(
            f"process {found.pid} is uploading {found.name}; wait for it, or stop it there",
            pid=found.pid,
            progress=found.progress,
        )
    text = _line_of(found)
    if not text:
        raise InvalidUpload(
            f"{found.name} did not come from a file; run the call that began it again"
        )
    asked = grammar.parse(text)
    said = {name: getattr(line, name) for name in line.given & _CARRIED}
    beside = {"debug": line.debug, "progress": line.progress, "keys": line.keys}
    asked = asked.settle({**said, **beside})
    return (yield from steps(asked, view, trail))


_CARRIED = {"detach", "ask_key", "key_env", "sandbox"}


def _cancel(line: Line, prompt: str) -> Told:
    if line.words:
        found = _find(line.words[0])
    else:
        live = [job for job in jobs.list_jobs() if not job.state.ended]
        found = _running(line, tuple(State), "running") if not live else live[-1]
        if len(live) > 1:
            raise InvalidUpload(f"{len(live)} uploads are running; say which: `list` has the ids")
    if isinstance(found, Unfinished):
        _abort(found, line)
        return _cancelled(found, _maybe_left(found))
    if found.state in (State.COMPLETED, State.CANCELLED):
        raise InvalidUpload(f"{found.name} is {found.state.value}; there is nothing to cancel")
    found.cancel()
    if not found.settle(20.0):  # the provider is told for 15 s at most
        return _said(f"cancelling {found.name} → {found.target}; `list` says when it has ended")
    return _cancelled(found, found.left)


def _cancelled(found: Any, left: str = "") -> Told:
    kind = providers.load(found.target)
    kept = f"what {kind.title} has of it lapses" if kind.lapses else "nothing of it is kept"
    return _said(f"cancelled {found.name} → {found.target}; {left or kept}")


# -- tidying up


def _orphans(line: Line, prompt: str) -> Told:
    here = journal.unfinished()
    known = {one.session.upload_id for one in here if one.session}
    if not line.words:
        rows = [(one.id[:8], one.name, one.target, so_far(one), life(one)) for one in here]
        head = ("Id", "File", "To", "Parts", "Session")
        empty = "nothing is unfinished here"
        note = "name a DEST to ask a provider for its own list"
        return _table("Unfinished sessions", head, rows, empty=empty, note=note)
    provider, sessions = _listed(line)
    rows = [
        (
            words.shown(session.upload_id, 60),
            words.shown(session.file.name, 120),
            units.size(session.file.size) if session.file.size else "",
            _made(session),
            "here" if session.upload_id in known else "",
        )
        for session in sessions
    ]
    head = ("Upload id", "File", "Size", "Began", "Journal")
    note = f"asked {provider.title}"
    empty = f"{provider.title} lists no unfinished upload there"
    return _table("Unfinished sessions", head, rows, empty=empty, note=note)


def _clean(line: Line, prompt: str) -> Told:
    assert line.older_than is not None  # the grammar wants it
    limit = time.time() - line.older_than
    rows: list[Row] = []
    for one in journal.unfinished():  # those that this process stopped, too
        if one.started_at > limit or one.pid:
            continue
        rows.append((one.name, one.target, so_far(one), _try(one, line)))
    note = ""
    if line.words:
        provider, sessions = _listed(line)
        note = f"asked {provider.title}"
        for session in sessions:
            began = _began(session)
            if began is None or began > limit:
                continue
            outcome = _gone(provider, session.expires_at, line, forgotten=False)
            if not line.dry_run:
                try:
                    by_hand.perform(provider, _aborting(session))
                except ChunkupError as error:
                    outcome = words.shown(error, 120)
            rows.append((session.file.name, words.shown(session.upload_id, 40), "", outcome))
    title = "Would be cleaned" if line.dry_run else "Cleaned"
    head = ("File", "To", "Parts", "Outcome")
    return _table(title, head, rows, empty="nothing unfinished is that old", note=note)


def _gone(provider: Any, ends: float | None, line: Line, *, forgotten: bool = True) -> str:
    """Say what cleaning does to a session; where only time ends one, forgetting it here."""
    if not provider.lapses or (ends is not None and ends <= time.time()):
        return "would go" if line.dry_run else "gone"
    soon = "by itself" if ends is None else f"in {units.seconds(ends - time.time())}"
    here = "would be forgotten here" if line.dry_run else "forgotten here"
    return f"{here if forgotten else 'stays'}; at {provider.title} it lapses {soon}"


def _aborting(session: Session) -> Callable[[Any], Any]:
    return lambda provider: provider.abort(session)


def _try(one: Unfinished, line: Line) -> str:
    """Abort and forget one unfinished upload unless it is a dry run; say what came of it."""
    try:
        kind = providers.load(one.target)
        if not line.dry_run:
            _abort(one, line)
    except ChunkupError as error:
        return words.shown(error, 120)
    if left := _maybe_left(one):
        return f"{'would be forgotten' if line.dry_run else 'forgotten'} here; {left}"
    return _gone(kind, one.expires_at, line)


def _maybe_left(one: Unfinished) -> str:
    """Return what to say of a session that was asked for and never heard of, "" if none was."""
    if one.session is not None or not one.creating:
        return ""
    kind = providers.load(one.target)
    text = f"{kind.title} may have opened a session whose answer was lost"
    if kind.list_open is Provider.list_open:  # it has no list
        return text
    return f"{text}: `orphans {shlex.quote(one.target)}` shows it"


def _abort(one: Unfinished, line: Line) -> None:
    """Make the server forget an unfinished upload, then forget it here."""
    if one.pid:
        raise AlreadyUploading(
            f"process {one.pid} is uploading {one.name}; stop it there first", pid=one.pid
        )
    if one.session is not None:
        began = grammar.parse(["x", *_words_of(one)])
        if began.sandbox:
            # Its server went away with the process that ran it.
            journal.remove(one.id)
            return
        provider = orders.destination(
            began.dest,
            key_env=line.key_env or began.key_env,
            given=_given(line, began.dest),
            fields=began.fields,
        )
        by_hand.perform(provider.for_file(one.session.file), _aborting(one.session))
    journal.remove(one.id)


def _listed(line: Line) -> tuple[Any, Sequence[Session]]:
    """Ask a destination's provider for its unfinished sessions."""
    dest = line.words[0]
    provider = orders.destination(
        dest,
        sandbox=line.sandbox,
        key_env=line.key_env,
        given=_given(line, dest),
        fields=line.fields,
    )
    return provider, by_hand.perform(provider, lambda it: it.list_open())


def _given(line: Line, dest: str) -> Any:
    return ask(Line(dest=dest, keys=line.keys)) if line.ask_key else None


# -- the doctor


def _doctor(line: Line, prompt: str) -> Told:
    from .doctor import examine

    wanted = [line.words[0].partition(":")[0]] if line.words else providers.schemes()
    return _facts("Doctor", "no request is sent", examine(wanted, key_env=line.key_env))


# -- finding


def _waiting() -> list[Unfinished]:
    """Return unfinished uploads that are no job of this process."""
    over = (State.COMPLETED, State.CANCELLED)  # what is unfinished of that name is another's
    ours = {
        (job.name, job.target)
        for job in jobs.list_jobs()
        if not job.sandbox and job.state not in over
    }
    return [
        one
        for one in journal.unfinished()
        if one.pid != os.getpid() and (one.name, one.target) not in ours
    ]


def _find(word: str) -> Any:
    """Return the job or the unfinished upload of that id."""
    for job in jobs.list_jobs():
        if str(job.id) == word:
            return job
    found = [one for one in journal.unfinished() if one.id.startswith(word)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidUpload(f"{word!r} fits {len(found)} uploads; write more of the id")
    raise InvalidUpload(f"there is no upload {word!r}; `list` has the ids")


def _running(line: Line, states: tuple[State, ...], what: str) -> Any:
    """Return the named job, or the only one in these states."""
    if line.words:
        found = _find(line.words[0])
        if isinstance(found, Unfinished):
            raise InvalidUpload(f"{found.name} is not running here")
        if found.state not in states:
            raise InvalidUpload(f"{found.name} is {found.state.value}, not {what}")
        return found
    live = [job for job in jobs.list_jobs() if job.state in states and not job.state.ended]
    if len(live) != 1:
        text = f"{len(live)} uploads are {what}; say which" if live else f"nothing is {what}"
        raise InvalidUpload(f"{text}: `list` has the ids")
    return live[0]


def _words_of(one: Unfinished) -> list[str]:
    """Return the destination and options that began an upload."""
    found = one.source.get("words")
    if isinstance(found, list) and all(isinstance(word, str) for word in found):
        return [part for word in found for part in shlex.split(word)]
    return [one.target]


def _line_of(one: Unfinished) -> str:
    """Return the arguments that continue an upload; "" when its source has no name."""
    return shlex.join([one.spelled, *_words_of(one)]) if one.spelled else ""


def so_far(one: Unfinished) -> str:
    """Return what the provider has of it: ``31 of 49 parts (1.9 GB)``."""
    if not one.parts:
        return "nothing yet"
    return f"{one.parts_done:,} of {words.plural(one.parts, 'part')} ({units.size(one.bytes_done)})"


def life(one: Unfinished) -> str:
    """Return how long it can be gone on with; "" when for ever."""
    if one.expires_at is None:
        return ""
    left = one.expires_at - time.time()
    return f"open for {units.seconds(left)} more" if left > 0 else "the session has closed"


def _began(session: Session) -> float | None:
    try:
        return float(session.extra["created_at"])
    except (KeyError, ValueError):
        return None


def _made(session: Session) -> str:
    began = _began(session)
    return "" if began is None else words.when(began)


# -- telling


def _said(text: str) -> Told:
    return Told(text, f"<div style='{cards.FONT};{cards.SIZE}'>{escape(text)}</div>")


def _facts(title: str, about: str, rows: Iterable[tuple[str, str]]) -> Told:
    rows = [(label, words.shown(text, 2000)) for label, text in rows]
    html = cards.table(
        f"<b>{escape(title)}</b> <span style='{cards.MUTED}'>{escape(about)}</span>",
        [(label, escape(text)) for label, text in rows],
    )
    return Told(words.aligned([(title, about), *rows]), html)


def _table(title: str, head: Row, rows: Sequence[Row], *, empty: str, note: str = "") -> Told:
    """Return rows under a head, columns aligned; ``empty`` is said when there are none."""
    rows = [tuple(words.shown(text) for text in row) for row in rows]
    if not rows:
        return _said(f"{empty} ({note})" if note else empty)
    # A column with nothing in it is not shown.
    kept = [at for at in range(len(head)) if any(row[at] for row in rows)]
    shown = [tuple(row[at] for at in kept) for row in [head, *rows]]
    text = words.columns(shown) + (f"\n({note})" if note else "")
    return Told(text, cards.grid(title, shown[0], shown[1:], note))


_VERBS: dict[str, Callable[[Line, str], Told]] = {
    "list": _list,
    "show": _show,
    "pause": _pause,
    "cancel": _cancel,
    "history": _history,
    "orphans": _orphans,
    "clean": _clean,
    "doctor": _doctor,
    "providers": _providers,
    "help": _help,
}
