"""What an upload says about itself, in words: shared by every view, in text and in HTML."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .. import units
from ..answers import clean
from ..events import Meter, Progress, State
from ..jobs.results import UploadResult
from ..plan import Plan
from .terminal import plain

PHASES = ("Preparing", "Uploading", "Completing", "Processing", "Ready")
_AT = {
    State.PREPARING: 0,
    State.UPLOADING: 1,
    State.PAUSED: 1,
    State.COMPLETING: 2,
    State.PROCESSING: 3,
    State.COMPLETED: 4,
}


def title(name: str, target: str) -> str:
    """Return ``file → destination``, fit to be shown whatever the file is called."""
    return f"{shown(name)} → {shown(target)}"


def command(prompt: str, line: str) -> str:
    """Return a line to run, whatever the file in it is called."""
    return f"{prompt}{shown(line, 1 << 20)}"


def headline(progress: Progress) -> str:
    """Return state and percent: ``Uploading: 62%``, ``Paused: 62%``, ``Complete``."""
    word = str(progress.state.value).capitalize()
    match progress.state:
        case State.UPLOADING | State.PAUSED | State.COMPLETING | State.PROCESSING:
            return f"{word}: {progress.percent}%"
        case State.COMPLETED:
            return "Complete"
        case State.FAILED:
            return "Upload failed"
    return word


def amounts(progress: Progress, meter: Meter | None = None) -> list[str]:
    """Return bytes of bytes, rate and time left, each only when it means something."""
    found = [f"{units.size(progress.sent)} of {units.size(progress.total)}"]
    if meter is not None and progress.state is State.UPLOADING and meter.rate > 0:
        found.append(units.rate(meter.rate))
        left = meter.left(progress.total - progress.sent)
        if left is not None:
            found.append(f"{units.seconds(max(1, left))} left")
    return found


def parts(progress: Progress) -> list[str]:
    """Return parts done, reused, in flight and retried."""
    if not progress.parts:
        return []
    found = [f"{progress.parts_done:,} of {plural(progress.parts, 'part')}"]
    if progress.parts_reused:
        found.append(f"{progress.parts_reused:,} from before")
    if progress.in_flight:
        found.append(f"{len(progress.in_flight)} in flight")
    if progress.retries:
        found.append(f"{progress.retries:,} retried")
    return found


def resuming(progress: Progress) -> str:
    """Return what an earlier run had brought there: ``Resuming: 31 of 49 parts …``; or ""."""
    if not progress.parts_reused:
        return ""
    return (
        f"Resuming: {progress.parts_reused:,} of {plural(progress.parts, 'part')} "
        f"({units.size(progress.reused)}) already uploaded"
    )


def notices(progress: Progress) -> list[str]:
    """Return the lines that are told once: warnings, and what need not be sent again."""
    found = [f"{label}: {text}" for label, text in warnings(progress)]
    return found + ([resuming(progress)] if progress.parts_reused else [])


def proof(result: UploadResult) -> str:
    """Return the line that a finished upload ends with: what, where, how fast, how compared."""
    # Where it is a sandbox, every line says so.
    return f"✓ {shown(repr(replace(result, sandbox=False)), 2000)}"


def again(waiting: Mapping[int, str]) -> str:
    """Return which parts wait to be sent once more, of part number → reason; "" for none."""
    if not waiting:
        return ""
    number, reason = next(iter(waiting.items()))
    if len(waiting) == 1:
        return f"part {number:,} waits to be sent again: {shown(reason, 200)}"
    return f"{len(waiting):,} parts wait to be sent again; part {number:,}: {shown(reason, 200)}"


HINT_IN_PANEL = (
    "runs in the background; when the kernel is restarted or culled, a new panel offers to resume"
)


def hint(*, detached: bool) -> str:
    """Return what somebody who watches should know when there is nothing else to say."""
    if detached:
        return "runs in the background; when the kernel is restarted or culled, run the line again"
    return "Kernel ▸ Interrupt stops it; the same line goes on where it stopped"


def clock(progress: Progress, now: float | None = None) -> str:
    """Return how long the provider keeps the session open; "" when for ever or over."""
    if progress.expires_at is None or progress.state.ended:
        return ""
    left = progress.expires_at - (time.time() if now is None else now)
    if left <= 0:
        return "the session has closed"
    shown = left if left < 120 else left // 60 * 60  # whole minutes: a quiet clock
    return f"session closes in {units.seconds(shown)}"


def phases(progress: Progress) -> list[tuple[str, str]]:
    """Return each phase with ``done``, ``now`` or ``later``."""
    at = _AT.get(progress.state, 1 if progress.parts else 0)
    last = progress.state is State.COMPLETED
    return [
        (name, "done" if i < at or last else "now" if i == at else "later")
        for i, name in enumerate(PHASES)
    ]


def sentence(name: str, target: str, progress: Progress, meter: Meter | None = None) -> str:
    """Return one line that says it all, for logs and for ears."""
    text = f"{title(name, target)}: {headline(progress).lower()}"
    if progress.state in (State.UPLOADING, State.PAUSED):
        text += " · " + " · ".join([*amounts(progress, meter), *parts(progress)])
    return f"{text} · {shown(progress.note)}" if progress.note else text


def warnings(progress: Progress) -> list[tuple[str, str]]:
    """Return what the user should know as (label, text) rows, oldest first."""
    return [("Warning", shown(warning)) for warning in progress.warnings]


def plan_rows(plan: Plan, rate: float = 0.0) -> list[tuple[str, str]]:
    """Return a plan as (label, text) rows; ``rate`` in bytes a second, 0 when unknown."""
    exact = f" ({plan.file.size:,} bytes)" if plan.file.size >= 1000 else ""
    rows = [
        ("File", f"{shown(plan.file.name)} · {units.size(plan.file.size)}{exact}"),
        ("Type", shown(plan.file.media_type)),
        ("To", shown(plan.target)),
        ("Parts", plan.cut),
        ("At once", "1, in order" if plan.in_order else str(min(plan.jobs, plan.parts))),
        ("Memory", f"about {units.size(plan.memory)} at most"),
    ]
    if plan.life is not None:
        rows.append(("Session", f"open for {units.seconds(plan.life)}{_fits(plan, rate)}"))
    if plan.resumable:
        size = sum(receipt.size for receipt in plan.resumable)
        before = f"{len(plan.resumable):,} of {plural(plan.parts, 'part')} ({units.size(size)})"
        rows.append(("Resumes", f"{before} already uploaded"))
    rows += [("Checked", " · ".join(map(shown, plan.checks)))] if plan.checks else []
    rows += [("Note", shown(note)) for note in plan.notes]
    return rows + [("Warning", shown(warning)) for warning in plan.warnings]


def _fits(plan: Plan, rate: float) -> str:
    if rate > 0:
        return f"; at {units.rate(rate)} the file takes {units.seconds(plan.seconds_at(rate))}"
    needed = plan.file.size / plan.life if plan.life else 0.0
    return f"; fits from {units.rate(needed)} up" if needed >= 1 else ""


def plan_text(plan: Plan) -> str:
    """Return a plan as aligned text."""
    return marked(aligned([("Plan", "nothing is sent"), *plan_rows(plan)]), plan.sandbox)


PLANS = ("File", "Size", "Parts", "To", "Note")


def plans_rows(plans: Sequence[Plan]) -> list[tuple[str, ...]]:
    """Return several plans as rows under ``PLANS``: one a file, then the sum."""
    rows = []
    for plan in plans:
        size = sum(receipt.size for receipt in plan.resumable)
        resumes = [f"resumes after {units.size(size)}"] if size else []
        note = " · ".join([*resumes, *dict.fromkeys(plan.warnings)])
        row = (plan.file.name, units.size(plan.file.size), f"{plan.parts:,}", plan.target, note)
        rows.append(tuple(map(shown, row)))
    size, parts = sum(plan.file.size for plan in plans), sum(plan.parts for plan in plans)
    return [*rows, (plural(len(plans), "file"), units.size(size), f"{parts:,}", "", "")]


def plans_text(plans: Sequence[Plan]) -> str:
    """Return several plans as one table."""
    table = columns([PLANS, *plans_rows(plans)])
    return marked(f"Plan  nothing is sent\n{table}", any(plan.sandbox for plan in plans))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text; the first is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Return rows of (label, text) as text, the labels in one column."""
    width = max((len(label) for label, _ in rows), default=0)
    return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)


def marked(text: str, sandbox: bool) -> str:
    """Return text fit for a terminal, with "sandbox" on every line when it is one."""
    text = plain(text)
    if not sandbox:
        return text
    return "\n".join(f"[sandbox] {line}" for line in text.splitlines())


def shown(text: object, limit: int = 500) -> str:
    """Return text of unknown origin fit to be shown: one line, no control letters, capped."""
    return clean(text, limit)


def plural(number: int, noun: str) -> str:
    """Return ``1 part``, ``49 parts``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def when(at: float) -> str:
    """Return a moment (Unix seconds) as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
