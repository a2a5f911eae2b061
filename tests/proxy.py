"""A loopback proxy that breaks HTTP at the socket, by a script: for tests.

It stands between a client and a server, forwards what no rule strikes, and writes
down what was asked of it. Every request has an upstream connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

from troubles import Asked, Exchange, Rule, Trouble

__all__ = ["Asked", "Proxy", "Rule", "Trouble"]


class Proxy:
    """A faulty proxy on a port of its own. A context manager; ``close`` may be repeated.

    ``rules`` may be changed at any time: the first that strikes decides. ``up_bps``
    bounds what all clients together send, in bytes a second (0: no bound). ``asked``
    lists the requests in the order they came.
    """

    def __init__(self, upstream: str, rules: Sequence[Rule] = (), *, up_bps: int = 0) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or "127.0.0.1", parts.port or 80
        self.rules = list(rules)
        self.asked: list[Asked] = []
        self._up_bps = up_bps
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = 0.0  # when the link is free again, on the loop's clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faulty-proxy", daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def base(self) -> str:
        """The proxy's origin."""
        return f"http://127.0.0.1:{self.port}"

    def times(self, method: str = "", path: str = "") -> int:
        """Return how many requests of a kind came."""
        return len(self._like(method, path))

    def refuse(self, seconds: float) -> None:
        """Take no connection for a while: clients get "connection refused"."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.refuse_for(seconds), self._loop).result(10)

    def close(self) -> None:
        """Break all connections and free the port."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # ended already
                self._loop.call_soon_threadsafe(self._stop.set)
            self._loop = None
        self._thread.join(10)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _like(self, method: str, path: str) -> list[Asked]:
        return [
            asked
            for asked in self.asked
            if method in ("", asked.method) and re.search(path, asked.target)
        ]

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._listen(self._listener)
        self._ready.set()
        await self._stop.wait()
        await self._stop_listening()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await _settled()

    async def _listen(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=1 << 16)

    async def refuse_for(self, seconds: float) -> None:
        """Take no connection for a while, from within the loop."""
        if self._server is None:
            return
        await self._stop_listening()
        task = asyncio.create_task(self._listen_again(seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            # asyncio loses a connection whose server closes while it is being accepted.
            asyncio.get_running_loop().remove_reader(server.sockets[0])
            await _settled()
            server.close()

    async def _listen_again(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen(_listen(self.port))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = Exchange(self, reader, writer)
        try:
            await exchange.run()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # either side went away: that is what happens here
        except asyncio.CancelledError:
            exchange.abort()
            raise
        finally:
            exchange.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection to the server behind."""
        return await asyncio.open_connection(*self._upstream)

    def upstream_host(self, host: str) -> str:
        """Return a Host field with the server's port, which its guards want to see."""
        name = host.rpartition(":")[0] or host
        return f"{name}:{self._upstream[1]}"

    async def pass_link(self, size: int) -> None:
        """Wait until ``size`` bytes fit through the link that all clients share."""
        if self._up_bps:
            now = asyncio.get_running_loop().time()
            self._turn = max(now, self._turn) + size / self._up_bps
            await asyncio.sleep(self._turn - now)


async def _settled() -> None:
    """Let the loop finish what takes a few turns: to accept a connection, to close one."""
    for _ in range(5):
        await asyncio.sleep(0)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Small, or a stalled megabyte would look sent to its client.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 << 10)
        listener.bind(("127.0.0.1", port))
        listener.listen(256)
    except BaseException:
        listener.close()
        raise
    return listener
