"""One client's connection: uvicorn's HTTP/1.1 on h11, with deadlines and without a voice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEAD = 64 << 10
"""The most bytes a request's line and headers may have."""


@dataclass(frozen=True)
class Limits:
    """How long and how many a server bears. Times are in seconds.

    ``pace`` is how many bytes a second each connection brings in at most, as connections
    to distant servers do; 0 for as fast as they come.
    """

    head: float = 10  # until a request's head is complete
    body: float = 60  # between two pieces of a body, in either direction
    idle: float = 75  # between two requests of one connection
    connections: int = 1000  # beyond it the one that has been idle longest is dropped
    pace: int = 0


class Connection(H11Protocol):
    """uvicorn's protocol, silent, with a deadline for heads and a bound on connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        limits: Limits,
        roll: dict[Connection, None],
        now: Callable[[], float],
    ) -> None:
        super().__init__(config, state, {"drop": self._drop})
        self.logger = _SILENT
        self.access_log = False
        self.timeout_keep_alive = limits.idle  # type: ignore[assignment]
        self._limits = limits
        self._roll = roll  # all connections, the oldest first
        self._now = now
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()
        self._roll[self] = None
        if len(self._roll) > self._limits.connections:
            next((other for other in self._roll if other.is_idle()), self).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._roll.pop(self, None)
        self._stop_waiting()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def is_idle(self) -> bool:
        """Say whether no request is being answered here."""
        idle = self.cycle is None or self.cycle.response_complete
        return idle and not self.transport.is_closing()

    def shutdown(self) -> None:
        self._stop_waiting()
        if self.is_idle():
            self.transport.abort()
        elif self.cycle is not None:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, whatever state the exchange is in."""
        self._refuse("400 Bad Request")

    def _refuse(self, status: str) -> None:
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            date = formatdate(self._now(), usegmt=True)
            head = f"HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-length: 0\r\nconnection: close"
            self.transport.write(head.encode() + b"\r\n\r\n")
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _drop(self) -> None:
        self.cycle.disconnected = True
        self.transport.abort()

    def _watch(self) -> None:
        """Keep a deadline exactly while a head has begun and is not complete."""
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._await_head()
        elif self.conn.their_state is not h11.IDLE or self.cycle is not None:
            self._stop_waiting()

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._limits.head, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse("408 Request Timeout")


_SILENT = logging.Logger("chunkup_jupyter.sandbox.server", logging.CRITICAL + 1)
"""Stands alone: what clients send is nobody's news, and may hold a key."""
