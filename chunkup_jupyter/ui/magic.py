"""``%chunkup`` as IPython knows it: the magic, its settings, and all that loading adds.

Nothing of an upload is imported until there is a line to carry out: loading is quick.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

from IPython.core.completer import SimpleCompletion, context_matcher
from IPython.core.magic import Magics, line_magic, magics_class
from traitlets import Bool, Enum, Integer, TraitError, Unicode, Union, validate

from .. import units
from . import awaiting, displays, options

_LINE = re.compile(r"(?:^|=)\s*%chunkup\s(?P<rest>.*)$")


def _help() -> str:
    from .parsers import help_text

    return help_text()


@magics_class
class Chunkup(Magics):
    """The magic and its settings: ``%config Chunkup.jobs = 8``."""

    jobs = Integer(
        None, min=1, max=64, allow_none=True, help="Parts in flight at once; None: found by trying"
    ).tag(config=True)
    files = Integer(2, min=1, max=64, help="Files on their way at once").tag(config=True)
    part_size = Union(
        [Integer(min=1), Unicode()],
        default_value=None,
        allow_none=True,
        help="Bytes or '16M'; None: planned from file and provider",
    ).tag(config=True)
    verify = Enum(options.VERIFY, "auto", help="Compare checksums").tag(config=True)
    wait_ready = Bool(
        None, allow_none=True, help="Wait until the provider has processed the file"
    ).tag(config=True)
    check = Bool(True, help="Look at the file before sending it").tag(config=True)
    sandbox = Bool(False, help="Upload to a local server instead").tag(config=True)
    progress = Enum(options.PROGRESS, "auto", help="How to show progress").tag(config=True)
    debug = Bool(False, help="Add the traceback to an error").tag(config=True)

    @validate("part_size")
    def _a_size(self, proposal: dict[str, Any]) -> int | None:
        value = proposal["value"]
        try:
            return None if value is None else units.parse_size(value)
        except ValueError as error:
            raise TraitError(str(error)) from None

    @line_magic
    def chunkup(self, text: str = "") -> Any:
        """Upload files: ``%chunkup SOURCE... DEST [options]``; ``%chunkup?`` says it all."""
        from .cell import Call

        return Call(self, text).block()

    # IPython asks this first, so that the whole help is made when somebody wants it.
    chunkup.getdoc = _help  # type: ignore[union-attr]

    @line_magic
    def chunkup_await(self, text: str = "") -> Any:
        """What a top-level ``%chunkup`` becomes: it awaits instead of blocking."""
        from .cell import Call

        return Call(self, text).wait()


@context_matcher()  # type: ignore[untyped-decorator]
def completions(context: Any) -> Any:
    """Return what may stand at the cursor of our lines; elsewhere nothing."""
    found = _LINE.search(context.text_until_cursor.split("\n")[-1])
    if found is None:
        return {"completions": [], "suppress": False}
    from .complete import suggest

    fragment, offered = suggest(found["rest"])
    return {
        "completions": [SimpleCompletion(text=text, type=kind) for text, kind in offered],
        "matched_fragment": fragment,
        "suppress": bool(offered),
        "ordered": True,
    }


def load(shell: Any) -> None:
    """Add the magic, its completions, its awaiting and the HTML of our objects to a shell."""
    unload(shell)
    shell.register_magics(Chunkup)
    shell.Completer.custom_matchers.append(completions)
    shell.input_transformers_post.append(awaiting.transform)
    displays.add(shell)


def unload(shell: Any) -> None:
    """Remove everything that ``load`` added. May be repeated."""
    found = shell.magics_manager.registry.pop("Chunkup", None)
    if found is not None:
        for name in ("chunkup", "chunkup_await"):
            shell.magics_manager.magics["line"].pop(name, None)
        with contextlib.suppress(ValueError):
            shell.configurables.remove(found)
    for added, one in (
        (shell.Completer.custom_matchers, completions),
        (shell.input_transformers_post, awaiting.transform),
    ):
        if one in added:
            added.remove(one)
    displays.remove(shell)
