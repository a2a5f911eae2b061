"""Where a part's body gets its bytes: straight from the source, or pulled in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .. import digests
from ..model import Body, Part
from ..sources import Source

PULL = 4 << 20  # bytes asked of an ordered source at once
HELD = 64 << 20  # bytes of an ordered source held in memory at most


class Feed:
    """Makes bodies. Any part may be read at any time, and again."""

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        self._source = source
        self._names = ("crc64", *(name for name in names if name != "crc64"))

    async def body(self, part: Part) -> Body:
        """Return the part's body."""

        async def read(start: int, size: int) -> bytes | memoryview:
            return await self._source.read(part.start + start, size)

        return Body(part.size, read, self._names)

    def forget(self, part: Part) -> None:
        """Let go of what is held of a part."""


class OrderedFeed(Feed):
    """Pulls parts in order, holds each until it is sent, and hashes them on the way.

    A source in somebody's browser is read once, from front to back; so the digest of
    the whole is taken here, and a part that is sent again comes from memory.
    """

    def __init__(self, source: Source, names: Sequence[str], digest: str | None) -> None:
        super().__init__(source, names)
        self._held: dict[int, list[bytes]] = {}
        self._digest = None if digest is None else digests.new(digest)
        self._position = 0
        self._turn = asyncio.Lock()

    async def body(self, part: Part) -> Body:
        """Pull the part, whatever of the file lies before it, and return its body."""
        async with self._turn:
            if part.number not in self._held:
                await self._skip_to(part.start)
                self._held[part.number] = await self._pull(part.start, part.size)
        blocks = self._held[part.number]

        async def read(start: int, size: int) -> bytes | memoryview:
            # Blocks of a body begin at multiples that divide PULL, so none straddles two.
            block, offset = divmod(start, PULL)
            piece = memoryview(blocks[block])[offset : offset + size]
            if len(piece) < size:
                piece = memoryview(bytes(piece) + blocks[block + 1][: size - len(piece)])
            return piece

        return Body(part.size, read, self._names)

    def forget(self, part: Part) -> None:
        """Let go of the part's bytes."""
        self._held.pop(part.number, None)

    async def finish(self, size: int) -> str | None:
        """Pull what lies after the last part sent; return the digest of the whole."""
        async with self._turn:
            await self._skip_to(size)
        return None if self._digest is None else self._digest.text()

    async def _skip_to(self, start: int) -> None:
        """Hash what an earlier run has sent already."""
        if self._digest is not None and self._position < start:
            while self._position < start:
                await self._pull(self._position, min(PULL, start - self._position))

    async def _pull(self, start: int, size: int) -> list[bytes]:
        blocks: list[bytes] = []
        for offset in range(start, start + size, PULL):
            block = bytes(await self._source.read(offset, min(PULL, start + size - offset)))
            if self._digest is not None and offset == self._position:
                await asyncio.to_thread(self._digest.update, block)
            self._position = max(self._position, offset + len(block))
            blocks.append(block)
        return blocks
