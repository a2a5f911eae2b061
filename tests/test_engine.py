"""One upload from start to end: what may be asked of it, and what may befall it."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
from contextlib import suppress
from dataclasses import replace

import pytest

from chunkup_jupyter import engine
from chunkup_jupyter.conformance import Clock
from chunkup_jupyter.engine import CONFIRMING, Options, Upload
from chunkup_jupyter.engine.telling import Telling
from chunkup_jupyter.errors import (
    AuthError,
    InsecureConnection,
    IntegrityError,
    OutcomeUnknown,
    ProtocolError,
    ProviderError,
    Refused,
    SourceChanged,
    Unreachable,
)
from chunkup_jupyter.events import (
    Cancelled,
    Completed,
    Failed,
    PartDone,
    PartRetried,
    Paused,
    Processing,
    Restarted,
    Started,
    State,
    Stopped,
    Warned,
)
from chunkup_jupyter.journal import Journal, Key, MemoryLines
from chunkup_jupyter.providers.openai import OpenAI
from chunkup_jupyter.providers.oss import OSS
from chunkup_jupyter.providers.twelvelabs import TwelveLabs
from chunkup_jupyter.sandbox.openai import OpenAISandbox
from chunkup_jupyter.sandbox.oss import OSSSandbox
from chunkup_jupyter.sandbox.twelvelabs import TwelveLabsSandbox
from chunkup_jupyter.secrets import Secret
from chunkup_jupyter.sources import open_source
from chunkup_jupyter.wire import (
    Dropped,
    MemoryClient,
    NotConnected,
    Patience,
    Request,
    Response,
    Untrusted,
)

PART = 16
DATA = random.Random(1).randbytes(10 * PART - 3)


class Studio(MemoryClient):
    """A sandbox in memory, its provider, a clock, a journal, and a hook before each request.

    ``hook(request)`` may wait, and may return an answer of its own or another request.
    """

    def __init__(self, kind: str = "openai", **limits) -> None:
        self.clock, self.lines, self.events = Clock(), MemoryLines(), []
        self.kind, self.sent, self.hook = kind, [], None
        now = self.clock.now
        match kind:
            case "openai":
                self.sandbox = OpenAISandbox(now=now)
                self.provider = OpenAI.from_url(
                    "openai:user_data",
                    base_url=self.sandbox.base_url,
                    api_key=Secret(self.sandbox.api_key),
                )
            case "oss":
                self.sandbox = OSSSandbox(now=now)
                self.sandbox.shrink(min_part=1)
                made = OSS.from_url(
                    f"oss://{self.sandbox.bucket}/key",
                    endpoint=self.sandbox.base_url,
                    region=self.sandbox.region,
                    access_key_id=Secret(self.sandbox.access_key_id),
                    access_key_secret=Secret(self.sandbox.access_key_secret),
                    now=now,
                )
                self.provider = replace(made, rules=replace(made.rules, min_part=1))
            case "twelvelabs":
                self.sandbox = TwelveLabsSandbox(now=now)
                limits = {"chunk_size": PART, "polls_processing": 0, **limits}
                self.provider = TwelveLabs.from_url(
                    "twelvelabs:video",
                    base_url=self.sandbox.base_url,
                    api_key=Secret(self.sandbox.api_key),
                    now=now,
                )
        if limits:
            self.sandbox.shrink(**limits)
        super().__init__(self.sandbox.handle)

    async def send(self, request, count=None, patience=Patience()):
        self.sent.append(request)
        await asyncio.sleep(0)
        if self.hook is not None:
            answer = await self.hook(request)
            if isinstance(answer, Response):
                return answer
            request = answer or request
        return await super().send(request, count, patience)

    def upload(
        self, data: bytes = DATA, *, source=None, refresh=None, provider=None, terms=None, **options
    ):
        source = source or open_source(data, name="file.mp4")
        source.identity = "path:/file.mp4"
        provider = provider or self.provider
        asked = {"jobs": 3, "check": False, **options}
        if not provider.rules.server_decides:
            asked.setdefault("part_size", PART)
        return Upload(
            source,
            provider,
            self,
            Journal(self.lines, Key(provider.url, "", source.identity)),
            Options(**asked),
            [lambda event, progress: self.events.append(event)],
            refresh=refresh,
            terms=terms or {},
            sleep=self.clock.sleep,
            now=self.clock.now,
            rng=random.Random(1),
        )

    def run(self, data: bytes = DATA, **options):
        return asyncio.run(self.upload(data, **options).run())

    def arrived(self, data: bytes = DATA) -> None:
        assert [blob.read() for blob in self.sandbox.finished().values()] == [data]

    def parts(self) -> list[Request]:
        pattern = {"openai": r"/parts$", "oss": r"partNumber=", "twelvelabs": r"/storage/"}
        return [each for each in self.sent if re.search(pattern[self.kind], each.url)]

    def told(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


KINDS = ("openai", "oss", "twelvelabs")


def is_part(request: Request) -> bool:
    return bool(re.search(r"/parts$|partNumber=|/storage/", request.url))


def is_report(request: Request) -> bool:
    return request.method == "POST" and bool(re.search(r"/multipart-uploads/[^/]+$", request.url))


async def stopped_after(studio: Studio, parts: int, cancel: bool = False, **options) -> Upload:
    """Run until so many parts are done and another is on its way; then stop."""
    upload = studio.upload(jobs=1, **options)
    hanging = asyncio.Event()

    async def hook(request):
        if is_part(request) and upload.progress.parts_done == parts:
            hanging.set()
            await asyncio.sleep(60)
        elif upload.provider.rules.report_every == 1 and is_report(request):
            await asyncio.sleep(60)  # still at it when everything ends

    studio.hook = hook
    task = asyncio.create_task(upload.run())
    await hanging.wait()
    if cancel:
        upload.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    studio.hook = None
    return upload


# pause, stop, cancel


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_parts_are_in_the_air_than_asked_for(kind):
    studio, flying, most = Studio(kind), [0], [0]

    async def hook(request):
        if is_part(request):
            flying[0] += 1
            most[0] = max(most[0], flying[0])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            flying[0] -= 1

    studio.hook = hook
    studio.run(jobs=3)

    assert most[0] == 3
    studio.arrived()


def test_a_paused_upload_takes_no_new_part_and_goes_on_when_asked():
    studio = Studio()

    async def story():
        upload = studio.upload(jobs=2)
        upload.listeners.append(
            lambda event, progress: (
                upload.pause() if isinstance(event, PartDone) and progress.parts_done == 3 else None
            )
        )
        task = asyncio.create_task(upload.run())
        for _ in range(500):
            await asyncio.sleep(0)
        assert upload.progress.state is State.PAUSED
        for _ in range(200):
            await asyncio.sleep(0)
        sent = len(studio.parts())
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(studio.parts()) == sent <= 5
        assert upload.progress.parts_done == sent, "those in flight finish"
        upload.resume()
        await task

    asyncio.run(story())

    studio.arrived()
    assert len(studio.told(Paused)) == 1


def test_a_pause_before_anything_holds_the_first_request():
    studio = Studio()

    async def story():
        upload = studio.upload()
        task = asyncio.create_task(upload.run())
        upload.pause()
        await asyncio.sleep(0.05)
        assert upload.progress.state is State.PAUSED
        assert not studio.sent
        upload.resume()
        await task

    asyncio.run(story())

    studio.arrived()


def test_it_gives_signs_of_life_while_nothing_moves(monkeypatch):
    """Another machine takes over what was silent for long."""
    monkeypatch.setattr(engine, "BEAT", 0.001)
    studio = Studio()

    async def story():
        upload, beats = studio.upload(), asyncio.Queue()
        upload.journal.beat = beats.put_nowait

        def forget():
            while not beats.empty():
                beats.get_nowait()

        async def still_beating():
            forget()
            for _ in range(3):
                await beats.get()

        async def hook(request):
            if request.url.endswith("/complete"):
                await still_beating()

        studio.hook = hook
        task = asyncio.create_task(upload.run())
        upload.pause()
        async with asyncio.timeout(10):
            await still_beating()
            assert upload.progress.state is State.PAUSED
            upload.resume()
            await task
        forget()
        await asyncio.sleep(0.01)  # a beat that was still to come would come first
        assert beats.empty()

    asyncio.run(story())

    studio.arrived()


def test_a_session_lost_while_paused_is_opened_anew_only_when_it_goes_on():
    studio = Studio("oss")

    async def story():
        upload = studio.upload(jobs=1)

        async def lost(request):
            if "partNumber=2" not in request.url:
                return None
            studio.hook = None
            upload.pause()
            body = b"<Error><Code>NoSuchUpload</Code></Error>"
            return Response(404, content=body, url=request.url)

        studio.hook = lost
        task = asyncio.create_task(upload.run())
        await asyncio.sleep(0.2)
        sent = len(studio.sent)
        assert upload.progress.state is State.PAUSED
        await asyncio.sleep(0.1)
        assert len(studio.sent) == sent
        upload.resume()
        await asyncio.wait_for(task, 10)

    asyncio.run(story())

    studio.arrived()
    assert len(studio.told(Restarted)) == 1


def test_a_pause_at_the_very_end_holds_the_completion():
    studio = Studio()

    async def story():
        upload = studio.upload(jobs=1)

        def pause(event, progress):
            if isinstance(event, PartDone) and progress.parts_done == progress.parts:
                upload.pause()

        upload.listeners.append(pause)
        task = asyncio.create_task(upload.run())
        for _ in range(500):
            await asyncio.sleep(0)
        assert upload.progress.state is State.PAUSED
        assert not studio.sandbox.finished()
        upload.resume()
        await task

    asyncio.run(story())

    studio.arrived()


def test_a_pause_with_nothing_left_to_send_holds_the_completion_too():
    studio = Studio()

    async def unfinished(request):
        if request.url.endswith("/complete"):
            return Response(403, content=b"{}", url=request.url)
        return None

    async def story():
        with pytest.raises(AuthError):
            await studio.upload().run()
        studio.hook = None
        upload = studio.upload()
        upload.listeners.append(
            lambda event, progress: upload.pause() if isinstance(event, Started) else None
        )
        task = asyncio.create_task(upload.run())
        for _ in range(500):
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        assert upload.progress.state is State.PAUSED
        upload.resume()
        await task

    studio.hook = unfinished
    asyncio.run(story())

    studio.arrived()
    assert len(studio.parts()) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_upload_goes_on_where_it_was(kind):
    studio = Studio(kind)
    asyncio.run(stopped_after(studio, 4))
    assert isinstance(studio.events[-1], Stopped)
    assert len(studio.sandbox.unfinished()) == 1
    before = len(studio.parts())

    studio.run()

    studio.arrived()
    (second,) = studio.told(Started)[1:]
    assert [receipt.number for receipt in second.reused] == [1, 2, 3, 4]
    assert len(studio.parts()) - before == 6
    assert not studio.lines.data


@pytest.mark.parametrize("kind", ["openai", "oss"])
def test_a_cancelled_upload_is_gone_everywhere(kind):
    studio = Studio(kind)
    asyncio.run(stopped_after(studio, 4, cancel=True))

    assert isinstance(studio.events[-1], Cancelled)
    assert not studio.sandbox.unfinished()
    assert not studio.lines.data
    aborts = [
        each for each in studio.sent if each.url.endswith("/cancel") or each.method == "DELETE"
    ]
    assert len(aborts) == 2, "a part may have landed after the first"


def refusing_aborts(studio: Studio, how: str):
    """Let no abort through from now on: refuse it, or break its connection."""
    send = studio.send

    async def deaf(request, *args, **options):
        if request.url.endswith("/cancel") or request.method == "DELETE":
            if how == "dropped":
                raise Dropped("the connection broke")
            return Response(403, content=b"{}", url=request.url)
        return await send(request, *args, **options)

    studio.send = deaf


@pytest.mark.parametrize("how", ["refused", "dropped"])
@pytest.mark.parametrize(
    ("kind", "advice"),
    [("openai", r"it lapses in \d+ (min|h)"), ("oss", r"%chunkup orphans oss://\S+ lists it$")],
)
def test_what_the_server_could_not_be_told_to_forget_stays_known(kind, advice, how):
    """A session costs money as long as it is open."""
    studio = Studio(kind)
    refusing_aborts(studio, how)

    upload = asyncio.run(stopped_after(studio, 4, cancel=True))

    (left,) = studio.sandbox.unfinished()
    (warned,) = studio.told(Warned)
    assert isinstance(studio.events[-1], Cancelled)
    assert studio.lines.data
    assert warned.text == upload.left
    assert re.search(f"could not be told to forget upload {left}.*{advice}", warned.text)


def test_a_changed_source_gives_its_session_up_only_when_the_server_hears_of_it():
    studio = Studio("oss")
    refusing_aborts(studio, "dropped")

    with pytest.raises(SourceChanged):
        studio.run(source=Changing(5), jobs=1)

    assert studio.sandbox.unfinished()
    assert studio.lines.data
    assert "could not be told" in studio.told(Warned)[0].text


def test_a_new_start_names_the_session_that_it_leaves_behind():
    studio = Studio("oss")
    asyncio.run(stopped_after(studio, 4))
    (old,) = studio.sandbox.unfinished()
    refusing_aborts(studio, "refused")

    studio.run(fresh=True)

    studio.arrived()
    (warned,) = studio.told(Warned)
    assert f"could not be told to forget upload {old}" in warned.text
    assert "orphans" in warned.text
    assert not studio.lines.data


def test_a_second_cancel_disturbs_nothing():
    studio = Studio()

    async def story():
        upload = studio.upload(jobs=1)
        ready, aborting = asyncio.Event(), asyncio.Event()

        async def hook(request):
            if is_part(request):
                ready.set()
                await asyncio.sleep(60)
            if request.url.endswith("/cancel"):
                aborting.set()
                await asyncio.sleep(0.05)

        studio.hook = hook
        task = asyncio.create_task(upload.run())
        await ready.wait()
        upload.cancel()
        task.cancel()
        await aborting.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(story())

    assert isinstance(studio.events[-1], Cancelled)
    assert not studio.sandbox.unfinished()
    assert not studio.lines.data


def test_a_stopped_upload_can_be_cancelled_before_it_has_begun_again():
    studio = Studio()
    asyncio.run(stopped_after(studio, 4))

    async def story():
        upload = studio.upload()
        upload._preflight = lambda: asyncio.sleep(60)  # a long look at a large file
        task = asyncio.create_task(upload.run())
        await asyncio.sleep(0)
        upload.cancel()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(story())

    assert not studio.sandbox.unfinished()
    assert not studio.lines.data


def test_nothing_is_left_running_whatever_ends_it():
    for cancel in (False, True):
        studio = Studio("twelvelabs")

        async def story(studio=studio, cancel=cancel):
            rules = replace(studio.provider.rules, report_every=1)
            await stopped_after(studio, 4, cancel, provider=replace(studio.provider, rules=rules))
            return asyncio.all_tasks() - {asyncio.current_task()}

        assert asyncio.run(story()) == set()


# resuming


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_whose_bytes_changed_is_sent_again(kind):
    """Same name, same size, same time: only the bytes tell."""
    studio = Studio(kind)
    asyncio.run(stopped_after(studio, 4))
    changed = DATA[:20] + bytes([DATA[20] ^ 1]) + DATA[21:]

    studio.run(changed)

    studio.arrived(changed)
    (second,) = studio.told(Started)[1:]
    assert [receipt.number for receipt in second.reused] == [1, 3, 4]


def test_parts_that_only_the_server_knows_are_proved_too():
    """A torn journal: OSS lists the parts, with the CRC-64 of each."""
    studio = Studio("oss")
    asyncio.run(stopped_after(studio, 4))
    lines = bytes(studio.lines.data).split(b"\n")
    studio.lines.data[:] = b"\n".join(line for line in lines if b'"is":"part"' not in line)

    studio.run(DATA[:20] + b"?" + DATA[21:])

    (second,) = studio.told(Started)[1:]
    assert [receipt.number for receipt in second.reused] == [1, 3, 4]


def test_parts_that_the_server_lost_are_sent_again():
    studio = Studio("oss")
    asyncio.run(stopped_after(studio, 4))

    async def hook(request):
        if request.method == "GET" and "max-parts" in request.url:
            return Response(200, content=b"<ListPartsResult/>", url=request.url)
        return None

    studio.hook = hook
    studio.run()

    studio.arrived()
    assert studio.told(Started)[1].reused == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": DATA + b"more"}, r"file.mp4 changed since \(it had 157 bytes, now 161\)"),
        ({"part_size": 32}, r"another part size was asked for"),
        ({"fresh": True}, "a fresh start was asked for"),
        ({"later": 3500}, "the earlier session expired"),
    ],
)
def test_a_resume_that_is_impossible_says_why_and_begins_anew(change, reason):
    studio = Studio()
    asyncio.run(stopped_after(studio, 4))
    studio.clock.time += change.pop("later", 0)
    data = change.pop("data", DATA)

    studio.run(data, **change)

    studio.arrived(data)
    assert re.search(reason, studio.told(Restarted)[0].reason)
    assert not studio.sandbox.unfinished(), "the old one is given up"


def crashed_completing(studio: Studio, *, carried_out: bool) -> None:
    """Let the kernel die while the server is asked to complete the upload."""

    async def story():
        upload = studio.upload()
        dying = asyncio.Event()

        async def hook(request):
            if upload.progress.state is not State.COMPLETING:
                return
            if carried_out and studio.kind == "openai":  # at TwelveLabs the last report did it
                await MemoryClient.send(studio, request)
            dying.set()
            await asyncio.sleep(60)

        studio.hook = hook
        task = asyncio.create_task(upload.run())
        await dying.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        studio.hook = None

    asyncio.run(story())
    assert bool(studio.sandbox.finished()) is carried_out


@pytest.mark.parametrize("kind", ["openai", "twelvelabs"])
def test_what_was_completed_before_a_crash_is_found_after_its_sessions_life(kind):
    studio = Studio(kind)
    crashed_completing(studio, carried_out=True)
    sent = len(studio.parts())
    studio.clock.time += 2 * studio.provider.rules.life

    studio.run()

    studio.arrived()
    assert len(studio.parts()) == sent
    assert not studio.told(Restarted)


def test_what_was_not_completed_before_its_session_expired_is_sent_anew():
    studio = Studio("openai")
    crashed_completing(studio, carried_out=False)
    studio.clock.time += 2 * studio.provider.rules.life

    studio.run()

    studio.arrived()
    assert len(studio.parts()) == 20
    assert "expired" in studio.told(Restarted)[0].reason


@pytest.mark.parametrize(
    ("name", "terms", "reason"),
    [
        ("file.mp4", {"expires_after": 3600}, "begun with another --expires-after"),
        ("other.mp4", {}, "begun under the name file.mp4"),
    ],
)
def test_a_session_opened_with_other_terms_is_not_gone_on_with(name, terms, reason):
    """It would end with the old name, expiry or storage class, and look like success."""
    studio = Studio()
    asyncio.run(stopped_after(studio, 4))
    upload = studio.upload(source=open_source(DATA, name=name), terms=terms)

    result = asyncio.run(upload.run())

    assert result.raw["file"]["filename"] == name
    assert re.search(reason, studio.told(Restarted)[0].reason)
    assert upload.session.terms == terms
    assert not studio.sandbox.unfinished(), "the old one is given up"


def test_a_session_opened_with_the_same_terms_is_gone_on_with():
    studio, terms = Studio(), {"meta": {"a": "b"}}
    asyncio.run(stopped_after(studio, 4, terms=terms))

    studio.run(terms=terms)

    assert len(studio.told(Started)[1].reused) == 4
    assert not studio.told(Restarted)


@pytest.mark.parametrize(("status", "left"), [(400, False), (401, False), (500, True)])
def test_an_upload_refused_at_once_leaves_nothing_to_go_on_with(status, left):
    """After a 500 a session may exist whose id was never learned: that is kept in mind."""
    studio = Studio()

    async def hook(request):
        return Response(status, content=b"{}", url=request.url)

    studio.hook = hook
    with pytest.raises(ProviderError):
        studio.run()

    assert bool(studio.lines.load()) is left


@pytest.mark.parametrize(
    ("trouble", "left"), [(NotConnected, False), (Untrusted, False), (Dropped, True)]
)
def test_an_upload_that_reached_nobody_leaves_nothing_to_go_on_with(trouble, left):
    """Unless a request got out: then a session may exist whose id was never learned."""
    studio = Studio()

    async def hook(request):
        raise trouble("so it is")

    studio.hook = hook
    with pytest.raises((Unreachable, InsecureConnection)):
        studio.run()

    assert bool(studio.lines.load()) is left


def test_a_session_the_server_forgot_begins_anew_once():
    studio = Studio("oss")
    asyncio.run(stopped_after(studio, 4))

    async def hook(request):
        if "uploadId=" in request.url:
            return Response(
                404, content=b"<Error><Code>NoSuchUpload</Code></Error>", url=request.url
            )
        return None

    studio.hook = hook
    with pytest.raises(Exception, match=r"NoSuchUpload|no longer knows"):
        studio.run()

    assert len(studio.told(Restarted)) == 2, "once for the old session, once for the new"


# integrity


def flipping(studio: Studio, times: int):
    """Change a byte of the second part so many times."""

    async def hook(request):
        nonlocal times
        if is_part(request) and times and len(studio.parts()) >= 2:
            times -= 1
            client = MemoryClient(lambda whole: whole)  # type: ignore[arg-type,return-value]
            whole = await client.send(request)
            body = bytearray(whole.content)
            start = body.find(b"\r\n\r\n") + 4 if studio.kind == "openai" else 0
            body[start + 5] ^= 1
            return replace(request, content=bytes(body))
        return None

    return hook


@pytest.mark.parametrize("kind", ["oss", "twelvelabs"])
def test_a_part_that_arrived_otherwise_is_sent_again(kind):
    studio = Studio(kind)
    studio.hook = flipping(studio, 1)

    studio.run(jobs=1)

    studio.arrived()
    assert len(studio.parts()) == 11
    assert len(studio.told(PartRetried)) == 1


@pytest.mark.parametrize("kind", ["oss", "twelvelabs"])
def test_a_part_that_arrives_otherwise_twice_ends_it(kind):
    studio = Studio(kind)
    studio.hook = flipping(studio, 2)

    with pytest.raises(IntegrityError):
        studio.run(jobs=1)

    assert not studio.sandbox.finished()
    assert not studio.lines.data
    assert isinstance(studio.events[-1], Failed)
    if kind == "oss":
        assert not studio.sandbox.unfinished()


def losing(studio: Studio, times: int):
    """Lose the second chunk before so many reports; each batch is reported twice."""

    async def hook(request):
        nonlocal times
        reporting = request.method == "POST" and not is_part(request)
        if times and reporting and b"completed_chunks" in request.content:
            times -= 1
            studio.sandbox.fail_chunk(studio.sandbox.unfinished()[0], 2)

    return hook


def test_of_a_session_that_lost_one_part_only_that_is_sent_again():
    studio = Studio("twelvelabs")
    studio.hook = losing(studio, 2)

    studio.run(jobs=1)

    studio.arrived()
    assert len(studio.parts()) == 11
    assert len(studio.told(Restarted)) == 1
    assert studio.sandbox.seen["create"] == 1


def test_a_part_that_oss_lost_is_sent_again_and_no_other():
    studio = Studio("oss")

    async def lose(request):
        (upload,) = studio.sandbox.unfinished()[:1] or ("",)
        if request.method == "POST" and f"?uploadId={upload}" in request.url and upload:
            studio.hook = None
            studio.sandbox.lose_part(upload, 2)

    studio.hook = lose

    studio.run(jobs=1)

    studio.arrived()
    assert len(studio.parts()) == 11
    assert studio.sandbox.seen["initiate"] == 1


def test_one_that_loses_it_twice_is_given_up_for_another():
    studio = Studio("twelvelabs")
    studio.hook = losing(studio, 4)

    studio.run(jobs=1)

    studio.arrived()
    assert len(studio.parts()) == 21
    assert studio.sandbox.seen["create"] == 2


def test_a_whole_that_does_not_verify_is_sent_once_more_in_a_new_session():
    studio = Studio("openai")
    studio.hook = flipping(studio, 1)

    studio.run(jobs=1)

    studio.arrived()
    assert len(studio.told(Started)) == 2
    assert not studio.sandbox.unfinished()


def test_a_whole_that_does_not_verify_twice_ends_it():
    studio = Studio("openai")
    studio.hook = flipping(studio, 1000)

    with pytest.raises(IntegrityError):
        studio.run(jobs=1)

    assert len(studio.told(Started)) == 2
    assert not studio.sandbox.finished()
    assert not studio.sandbox.unfinished()


class Changing:
    """A source whose file is written to after so many looks at it."""

    def __init__(self, looks: int) -> None:
        self.inner = open_source(DATA, name="file.mp4")
        self.info, self.spelled, self.in_order = self.inner.info, "", False
        self.looks, self.identity = looks, ""

    async def read(self, start, size):
        return await self.inner.read(start, size)

    def verify(self):
        self.looks -= 1
        if self.looks < 0:
            raise SourceChanged("file.mp4 was written to during the upload")

    def close(self):
        pass


@pytest.mark.parametrize("looks", [0, 1, 5, 9, 10, 11])
def test_a_source_that_changes_is_never_completed(looks):
    """Looked at before each part, before the completion, and after the digest."""
    studio = Studio()

    with pytest.raises(SourceChanged):
        studio.run(source=Changing(looks), jobs=1)

    assert not studio.sandbox.finished()
    assert not studio.sandbox.unfinished()
    assert not studio.lines.data
    assert not [request for request in studio.sent if request.url.endswith("/complete")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", [bytearray, lambda data: memoryview(bytearray(data)).toreadonly()])
def test_memory_that_is_written_to_meanwhile_is_never_completed(kind, of):
    studio, data = Studio(kind), of(DATA)
    upload = studio.upload(data, jobs=1)
    memory = data if isinstance(data, bytearray) else data.obj

    def write(event, progress):
        if isinstance(event, PartDone) and progress.parts_done == 3:
            memory[5] ^= 1  # of a part that is there already
            memory[-5] ^= 1

    upload.listeners.append(write)
    with pytest.raises(SourceChanged, match=r"file\.mp4 was written to.*give a copy"):
        asyncio.run(upload.run())

    assert not studio.told(Completed)
    assert not studio.lines.data


def test_memory_that_nobody_wrote_to_arrives():
    studio = Studio()

    studio.run(bytearray(DATA))

    studio.arrived()


# errors


def test_the_first_cause_is_met_and_not_a_group():
    studio = Studio()

    async def hook(request):
        if is_part(request):
            return Response(413, content=b"too large", url=request.url)
        return None

    studio.hook = hook
    with pytest.raises(Refused, match="413") as met:
        studio.run(jobs=5)

    assert met.value.__context__ is None  # IPython shows a whole traceback of any group
    (failed,) = studio.told(Failed)
    assert isinstance(failed.error, Refused)
    assert studio.lines.data, "what was sent can be gone on with"


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_answer_that_makes_no_sense_is_asked_for_again(times):
    studio, left = Studio(), [times]

    async def hook(request):
        if is_part(request) and left[0]:
            left[0] -= 1
            return Response(200, content=b"<html>", url=request.url)
        return None

    studio.hook = hook
    if times < 3:
        studio.run(jobs=1)
        studio.arrived()
        assert len(studio.told(PartRetried)) == times
    else:
        with pytest.raises(ProtocolError):
            studio.run(jobs=1)


def test_a_listener_that_raises_is_dropped_and_the_others_go_on(caplog):
    studio, calls = Studio(), []

    def broken(event, progress):
        calls.append(event)
        raise ValueError("a broken view")

    async def story():
        upload = studio.upload()
        upload.listeners.insert(0, broken)
        await upload.run()

    asyncio.run(story())

    studio.arrived()
    assert len(calls) == 1
    assert isinstance(studio.events[-1], Completed)
    assert [record.message for record in caplog.records] == [
        "a progress listener failed and was dropped"
    ]


def test_a_history_that_cannot_be_kept_fails_no_upload(caplog):
    studio = Studio()

    async def story():
        upload = studio.upload()
        upload.finished = lambda result: 1 / 0
        return await upload.run()

    asyncio.run(story())

    studio.arrived()
    assert "could not be noted" in caplog.text


def test_a_session_that_is_gone_because_it_is_finished_is_not_sent_again():
    """The last report was carried out and its answer lost; then nobody knows the session."""
    studio = Studio("twelvelabs")

    async def forget(request):
        if "/multipart-uploads/" not in request.url:
            return None
        answer = studio.sandbox.handle(request)
        if studio.sandbox.finished():
            return Response(404, content=b"{}", url=request.url)
        return answer

    studio.hook = forget

    studio.run()

    studio.arrived()
    assert len(studio.parts()) == 10
    assert not studio.told(Restarted)


# credentials that expire


def renewing(studio: Studio, key: str, calls: list):
    async def refresh():
        calls.append(key)
        await asyncio.sleep(0)
        return replace(studio.provider, api_key=Secret(key))

    return refresh


@pytest.mark.parametrize("kind", ["openai", "twelvelabs"])
def test_expired_credentials_are_asked_for_once_for_all_parts(kind):
    studio, calls = Studio(kind), []
    upload = studio.upload(jobs=5, refresh=renewing(studio, "fresh", calls))

    def expire(event, progress):
        if isinstance(event, PartDone) and progress.parts_done == 2:
            studio.sandbox.api_key = "fresh"
            if kind == "twelvelabs":  # parts go with URLs of their own, which need no key
                studio.sandbox.expire_urls()

    upload.listeners.append(expire)
    asyncio.run(upload.run())

    studio.arrived()
    assert calls == ["fresh"]


@pytest.mark.parametrize("kind", ["openai", "twelvelabs"])
@pytest.mark.parametrize("fresh", ["wrong-as-well", None])
def test_credentials_that_stay_wrong_end_it(kind, fresh):
    studio, calls = Studio(kind), []
    old = studio.sandbox.api_key
    studio.sandbox.api_key = "another"

    with pytest.raises(AuthError):
        studio.run(refresh=renewing(studio, fresh or old, calls))

    assert len(calls) == 1
    assert len(studio.sent) <= 2


# the end


def test_it_waits_until_the_file_can_be_used():
    studio = Studio("twelvelabs", polls_processing=3)

    studio.run(wait_ready=True)

    assert len(studio.told(Processing)) == 3
    studio.arrived()


def test_a_file_that_is_not_ready_in_time_is_a_result_all_the_same():
    studio = Studio("twelvelabs", polls_processing=10**6)

    async def story():
        upload = studio.upload(wait_ready=True, ready_within=30)
        await upload.run()
        return upload

    upload = asyncio.run(story())

    assert not upload.ready
    assert upload.progress.state is State.COMPLETED


def test_a_provider_that_never_confirms_is_not_waited_for_for_ever():
    studio = Studio("twelvelabs", polls_completing=10**9)
    began = studio.clock.time

    with pytest.raises(OutcomeUnknown, match="has every part and did not confirm"):
        studio.run()

    assert CONFIRMING <= studio.clock.time - began < CONFIRMING + 60
    assert studio.lines.data, "the same line asks again"


def test_finished_parts_are_reported_in_batches():
    studio = Studio("twelvelabs")
    provider = replace(studio.provider, rules=replace(studio.provider.rules, report_every=4))

    studio.run(jobs=3, provider=provider)

    reports = [
        len(json.loads(request.content)["completed_chunks"])
        for request in studio.sent
        if is_report(request)
    ]
    assert reports == [4, 4, 2]


def test_a_report_that_is_refused_is_the_error_that_is_met(recwarn):
    gc.collect()
    recwarn.clear()  # of what other tests left
    studio = Studio("twelvelabs")
    provider = replace(studio.provider, rules=replace(studio.provider.rules, report_every=2))

    async def hook(request):
        if is_report(request):
            return Response(403, content=b"{}", url=request.url)
        return None

    studio.hook = hook
    with pytest.raises(AuthError):
        studio.run(provider=provider)

    gc.collect()
    assert not list(recwarn)


def test_a_session_that_will_close_too_early_is_warned_of_once():
    studio = Studio()

    async def story():
        upload = await stopped_after(studio, 1)
        upload._telling = Telling(10**9, upload.listeners)  # as if it went on, with a lot to do
        for now in (0, 5, 11, 12, 20):
            upload._moved += 1000
            upload._watch_time(now)

    asyncio.run(story())

    (warning,) = [event.text for event in studio.told(Warned) if "session closes" in event.text]
    assert "the rest needs" in warning
