"""Runs a flow: sends each request it yields, counts, and retries until the answer counts."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from .answers import problem
from .errors import (
    AnswerLost,
    InsecureConnection,
    InvalidUpload,
    ProtocolError,
    Refused,
    Unreachable,
)
from .model import Flow, Rules
from .wire import (
    BadAnswer,
    Client,
    Malformed,
    NotConnected,
    Patience,
    Request,
    Response,
    Stalled,
    Untrusted,
    WireError,
)

T = TypeVar("T")

MOST_PATIENT = 4  # times the usual wait for an answer, after one that did not come
_DOUBLINGS = 64  # of a wait at most: far beyond any cap, and no number grows too large

_PATIENCE = Patience()
_COMPLETING = Patience(answer=300.0)  # putting 10,000 parts together takes minutes


@dataclass(frozen=True)
class Policy:
    """How stubborn to be. All times in seconds.

    The wait before attempt n+1 is drawn from 0 to ``min(cap, base * 2**n)`` (full
    jitter), unless the server names one; one above ``longest`` is an error, but for a
    ``once`` request, which is looked into after that. Eight attempts lose one request in
    a million when one in ten fails. ``outage`` is how long to go on probing a network
    that worked before.
    """

    attempts: int = 8
    base: float = 0.5
    cap: float = 16.0
    longest: float = 120.0
    outage: float = 600.0
    patience: Patience = _PATIENCE
    completing: Patience = _COMPLETING

    def wait(self, attempt: int, rng: random.Random) -> float:
        """Return the wait after the ``attempt``-th failure, counted from 1."""
        doublings = min(attempt - 1, _DOUBLINGS)  # an outage may be probed thousands of times
        return rng.uniform(0, min(self.cap, self.base * 2**doublings))


class Line:
    """The network as all requests of one upload see it.

    Once it has worked, a failure to connect is an outage: one request probes, the
    others wait without using up their attempts.
    """

    def __init__(self) -> None:
        self.worked = False
        self._up = asyncio.Event()
        self._up.set()

    @property
    def down(self) -> bool:
        """Whether somebody is probing."""
        return not self._up.is_set()

    def lost(self) -> bool:
        """Note a failure to connect; True makes the caller the one that probes."""
        if self.down:
            return False
        self._up.clear()
        return True

    def back(self) -> None:
        """Note that an answer came."""
        self.worked = True
        self.open()

    def open(self) -> None:
        """Let those that wait try again."""
        self._up.set()

    async def wait(self) -> None:
        """Wait until the network is back."""
        await self._up.wait()


@dataclass
class Transport:
    """Sends what flows yield.

    ``count(number, bytes)`` is told how much of a part has been handed over in this
    attempt; ``retried(number, attempt, wait, reason)`` before each wait;
    ``waiting(reason)`` when the network goes, and with "" when it is back;
    ``trouble()`` when the server is overrun (429, 503, a stall).
    """

    client: Client
    rules: Rules
    policy: Policy = field(default_factory=Policy)
    count: Callable[[int, int], None] = lambda number, size: None
    retried: Callable[[int, int, float, str], None] = lambda number, attempt, wait, reason: None
    waiting: Callable[[str], None] = lambda reason: None
    trouble: Callable[[], None] = lambda: None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=random.Random)
    line: Line = field(default_factory=Line)
    reached: bool = False
    """Whether any request may have got to a server, be it in part."""

    async def run(self, flow: Flow[T], number: int = 0) -> T:
        """Run a flow to its end and return its value; ``number`` is the part it sends.

        Raises what the flow raises, ``Unreachable`` when every attempt at a request
        failed, ``InsecureConnection`` when TLS did.
        """
        lost = 0
        try:
            request = next(flow)
            while True:
                try:
                    response = await self._settle(request, number, lost)
                except AnswerLost as error:
                    lost += 1
                    if lost >= self.policy.attempts:
                        raise Unreachable(str(error), attempts=lost) from error
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    async def _settle(self, request: Request, number: int, lost: int) -> Response:
        """Return the answer that counts.

        A ``once`` request is sent once: whatever leaves its fate open, a gateway's word
        among it, is an ``AnswerLost``, raised after the wait that would have preceded a
        retry.
        """
        attempt, stalls = 0, 0
        while True:
            if self.line.down:
                await self.line.wait()
            attempt += 1
            self.count(number, 0)
            reason, hinted = "", None
            response: Response | None = None
            try:
                response = await self._send(request, number, stalls)
            except NotConnected as error:
                if self.line.worked and await self._outage(request, error):
                    attempt -= 1
                    continue
                reason = str(error)
            except Untrusted as error:
                raise InsecureConnection(str(error)) from None
            except Malformed as error:
                raise InvalidUpload(str(error)) from None
            except BadAnswer as error:
                if not request.once:
                    raise ProtocolError(f"{request.host}: {error}", host=request.host) from None
                reason = str(error)
            except WireError as error:
                reason = str(error)
                if isinstance(error, Stalled):
                    stalls += 1
                    self.trouble()
            else:
                self.line.back()
                if self._settled(response, request.once):
                    return response
                code, _ = problem(response)
                reason = f"{request.host} answered {response.status}{' ' + code if code else ''}"
                hinted = self._hint(response, request)
                if response.status in (429, 503):
                    self.trouble()
            tries = attempt + lost
            if not request.once and tries >= self.policy.attempts:
                if response is not None:
                    return response
                raise Unreachable(f"{reason}; gave up after {tries} attempts", attempts=tries)
            wait = hinted or self.policy.wait(tries, self.rng)
            self.retried(number, tries, wait, reason)
            await self.sleep(wait)
            if request.once:
                raise AnswerLost(reason, attempts=tries)

    async def _send(self, request: Request, number: int, stalls: int) -> Response:
        sent = 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            self.count(number, sent)

        patience = self.policy.completing if request.once else self.policy.patience
        if request.within is not None:
            patience = replace(patience, answer=request.within)
        if stalls:
            # A link with large buffers hides how slow it is: be more patient next time.
            longer = patience.answer * min(2**stalls, MOST_PATIENT)
            patience = replace(patience, answer=longer)
        reached = True
        try:
            return await self.client.send(request, count, patience)
        except (NotConnected, Untrusted, Malformed):
            reached = False
            raise
        finally:
            self.reached = self.reached or reached

    async def _outage(self, request: Request, error: WireError) -> bool:
        """Wait for a network that worked before; False when it is gone for good."""
        if not self.line.lost():
            await self.line.wait()
            return True
        self.waiting(f"waiting for the network: {error}")
        try:
            began, attempt = self.clock(), 0
            while self.clock() - began < self.policy.outage:
                attempt += 1
                await self.sleep(self.policy.wait(attempt, self.rng) + self.policy.base / 2)
                try:
                    await self.client.send(
                        Request("HEAD", _origin(request.url), public_only=request.public_only)
                    )
                except NotConnected:
                    continue
                except WireError:
                    pass  # somebody is there; the real request will tell
                return True
            self.line.worked = False  # the attempts are counted again
            return False
        finally:
            self.line.open()
            self.waiting("")

    def _settled(self, response: Response, once: bool) -> bool:
        passing = response.status in self.rules.retry_on
        # Whoever fails may have carried it out before, and not know it: that says no more
        # of what became of a request than silence.
        failed = once and (passing or response.status >= 500)
        # OpenAI's own word on it, which its SDK (3.52) puts above the status.
        said = response.headers.get("x-should-retry", "").lower()
        if not failed and response.status >= 400 and said in ("true", "false"):
            return said == "false"
        if not failed and not passing:
            return True
        return bool(self.rules.fatal_codes) and problem(response)[0] in self.rules.fatal_codes

    def _hint(self, response: Response, request: Request) -> float | None:
        """Return the wait in seconds the server asks for, None when it names none.

        Raises:
            Refused: it asks for more than the policy's longest wait, and there is nothing
                to look into.
        """
        wait = retry_after(response, self.now())
        if wait is not None and wait > self.policy.longest:
            if request.once:
                return self.policy.longest
            raise Refused(
                f"{request.host} answered {response.status} and asks to wait "
                f"{wait:,.0f} s, which is longer than {self.policy.longest:.0f} s",
                status=response.status,
                host=request.host,
            )
        return wait


def retry_after(response: Response, now: float) -> float | None:
    """Return the seconds a server asks to wait; nonsense and the past count as unasked."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = response.headers.get(name, "").strip()
        if not text:
            continue
        try:
            wait = float(text) * scale
        except ValueError:
            try:
                wait = email.utils.parsedate_to_datetime(text).timestamp() - now
            except (ValueError, TypeError, OverflowError):
                continue
        if 0 <= wait < float("inf"):
            return wait
    # When the window of a rate limit ends, in Unix seconds: TwelveLabs, Rate limits, 2026-11.
    reset = response.headers.get("x-ratelimit-reset", "")
    if response.status == 429 and reset.isdecimal() and len(reset) <= 12:
        return max(0.0, int(reset) - now) or None
    return None


def _origin(url: str) -> str:
    """Return scheme and host of a URL: what a probe asks for, without path or query."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}/"
