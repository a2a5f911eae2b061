"""Running a coroutine inside the caller's running loop: the one thing a thread cannot do.

``upload()`` never needs this. It serves callers whose own objects are bound to their
running loop (an ``httpx.AsyncClient``, an async source, async callbacks) and who call a
synchronous function there. asyncio is patched for that one call and everything that was
touched is put back, so that ``uvloop``, ``asyncio.run(loop_factory=…)`` and the fast
tasks written in C work as before.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import asyncio.futures
import asyncio.tasks
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

from ..errors import InvalidUpload

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the running loop until it is done, and return its value.

    Without a running loop this is ``asyncio.run``.

    Raises:
        InvalidUpload: the running loop cannot be entered again (uvloop).
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    try:
        with _reentrant(loop):
            return loop.run_until_complete(coroutine)
    finally:
        coroutine.close()  # nothing to do when it ran to its end


@contextmanager
def _reentrant(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    if not isinstance(loop, asyncio.BaseEventLoop):
        raise InvalidUpload(
            f"nested=True needs asyncio's own event loop; this is {type(loop).__module__}'s, "
            "which cannot be entered again. Await chunkup_jupyter.start(…) instead"
        )
    if hasattr(asyncio, "_nest_patched") and hasattr(loop, "_nest_patched"):
        yield  # somebody wants it patched for good
        return
    touched = _touched(loop)
    before = [(thing, dict(vars(thing))) for thing in touched]
    try:
        _nest().apply(loop)
        yield
    finally:
        for thing, names in before:
            _restore(thing, names)


def _touched(loop: asyncio.AbstractEventLoop) -> list[Any]:
    """Return the modules and classes whose attributes the patch replaces."""
    things: list[Any] = [asyncio, asyncio.events, asyncio.futures, asyncio.tasks, type(loop)]
    if sys.version_info < (3, 14):  # there are no policies any more
        things.append(type(asyncio.get_event_loop_policy()))
    if tornado := sys.modules.get("tornado.concurrent"):
        things.append(tornado)
    return things


def _restore(thing: Any, names: dict[str, Any]) -> None:
    now = vars(thing)
    for name in [name for name in now if name not in names]:
        delattr(thing, name)
    for name, value in names.items():
        if now.get(name) is not value:
            setattr(thing, name, value)


def _nest() -> ModuleType:
    """Return nest-asyncio's continuation where it is installed, else nest-asyncio."""
    try:
        import nest_asyncio2
    except ImportError:
        import nest_asyncio  # the declared one below Python 3.14, where it works

        return nest_asyncio  # type: ignore[no-any-return]
    return nest_asyncio2  # type: ignore[no-any-return]
