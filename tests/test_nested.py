"""A call nested in a running loop works, and leaves asyncio as it found it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

import httpx
import pytest

import chunkup_jupyter
from chunkup_jupyter.errors import InvalidUpload
from chunkup_jupyter.jobs import nested
from chunkup_jupyter.model import FileInfo
from chunkup_jupyter.sources import Source


def footprint(loop):
    """Return what the patch replaces, as it is now."""
    return [
        {name: id(value) for name, value in vars(thing).items() if not name.startswith("__")}
        for thing in nested._touched(loop)
    ]


def test_asyncio_is_the_same_before_and_after():
    async def main():
        loop = asyncio.get_running_loop()
        before = footprint(loop)
        inside = nested.run(inner(loop, before))
        assert inside == "inside"
        assert footprint(loop) == before

    async def inner(loop, before):
        assert footprint(loop) != before, "nothing was patched"
        await asyncio.sleep(0)
        return "inside"

    asyncio.run(main())


def test_asyncio_is_the_same_after_a_failure():
    async def main():
        loop = asyncio.get_running_loop()
        before = footprint(loop)
        with pytest.raises(ZeroDivisionError):
            nested.run(fails())
        assert footprint(loop) == before

    async def fails():
        await asyncio.sleep(0)
        raise ZeroDivisionError

    asyncio.run(main())


def test_other_tasks_go_on_and_deadlines_strike_inside():
    async def main():
        ticks = []

        async def tick():
            while True:
                ticks.append(1)
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        before = len(ticks)
        assert nested.run(late()) == "in time"
        assert len(ticks) > before
        ticking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ticking

    async def late():
        try:
            async with asyncio.timeout(0.05):
                await asyncio.sleep(60)
        except TimeoutError:
            return "in time"

    asyncio.run(main())


def test_the_loop_cannot_be_entered_again_afterwards():
    async def main():
        nested.run(asyncio.sleep(0))
        sleeping = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            asyncio.get_running_loop().run_until_complete(sleeping)
        sleeping.close()

    asyncio.run(main())


def test_a_client_bound_to_the_running_loop_uploads():
    """The case a thread cannot serve: the caller's own client, used before, in and after."""

    async def main():
        served = chunkup_jupyter.open_sandbox("openai")
        told = []

        async def listen(event, progress):
            await asyncio.sleep(0)
            told.append((type(event).__name__, asyncio.get_running_loop()))

        async with httpx.AsyncClient() as client:
            await client.get(served.base_url)
            result = chunkup_jupyter.upload(
                b"x" * 300_000,
                "openai:user_data",
                name="x.bin",
                part_size=100_000,
                sandbox=True,
                state=None,
                nested=True,
                client=client,
                listeners=[listen],
            )
            await client.get(served.base_url)
        assert b"".join(served.download(result.id)) == b"x" * 300_000
        assert result.parts == 3
        assert told[-1] == ("Completed", asyncio.get_running_loop())

    asyncio.run(main())


class OnALoop:
    """A source whose bytes come from a task of the loop it was made on, and from no other."""

    identity = "loop:lines.jsonl"
    spelled = ""
    in_order = False

    def __init__(self, data):
        self.info = FileInfo("lines.jsonl", len(data), "application/jsonl", "v1")
        self.read_on = []
        self._data = data
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Queue()
        self._serving = self._loop.create_task(self._serve())

    async def _serve(self):
        while True:
            start, size, answer = await self._wanted.get()
            answer.set_result(self._data[start : start + size])

    async def read(self, start, size):
        self.read_on.append(asyncio.get_running_loop())
        answer = self._loop.create_future()
        self._wanted.put_nowait((start, size, answer))
        return await answer

    def verify(self):
        pass

    def close(self):
        self._serving.cancel()


def test_a_source_bound_to_the_running_loop_is_read_there():
    """For the check before the upload as for its parts."""
    line = b'{"messages": [{"role": "assistant", "content": "a word or two, and no more"}]}\n'

    async def main():
        served = chunkup_jupyter.open_sandbox("openai")
        source = OnALoop(line * 5000)
        assert isinstance(source, Source)
        result = chunkup_jupyter.upload(
            source,
            "openai:fine-tune",
            part_size=100_000,
            sandbox=True,
            state=None,
            nested=True,
        )
        assert b"".join(served.download(result.id)) == line * 5000
        assert result.parts == 4
        assert set(source.read_on) == {asyncio.get_running_loop()}

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_client_without_nested_is_refused_for_a_reason():
    with pytest.raises(InvalidUpload, match="nested=True"):
        chunkup_jupyter.upload(b"x", "openai:user_data", name="x", client=object())


@pytest.mark.parametrize("nest", ["nest_asyncio", "nest_asyncio2"])
def test_either_library_serves_a_script(nest):
    pytest.importorskip(nest, reason="not installed on this Python")
    if nest == "nest_asyncio" and sys.version_info >= (3, 14):
        pytest.skip("nest_asyncio fails on 3.14, where it is not a dependency")
    other = {"nest_asyncio": "nest_asyncio2", "nest_asyncio2": "nest_asyncio"}[nest]
    script = f"""
        import asyncio, sys
        sys.modules["{other}"] = None  # as if it were not installed
        import httpx, chunkup_jupyter
        import asyncio.tasks as tasks

        async def main():
            async with httpx.AsyncClient() as client:
                return chunkup_jupyter.upload(
                    b"x" * 1000, "openai:user_data", name="x", sandbox=True, state=None,
                    nested=True, client=client)

        print(asyncio.run(main()).size)
        import _asyncio
        assert asyncio.Task is _asyncio.Task
        assert not hasattr(asyncio, "_nest_patched")
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(asyncio.sleep(0))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1000"


def test_another_loop_is_refused_for_a_reason():
    uvloop = pytest.importorskip("uvloop", reason="there is no uvloop for this system")

    async def main():
        with pytest.raises(InvalidUpload, match="cannot be entered again"):
            nested.run(asyncio.sleep(0))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
