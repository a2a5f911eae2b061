"""Checksums: streaming, and combining those of neighbouring parts."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Protocol

from fastcrc import crc64

Buffer = bytes | bytearray | memoryview

_CRC64_XZ_POLY = 0xC96C5795D7870F42  # reflected; OSS names it crc64ecma


class Digest(Protocol):
    """Takes blocks in order; ``text()`` is the digest so far, as it is written on the wire.

    ``costly``: a block takes it longer than handing the block to a thread.
    """

    costly: bool

    def update(self, block: Buffer, /) -> None: ...
    def text(self) -> str: ...


class Crc64:
    """CRC-64/XZ. ``text()`` is unsigned decimal, as OSS writes it."""

    costly = False

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def update(self, block: Buffer, /) -> None:
        self.value = crc64.xz(block, self.value)

    def text(self) -> str:
        return str(self.value)


class Md5:
    """MD5. ``text()`` is 32 lower-case hex digits."""

    costly = True

    def __init__(self) -> None:
        self._hash = hashlib.md5(usedforsecurity=False)

    def update(self, block: Buffer, /) -> None:
        self._hash.update(block)

    def text(self) -> str:
        return self._hash.hexdigest()


class Sha256:
    """SHA-256. ``text()`` is 64 lower-case hex digits."""

    costly = True

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, block: Buffer, /) -> None:
        self._hash.update(block)

    def text(self) -> str:
        return self._hash.hexdigest()


DIGESTS: dict[str, type[Crc64] | type[Md5] | type[Sha256]] = {
    "crc64": Crc64,
    "md5": Md5,
    "sha256": Sha256,
}


def new(name: str) -> Digest:
    """Return a fresh digest of that name: ``crc64``, ``md5`` or ``sha256``."""
    return DIGESTS[name]()


def of(name: str, data: Buffer) -> str:
    """Return the text of one digest of ``data``."""
    digest = new(name)
    digest.update(data)
    return digest.text()


def combine_crc64(first: int, second: int, second_size: int) -> int:
    """Return the CRC-64/XZ of A + B from those of A and B and the size of B in bytes.

    Appending ``n`` zero bytes multiplies the register by x^(8n) modulo the
    polynomial; the two values then add. Costs 64 steps per bit of ``n``.
    """
    return _multiply(first, _x_to_the(8 * second_size)) ^ second


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials modulo the CRC's, both in reflected bit order."""
    product = 0
    while b:
        if b & (1 << 63):
            product ^= a
        b = (b << 1) & 0xFFFFFFFFFFFFFFFF
        a = (a >> 1) ^ (_CRC64_XZ_POLY if a & 1 else 0)
    return product


@lru_cache(maxsize=64)  # nearly all parts of an upload have one size
def _x_to_the(n: int) -> int:
    """Return x^n modulo the polynomial, reflected: x^0 is the highest bit."""
    result, square = 1 << 63, 1 << 62
    while n:
        if n & 1:
            result = _multiply(result, square)
        square = _multiply(square, square)
        n >>= 1
    return result
