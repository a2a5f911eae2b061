"""A sandbox on a loopback port, for everybody else's clients.

uvicorn's HTTP/1.1 protocol (the one on h11) parses; this module guards, stores the
body as it comes, lets ``Sandbox.take`` answer in a worker thread, and streams the
answer. What is odd but not wrong reaches the sandbox exactly as it was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import h11
import uvicorn
from uvicorn.server import ServerState

from ..wire import Dropped, Headers, Stalled
from . import Answer, Blob, QuotaExceeded, Sandbox
from .connection import HEAD, Connection, Limits
from .incoming import DiskFull, Incoming

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_OUR_HOST = re.compile(r"(127\.0\.0\.1|\[::1\]|([a-z0-9_-]+\.)*localhost)(?::(\d{1,5}))?", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BLOCK = 512 << 10  # read from disk and sent at a time
_DRAIN_BYTES = 64 << 20  # how much of a refused body is read, so that its client sees the answer
_DRAIN_SECONDS = 2.0

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
SendMessage = Callable[[Message], Awaitable[None]]


class Served:
    """A sandbox on a port. ``close`` (or leaving the context) frees port, thread and store.

    ``failures`` are the tracebacks of exceptions that a sandbox raised where it ought
    to have answered: they never leave this process.
    """

    def __init__(self, sandbox: Sandbox, listener: socket.socket, limits: Limits) -> None:
        self.sandbox = sandbox
        self.port: int = listener.getsockname()[1]
        self.failures: deque[str] = deque(maxlen=20)
        self._listener = listener
        self._limits = limits
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool = ThreadPoolExecutor(8, "chunkup-sandbox")
        self._thread = threading.Thread(
            target=self._run, name=f"chunkup-sandbox-{self.port}", daemon=True
        )

    @property
    def base_url(self) -> str:
        """What the vendor's SDK and our provider take as their base URL or endpoint."""
        return self.sandbox.base_url

    def download(self, result_id: str) -> Iterator[bytes]:
        """Yield, in blocks, the bytes that an upload with this result id left here."""
        return self.sandbox.finished()[result_id].blocks()

    def close(self) -> None:
        """Stop serving and delete what the store made for itself. May be repeated."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
            self._loop = None
        self._thread.join(10)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._listener.close()
        self.sandbox.store.close()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.sandbox.name} sandbox at {self.base_url}>"

    def _start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(
            App(self, self._pool, self._limits),
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            h11_max_incomplete_event_size=HEAD,
        )
        config.load()
        state, roll = ServerState(), dict[Connection, None]()
        # uvicorn's Server adds signal handlers, log lines and a tick; its protocol needs none.
        server = await loop.create_server(
            lambda: Connection(config, state, self._limits, roll, self.sandbox.now),
            sock=self._listener,
            backlog=1024,
        )
        self._loop = loop
        self._ready.set()
        await self._stop.wait()
        # asyncio loses a connection whose server closes while it is being accepted, so
        # stop accepting first.
        with contextlib.suppress(NotImplementedError):  # on Windows
            loop.remove_reader(self._listener)
        await _settled()
        server.close()
        for connection in list(roll):
            connection.shutdown()
        if tasks := set(state.tasks):
            await asyncio.wait(tasks, timeout=1)
        for connection in list(roll):
            connection.transport.abort()
        for task in (tasks := set(state.tasks)):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        await _settled()


def serve(
    sandbox: Sandbox,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    pace: int = 0,
    limits: Limits | None = None,
) -> Served:
    """Put a sandbox on a loopback port and return at once; 0 picks a free port.

    Sets ``sandbox.base``. The server lives on a daemon thread until it is closed. ``pace``
    bounds what each connection brings in, in bytes a second, as distance does; 0 for no bound.

    Raises:
        ValueError: ``host`` is not this machine's loopback: the keys are for learning only.
        OSError: the port is taken.
    """
    if host not in _LOOPBACK:
        raise ValueError(f"a sandbox listens on {' or '.join(_LOOPBACK)} only, not on {host}")
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    # Named in full: asyncio turns Nagle's delay off only for sockets that say they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let another program take the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::1" if host == "::1" else "127.0.0.1", port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    served = Served(sandbox, listener, limits or Limits(connections=_bearable(), pace=pace))
    shown = "[::1]" if host == "::1" else host
    sandbox.base = f"http://{shown}:{served.port}"
    served._start()
    return served


class App:
    """The ASGI application: guards, body, sandbox, answer."""

    def __init__(self, served: Served, pool: ThreadPoolExecutor, limits: Limits) -> None:
        self._sandbox = served.sandbox
        self._port = served.port
        self._failures = served.failures
        self._pool = pool
        self._limits = limits

    async def __call__(self, scope: Message, receive: Receive, send: SendMessage) -> None:
        try:
            await self._exchange(scope, receive, send)
        except (h11.LocalProtocolError, TimeoutError, OSError):
            return  # the connection is gone, broken or stuck: returning early closes it

    async def _exchange(self, scope: Message, receive: Receive, send: SendMessage) -> None:
        fields = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        headers = _joined(fields)
        refused = self._guard(scope, headers)
        if refused is None:
            refused = self._too_big(headers)
        if refused is not None:
            await self._send(scope, send, refused, receive)
            return
        try:
            body = await self._body(receive)
        except (QuotaExceeded, DiskFull):
            await self._send(scope, send, _full(), receive)
            return
        except TimeoutError:
            await self._send(scope, send, _plain(408, "the body stopped coming"), None, last=True)
            return
        if body is None:
            return
        url = f"http://{headers['host']}{scope['raw_path'].decode('ascii')}"
        if scope["query_string"]:
            url += "?" + scope["query_string"].decode("ascii")
        loop = asyncio.get_running_loop()
        task = loop.run_in_executor(self._pool, self._answer, scope["method"], url, headers, body)
        del body  # the sandbox alone decides whether it is kept
        try:
            answer = await task
        except Dropped:
            scope["state"]["drop"]()
        except Stalled:
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            await self._send(scope, send, answer, None)
        finally:
            del task  # or its exception and this frame would keep each other, and the body

    def _answer(self, method: str, url: str, headers: Headers, body: Blob) -> Answer:
        """Answer in a worker thread. ``Dropped`` and ``Stalled`` pass: they are wanted faults."""
        try:
            return self._sandbox.take(method, url, headers, body)
        except QuotaExceeded:
            return _full()
        except (Dropped, Stalled):
            raise
        except Exception:
            self._failures.append(traceback.format_exc())
            return _plain(500, "the sandbox failed")

    def _guard(self, scope: Message, headers: Headers) -> Answer | None:
        """Return the answer for a request that the sandbox must not see, else None."""
        path: bytes = scope["raw_path"]
        target = path + b"?" + scope["query_string"]
        host = _OUR_HOST.fullmatch(headers.get("host", "").lower())
        if scope["http_version"] not in ("1.0", "1.1"):
            return _plain(400, "this server speaks HTTP/1")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD:
            return _plain(431, "the headers are too long")
        if "content-length" in headers and "transfer-encoding" in headers:
            return _plain(400, "a body has one length")
        if not path.startswith(b"/") or b"#" in target:
            return _plain(400, "the request target is a path and a query")
        if b"%00" in target or not _is_utf8(unquote_to_bytes(path)):
            return _plain(400, "the path is no UTF-8 text")
        if host is None or int(host[3] or 80) not in (self._port, self._announced_port()):
            return _plain(421, "this server answers for its own loopback address only")
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{headers['host'].lower()}":
            return _plain(403, "requests from web pages are refused")
        if headers.get("sec-fetch-site", "none").lower() not in ("none", "same-origin"):
            return _plain(403, "requests from web pages are refused")
        return None

    def _announced_port(self) -> int:
        """Return the port of ``base``: that of a proxy in front of us, once a test says so."""
        return urlsplit(self._sandbox.base).port or 80

    def _too_big(self, headers: Headers) -> Answer | None:
        """Return the refusal of a body that cannot fit, before any of it is read."""
        size, store = int(headers.get("content-length", 0)), self._sandbox.store
        return _full() if store.quota is not None and size > store.quota - store.used else None

    async def _body(self, receive: Receive) -> Blob | None:
        """Return the stored body, None if the client went away before its end."""
        incoming = Incoming(self._sandbox.store)
        loop = asyncio.get_running_loop()
        pace, due = self._limits.pace, loop.time()
        try:
            async with asyncio.timeout(self._limits.body) as patience:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    await incoming.add(message["body"])
                    if pace:  # what is not read yet waits in the client's socket
                        due += len(message["body"]) / pace
                        await asyncio.sleep(max(0.0, due - loop.time()))
                    if not message["more_body"]:
                        break
                    patience.reschedule(loop.time() + self._limits.body)
            return await incoming.finish()
        finally:
            await incoming.close()

    async def _send(
        self,
        scope: Message,
        send: SendMessage,
        answer: Answer,
        rest: Receive | None,
        *,
        last: bool = False,
    ) -> None:
        """Send an answer; ``rest`` is where the unread body of a refused request comes from.

        The connection ends after the ``last`` one, and after a refusal.
        """
        content = answer.blob if answer.blob is not None else Blob.of(answer.content)
        headers = {name: value for name, value in answer.headers.items() if _is_ours(name)}
        if answer.status not in (204, 304):
            given = answer.headers.get("content-length", "") if scope["method"] == "HEAD" else ""
            headers["content-length"] = given if given.isdecimal() else str(content.size)
        if "date" not in headers:
            headers["date"] = formatdate(self._sandbox.now(), usegmt=True)
        if last or rest is not None:
            headers["connection"] = "close"
        await self._patiently(
            send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": list(_on_the_wire(headers)),
                }
            )
        )
        if scope["method"] != "HEAD" and answer.status not in (204, 304):
            await self._send_content(send, content)
        if rest is not None and not any(k == b"expect" for k, _ in scope["headers"]):
            await _drain(rest)
        await self._patiently(send({"type": "http.response.body", "body": b"", "more_body": False}))

    async def _send_content(self, send: SendMessage, content: Blob) -> None:
        loop = asyncio.get_running_loop()
        blocks = content.blocks(_BLOCK)
        on_disk = any(isinstance(data, Path) for data, _, _ in content.chunks)
        try:
            while True:
                if on_disk:
                    block = await loop.run_in_executor(None, next, blocks, b"")
                else:
                    block = next(blocks, b"")
                if not block:
                    return
                await self._patiently(
                    send({"type": "http.response.body", "body": block, "more_body": True})
                )
        finally:
            blocks.close()  # type: ignore[attr-defined]

    async def _patiently(self, sending: Awaitable[None]) -> None:
        async with asyncio.timeout(self._limits.body):
            await sending


def _bearable() -> int:
    """Return how many connections leave this process enough file descriptors."""
    try:
        import resource
    except ImportError:  # not on Windows
        return Limits.connections
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limits.connections if soft < 0 else max(16, min(Limits.connections, soft * 2 // 3))


def _joined(fields: Iterable[tuple[str, str]]) -> Headers:
    """Return headers in which a repeated field is one list, as HTTP reads it."""
    joined: dict[str, str] = {}
    for name, value in fields:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return Headers(joined)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_ours(name: str) -> bool:
    """Say whether a field of an answer is the sandbox's to set: framing is the server's."""
    return bool(_HEADER_NAME.fullmatch(name)) and name not in (
        "connection",
        "content-length",
        "keep-alive",
        "set-cookie",
        "transfer-encoding",
    )


def _on_the_wire(headers: dict[str, str]) -> Iterable[tuple[bytes, bytes]]:
    for name, value in headers.items():
        text = _CONTROL.sub("", value).strip()
        try:
            yield name.encode(), text.encode("latin-1")
        except UnicodeEncodeError:
            yield name.encode(), text.encode()


def _plain(status: int, text: str) -> Answer:
    """Return an answer in no provider's form."""
    fields = {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}
    return Answer(status, Headers(fields), f"{text}\n".encode())


async def _settled() -> None:
    """Let the loop finish what takes a few turns: to accept a connection, to close one."""
    for _ in range(5):
        await asyncio.sleep(0)


async def _drain(receive: Receive) -> None:
    """Read what still comes of a refused body, within bounds.

    A socket closed with unread bytes is reset, and its client would lose the answer.
    """
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message["more_body"]:
                    return
                left -= len(message["body"])
    except TimeoutError:
        return


def _full() -> Answer:
    return _plain(507, "the sandbox's store is full")
