"""Keys planted in every credential, and looked for in everything that outlives a request."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from contextlib import closing
from dataclasses import replace

import pytest
from proxy import Rule
from worlds import QUICK, random_bytes, world

import chunkup_jupyter.jobs as jobs
from chunkup_jupyter.errors import ChunkupError
from chunkup_jupyter.providers.openai import AzureOpenAI, OpenAI
from chunkup_jupyter.providers.oss import OSS
from chunkup_jupyter.providers.twelvelabs import TwelveLabs
from chunkup_jupyter.secrets import Secret
from chunkup_jupyter.wire import Headers, Patience, Request, Response

pytestmark = pytest.mark.slow

PROVIDERS = ("openai", "oss", "twelvelabs")
CANARY = "canary0123456789abcdef"


@pytest.fixture(params=PROVIDERS)
def place(request):
    with closing(world(request.param)) as made:
        yield made


def secrets_of(place) -> list[str]:
    """Return every secret of a sandbox: its keys, and the signatures of its URLs."""
    keys = [
        value
        for name, value in place.sandbox.announce().items()
        if "key" in name or "secret" in name or "token" in name
    ]
    signatures = []
    for asked in place.proxy.asked:
        for pair in asked.target.partition("?")[2].split("&"):
            name, _, value = pair.partition("=")
            if "sign" in name.lower() or "token" in name.lower() or "cred" in name.lower():
                signatures.append(value)
        signatures.append(asked.headers.get("authorization", CANARY))
    return [each for each in {*keys, *signatures} if len(each) > 8]


class Everything(logging.Handler):
    """Keeps what every logger says, at DEBUG, with its arguments."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record):
        text = record.getMessage() + repr(record.args)
        if record.exc_info:
            text += "".join(traceback.format_exception(*record.exc_info))
        self.said.append(f"{record.name}: {text}")


@pytest.fixture
def everything():
    handler, root = Everything(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def told_by(error: BaseException) -> list[str]:
    """Return all that an error can tell: itself, what it came from, and every frame's names."""
    found, queue, seen = [], [error], set()
    while queue:
        each = queue.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        found += [str(each), repr(each), repr(vars(each)), repr(each.args)]
        told = traceback.TracebackException.from_exception(each, capture_locals=True)
        found += list(told.format())
        frames = each.__traceback__
        while frames is not None:
            found += [repr(value) for value in frames.tb_frame.f_locals.values()]
            frames = frames.tb_next
        queue += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            queue += each.exceptions
    return found


def assert_none(secrets: list[str], texts: list[str]) -> None:
    assert secrets
    for secret in secrets:
        for text in texts:
            assert secret not in text, f"shown: …{text[max(0, text.index(secret) - 200) :][:300]}"


TROUBLES = {
    "all is well": None,
    "reset": {"trouble": "reset during", "times": 0},
    "503": {"trouble": "status", "status": 503, "times": 0},
    "403": {"trouble": "status", "status": 403, "times": 0},
    "a stall": {"trouble": "no answer", "times": 0},
    "a redirect": {"trouble": "redirect", "location": "https://other.example/?a=1", "times": 0},
    "nonsense": {"trouble": "bomb", "status": 200, "times": 0},
}


@pytest.mark.parametrize("verb", ["create", "part", "complete"])
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
def test_no_key_shows_whatever_happens(place, everything, tmp_path, verb, trouble, capfd):
    """Not in logs, errors and their chains, frames, reprs, events, the journal or the ledger."""
    if trouble is None and verb != "part":
        return
    if trouble is not None:
        place.strike(Rule(**getattr(place, verb), **trouble))
    events, path, shown = [], tmp_path / "file.bin", []
    path.write_bytes(random_bytes())
    brief = Patience(connect=1, idle=0.2, answer=0.2)
    policy = replace(QUICK, attempts=2, patience=brief, completing=brief)
    job = place.start(
        path,
        state=tmp_path / "state",
        policy=policy,
        listeners=[lambda event, progress: events.append(repr(event) + repr(progress))],
    )
    try:
        result = job.result(30)
    except ChunkupError as error:
        assert trouble is not None
        shown += told_by(error)
    else:
        shown += [repr(result), str(result.to_dict()), result.next(), repr(vars(result))]
    shown += [repr(job), repr(vars(job)), job.line, repr(job.plan), repr(vars(job._run))]
    shown += [repr(job._order), repr(vars(job._order)), repr(vars(job._run.upload))]
    shown += events + everything.said + list(capfd.readouterr())
    for file in (tmp_path / "state").rglob("*"):
        if file.is_file():
            shown.append(file.read_text("latin-1"))

    assert_none(secrets_of(place), shown)


KEYS = {"api_key": Secret(CANARY)}
OSS_KEYS = {
    "access_key_id": Secret(CANARY + "id"),
    "access_key_secret": Secret(CANARY),
    "session_token": Secret(CANARY + "token"),
    "region": "cn-hangzhou",
}
MADE = [
    OpenAI.from_url("openai:batch", **KEYS),
    AzureOpenAI.from_url("azure-openai:batch", endpoint="https://a.openai.azure.com", **KEYS),
    AzureOpenAI.from_url(
        "azure-openai:batch", endpoint="https://a.openai.azure.com", ad_token=Secret(CANARY)
    ),
    OSS.from_url("oss://bucket/key", **OSS_KEYS),
    TwelveLabs.from_url("twelvelabs:video", **KEYS),
]


@pytest.mark.parametrize("provider", MADE, ids=lambda provider: type(provider).__name__)
def test_a_provider_shows_no_key_and_cannot_be_stored(provider):
    shown = [repr(provider), str(provider), repr(vars(provider)), provider.url, provider.account]
    assert_none([CANARY], [*shown, repr(copy.deepcopy(provider))])
    with pytest.raises(TypeError):
        pickle.dumps(provider)


def test_a_key_in_an_error_of_the_source_of_credentials_is_not_shown(tmp_path, monkeypatch):
    """A key that cannot be sent is named by where it came from."""
    monkeypatch.setenv("OPENAI_API_KEY", f"{CANARY}\nX-Evil: 1")
    with pytest.raises(ChunkupError) as caught:
        jobs.start(b"data", "openai:batch", name="a.jsonl", state=None)

    assert_none([CANARY], [text for text in told_by(caught.value) if "environ" not in text])


def test_a_request_and_an_answer_show_neither_query_nor_headers():
    request = Request("PUT", f"https://u:{CANARY}@h.example/a?s={CANARY}", {"X-Key": CANARY})
    answer = Response(200, Headers({"x": CANARY}), CANARY.encode(), request.url)

    assert_none([CANARY], [repr(request), repr(answer), repr(answer.headers)])


def test_a_request_cannot_be_stored():
    request = Request("PUT", f"https://h.example/a?s={CANARY}", {"X-Key": CANARY})

    for store in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled") as caught:
            store(request)
        assert_none([CANARY], told_by(caught.value))
