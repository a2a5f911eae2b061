"""Every fault that a network or a server may have, at the socket, for every provider."""

from __future__ import annotations

import gc
import http.server
import os
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import psutil
import pytest
from proxy import Proxy, Rule
from worlds import PART, QUICK, SIZE, random_bytes, world

import chunkup_jupyter.errors as errors
import chunkup_jupyter.jobs as jobs
from chunkup_jupyter.providers.oss import OSS
from chunkup_jupyter.secrets import Secret
from chunkup_jupyter.wire import Patience

pytestmark = pytest.mark.slow

PROVIDERS = ("openai", "oss", "twelvelabs")
FEW = replace(QUICK, attempts=2)


def each_of(troubles):
    """Run a test once with each trouble of a table, under its name there."""
    return pytest.mark.parametrize("trouble", troubles.values(), ids=troubles.keys())


@pytest.fixture(params=PROVIDERS)
def place(request):
    made = world(request.param)
    yield made
    made.close()


ERROR_XML = b"<Error><Code>InternalError</Code><Message>Try again.</Message></Error>"

# A trouble, and what it strikes: the second part, the completion, or the creation.
PART_TROUBLES = {
    "reset before the body": {"trouble": "reset before"},
    "reset during the body": {"trouble": "reset during"},
    "reset after the body": {"trouble": "reset after"},
    "closed during the body": {"trouble": "fin"},
    "garbage instead of an answer": {"trouble": "garbage"},
    "503 once": {"trouble": "status", "status": 503},
    "503 three times": {"trouble": "status", "status": 503, "times": 3},
    "500 with a page": {"trouble": "status", "status": 500, "body": b"<html>500</html>"},
    "502 with XML": {"trouble": "status", "status": 502, "body": ERROR_XML},
    "408 once": {"trouble": "status", "status": 408},
    "429 with a wait": {"trouble": "status", "status": 429, "retry_after": "1"},
    "answer lost in a reset": {"trouble": "lost"},
    "answer lost in a 503": {"trouble": "lost 503"},
    "answer cut in half": {"trouble": "truncated"},
    "a flipped byte": {"trouble": "flip"},
    "a stall in the body": {"trouble": "stall"},
    "no answer": {"trouble": "no answer"},
    "200 with an error in it": {"trouble": "error in 200"},
    "an empty 200": {"trouble": "empty 200"},
    "a 500 that never ends": {"trouble": "endless", "status": 500},
    "a 200 that never ends": {"trouble": "endless", "status": 200},
    "a megabyte of headers": {"trouble": "giant headers", "status": 200},
    "a gzip bomb in a 500": {"trouble": "bomb", "status": 500},
    "a gzip bomb in a 200": {"trouble": "bomb", "status": 200},
    "an XML bomb": {"trouble": "xml bomb", "status": 500},
    "refused for a second": {"trouble": "refused", "seconds": 1.0},
}


@each_of(PART_TROUBLES)
def test_a_part_in_trouble_still_arrives(place, trouble):
    data = random_bytes()
    place.strike(Rule(**place.part, nth=2, **trouble))

    result = place.start(data).result(30)

    place.arrived(data)
    assert result.size == SIZE


COMPLETE_TROUBLES = {
    "503 once": {"trouble": "status", "status": 503},
    "503 twice": {"trouble": "status", "status": 503, "times": 2},
    "reset before": {"trouble": "reset before"},
    "reset after": {"trouble": "reset after"},
    "answer lost in a reset": {"trouble": "lost"},
    "answer lost in a 503": {"trouble": "lost 503"},
    "answers lost twice": {"trouble": "lost", "times": 2},
    "answer cut in half": {"trouble": "truncated"},
    "no answer": {"trouble": "no answer"},
    "garbage": {"trouble": "garbage"},
    "200 with an error in it": {"trouble": "error in 200"},
    "an empty 200": {"trouble": "empty 200"},
    "a 200 that never ends": {"trouble": "endless", "status": 200},
    "a gzip bomb": {"trouble": "bomb", "status": 200},
    "429 with a wait": {"trouble": "status", "status": 429, "retry_after": "1"},
}


@each_of(COMPLETE_TROUBLES)
def test_a_completion_in_trouble_makes_one_file(place, trouble):
    data = random_bytes()
    place.strike(Rule(**place.complete, **trouble))

    place.start(data).result(30)

    place.arrived(data)


UNTRUE_NOS = {
    "503 with a long wait": {"status": 503, "retry_after": "300"},
    "429 with a long wait": {"status": 429, "retry_after": "300"},
    "500 not to be repeated": {"status": 500, "headers": {"x-should-retry": "false"}},
    "501": {"status": 501},
    "530": {"status": 530},
}


@each_of(UNTRUE_NOS)
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("name", ["openai", "oss"])
def test_a_completion_that_a_gateway_denies_is_found(name, times, trouble):
    """It was carried out, whatever the answer says: the file is looked for before."""
    with closing(world(name)) as place:
        data = random_bytes()
        place.strike(Rule("lost 503", **place.complete, times=times, **trouble))

        place.start(data, policy=replace(QUICK, longest=0.1)).result(30)

        place.arrived(data)


CREATE_TROUBLES = {
    "reset": {"trouble": "reset after"},
    "503": {"trouble": "status", "status": 503},
    "answer lost": {"trouble": "lost"},
    "empty 200": {"trouble": "empty 200"},
    "no answer": {"trouble": "no answer"},
}


@each_of(CREATE_TROUBLES)
def test_a_creation_in_trouble_is_repeated(place, trouble):
    data = random_bytes()
    place.strike(Rule(**place.create, **trouble))

    place.start(data).result(30)

    place.arrived(data)


@contextmanager
def elsewhere():
    """A host that nobody named; yields its address and what it was sent."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_any(self):
            size = int(self.headers.get("content-length", 0))
            got.append((self.command, dict(self.headers), self.rfile.read(size)))
            self.send_response(200)
            self.end_headers()

        do_GET = do_PUT = do_POST = do_HEAD = handle_any

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/steal?a=1", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("verb", ["create", "part", "complete"])
def test_a_redirect_is_refused_and_nothing_goes_there(place, verb):
    with elsewhere() as (location, got):
        rule = Rule("redirect", **getattr(place, verb), times=0, location=location)
        place.strike(rule)

        with pytest.raises(errors.ProviderError, match=r"localhost.*no redirect is followed"):
            place.start(random_bytes()).result(30)

    assert got == []


@pytest.mark.parametrize("status", [413, 403])
def test_an_early_no_is_understood(place, status):
    """The answer comes while half of the body is still to be sent, and nobody reads on."""
    size = 8 << 20
    if place.name == "twelvelabs":
        place.sandbox.shrink(chunk_size=size)
    place.strike(Rule("early", **place.part, times=0, status=status, seconds=20))
    fields = {} if place.name == "twelvelabs" else {"part_size": size}
    began = time.monotonic()

    with pytest.raises(errors.ProviderError) as caught:
        place.start(random_bytes(size), **fields).result(60)

    assert caught.value.status == status
    assert time.monotonic() - began < 15


def test_every_part_may_be_lost_and_answered_503_in_turn(place):
    """One fault at every third request, all kinds in turn."""
    data = random_bytes(10 * PART + 1)
    kinds = ("reset during", "lost", "lost 503", "status", "truncated", "fin", "garbage")
    place.strike(*(Rule(kind, nth=3 * n + 2) for n, kind in enumerate(kinds)))

    place.start(data).result(60)

    place.arrived(data)


@pytest.mark.parametrize(
    ("trouble", "memory"),
    [
        ({"trouble": "endless", "status": 500, "upto": 300 << 20}, 32),
        ({"trouble": "endless", "status": 200, "upto": 300 << 20}, 32),
        ({"trouble": "bomb", "status": 400}, 32),
        ({"trouble": "xml bomb", "status": 400}, 32),
        ({"trouble": "giant headers", "status": 200}, 32),
    ],
)
@pytest.mark.parametrize("verb", ["create", "part"])
def test_a_hostile_answer_costs_no_memory(place, trouble, memory, verb):
    """Whatever comes of it, at most 32 MiB more are in use."""
    place.start(random_bytes(), fresh=True).result(30)  # everything is loaded now
    place.strike(Rule(**getattr(place, verb), times=0, **trouble))
    gc.collect()
    before, peak, done = psutil.Process().memory_info().rss, [0], threading.Event()

    def watch():
        while not done.wait(0.005):
            peak[0] = max(peak[0], psutil.Process().memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(errors.ChunkupError):
            place.start(random_bytes(seed=2), policy=FEW).result(60)
    finally:
        done.set()
        watcher.join()

    assert peak[0] - before < memory << 20


def test_an_expired_url_costs_a_request_and_not_the_upload():
    with closing(world("twelvelabs")) as place:
        data = random_bytes()
        denied = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
        place.strike(Rule("status", **place.part, status=403, body=denied, times=2))

        place.start(data).result(30)

        place.arrived(data)


def test_urls_that_expire_while_they_are_used_are_renewed():
    with closing(world("twelvelabs", url_seconds=0.3)) as place:
        data = random_bytes(12 * PART)
        place.strike(Rule("status", **place.part, nth=3, retry_after="1"))

        place.start(data, jobs=1).result(30)

        place.arrived(data)


@pytest.mark.parametrize("trouble", ["no etag", "wrong etag"])
@pytest.mark.parametrize("name", ["oss", "twelvelabs"])
def test_a_part_without_its_own_etag_is_sent_again(name, trouble):
    with closing(world(name)) as place:
        data = random_bytes()
        place.strike(Rule(trouble, **place.part, nth=2))

        place.start(data).result(30)

        place.arrived(data)


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_wrong_clock_is_put_right_by_the_server(hours):
    with closing(world("oss")) as place:
        data = random_bytes()
        told, there = place.sandbox.announce(), place.dest
        wrong = OSS.from_url(
            there,
            access_key_id=Secret(told["access_key_id"]),
            access_key_secret=Secret(told["access_key_secret"]),
            endpoint=place.proxy.base,
            region=told["region"],
            now=lambda: time.time() + hours * 3600,
        )

        jobs.start(data, wrong, name="file.bin", state=None, policy=QUICK).result(30)

        place.arrived(data)


@pytest.mark.parametrize("trouble", ["lost", "lost 503", "reset during"])
def test_parts_counted_twice_cost_a_new_session_and_no_more(trouble):
    """The other reading of OpenAI's words: bytes stored twice count twice."""
    with closing(world("openai", count_duplicates=True)) as place:
        data = random_bytes()
        place.strike(Rule(trouble, **place.part, nth=2))

        place.start(data).result(30)

        place.arrived(data)
        assert place.proxy.times(**place.create) <= 2


def test_the_network_goes_away_and_comes_back(place):
    """Nothing is refused for good: one probe, the others wait, then it goes on."""
    data = random_bytes(8 * PART)
    notes = []

    def note(event, progress):
        if type(event).__name__ == "Waiting":
            notes.append(event.reason)
        if type(event).__name__ == "PartDone" and progress.parts_done == 2:
            place.proxy.refuse(3.0)

    result = place.start(data, listeners=[note]).result(60)

    place.arrived(data)
    assert any("waiting for the network" in reason for reason in notes)
    assert notes[-1] == ""
    assert result.parts == 8


def test_a_slow_link_that_moves_is_never_given_up():
    """Buffers of the system swallow whole parts at once; that is not when they arrive."""
    with (
        closing(world("oss")) as place,
        closing(Proxy(place.served.base_url, up_bps=1_000_000)) as slow,
    ):
        data = random_bytes(48 * PART)
        three = Patience(connect=2.0, idle=3.0, answer=3.0)
        policy = replace(QUICK, patience=three, completing=three)
        began = time.monotonic()

        result = place.start(
            data, jobs=4, part_size=12 * PART, endpoint=slow.base, policy=policy
        ).result(60)

        assert time.monotonic() - began > 4
        assert result.retries == 0
        place.arrived(data)


def test_a_server_that_is_never_there_is_unreachable(place):
    place.proxy.close()
    began = time.monotonic()

    with pytest.raises(errors.Unreachable):
        place.start(random_bytes()).result(30)

    assert time.monotonic() - began < 10


def test_a_wait_that_is_too_long_is_named(place):
    place.strike(Rule("status", **place.part, status=429, retry_after="1000000000"))

    with pytest.raises(errors.Refused, match=r"1,000,000,000 s"):
        place.start(random_bytes()).result(30)


@pytest.mark.parametrize("seconds", [1, 2])
def test_a_wait_that_is_asked_for_is_kept(place, seconds):
    place.strike(Rule("status", **place.create, status=429, retry_after=str(seconds)))
    began = time.monotonic()

    place.start(random_bytes()).result(30)

    assert seconds <= time.monotonic() - began < seconds + 1.5


def change_in_place(path):
    with path.open("r+b") as file:
        file.seek(3 * PART)
        file.write(b"x" * 1000)


def change_by_truncating(path):
    os.truncate(path, PART)


def change_by_appending(path):
    with path.open("ab") as file:
        file.write(b"more")


def change_by_replacing(path):
    other = path.with_name("other")
    other.write_bytes(random_bytes(seed=9))
    other.replace(path)


def change_by_deleting(path):
    path.unlink()


@pytest.mark.parametrize(
    ("change", "torn"),
    [
        (change_in_place, True),
        (change_by_truncating, True),
        (change_by_appending, True),
        (change_by_replacing, False),
        (change_by_deleting, False),
    ],
)
@pytest.mark.parametrize("when", ["after a part", "while a part stalls"])
def test_a_file_that_changes_is_never_half_old_and_half_new(place, tmp_path, change, torn, when):
    """Changed bytes end it within a second; what is replaced is still there to be read."""
    path = tmp_path / "file.bin"
    data = random_bytes(6 * PART)
    path.write_bytes(data)
    changed = []

    def now_change():
        change(path)
        changed.append(time.monotonic())

    def listen(event, progress):
        if type(event).__name__ == "PartDone" and progress.parts_done == 2 and not changed:
            if when == "after a part":
                now_change()
            else:
                threading.Timer(0.2, now_change).start()

    if when != "after a part":
        place.strike(Rule("stall", **place.part, nth=4))
    patient = replace(QUICK, patience=Patience(connect=2.0, idle=3.0, answer=3.0))
    job = place.start(path, listeners=[listen], jobs=1, policy=patient)

    if not torn:
        job.result(30)
        place.arrived(data)
        return
    with pytest.raises(errors.SourceChanged):
        job.result(30)
    assert time.monotonic() - changed[0] < 1.5
    assert not place.sandbox.finished()
    if place.name != "twelvelabs":  # has no way to give a session up
        assert not place.sandbox.unfinished()
