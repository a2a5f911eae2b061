"""Tells a provider about finished parts, in batches, one batch at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ..model import PartReceipt


class Reports:
    """Acknowledges parts as they land: full batches while parts are sent, the rest at the end.

    ``send`` reports one batch of at most ``every`` receipts.
    """

    def __init__(
        self, send: Callable[[Sequence[PartReceipt]], Awaitable[None]], every: int
    ) -> None:
        self._send = send
        self._every = every
        self._pending: list[PartReceipt] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, receipt: PartReceipt) -> None:
        """Note a finished part. Raises what the last batch met."""
        self._pending.append(receipt)
        if len(self._pending) < self._every or (self._task and not self._task.done()):
            return
        if self._task is not None:
            self._task.result()
        self._task = asyncio.create_task(self._flush(self._every))

    async def finish(self) -> None:
        """Send what is left."""
        if self._task is not None:
            await self._task
        await self._flush(1)

    async def drop(self) -> None:
        """Send nothing more: completion, or the next run, reports again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _flush(self, least: int) -> None:
        while len(self._pending) >= least:
            batch, self._pending = self._pending[: self._every], self._pending[self._every :]
            await self._send(batch)
