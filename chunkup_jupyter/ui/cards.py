"""Static HTML for plans, jobs, progress and results: what a saved notebook keeps.

Plain tables that read well without CSS, everything escaped, no script and no style
sheet. Colours and fonts are JupyterLab's variables, with fallbacks for elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from .. import units
from ..events import Progress, State
from ..plan import Plan
from . import trouble, words
from .story import PartRow, Story

FONT = "font-family:var(--jp-ui-font-family,system-ui,sans-serif)"
MONO = "font-family:var(--jp-code-font-family,ui-monospace,monospace)"
SIZE = "font-size:var(--jp-ui-font-size1,13px)"
INK = "color:var(--jp-ui-font-color1,inherit)"
MUTED = "color:var(--jp-ui-font-color2,inherit)"
LINE = "var(--jp-border-color2,rgba(128,128,128,.35))"
TRACK = "var(--jp-layout-color2,rgba(128,128,128,.28))"
BRAND = "var(--jp-brand-color1,#1976d2)"
GOOD = "var(--jp-success-color1,#388e3c)"
BAD = "var(--jp-error-color1,#d32f2f)"
WARN = "var(--jp-warn-color1,#f57c00)"

LISTED = 200  # parts in a list at most; the rest is counted

# JupyterLab stripes, right-aligns and centres tables; all of that is undone here.
_TABLE = (
    f"border-collapse:collapse;border:0;margin:4px 0;text-align:left;{FONT};{SIZE};{INK};"
    "line-height:20px;font-variant-numeric:tabular-nums;table-layout:auto"
)
_ROW = "background:transparent;border:0"
_CELL = (
    "padding:0 16px 0 0;line-height:20px;border:0;text-align:left;vertical-align:top;max-width:none"
)

_MARKS = {
    State.COMPLETED: ("✓", GOOD),
    State.FAILED: ("✗", BAD),
    State.STOPPED: ("◼", WARN),
    State.CANCELLED: ("◼", WARN),
    State.PAUSED: ("‖", WARN),
}


def put_on_screen(html: str, text: str, **options: Any) -> None:
    """Display HTML with text beside it; ``options`` are those of IPython's ``display``."""
    import IPython.display

    display: Any = IPython.display.display
    display({"text/html": html, "text/plain": text}, raw=True, **options)


def plan_html(plan: Plan) -> str:
    """Return a plan as a table."""
    rows = [(label, escape(text)) for label, text in words.plan_rows(plan)]
    title = f"<b>Plan</b> <span style='{MUTED}'>nothing is sent</span>"
    return table(title + pill(plan.sandbox), rows)


def plans_html(plans: Sequence[Plan]) -> str:
    """Return several plans as one table."""
    title = "Plan" + (" (sandbox)" if any(plan.sandbox for plan in plans) else "")
    return grid(title, words.PLANS, words.plans_rows(plans), "nothing is sent")


def result_html(result: Any) -> str:
    """Return an upload's result as a table."""
    rows = [("Id", code(result.id)), ("Size", size(result.size))]
    if result.was_there:
        rows.append(("Sent", "nothing; it was there already"))
    else:
        rows.append(("Time", _time(result.elapsed, result.rate)))
    if result.status != "ready":
        rows.append(("Status", f"{escape(result.status)}; <code>.wait_ready()</code> waits"))
    rows.append(("Verified", _verified(result.verified)))
    if result.expires_at is not None:
        rows.append(("Expires", escape(words.when(result.expires_at))))
    if result.same_as:
        rows.append(("Also", f"the same bytes are {code(result.same_as)}"))
    if not result.was_there:
        rows.append(("Parts", _counts(result.parts, result.reused, result.retries)))
    return table(_title("✓", GOOD, result.name, result.target) + pill(result.sandbox), rows)


def progress_html(
    progress: Progress, *, name: str = "", target: str = "", sandbox: bool = False
) -> str:
    """Return where an upload is, as a table."""
    rows = [("State", escape(words.headline(progress)))]
    if progress.parts:
        rows.append(("Bytes", escape(" · ".join(words.amounts(progress)))))
        rows.append(("Parts", escape(" · ".join(words.parts(progress)))))
    if text := words.clock(progress):
        rows.append(("Session", escape(text)))
    if progress.note:
        rows.append(("Note", escape(words.shown(progress.note))))
    rows += _warnings(progress)
    if progress.error is not None:
        rows.append(("Why", escape(words.shown(progress.error))))
    mark, colour = _MARKS.get(progress.state, ("▸", BRAND))
    return table(_title(mark, colour, name or "Progress", target) + pill(sandbox), rows)


def job_html(job: Any) -> str:
    """Return a job as it is now: its result when it has one, else where it is."""
    return ended_html(job, job.progress, None)


def ended_html(job: Any, progress: Progress, story: Story | None, *, brief: bool = False) -> str:
    """Return the last word on an upload: what stays in the saved notebook.

    Says how far it is when it has not ended. ``brief``: the cell's own error follows,
    which says why, what is kept and what to do.
    """
    match progress.state:
        case State.COMPLETED:
            return _completed(job, progress, story)
        case State.FAILED | State.STOPPED | State.CANCELLED:
            return _stopped(job, progress, story, brief)
    return progress_html(progress, name=job.name, target=job.target, sandbox=job.sandbox)


def ended_text(job: Any, progress: Progress, story: Story | None) -> str:
    """Return the last word on an upload as text."""
    match progress.state:
        case State.COMPLETED:
            done = progress.result
            facts = [units.size(progress.total)]
            if not progress.parts:
                facts.append("was there already, nothing was sent")
            elif story is not None:
                facts.append(_took(progress, story))
            if progress.parts:
                facts.append(_counts(progress.parts, progress.parts_reused, progress.retries))
            title = words.title(job.name, done.id if done else "")
            text = f"✓ {title} · {' · '.join(facts)}"
            if done and done.verified:
                text += f"\n  verified: {'; '.join(map(words.shown, done.verified))}"
            text += "".join(f"\n  warning: {said}" for _, said in words.warnings(progress))
        case State.FAILED:
            error = progress.error or RuntimeError("unknown")
            return trouble.screen(error, job, debug=False, sandbox=job.sandbox)
        case State.STOPPED:
            text = trouble.interrupted(job)
        case State.CANCELLED:
            title = words.title(job.name, job.target)
            text = f"◼ {title} was cancelled; {trouble.gone(job)}"
        case _:
            text = words.sentence(job.name, job.target, progress)
    return words.marked(text, job.sandbox)


def table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of (label, HTML) rows under a title, which is HTML too."""
    style = f"{_CELL};font-weight:400"
    head = f"<tr style='{_ROW}'><th colspan='2' align='left' style='{style}'>{title}</th></tr>"
    narrow = f"{_CELL};{MUTED};white-space:nowrap;width:1px"
    body = "".join(
        f"<tr style='{_ROW}'><td style='{narrow}'>{escape(label)}</td>"
        f"<td style='{_CELL};overflow-wrap:anywhere'>{html}</td></tr>"
        for label, html in rows
    )
    return f"<table style='{_TABLE}'>{head}{body}</table>"


def grid(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    """Return text in columns under a title."""
    body = "".join(_columns("td", row) for row in rows)
    foot = f" <span style='{MUTED}'>{escape(note)}</span>" if note else ""
    return (
        f"<div style='{FONT};{SIZE};{INK}'><b>{escape(title)}</b>{foot}</div>"
        f"<table style='{_TABLE}'>{_columns('th', head)}{body}</table>"
    )


def pill(sandbox: bool) -> str:
    """Return the mark that says that this went to a sandbox; "" when it did not."""
    if not sandbox:
        return ""
    style = (
        f"border:1px solid {LINE};border-radius:9px;padding:0 8px;font-size:11px;{MUTED};"
        "line-height:16px;align-self:center;flex:none"
    )
    return f" <span style='{style}'>sandbox</span>"


def code(text: object, *, limit: int = 500) -> str:
    """Return text to be copied, in the code font."""
    shown = escape(words.shown(text, limit))
    return f"<code style='{MONO};background:transparent;padding:0;{INK}'>{shown}</code>"


def size(n: int) -> str:
    """Return bytes as HTML, with the exact number beside it."""
    exact = f" <span style='{MUTED}'>({n:,} bytes)</span>" if n >= 1000 else ""
    return f"{units.size(n)}{exact}"


def _completed(job: Any, progress: Progress, story: Story | None) -> str:
    done = progress.result
    rows = [("Size", size(progress.total))]
    if done is not None:
        rows.insert(0, ("Id", code(done.id)))
    if not progress.parts:
        rows.append(("Sent", "nothing; it was there already"))
    elif story is not None:
        rows.append(("Time", _took(progress, story)))
    if done is not None:
        rows.append(("Verified", _verified(done.verified)))
        if done.expires_at is not None:
            rows.append(("Expires", escape(words.when(done.expires_at))))
    rows += _warnings(progress)
    if progress.parts:
        counts = _counts(progress.parts, progress.parts_reused, progress.retries)
        rows.append(("Parts", _part_list(counts, story)))
    title = _title("✓", GOOD, job.name, job.target)
    return table(title + pill(job.sandbox), rows)


def _warnings(progress: Progress) -> list[tuple[str, str]]:
    return [(label, escape(text)) for label, text in words.warnings(progress)]


def _stopped(job: Any, progress: Progress, story: Story | None, brief: bool) -> str:
    mark, colour = _MARKS[progress.state]
    if progress.state is State.FAILED:
        error = progress.error or RuntimeError("unknown")
        (_, what), *rest = trouble.rows(error, job, progress=progress)
    else:
        what = f"{job.name} → {job.target} was {progress.state.value}"
        rest = []
        if progress.state is State.CANCELLED:
            rest = [] if getattr(job, "left", "") else [("Kept", "nothing that could be resumed")]
        elif progress.state is State.STOPPED:
            left = trouble.kept(progress, job)
            rest = [("Kept", left)] if left else []
            if job.line:
                rest.append(("Now", f"%chunkup {job.line}"))
    rows = [
        (label, code(text) if text.startswith("%chunkup ") else escape(text))
        for label, text in (() if brief else rest)
    ]
    rows += [row for row in _warnings(progress) if row not in rows]
    if progress.parts and progress.state is not State.CANCELLED:
        counts = (
            f"{progress.parts_done:,} of "
            f"{_counts(progress.parts, progress.parts_reused, progress.retries)}"
        )
        rows.append(("Parts", _part_list(counts, story)))
    return table(
        _mark(mark, colour) + f" <b>{escape(words.shown(what))}</b>{pill(job.sandbox)}", rows
    )


def _title(mark: str, colour: str, name: str, to: str) -> str:
    arrow = f" <span style='{MUTED}'>→ {escape(words.shown(to))}</span>" if to else ""
    return f"{_mark(mark, colour)} <b>{escape(words.shown(name))}</b>{arrow}"


def _mark(mark: str, colour: str) -> str:
    return f"<span style='color:{colour}'>{mark}</span>"


def _took(progress: Progress, story: Story) -> str:
    sent = progress.total - progress.reused
    return _time(story.elapsed, sent / story.elapsed if story.elapsed > 0 else 0.0)


def _time(elapsed: float, rate: float) -> str:
    """Return seconds, and bytes a second if anything was sent."""
    return " · ".join([units.seconds(elapsed), *([units.rate(rate)] if rate else [])])


def _verified(facts: Sequence[str]) -> str:
    return "<br>".join(escape(words.shown(fact)) for fact in facts) or "no"


def _counts(parts: int, reused: int, retries: int) -> str:
    text = words.plural(parts, "part")
    said = [f"{reused:,} from before"] if reused else []
    said += [words.plural(retries, "retry").replace("retrys", "retries")] if retries else []
    return f"{text} ({', '.join(said)})" if said else text


def _part_list(summary: str, story: Story | None) -> str:
    """Return a part list that opens on a click, or the summary alone."""
    rows = sorted(dict(story.rows).values(), key=lambda row: row.number) if story else []
    if not rows:
        return escape(summary)
    # What went wrong is what somebody opens the list for: it is never cut off.
    listed = [row for row in rows if row.retries][:LISTED]
    listed += [row for row in rows if not row.retries][: LISTED - len(listed)]
    listed.sort(key=lambda row: row.number)
    more = len(rows) - len(listed)
    head = _cells("th", ("Part", "Bytes", "Time", "Retries", ""))
    body = "".join(_cells("td", _facts(row)) for row in listed)
    if more:
        body += _cells("td", (f"and {more:,} more", "", "", "", ""))
    return (
        f"<details><summary style='cursor:pointer'>{escape(summary)}</summary>"
        f"<table style='{_TABLE};font-size:12px;line-height:18px'>{head}{body}</table></details>"
    )


def _facts(row: PartRow) -> tuple[str, ...]:
    if row.reused:
        state = "from before"
    elif row.done:
        state = words.shown(row.reason, 120) if row.retries else ""
    else:
        state = "not sent" + (f": {words.shown(row.reason, 120)}" if row.reason else "")
    seconds = units.seconds(row.seconds) if row.seconds else ""
    return (f"{row.number:,}", f"{row.size:,}", seconds, str(row.retries or ""), state)


def _cells(tag: str, texts: Sequence[str]) -> str:
    found = []
    for at, text in enumerate(texts):
        align = "left" if at == len(texts) - 1 else "right"
        style = f"{_CELL};text-align:{align};font-weight:400"
        style += f";{MUTED}" if tag == "th" else ""
        found.append(f"<{tag} style='{style}'>{escape(text)}</{tag}>")
    return f"<tr style='{_ROW}'>{''.join(found)}</tr>"


def _columns(tag: str, texts: Sequence[str]) -> str:
    style = f"{_CELL};font-weight:400" + (f";{MUTED}" if tag == "th" else "")
    wrap = {True: "", False: ";white-space:nowrap"}
    cells = "".join(
        f"<{tag} align='left' style='{style}{wrap[len(text) > 48]}'>{escape(text)}</{tag}>"
        for text in texts
    )
    return f"<tr style='{_ROW}'>{cells}</tr>"
