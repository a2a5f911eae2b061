"""The optional other way to send bodies: pyreqwest, behind httpx's own transport interface.

Taken when ``CHUNKUP_FAST`` is set, for bodies that stream. What it brings depends on the
machine: up to twice the rate over TLS on some, nothing on others (measured 2026-11), so
measure yours: ``python -m tests.benchmarks transports``. It is not the default where it
is installed, because it cannot see what the system has not sent yet: a very slow link is
cut and tried again, where the stock transport waits. It trusts the system's
certificates, or ``SSL_CERT_FILE``; never follows, decodes or goes through a proxy.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from functools import lru_cache
from typing import Any

# What the URL library behind it leaves as it stands, seen on the wire (pyreqwest 0.15).
# A quote in a query, braces and the like would be encoded, a dot segment resolved.
_PATH = r"(?:/(?!(?:\.|%2[eE]){1,2}(?:/|\?|$))(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)+"
_QUERY = r"(?:[A-Za-z0-9._~!$&()*+,;=:@/?-]|%[0-9A-Fa-f]{2})+"
_ORIGIN = r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::\d{1,5})?"
_EXACT = re.compile(rf"{_ORIGIN}{_PATH}(?:\?{_QUERY})?")

_forked = False


def fits(url: str) -> bool:
    """Say whether it is wanted, installed, and sends this URL exactly as it is written."""
    if _forked or not os.environ.get("CHUNKUP_FAST"):
        return False
    return _library() is not None and bool(_EXACT.fullmatch(url))


def transport() -> Any:
    """Return a new transport of httpx's kind. Only where ``fits`` says so."""
    library = _library()
    assert library is not None
    builder_kind, transport_kind = library
    builder = builder_kind().http1_only().no_proxy().follow_redirects(False).referer(False)
    for coding in ("gzip", "brotli", "zstd", "deflate"):
        builder = getattr(builder, coding)(False)
    # Idle connections are given up after the same time as the stock transport's.
    client = builder.pool_idle_timeout(timedelta(seconds=5)).build()
    return transport_kind(client)


def distrusts(error: Exception) -> bool:
    """Say whether it found no reason to trust the server's certificate."""
    return "certificate" in str(getattr(error.__cause__, "details", ""))


@lru_cache(maxsize=1)
def _library() -> tuple[Any, Any] | None:
    """Return what builds clients and transports; importing it takes 30 ms, so not before."""
    try:
        from pyreqwest.client import ClientBuilder
        from pyreqwest.compatibility.httpx import HttpxTransport
    except ImportError:
        return None
    return ClientBuilder, HttpxTransport


def _after_fork() -> None:
    """In a forked child: its threads, which send, stayed behind."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
