"""What networks and busy servers do to requests, on purpose and repeatably.

``Faulty`` wraps any sandbox: by a script, or by chance from a seeded generator. In
memory a broken connection is ``wire.Dropped``; behind ``serve`` it breaks the socket.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any
from urllib.parse import urlsplit

from ..wire import Dropped, Headers, Stalled
from . import Answer, Blob, Call, Sandbox


class Fault(StrEnum):
    """What can happen to a request. *Carried out* says that the server did as it was told."""

    REFUSE = "refuse"  # 503, not carried out
    SLOW_DOWN = "slow down"  # 429 with Retry-After, not carried out
    DROP_BEFORE = "drop before"  # the connection breaks, not carried out
    DROP_AFTER = "drop after"  # carried out, the connection breaks
    LOSE_ANSWER = "lose answer"  # carried out, answered 503
    STALL = "stall"  # no answer ever comes, not carried out
    EXPIRE_URLS = "expire urls"  # every URL handed out so far is void; then carried out
    SLOW = "slow"  # carried out, late
    FLIP = "flip"  # one byte of the file differs; carried out
    KEEP_HALF = "keep half"  # carried out with half the body, then the connection breaks


COMMON = (
    Fault.REFUSE,
    Fault.SLOW_DOWN,
    Fault.DROP_BEFORE,
    Fault.DROP_AFTER,
    Fault.LOSE_ANSWER,
    Fault.STALL,
    Fault.EXPIRE_URLS,
)
"""What a protocol has to survive however often it happens, if not too often in a row."""


@dataclass(frozen=True)
class On:
    """A fault for the ``nth`` request (from 1) that matches, and the ``times - 1`` after it.

    ``path`` is searched as a regular expression in path and query; "" matches all, and
    so does an empty ``method``. ``times=0`` is for ever.
    """

    fault: Fault
    method: str = ""
    path: str = ""
    nth: int = 1
    times: int = 1

    def matches(self, method: str, url: str) -> bool:
        """Say whether a request is of the kind that is counted."""
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return self.method in ("", method) and re.search(self.path, target) is not None

    def strikes(self, count: int) -> bool:
        """Say whether the request that is number ``count`` of its kind is hit."""
        return count >= self.nth and (not self.times or count < self.nth + self.times)


class Faulty(Sandbox):
    """A sandbox with faults. Everything else about it is the wrapped sandbox's.

    The first entry of ``script`` that strikes decides; if none does, chance does:
    with probability ``rate`` one of ``faults`` happens, but never more than
    ``in_a_row`` times in a row to the same method and path, so that a client that
    tries often enough gets through. ``retry_after`` and ``delay`` are in seconds,
    ``sleep`` is what waits. ``injected`` counts what happened.
    """

    def __init__(
        self,
        inner: Sandbox,
        *,
        script: Sequence[On] = (),
        rate: float = 0.0,
        faults: Sequence[Fault] = COMMON,
        random: Random | None = None,
        in_a_row: int = 4,
        retry_after: float = 1,
        delay: float = 0.05,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.inner = inner
        super().__init__(store=inner.store, now=inner.now, base=inner.base)
        self.seen, self.lock = inner.seen, inner.lock
        self.script = list(script)
        self.rate = rate
        self.faults = tuple(faults)
        self.random = random or Random(0)
        self.in_a_row = in_a_row
        self.retry_after = retry_after
        self.delay = delay
        self.sleep = sleep
        self.injected: Counter[Fault] = Counter()
        self._counts: Counter[On] = Counter()
        self._row: Counter[tuple[str, str]] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)

    @property
    def base(self) -> str:
        """The server's own origin: it is the wrapped sandbox that makes URLs."""
        return self.inner.base

    @base.setter
    def base(self, origin: str) -> None:
        self.inner.base = origin

    @property
    def base_url(self) -> str:
        """What the vendor's SDK and our provider take as their base URL or endpoint."""
        return self.inner.base_url

    @property
    def name(self) -> str:  # type: ignore[override]  # a class variable there
        """The wrapped sandbox's name."""
        return self.inner.name

    def take(self, method: str, url: str, headers: Headers, body: Blob) -> Answer:
        """Answer one call, or do to it what is its turn. Raises ``Dropped``, ``Stalled``."""
        with self.lock:
            fault = self._choose(method, url, headers, body)
            if fault is not None:
                self.injected[fault] += 1
        match fault:
            case Fault.REFUSE:
                return self._refusal(url)
            case Fault.SLOW_DOWN:
                return self._refusal(url, 429, {"retry-after": f"{self.retry_after:g}"})
            case Fault.DROP_BEFORE:
                raise Dropped("the connection broke")
            case Fault.STALL:
                raise Stalled("no answer came")
            case Fault.EXPIRE_URLS:
                getattr(self.inner, "expire_urls", lambda: None)()
            case Fault.SLOW:
                self.sleep(self.delay)
            case Fault.FLIP:
                body = self._flipped(headers, body)
            case Fault.KEEP_HALF:
                body = body.slice(0, body.size // 2)
        answer = self.inner.take(method, url, headers, body)
        if fault in (Fault.DROP_AFTER, Fault.KEEP_HALF):
            raise Dropped("the connection broke")
        return self._refusal(url) if fault is Fault.LOSE_ANSWER else answer

    def shrink(self, **limits: Any) -> None:
        """Replace documented limits, by field name."""
        self.inner.shrink(**limits)

    def answer(self, call: Call) -> Answer:
        """Answer one call without any fault."""
        return self.inner.answer(call)

    def announce(self) -> Mapping[str, str]:
        """Return what the wrapped sandbox announces."""
        return self.inner.announce()

    def environment(self) -> Mapping[str, str]:
        """Return the wrapped sandbox's variables."""
        return self.inner.environment()

    def finished(self) -> Mapping[str, Blob]:
        """Return what uploads made, by result id."""
        return self.inner.finished()

    def unfinished(self) -> Sequence[str]:
        """Return the ids of sessions that are still open."""
        return self.inner.unfinished()

    def _choose(self, method: str, url: str, headers: Headers, body: Blob) -> Fault | None:
        chosen = None
        for entry in self.script:
            if entry.matches(method, url):
                self._counts[entry] += 1
                if chosen is None and entry.strikes(self._counts[entry]):
                    chosen = entry.fault
        if chosen is not None:
            return chosen
        # Both numbers are drawn for every request, so that one request more or less
        # of one kind shifts the schedule and changes nothing else about it.
        strikes, which = self.random.random() < self.rate, self.random.random()
        kind = method, urlsplit(url).path
        if not strikes or self._row[kind] >= self.in_a_row or not self.faults:
            self._row[kind] = 0
            return None
        fault = self.faults[int(which * len(self.faults))]
        if fault is Fault.FLIP and not _carries_file(headers, body):
            fault = Fault.DROP_BEFORE  # transport security keeps everything else whole
        if fault is Fault.KEEP_HALF and method != "PATCH":
            fault = Fault.DROP_BEFORE  # nobody else keeps the beginning of a broken request
        self._row[kind] += 1
        return fault

    def _refusal(
        self, url: str, status: int = 503, headers: Mapping[str, str] | None = None
    ) -> Answer:
        fields = {"content-type": "text/html", **(headers or {})}
        page = f"<html><body><h1>{status}</h1></body></html>\n".encode()
        return self.inner.dated(Answer(status, Headers(fields), page), url)

    def _flipped(self, headers: Headers, body: Blob) -> Blob:
        """Return the body with one bit of the file's bytes changed."""
        start, end = _file_range(headers, body)
        if start >= end:
            return body
        at = start + int(self.random.random() * (end - start))
        wrong = bytes([body.slice(at, 1).read()[0] ^ 1])
        return body.slice(0, at) + Blob.of(wrong) + body.slice(at + 1, body.size - at - 1)


def _carries_file(headers: Headers, body: Blob) -> bool:
    """Say whether a body is a file's bytes rather than words about it."""
    kind = headers.get("content-type", "").partition(";")[0]
    return bool(body.size) and not kind.endswith(("json", "xml"))


def _file_range(headers: Headers, body: Blob) -> tuple[int, int]:
    """Return where the file's bytes start and end in a body: a form wraps them up."""
    if not headers.get("content-type", "").startswith("multipart/form-data"):
        return 0, body.size
    tail = max(0, body.size - 1024)
    start = body.read(4096).find(b"\r\n\r\n") + 4
    return start, tail + max(0, body.slice(tail, 1024).read().rfind(b"\r\n--"))
