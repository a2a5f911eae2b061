"""Retries, waits, lost answers and outages, with a clock that moves only when somebody sleeps."""

from __future__ import annotations

import asyncio
import email.utils
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkup_jupyter.errors import (
    AnswerLost,
    InsecureConnection,
    InvalidUpload,
    ProtocolError,
    Refused,
    Unreachable,
)
from chunkup_jupyter.model import Rules
from chunkup_jupyter.transport import Policy, Transport, retry_after
from chunkup_jupyter.wire import (
    BadAnswer,
    Dropped,
    Headers,
    Malformed,
    NotConnected,
    Patience,
    Request,
    Response,
    Stalled,
    Untrusted,
)

NOW = 1_800_000_000.0
URL = "https://api.example/thing"
OK = Response(200, content=b"fine", url=URL)


def no(status: int, content: bytes = b"", **headers: str) -> Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, Headers(fields), content, URL)


@dataclass
class Script:
    """A client that answers by a script, and a clock; exceptions are raised."""

    outcomes: list = field(default_factory=list)
    time: float = 0.0
    sent: list[Request] = field(default_factory=list)
    patience: list[Patience] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    async def send(self, request, count=None, patience=Patience()):
        self.sent.append(request)
        self.patience.append(patience)
        await asyncio.sleep(0)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if callable(outcome):
            outcome = outcome(self)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self):
        pass

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


def one(*requests: Request):
    """A flow that sends these and returns the last answer."""
    answer = None
    for request in requests or (Request("GET", URL),):
        answer = yield request
    return answer


def made(script: Script, rules: Rules = Rules(), **options) -> Transport:
    return Transport(
        script,
        rules,
        sleep=script.sleep,
        clock=lambda: script.time,
        now=lambda: NOW + script.time,
        rng=random.Random(1),
        **options,
    )


def run(script: Script, flow=None, **options):
    return asyncio.run(made(script, **options).run(flow or one()))


@given(attempt=st.integers(1, 9999), seed=st.integers(0, 99))
def test_the_wait_is_drawn_between_nothing_and_its_bound(attempt, seed):
    wait = Policy().wait(attempt, random.Random(seed))

    assert 0 <= wait <= min(16, 0.5 * 2 ** min(attempt - 1, 9))


def test_the_waits_jitter_over_their_whole_range():
    waits = [Policy().wait(6, random.Random(seed)) for seed in range(200)]

    assert min(waits) < 1
    assert max(waits) > 15


def test_eight_attempts_are_made_and_no_more():
    script = Script([Dropped("it broke")])

    with pytest.raises(Unreachable, match="it broke; gave up after 8 attempts") as caught:
        run(script)

    assert caught.value.attempts == len(script.sent) == 8
    assert len(script.slept) == 7
    assert sum(script.slept) < 64


def test_the_last_refusal_is_given_to_the_flow():
    script = Script([no(503)])

    assert run(script).status == 503
    assert len(script.sent) == 8


def test_at_ten_percent_loss_a_hundred_parts_arrive_999_times_in_1000():
    """All of 100 parts, 300 times over: at eight attempts a loss is one in a million."""
    rng = random.Random(4)
    script = Script([lambda _: Dropped("x") if rng.random() < 0.1 else OK])

    async def uploads():
        transport = made(script)
        for _ in range(300 * 100):
            await transport.run(one())

    asyncio.run(uploads())


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520, 524, 529])
def test_what_passes_by_waiting_is_sent_again(status):
    script = Script([no(status), OK])

    assert run(script) is OK
    assert len(script.sent) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413, 301, 307])
def test_what_does_not_is_an_answer(status):
    script = Script([no(status), OK])

    assert run(script).status == status


def test_a_code_that_no_retry_mends_is_an_answer():
    rules = Rules(fatal_codes=frozenset({"insufficient_quota"}))
    script = Script([no(429, b'{"error": {"code": "insufficient_quota"}}'), OK])

    assert run(script, rules=rules).status == 429
    assert len(script.sent) == 1


DATE = email.utils.formatdate(NOW + 7, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "3"}, 3),
        ({"Retry-After": " 2.5 "}, 2.5),
        ({"Retry-After": "119"}, 119),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "nonsense", "Retry-After": "4"}, 4),
        ({"Retry-After": DATE}, 7),
        ({"X-Ratelimit-Reset": str(int(NOW) + 9)}, 9),
        ({"X-Ratelimit-Reset": str(int(NOW) + 9), "Retry-After": "4"}, 4),
    ],
)
def test_the_wait_a_server_asks_for_is_kept(headers, wait):
    script = Script([Response(429, Headers(headers), url=URL), OK])

    run(script)

    assert script.slept == [wait]


@pytest.mark.parametrize(
    "text",
    ["-5", "soon", "nan", "inf", "", "Mon, 99 Foo", email.utils.formatdate(NOW - 60), "9" * 400],
)
def test_a_wait_that_makes_no_sense_is_unasked(text):
    assert retry_after(no(503, retry_after=text), NOW) is None


@pytest.mark.parametrize("reset", ["soon", "-1", "12.5", str(int(NOW) - 1), "9" * 400])
def test_the_end_of_a_limit_that_makes_no_sense_is_no_wait(reset):
    fields = Headers({"x-ratelimit-reset": reset})

    assert retry_after(Response(200, fields), NOW) is None
    assert retry_after(Response(429, fields), NOW) is None


@pytest.mark.parametrize(
    ("status", "word", "sent"), [(503, "false", 1), (400, "true", 2), (503, "perhaps", 2)]
)
def test_a_servers_own_word_on_retrying_counts_more_than_its_status(status, word, sent):
    script = Script([Response(status, Headers({"x-should-retry": word}), url=URL), OK])

    run(script)

    assert len(script.sent) == sent


def test_a_wait_of_nothing_still_backs_off():
    script = Script([no(503, retry_after="0"), OK])

    run(script)

    assert 0 < script.slept[0] <= 0.5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1000000000", "1,000,000,000 s"),
        ("121", "121 s"),
        (email.utils.formatdate(NOW + 3600, usegmt=True), "3,600 s"),
    ],
)
def test_a_wait_that_is_too_long_is_an_error_that_names_it(text, named):
    script = Script([no(429, retry_after=text)])

    with pytest.raises(Refused, match=named) as caught:
        run(script)

    assert caught.value.status == 429
    assert script.slept == []


@pytest.mark.parametrize(
    ("outcome", "told"),
    [(no(429), 1), (no(503), 1), (Stalled("slow"), 1), (no(500), 0), (Dropped("x"), 0)],
)
def test_an_overrun_server_is_trouble(outcome, told):
    troubles = []

    run(Script([outcome, OK]), trouble=lambda: troubles.append(1))

    assert len(troubles) == told


def test_every_retry_is_told_with_its_reason():
    told = []

    run(Script([no(503), Dropped("it broke"), OK]), retried=lambda *facts: told.append(facts))

    assert [(number, attempt) for number, attempt, _, _ in told] == [(0, 1), (0, 2)]
    assert [reason for *_, reason in told] == ["api.example answered 503", "it broke"]


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Untrusted("TLS"), InsecureConnection),
        (Malformed("a line break"), InvalidUpload),
        (BadAnswer("too large"), ProtocolError),
    ],
)
def test_what_no_retry_mends_is_raised_at_once(trouble, error):
    script = Script([trouble])

    with pytest.raises(error):
        run(script)

    assert len(script.sent) == 1


def looking(story):
    """A flow that looks when its answer was lost, and then repeats."""
    complete = Request("POST", URL + "/complete", once=True)
    while True:
        try:
            answer = yield complete
        except AnswerLost as lost:
            story.append(f"lost after {lost.attempts}")
            answer = yield Request("HEAD", URL)
            if answer.status == 200:
                return "it was there"
        else:
            return f"answered {answer.status}"


@pytest.mark.parametrize(
    "trouble",
    [
        Dropped("x"),
        Stalled("x"),
        NotConnected("x"),
        BadAnswer("x"),
        *(no(status) for status in (408, 429, 500, 501, 503, 530, 599)),
        no(503, retry_after="300"),
        no(429, retry_after="1000000000"),
        no(530, retry_after="300"),
        no(500, x_should_retry="false"),
        no(429, x_should_retry="false"),
    ],
)
def test_a_completion_is_looked_into_before_it_is_sent_again(trouble):
    script, story = Script([trouble, OK]), []

    assert run(script, looking(story)) == "it was there"

    assert [request.method for request in script.sent] == ["POST", "HEAD"]
    assert story == ["lost after 1"]
    assert len(script.slept) == 1, "it waits before it looks"
    assert script.slept[0] <= Policy().longest


@pytest.mark.parametrize(
    "answer",
    [
        no(400),
        no(409),
        no(400, x_should_retry="false"),
        no(429, b'{"error": {"code": "insufficient_quota"}}'),
    ],
)
def test_a_completion_that_is_refused_is_no_lost_answer(answer):
    rules = Rules(fatal_codes=frozenset({"insufficient_quota"}))
    script, story = Script([answer]), []

    assert run(script, looking(story), rules=rules) == f"answered {answer.status}"
    assert story == []


def test_lost_answers_end():
    script = Script([lambda s: no(404) if s.sent[-1].method == "HEAD" else Dropped("x")])

    with pytest.raises(Unreachable):
        run(script, looking([]))

    assert [request.method for request in script.sent].count("POST") == 8


def test_a_completion_may_take_its_time():
    script = Script([OK])

    run(script, one(Request("GET", URL), Request("POST", URL, once=True)))

    assert [patience.answer for patience in script.patience] == [30, 300]


def test_after_a_stall_it_is_more_patient_but_not_for_ever():
    script = Script([Stalled("slow")] * 5 + [OK])

    run(script)

    assert [patience.answer for patience in script.patience] == [30, 60, 120, 120, 120, 120]
    assert {patience.idle for patience in script.patience} == {30}


def outage(seconds: float):
    """Work once; then nobody is there until ``seconds``."""
    first = [OK]

    def outcome(script: Script):
        if first:
            return first.pop()
        return OK if script.time >= seconds else NotConnected("connection refused")

    return outcome


def test_when_the_network_goes_one_probes_and_the_others_wait():
    notes = []

    async def upload(script):
        transport = made(script, waiting=notes.append)
        await transport.run(one())
        await asyncio.gather(*(transport.run(one(), number) for number in range(1, 9)))

    script = Script([outage(60)])
    asyncio.run(upload(script))

    assert notes == ["waiting for the network: connection refused", ""]
    probes = [request for request in script.sent if request.method == "HEAD"]
    assert 4 <= len(probes) <= 40
    assert {request.url for request in probes} == {"https://api.example/"}
    assert len(script.sent) - len(probes) == 1 + 8 + 8, "each once in vain, and once more"
    assert 60 <= script.time < 90


def test_an_outage_uses_up_no_attempts():
    told = []

    async def upload(script):
        transport = made(script, retried=lambda *facts: told.append(facts))
        await transport.run(one())
        assert await transport.run(one()) is OK

    asyncio.run(upload(Script([outage(300)])))

    assert told == []


def test_a_network_that_never_comes_back_is_given_up_once():
    async def upload(script):
        transport = made(script)
        await transport.run(one())
        await asyncio.gather(
            *(transport.run(one(), number) for number in range(4)), return_exceptions=True
        )
        with pytest.raises(Unreachable):
            await transport.run(one())

    script = Script([outage(float("inf"))])
    asyncio.run(upload(script))

    assert 600 <= script.time < 600 + 5 * 70


def test_an_outage_may_last_for_a_night():
    night = 12 * 3600.0

    async def upload(script):
        transport = made(script, policy=Policy(outage=2 * night))
        await transport.run(one())
        assert await transport.run(one()) is OK

    script = Script([outage(night)])
    asyncio.run(upload(script))

    assert len(script.sent) > 2000


def test_a_network_that_never_worked_uses_up_the_attempts():
    script, notes = Script([NotConnected("connection refused")]), []

    with pytest.raises(Unreachable, match="connection refused"):
        run(script, waiting=notes.append)

    assert notes == []
    assert len(script.sent) == 8


def test_a_probe_names_no_path_and_no_query():
    secret = Request("PUT", "https://bucket.example/a/b?Signature=abc", public_only=True)

    async def upload(script):
        transport = made(script)
        await transport.run(one())
        await transport.run(one(secret))

    script = Script([outage(5)])
    asyncio.run(upload(script))

    probe = next(request for request in script.sent if request.method == "HEAD")
    assert probe.url == "https://bucket.example/"
    assert probe.public_only


def test_the_count_starts_afresh_with_every_attempt():
    counted = []

    class Counting(Script):
        async def send(self, request, count=None, patience=Patience()):
            count(10)
            count(5)
            return await super().send(request, count, patience)

    run(Counting([Dropped("x"), OK]), count=lambda number, size: counted.append(size))

    assert counted == [0, 10, 15, 0, 10, 15]


def test_a_flow_is_closed_whatever_ends_it():
    closed = []

    def flow():
        try:
            yield Request("GET", URL)
        finally:
            closed.append(True)

    with pytest.raises(InsecureConnection):
        run(Script([Untrusted("TLS")]), flow())

    assert closed == [True]
