"""How our objects show themselves in a cell: as HTML and text, and only once.

Types are known by their names, so that nothing is imported before there is an object.
"""

from __future__ import annotations

from typing import Any

_PACKAGE = __package__.rpartition(".")[0]
_KINDS = tuple(
    f"{_PACKAGE}.{name}"
    for name in (
        "jobs.results.UploadResult",
        "jobs.Job",
        "jobs.batch.Batch",
        "jobs.batch.BatchResult",
        "plan.Plan",
        "events.Progress",
    )
)

# What the running cell of each shell has put on screen itself: not displayed again.
_on_screen: dict[int, tuple[int, Any]] = {}


def add(shell: Any) -> None:
    """Teach a shell to display our objects; a kernel's keeps quiet about what a cell showed."""
    formatters = shell.display_formatter.formatters
    for kind in _KINDS:
        formatters["text/html"].for_type_by_name(*kind.rsplit(".", 1), html)
    if getattr(shell, "kernel", None) is not None:
        own = shell.display_formatter.ipython_display_formatter
        for kind in _KINDS:
            own.for_type_by_name(*kind.rsplit(".", 1), lambda value: _show(shell, value))


def remove(shell: Any) -> None:
    """Take away what ``add`` gave."""
    formatters = shell.display_formatter.formatters
    for kind in _KINDS:
        formatters["text/html"].pop(kind, None)
        shell.display_formatter.ipython_display_formatter.pop(kind, None)
    _on_screen.pop(id(shell), None)


def remember(shell: Any, value: Any) -> None:
    """Remember that the running cell has shown the value already."""
    _on_screen[id(shell)] = (shell.execution_count, value)


def html(value: Any) -> str:
    """Return one of our objects as HTML."""
    from ..jobs import Job
    from ..jobs.batch import Batch, BatchResult
    from ..jobs.results import UploadResult
    from ..plan import Plan
    from . import cards, several

    match value:
        case UploadResult():
            return cards.result_html(value)
        case Job():
            return cards.job_html(value)
        case Batch():
            return several.batch_html(value)
        case BatchResult():
            return several.results_html(value)
        case Plan():
            return cards.plan_html(value)
    return cards.progress_html(value)


def _show(shell: Any, value: Any) -> None:
    from ..plan import Plan
    from . import cards, words

    count, shown = _on_screen.get(id(shell), (-1, None))
    known = shown if isinstance(shown, list) else [shown]
    if count != shell.execution_count or not any(value is one for one in known):
        text = words.plan_text(value) if isinstance(value, Plan) else repr(value)
        cards.put_on_screen(html(value), text)
