"""One run of an order: source, journal and connections opened, used, and closed again."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from ..engine import Options, Upload
from ..errors import ChunkupError, UploadCancelled, UploadInterrupted
from ..events import Event, Listener, Progress, Started, State
from ..journal import Entry, Ledger, MemoryLines, open_journal, peek
from ..model import Provider, Result
from ..transport import Policy
from ..wire import Client as Wire
from ..wire.client import HttpClient
from . import background, reuse
from .by_hand import perform
from .orders import Order, key_of, open_for, plan_for, terms_of, words_of
from .results import UploadResult

_LISTENING = 1.0  # seconds that async listeners have when the upload is over


class Run:
    """One run: of an upload that is stopped and resumed, there are several.

    ``done`` holds the result or what ended it, once everything is closed again. ``memory``
    keeps the journal where none is written; ``client`` is the caller's own, ``lent`` are
    connections that somebody else closes. Raises what opening the source raises, and
    ``AlreadyUploading``.
    """

    def __init__(
        self,
        order: Order,
        options: Options,
        listeners: Sequence[Listener],
        *,
        memory: MemoryLines,
        client: Any = None,
        lent: Wire | None = None,
    ) -> None:
        self.done: Future[UploadResult] = Future()
        self._order = order
        self._began = time.monotonic()
        self._sending = False
        self._loop = background.loop()
        self._task: asyncio.Task[Result] | None = None
        self._wanted = ""
        self._same_as = ""
        self._earlier: Sequence[Entry] = ()
        asked, source = order.asked, open_for(order)
        try:
            self.plan = plan_for(order, source)
            provider = order.provider.for_file(source.info)
            journal = open_journal(
                order.state,
                key_of(provider, source),
                source={
                    "spelled": source.spelled,
                    "name": source.info.name,
                    "size": source.info.size,
                    "fingerprint": source.info.fingerprint,
                    "words": words_of(order),
                },
                memory=memory,
            )
        except BaseException:
            source.close()
            raise
        self._own: HttpClient | None = None
        if lent is None:
            lent = self._own = HttpClient(ca_bundle=asked.ca_bundle, client=client)
        self.upload = Upload(
            source=source,
            provider=provider,
            client=lent,
            journal=journal,
            options=options,
            policy=asked.policy or Policy(),
            listeners=[self._clock, *listeners],
            refresh=self._refresh,
            finished=self._record,
            known=self._known,
            warnings=self.plan.warnings,
            terms=terms_of(order, provider),
            undo=f"%chunkup cancel {journal.key.id[:8]}" if order.listed else "",
        )

    @property
    def line(self) -> str:
        """The arguments of ``%chunkup`` that continue it; "" when there are none."""
        spelled, journal = self.upload.source.spelled, self.upload.journal
        if not self._order.by_line or not (journal.durable or journal.kept):
            return ""
        if not spelled.isprintable():  # a line break, say, which no line can hold
            return ""
        return " ".join([shlex.quote(spelled), *words_of(self._order)]) if spelled else ""

    @property
    def kept(self) -> int:
        """How many finished parts the same call would find on disk."""
        journal = self.upload.journal
        if journal.kept and journal.durable:
            return self.upload.progress.parts_done
        return len(peek(self._order.state, journal.key).parts)

    def pause(self) -> None:
        """Take no new part. From any thread, as the next two."""
        self._loop.call_soon_threadsafe(self.upload.pause)

    def resume(self) -> None:
        """Take parts again."""
        self._loop.call_soon_threadsafe(self.upload.resume)

    def end(self, wanted: str) -> None:
        """End by a "stop" or a "cancel", whether or not it has begun."""
        self._wanted = wanted

        def end() -> None:
            if wanted == "cancel":
                self.upload.cancel()
            if self._task is not None:
                self._task.cancel()

        self._loop.call_soon_threadsafe(end)

    async def live(self) -> None:
        """Upload, and set ``done`` when nothing is open any more."""
        upload = self.upload
        task = asyncio.create_task(upload.run())
        await asyncio.sleep(0)  # a task cancelled before its first step would tidy nothing up
        self._task = task
        if self._wanted:  # asked to end before it began
            if self._wanted == "cancel":  # its own turn on the loop may come after the task's
                upload.cancel()
            task.cancel()
        outcome: UploadResult | BaseException
        try:
            outcome = self._result_of(await task)
        except asyncio.CancelledError:
            cancelled = upload.progress.state is State.CANCELLED
            outcome = self._cancelled() if cancelled else self.interrupted()
        except BaseException as error:
            outcome = error
            if isinstance(error, ChunkupError) and (how := self._how_to_go_on()):
                error.add_note(how)
        try:  # whoever waits finds every socket and file closed
            upload.source.close()
            if self._own is not None:
                await self._own.close()
            await upload.listened(_LISTENING)
        finally:
            self._task = self._own = None  # a batch remembers thousands
            if isinstance(outcome, UploadResult):
                self.done.set_result(outcome)
            else:
                self.done.set_exception(outcome)

    def interrupted(self) -> UploadInterrupted:
        """Return the error that a stop ends with."""
        progress = self.upload.progress
        if not progress.parts:
            left = "nothing was sent yet"
        elif self.upload.journal.kept:
            left = f"{self.kept} of {progress.parts} parts are kept"
        else:
            left = "nothing is kept on disk"
        text = f"stopped at {progress.percent} %; {left}"
        return UploadInterrupted(". ".join(filter(None, (text, self._how_to_go_on()))))

    def _how_to_go_on(self) -> str:
        if self.line:
            return f"To go on: %chunkup {self.line}"
        return "To go on, make the same call again" if self.upload.journal.kept else ""

    def _cancelled(self) -> UploadCancelled:
        left = self.upload.left or "nothing of it is kept"
        return UploadCancelled(f"{self.upload.source.info.name}: cancelled; {left}")

    def _clock(self, event: Event, progress: Progress) -> None:
        """Begin to count the time once a session is open."""
        if isinstance(event, Started) and not self._sending:
            self._began, self._sending = time.monotonic(), True

    async def _refresh(self) -> Provider | None:
        fresh = await asyncio.to_thread(self._order.refresh)
        return None if fresh is None else fresh.for_file(self.upload.source.info)

    async def _known(self, upload: Upload) -> Result | None:
        """Offer what history knows of these bytes, or take it when that was asked for."""
        self._earlier = await asyncio.to_thread(
            reuse.earlier, self._order, upload.source.info.size, upload.provider
        )
        found = await reuse.settle(upload, self._earlier, reuse=self._order.asked.reuse)
        if found is not None:
            upload.ready, self._same_as = True, found.id
        return found

    def _record(self, result: Result) -> None:
        """Write the finished upload into the ledger; trouble with it never fails an upload."""
        if self._order.state is None or self._order.sandbox:
            return
        known = reuse.with_checksum(self._earlier, self.upload.checksum)
        self._same_as = "" if known is None else known.id
        made = self._result_of(result)
        Ledger(self._order.state).add(
            Entry(
                when=time.time(),
                name=made.name,
                size=made.size,
                target=made.target,
                provider=made.provider,
                account=self._order.provider.account,
                id=made.id,
                checksum=self.upload.checksum,
                verified=made.verified,
                expires_at=made.expires_at,
                elapsed=made.elapsed,
                parts=made.parts,
                url=made.url,
            )
        )

    def _result_of(self, result: Result) -> UploadResult:
        upload, progress = self.upload, self.upload.progress
        elapsed = max(1e-6, time.monotonic() - self._began)
        return UploadResult(
            id=result.id,
            provider=self._order.provider.title,
            target=upload.provider.url,
            name=upload.source.info.name,
            size=progress.total,
            parts=progress.parts,
            reused=progress.parts_reused,
            retries=progress.retries,
            elapsed=elapsed,
            rate=(progress.total - progress.reused) / elapsed if progress.parts else 0.0,
            status="ready" if upload.ready else "processing",
            url=result.url,
            verified=result.verified,
            expires_at=result.expires_at,
            sandbox=self._order.sandbox,
            same_as=self._same_as,
            raw=result.raw,
            _provider=upload.provider,
            _perform=partial(perform, ca_bundle=self._order.asked.ca_bundle),
        )
