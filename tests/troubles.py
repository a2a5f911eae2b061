"""What a faulty proxy does to one request, by the names of its troubles."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Trouble = Literal[
    "reset before",  # RST when the head is in, before a byte of the body is read
    "reset during",  # RST after half the body
    "reset after",  # RST after the body, nothing forwarded
    "fin",  # closed politely after half the body
    "garbage",  # an answer that is no HTTP
    "stall",  # half the body is read, then nothing for ``seconds``
    "no answer",  # the body is read, then nothing for ``seconds``; nothing forwarded
    "lost",  # forwarded and carried out, then RST
    "lost 503",  # forwarded and carried out, then answered ``status``, 503 if not told
    "truncated",  # forwarded and carried out, half of the answer, then RST
    "flip",  # one byte in the middle of the body differs
    "redirect",  # 307 to ``location``
    "endless",  # ``status`` with a body that never ends
    "giant headers",  # ``status`` with a megabyte of headers
    "bomb",  # ``status``, 64 MiB of zeros in gzip
    "xml bomb",  # ``status``, XML whose entities explode
    "status",  # ``status`` with ``body``, ``headers`` and ``retry_after``
    "early",  # ``status`` while half the body is still to come
    "error in 200",  # 200 with an <Error> document
    "empty 200",  # 200 without a body
    "no etag",  # forwarded, the answer loses its ETag
    "wrong etag",  # forwarded, the answer's ETag is of other bytes
    "refused",  # RST, and no connection is taken for ``seconds``
]


@dataclass
class Rule:
    """A trouble for the ``nth`` request (from 1) that matches, and the ``times - 1`` after it.

    ``path`` is searched as a regular expression in path and query. ``times=0`` is for
    ever, and so is ``seconds=0`` (until the client gives up). ``upto`` bounds what
    "endless" sends, in bytes.
    """

    trouble: Trouble
    method: str = ""
    path: str = ""
    nth: int = 1
    times: int = 1
    seconds: float = 0
    status: int = 503
    retry_after: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    location: str = ""
    upto: int = 1 << 30
    matched: int = 0

    def strikes(self, method: str, target: str) -> bool:
        """Count a request if it matches, and say whether it is hit."""
        if self.method not in ("", method) or not re.search(self.path, target):
            return False
        self.matched += 1
        return self.matched >= self.nth and (not self.times or self.matched < self.nth + self.times)


@dataclass
class Asked:
    """One request that reached the proxy. ``received`` counts the bytes of its body."""

    method: str
    target: str
    headers: dict[str, str]
    received: int = 0
    trouble: str = ""
    status: int = 0
    """What the client was answered, 0 if it got no answer of ours or of the server's."""


class Link(Protocol):
    """The proxy, as far as one request needs it."""

    rules: list[Rule]
    asked: list[Asked]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...
    async def pass_link(self, size: int) -> None: ...
    async def refuse_for(self, seconds: float) -> None: ...
    def upstream_host(self, host: str) -> str: ...


class Exchange:
    """One request and what becomes of it."""

    def __init__(
        self, proxy: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._up: asyncio.StreamWriter | None = None
        self._left = 0  # bytes of the body still to come
        self._fields: list[tuple[str, str]] = []
        self.asked: Asked

    async def run(self) -> None:
        """Read the head, then do what its rule says, or forward."""
        await self._read_head()
        method, target = self.asked.method, self.asked.target
        struck = [rule for rule in self._proxy.rules if rule.strikes(method, target)]
        if not struck:
            await self._forward()
            return
        rule = struck[0]
        self.asked.trouble = rule.trouble
        await _TROUBLES[rule.trouble](self, rule)

    def close(self) -> None:
        """Close both sides."""
        for writer in (self._up, self._writer):
            if writer is not None:
                writer.close()

    def abort(self) -> None:
        """Drop both sides and what they have not been sent yet."""
        for writer in (self._up, self._writer):
            if writer is not None:
                writer.transport.abort()

    async def _read_head(self) -> None:
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        for line in filter(None, lines):
            name, _, value = line.partition(":")
            self._fields.append((name, value.strip()))
        headers = {name.lower(): value for name, value in self._fields}
        self.asked = Asked(method, target, headers)
        self._proxy.asked.append(self.asked)
        self._left = int(headers.get("content-length", "0"))
        if "transfer-encoding" in headers:
            raise ValueError("bodies without a length are not forwarded")
        if "100-continue" in headers.get("expect", "").lower():
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _body(self, size: int) -> bytes:
        """Return the next bytes of the body, at most ``size``; empty at its end."""
        if not self._left:
            return b""
        data = await self._reader.read(min(size, self._left))
        if not data:
            raise EOFError
        self._left -= len(data)
        self.asked.received += len(data)
        await self._proxy.pass_link(len(data))
        return data

    async def _swallow(self, until_left: int = 0) -> None:
        while self._left > until_left:
            await self._body(min(1 << 16, self._left - until_left))

    async def _send_upstream(self, flip: bool = False) -> asyncio.StreamReader:
        """Send the whole request on, one byte in its middle changed if asked to."""
        reader, self._up = await self._proxy.connect()
        lines = [f"{self.asked.method} {self.asked.target} HTTP/1.1"]
        for name, value in self._fields:
            match name.lower():
                case "host":
                    lines.append(f"{name}: {self._proxy.upstream_host(value)}")
                case "connection" | "expect":
                    pass
                case _:
                    lines.append(f"{name}: {value}")
        lines.append("Connection: close\r\n\r\n")
        self._up.write("\r\n".join(lines).encode("latin-1"))
        middle = self._left // 2 if flip else -1
        done = 0
        while data := await self._body(1 << 16):
            if done <= middle < done + len(data):
                at = middle - done
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            done += len(data)
            self._up.write(data)
            await self._up.drain()
        return reader

    async def _forward(self, rule: Rule | None = None) -> None:
        reader = await self._send_upstream(flip=rule is not None)
        while data := await reader.read(1 << 16):
            if not self.asked.status:
                self.asked.status = int(data[9:12])
            self._writer.write(data)
            await self._writer.drain()

    async def _whole_answer(self) -> bytes:
        answer = await (await self._send_upstream()).read()
        self.asked.status = int(answer[9:12])
        return answer

    async def _answer(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> None:
        self.asked.status = status
        fields = {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{k}: {v}" for k, v in fields.items())]
        self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await self._writer.drain()

    async def _silence(self, seconds: float) -> None:
        """Do nothing for a while, or until the client hangs up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds or None):
                # At most what the kernel and the reader hold is taken: the rest stalls.
                while not self._reader.at_eof():  # noqa: ASYNC110  # to read would end the stall
                    await asyncio.sleep(0.02)

    def _reset(self) -> None:
        """Close with RST instead of FIN."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _reset_before(self, rule: Rule) -> None:
        self._reset()

    async def _reset_during(self, rule: Rule) -> None:
        await self._swallow(self._left // 2)
        self._reset()

    async def _reset_after(self, rule: Rule) -> None:
        await self._swallow()
        self._reset()

    async def _fin(self, rule: Rule) -> None:
        await self._swallow(self._left // 2)

    async def _garbage(self, rule: Rule) -> None:
        await self._swallow()
        self._writer.write(b"\x16\x03\x01\x00\xee\x01 this is no HTTP\r\n\r\n")

    async def _stall(self, rule: Rule) -> None:
        await self._swallow(self._left // 2)
        await self._silence(rule.seconds)

    async def _no_answer(self, rule: Rule) -> None:
        await self._swallow()
        await self._silence(rule.seconds)

    async def _lost(self, rule: Rule) -> None:
        await self._whole_answer()
        self.asked.status = 0
        self._reset()

    async def _lost_503(self, rule: Rule) -> None:
        await self._whole_answer()
        await self._no(rule, b"<html>503</html>")

    async def _truncated(self, rule: Rule) -> None:
        answer = await self._whole_answer()
        body = answer.index(b"\r\n\r\n") + 4
        cut = (body + len(answer)) // 2 if body < len(answer) else body // 2
        self._writer.write(answer[:cut])
        await self._writer.drain()
        await asyncio.sleep(0.05)  # a reset overtakes what was written just before
        self._reset()

    async def _redirect(self, rule: Rule) -> None:
        await self._swallow()
        await self._answer(307, {"Location": rule.location})

    async def _endless(self, rule: Rule) -> None:
        await self._swallow()
        self.asked.status = rule.status
        head = f"HTTP/1.1 {rule.status} Whatever\r\nContent-Type: text/plain\r\n"
        self._writer.write(head.encode() + b"Connection: close\r\n\r\n")
        block, left = b"z" * 65536, rule.upto
        while left > 0:
            self._writer.write(block)
            await self._writer.drain()
            left -= len(block)

    async def _giant_headers(self, rule: Rule) -> None:
        await self._swallow()
        await self._answer(rule.status, {f"X-Filler-{n}": "x" * 1000 for n in range(1000)})

    async def _bomb(self, rule: Rule) -> None:
        await self._swallow()
        fields = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        await self._answer(rule.status, fields, gzip.compress(bytes(64 << 20), 9))

    async def _xml_bomb(self, rule: Rule) -> None:
        await self._swallow()
        entities = '<!ENTITY e0 "boom">' + "".join(
            f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10)
        )
        text = f'<?xml version="1.0"?><!DOCTYPE Error [{entities}]><Error><Code>&e9;</Code></Error>'
        await self._answer(rule.status, {"Content-Type": "application/xml"}, text.encode())

    async def _status(self, rule: Rule) -> None:
        await self._swallow()
        await self._no(rule, b"")

    async def _no(self, rule: Rule, body: bytes) -> None:
        extra = {"Retry-After": rule.retry_after} if rule.retry_after else {}
        await self._answer(rule.status, {**rule.headers, **extra}, rule.body or body)

    async def _early(self, rule: Rule) -> None:
        await self._swallow(self._left // 2)
        await self._answer(rule.status, rule.headers, rule.body)
        await self._silence(rule.seconds or 1)

    async def _error_in_200(self, rule: Rule) -> None:
        await self._swallow()
        text = (
            rule.body or b"<Error><Code>InternalError</Code><Message>Try again.</Message></Error>"
        )
        await self._answer(200, {"Content-Type": "application/xml"}, text)

    async def _empty_200(self, rule: Rule) -> None:
        await self._swallow()
        await self._answer(200)

    async def _no_etag(self, rule: Rule) -> None:
        answer = await self._whole_answer()
        self._writer.write(re.sub(rb"(?i)\r\netag:[^\r]*", b"", answer, count=1))

    async def _wrong_etag(self, rule: Rule) -> None:
        answer = await self._whole_answer()
        wrong = b'\r\netag: "00000000000000000000000000000000"'
        self._writer.write(re.sub(rb"(?i)\r\netag:[^\r]*", wrong, answer, count=1))

    async def _refused(self, rule: Rule) -> None:
        await self._proxy.refuse_for(rule.seconds)
        self._reset()


_TROUBLES: dict[str, Callable[[Exchange, Rule], Awaitable[Any]]] = {
    "reset before": Exchange._reset_before,
    "reset during": Exchange._reset_during,
    "reset after": Exchange._reset_after,
    "fin": Exchange._fin,
    "garbage": Exchange._garbage,
    "stall": Exchange._stall,
    "no answer": Exchange._no_answer,
    "lost": Exchange._lost,
    "lost 503": Exchange._lost_503,
    "truncated": Exchange._truncated,
    "flip": Exchange._forward,
    "redirect": Exchange._redirect,
    "endless": Exchange._endless,
    "giant headers": Exchange._giant_headers,
    "bomb": Exchange._bomb,
    "xml bomb": Exchange._xml_bomb,
    "status": Exchange._status,
    "early": Exchange._early,
    "error in 200": Exchange._error_in_200,
    "empty 200": Exchange._empty_200,
    "no etag": Exchange._no_etag,
    "wrong etag": Exchange._wrong_etag,
    "refused": Exchange._refused,
}
