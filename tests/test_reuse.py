"""What history knows to be there already: offered, taken when asked for, and checked first."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from worlds import World, random_bytes, world

from chunkup_jupyter import jobs
from chunkup_jupyter.errors import InvalidUpload, Refused
from chunkup_jupyter.events import State
from chunkup_jupyter.jobs import reuse
from chunkup_jupyter.journal import Entry, Ledger
from chunkup_jupyter.providers.openai import OpenAI
from chunkup_jupyter.ui import trouble

ENTRY = Entry(
    when=1000.0, name="a.bin", size=9, target="openai:batch", account="acme", id="file-1",
    checksum="123",
)  # fmt: skip


@pytest.fixture(params=["openai", "oss", "twelvelabs"])
def place(request: pytest.FixtureRequest) -> Iterator[World]:
    made = world(request.param)
    yield made
    made.close()


@pytest.fixture
def openai() -> Iterator[World]:
    made = world("openai")
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file.bin"
    found.write_bytes(random_bytes())
    return found


def sent(place: World) -> int:
    """Return how many requests would change something."""
    return sum(one.method != "GET" and one.method != "HEAD" for one in place.proxy.asked)


def test_the_same_bytes_are_taken_from_there_when_asked(place: World, path: Path) -> None:
    options: dict[str, Any] = {"state": path.parent / "state"}
    first = place.start(path, **options).result(30)
    before = sent(place)

    job = place.start(path, reuse=True, **options)
    again = job.result(30)

    assert again.id == first.id
    assert again.was_there
    assert again.same_as == first.id
    assert sent(place) == before
    assert job.state is State.COMPLETED
    assert "nothing was sent" in repr(again)
    assert "CRC-64 of the file, as in history" in again.verified
    place.arrived(random_bytes())
    assert len(Ledger(options["state"]).entries()) == 1


def test_what_is_gone_there_is_sent_again(place: World, path: Path) -> None:
    options: dict[str, Any] = {"state": path.parent / "state"}
    place.start(path, **options).result(30).delete()

    job = place.start(path, reuse=True, **options)
    again = job.result(30)

    assert not again.was_there
    assert any("no longer; they are sent again" in text for text in job.progress.warnings)
    place.arrived(random_bytes())


def test_other_bytes_of_the_same_size_are_sent(openai: World, path: Path) -> None:
    options: dict[str, Any] = {"state": path.parent / "state"}
    first = openai.start(path, **options).result(30)
    path.write_bytes(random_bytes(seed=2))

    job = openai.start(path, reuse=True, **options)
    again = job.result(30)

    assert again.id != first.id
    assert again.same_as == ""
    assert job.progress.warnings == ()


def test_it_is_offered_and_never_taken_silently(openai: World, path: Path) -> None:
    options: dict[str, Any] = {"state": path.parent / "state"}
    first = openai.start(path, **options).result(30)

    plan = jobs.plan(path, openai.dest, **{**openai.fields(), **options})
    job = openai.start(path, **options)
    again = job.result(30)

    offer = f"these bytes are already there as {first.id} (uploaded "
    assert any(note.startswith(offer) and "--reuse" in note for note in plan.notes)
    assert any(text.startswith(offer) for text in job.progress.warnings)
    assert again.id != first.id
    assert again.same_as == first.id
    assert f"the same bytes as {first.id}" in repr(again)


def test_a_large_file_is_not_read_through_for_an_offer(
    openai: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"state": path.parent / "state"}
    first = openai.start(path, **options).result(30)
    monkeypatch.setattr(reuse, "AT_ONCE", 1000)

    job = openai.start(path, **options)
    again = job.result(30)

    assert job.progress.warnings == ()
    assert again.same_as == first.id  # known for nothing, from the parts


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"account": "other"}, False),
        ({"target": "openai:vision"}, False),
        ({"size": 10}, False),
        ({"checksum": ""}, False),
        ({"id": ""}, False),
        ({"expires_at": 2100.0}, False),
        ({"expires_at": 9000.0}, True),
    ],
)
def test_only_what_may_be_the_same_is_looked_at(changes: dict[str, Any], found: bool) -> None:
    entries = [dataclasses.replace(ENTRY, **changes)]

    kept = reuse.candidates(entries, "openai:batch", "acme", 9, now=2000.0)

    assert bool(kept) is found


def test_the_newest_comes_first() -> None:
    entries = [ENTRY, dataclasses.replace(ENTRY, id="file-2", checksum="crc64:123")]

    found = reuse.with_checksum(reuse.candidates(entries, "openai:batch", "acme", 9, 2000.0), "123")

    assert found is not None
    assert found.id == "file-2"
    assert "(uploaded 17 min ago)" in reuse.offer(found, 2000.0) or "ago" in reuse.offer(
        found, 2000
    )


def test_a_provider_that_cannot_say_refuses(
    openai: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"state": path.parent / "state"}
    openai.start(path, **options).result(30)
    monkeypatch.delattr(OpenAI.__mro__[1], "look_up")

    with pytest.raises(InvalidUpload, match=r"cannot say whether file-.* leave --reuse out"):
        openai.start(path, reuse=True, **options).result(30)


def test_stopping_while_history_is_compared_stops(
    openai: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"state": path.parent / "state"}
    openai.start(path, **options).result(30)

    begun = threading.Event()

    async def never(*_: object) -> None:
        begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(reuse, "match", never)
    job = openai.start(path, **options)
    assert begun.wait(10)
    job.stop()

    assert job.settle(10)
    assert job.state is State.STOPPED


def test_an_object_that_is_replaced_is_named_first(path: Path) -> None:
    oss = world("oss")
    first = oss.start(b"older")
    first.result(30)

    job = oss.start(path, check=True)
    job.result(30)

    assert first.progress.warnings == ()
    assert job.progress.warnings == (f"{oss.dest} exists already (5 B) and is replaced",)
    oss.arrived(random_bytes())
    oss.close()


def test_an_object_that_may_not_be_replaced_ends_it_before_a_byte_is_sent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHUNKUP_STATE", str(path.parent / "state"))
    oss = world("oss")
    oss.start(b"older").result(30)
    before = len(oss.proxy.asked)

    job = oss.start(path, state="default", check=True, no_clobber=True)
    with pytest.raises(InvalidUpload, match=r"exists already .* name another key"):
        job.result(30)

    assert [one.method for one in oss.proxy.asked[before:]] == ["HEAD"]
    assert not job.progress.warnings
    assert job.line  # which could only fail again
    assert job.line not in str(trouble.rows(job.error, job))
    oss.arrived(b"older")
    oss.close()


def test_a_key_that_was_taken_meanwhile_is_not_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHUNKUP_STATE", str(path.parent / "state"))
    oss = world("oss")
    oss.start(b"older").result(30)

    job = oss.start(path, state="default", check=False, no_clobber=True)
    with pytest.raises(Refused, match="name another key"):
        job.result(30)

    assert job.line
    assert job.line not in str(trouble.rows(job.error, job))
    oss.close()


def test_a_dry_run_asks_nobody(path: Path) -> None:
    oss = world("oss")

    jobs.plan(path, oss.dest, **{**oss.fields(), "state": None})

    assert oss.proxy.asked == []
    oss.close()
