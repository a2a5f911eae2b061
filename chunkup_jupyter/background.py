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
_owner = 0


def loop() -> asyncio.AbstractEventLoop:
    """Return the running background loop; the first call starts it.

    A daemon thread, so that the interpreter can leave. A forked child starts its own:
    threads do not survive a fork.
    """
    global _loop, _owner
    with _lock:
        if _loop is None or _owner != os.getpid() or _loop.is_closed():
            _loop, _owner = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_loop.run_forever, name="chunkup-io", daemon=True).start()
        return _loop


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
