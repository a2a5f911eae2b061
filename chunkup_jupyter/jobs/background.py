"""The one background thread with its private event loop, on which uploads live."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def loop() -> asyncio.AbstractEventLoop:
    """Return the running background loop; the first call starts it.

    A daemon thread, so that the interpreter can leave. A forked child starts its own:
    threads do not survive a fork.
    """
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="chunkup-io", daemon=True).start()
        return _loop


def _forked() -> None:
    """In a forked child: the thread stayed behind, perhaps while it held the lock."""
    global _lock, _loop
    _lock, _loop = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine there; return its future.

    In an empty context: with the caller's, a kernel would route the last updates to a
    cell that has ended (measured with ipykernel 7.4).
    """
    return contextvars.Context().run(asyncio.run_coroutine_threadsafe, coroutine, loop())


def on_loop() -> bool:
    """Say whether the caller runs on the background thread, where waiting would deadlock."""
    try:
        return asyncio.get_running_loop() is _loop
    except RuntimeError:
        return False
