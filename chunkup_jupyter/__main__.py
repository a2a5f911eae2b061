"""The magic's grammar from a shell: ``chunkup FILE DEST [options]``, or a verb.

Progress goes to standard error; the result's id stands alone on the last line of
standard output. Exit status: 0 only after the provider confirmed, 1 for a failed
upload, 2 when nothing was sent because the line, the file or the key has to be mended,
130 for an interrupt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, NoReturn

from . import signals
from .errors import (
    ChunkupError,
    CredentialsMissing,
    InvalidUpload,
    SomeFailed,
    SourceError,
    UploadInterrupted,
)
from .ui.grammar import BadLine, HelpAsked, Line, parse
from .ui.terminal import let_go, open_streams, tell

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one line; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["sandbox"]:
        from .sandbox.command import main as sandbox

        return sandbox(words[1:])
    try:
        line = parse(words)
        _fit_for_a_shell(line)
        with _stopping():
            return _carry_out(line)
    except HelpAsked as asked:
        print(str(asked).rstrip())
        return 0
    except BadLine as error:
        tell(f"chunkup: {error}")
        return USAGE


def run() -> NoReturn:
    """Be the ``chunkup`` program."""
    open_streams()
    try:
        status = main()
        sys.stdout.flush()
    except OSError as error:
        let_go(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # `chunkup --help | head`: nobody reads on
            why = f"standard output cannot be written: {error.strerror}"
            tell(f"chunkup: {why}; `chunkup history` has the ids")
        status = FAILED
    try:
        sys.stderr.flush()
    except OSError:
        let_go(sys.stderr)
    sys.exit(status)


def _carry_out(line: Line) -> int:
    # Imported here, so that help and usage errors come at once.
    from .jobs.results import UploadResult
    from .plan import Plan
    from .ui import running, several, trouble, verbs, words
    from .ui.bars import View, choose

    trail = running.Trail()

    def view(line: Line, *, many: bool = False) -> View:
        choice = several.choose if many else choose
        return choice("text" if line.progress == "auto" else line.progress)

    try:
        if line.verb:
            outcome = running.block(verbs.carry_out(line, view, trail, prompt="chunkup "))
            print(outcome.text if isinstance(outcome, verbs.Told) else str(outcome))
            return 0
        outcome = running.block(running.steps(line, view, trail))
    except SomeFailed as error:
        for one in error.results:
            if isinstance(one, UploadResult):
                print(one)
        _explain(trouble, error, trail.job, line)
        return FAILED
    except UploadInterrupted as error:
        _explain(trouble, error, trail.job, line)
        return INTERRUPTED
    except KeyboardInterrupt:
        tell("chunkup: interrupted")
        return INTERRUPTED
    except ChunkupError as error:
        _explain(trouble, error, trail.job, line)
        return USAGE if _mendable(error, trail.job) else FAILED
    if isinstance(outcome, Plan):
        print(words.plan_text(outcome))
    elif line.dry_run:
        print(words.plans_text(outcome))
    else:
        for one in [outcome] if isinstance(outcome, UploadResult) else outcome:
            print(one)
    return 0


def _explain(trouble: Any, error: BaseException, job: Any, line: Line) -> None:
    text = trouble.screen(
        error,
        job,
        prompt="chunkup ",
        debug=line.debug,
        sandbox=line.sandbox,
        sources=(line.sources, line.dest),
    )
    tell(text)


def _mendable(error: ChunkupError, job: Any) -> bool:
    """Say whether nothing was sent, and line, file or key have to be mended."""
    unread = isinstance(error, SourceError) and job is None
    return unread or isinstance(error, InvalidUpload | CredentialsMissing)


def _fit_for_a_shell(line: Line) -> None:
    if line.detach:
        raise BadLine("--detach is for notebooks; a shell has & and nohup")
    if line.out:
        raise BadLine("--out names a notebook's variable; a shell has $(…)")
    if line.progress in ("html", "widget"):
        raise BadLine(f"--progress {line.progress} is for notebooks; there are auto, text and none")
    if line.verb == "panel":
        raise BadLine("the panel needs a notebook: %chunkup panel")


def _stopping() -> AbstractContextManager[None]:
    """Let SIGTERM stop as Ctrl-C does, resumably; a third signal ends the process at once."""
    count = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > 2:
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt

    return signals.handled(stop)


if __name__ == "__main__":
    run()
