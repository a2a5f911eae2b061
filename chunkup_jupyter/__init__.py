"""Big files from a notebook to providers that take them in parts.

In a cell, ``%load_ext chunkup_jupyter`` and then ``%chunkup FILE DEST``; in Python,
``upload(source, dest)`` and ``start(source, dest)``; from a shell, ``chunkup FILE DEST``.
"""

# ruff: noqa: F401  these imports are for type checkers; __all__ is made from the table

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import (
        AlreadyUploading,
        AnswerLost,
        AuthError,
        ChunkupError,
        CredentialsMissing,
        EmptyFile,
        InsecureConnection,
        IntegrityError,
        InvalidUpload,
        NameNeeded,
        NotRegularFile,
        OutcomeUnknown,
        ProtocolError,
        ProviderError,
        Refused,
        SessionLost,
        SomeFailed,
        SourceChanged,
        SourceError,
        SourceGone,
        Unreachable,
        UploadCancelled,
        UploadInterrupted,
    )
    from .events import Event, Progress, State
    from .jobs import Job, list_jobs, start, upload
    from .jobs import plan as dry_run
    from .jobs.batch import Batch, BatchResult
    from .jobs.by_hand import Client, drive
    from .jobs.many import start_many, upload_many
    from .jobs.orders import open_sandbox
    from .jobs.results import UploadResult
    from .model import FileInfo, Part, PartReceipt, Provider, Session
    from .plan import Plan
    from .providers.openai import AzureOpenAI, OpenAI
    from .providers.oss import OSS
    from .providers.twelvelabs import TwelveLabs
    from .secrets import Secret
    from .ui.panel import Panel
    from .wire.bandwidth import set_bandwidth

# Where each public name lives. Nothing is imported until it is asked for, and none of
# them equals a module's name: importing the module would replace it.
_HOMES = {
    "errors": (
        "AlreadyUploading AnswerLost AuthError ChunkupError CredentialsMissing EmptyFile "
        "InsecureConnection IntegrityError InvalidUpload NameNeeded NotRegularFile "
        "OutcomeUnknown ProtocolError ProviderError Refused SessionLost SomeFailed "
        "SourceChanged SourceError SourceGone Unreachable UploadCancelled UploadInterrupted"
    ),
    "events": "Event Progress State",
    "wire.bandwidth": "set_bandwidth",
    "jobs.batch": "Batch BatchResult",
    "jobs.many": "start_many upload_many",
    "jobs.by_hand": "Client drive",
    "jobs": "Job dry_run list_jobs start upload",
    "model": "FileInfo Part PartReceipt Provider Session",
    "jobs.orders": "open_sandbox",
    "plan": "Plan",
    "providers.openai": "AzureOpenAI OpenAI",
    "providers.oss": "OSS",
    "providers.twelvelabs": "TwelveLabs",
    "jobs.results": "UploadResult",
    "secrets": "Secret",
    "ui.panel": "Panel",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
_SPELLED = {"dry_run": "plan"}  # in its module; here the module ``plan`` has that name

__all__ = [
    "__version__",
    "load_ipython_extension",
    "unload_ipython_extension",
    *sorted(_HOME),
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), _SPELLED.get(name, name))
    globals()[name] = value
    _teach()
    return value


@cache
def _teach() -> None:
    """Let a notebook display our objects as they are meant, without the magic, too."""
    shells: Any = sys.modules.get("IPython")
    if shells is not None and (shell := shells.get_ipython()) is not None:
        from .ui import displays

        displays.add(shell)


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """Add ``%chunkup`` to a shell. Prints nothing."""
    from .ui.magic import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Remove everything that loading added."""
    from .ui.magic import unload

    unload(shell)
