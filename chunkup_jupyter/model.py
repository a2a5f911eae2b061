"""The nouns, ``Body``, ``Flow``, and the ``Provider`` base class."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from . import digests
from .errors import AnswerLost, InvalidUpload
from .secrets import Need
from .wire import Request, Response, Send, Stream

T = TypeVar("T")

Flow = Generator[Request, Response, T]
"""A verb in motion: yields requests, is sent responses, returns a ``T``."""

BLOCK = 1 << 20  # bytes; with half of that a tenth more CPU goes into handing over (2026-11)


@dataclass(frozen=True)
class FileInfo:
    """What is uploaded. ``size`` is in bytes; one ``fingerprint`` means the same bytes."""

    name: str
    size: int
    media_type: str = "application/octet-stream"
    fingerprint: str = ""


@dataclass(frozen=True)
class Rules:
    """What a protocol demands. Sizes are in bytes; nothing here is a preference.

    ``multiple``: every part but the last is a multiple of it. ``in_order``: parts go
    one after another. ``part_digests``: the digests of a part that ``put_part`` reads
    from its body. ``digest``: the whole file's digest that ``complete`` takes.
    ``report_every``: how many finished parts ``acknowledge`` takes at most; 0 for none.
    ``retry_on``: statuses after which the same request is sent again, by default those
    that pass by waiting, a CDN's and an overloaded server's among them.
    ``advised_max``: above it, ``advice`` is shown as a warning; the server decides.
    """

    min_size: int = 0
    max_size: int | None = None
    min_part: int = 1
    max_part: int | None = None
    max_parts: int | None = None
    multiple: int = 1
    in_order: bool = False
    part_digests: tuple[str, ...] = ()
    digest: str | None = None
    report_every: int = 0
    retry_on: frozenset[int] = frozenset({408, 429, 500, 502, 503, 504, *range(520, 525), 529})
    fatal_codes: frozenset[str] = frozenset()
    """Error codes that no retry mends, whatever the status (``insufficient_quota``)."""
    advised_max: int | None = None
    advice: str = ""
    life: float | None = None
    """Seconds a session lives by the vendor's word; the server's own answer wins."""
    server_decides: bool = False
    """The server chooses the part size; one asked for by the user is refused."""


@dataclass(frozen=True)
class Part:
    """One numbered range of the file: ``size`` bytes from ``start``; numbers begin at 1."""

    number: int
    start: int
    size: int


@dataclass(frozen=True)
class Session:
    """The server's open upload. JSON-ready; no key and no presigned URL inside.

    ``part_size`` (bytes) is the only truth about parts, whoever chose it.
    ``expires_at`` is in Unix seconds, None when the session never expires. ``terms`` are
    the caller's wishes that were settled when it was opened: other wishes need another.
    """

    upload_id: str
    file: FileInfo
    part_size: int
    extra: Mapping[str, str] = field(default_factory=dict)
    expires_at: float | None = None
    terms: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the session as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Session:
        """Return the session that ``to_json`` wrote."""
        return cls(**{**data, "file": FileInfo(**data["file"])})


@dataclass(frozen=True)
class PartReceipt:
    """Proof that a part is held.

    ``token`` is opaque outside its provider (ETag, part id). ``checksum`` is
    ``"crc64:<decimal>"``, ``"md5:<hex>"`` or "": what the server says the part's
    bytes are, so that anybody can compare.
    """

    number: int
    size: int
    token: str = ""
    checksum: str = ""


Held = Sequence[PartReceipt] | int | None
"""What the server says it has: these parts, the first n bytes, or None: it can't say."""


@dataclass(frozen=True)
class Result:
    """What the provider made of the file. ``id`` is what the next call takes.

    ``raw`` is the provider's own answer; ``verified`` says in words what was compared
    and by whom; ``expires_at`` is in Unix seconds, None when the file stays.
    """

    id: str
    url: str = ""
    size: int = 0
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold signed URLs
    verified: tuple[str, ...] = ()
    expires_at: float | None = None


@dataclass(frozen=True)
class NotYet:
    """Ask again in ``retry_after`` seconds; ``message`` is for the reader."""

    retry_after: float
    message: str = ""


class Body(Stream):
    """A part's bytes as a flow sees them: it never holds them.

    Iterating yields small blocks and starts afresh each time; ``digest(name)`` tells
    about what the last iteration yielded (None when that digest was not asked for).
    ``read`` returns exactly ``size`` bytes from ``start`` of the part, or raises.
    """

    def __init__(
        self,
        size: int,
        read: Callable[[int, int], Any],
        names: Sequence[str] = (),
    ) -> None:
        self._size = size
        self._read = read
        self._names = tuple(names)
        self._digests: dict[str, digests.Digest] = {}

    @property
    def size(self) -> int:
        """The length in bytes."""
        return self._size

    @classmethod
    def of(cls, data: bytes, names: Sequence[str] = ("crc64", "md5")) -> Body:
        """Return a body over bytes in memory, for flows driven by hand."""

        async def read(start: int, size: int) -> bytes:
            return data[start : start + size]

        body = cls(len(data), read, names)
        body._memory = data
        return body

    def after(self, skip: int) -> Rest:
        """Return what follows the first ``skip`` bytes, which the server has already.

        The skipped bytes are read all the same, so that digests are of the whole part.
        """
        return Rest(self, skip)

    @property
    def whole(self) -> bool:
        """Whether the last iteration went to the end, so that digests are of the whole part."""
        return bool(self._digests) and self._absorbed == self._size

    _memory: bytes | None = None
    _absorbed = 0

    async def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        self._restart()
        sums = list(self._digests.values())
        aside = self._size > BLOCK and any(each.costly for each in sums)
        hashing: Awaitable[None] | None = None
        for start in range(0, self._size, BLOCK):
            block = await self._read(start, min(BLOCK, self._size - start))
            if hashing is not None:
                await hashing
            self._absorbed += len(block)
            if aside:
                # A block is hashed while it is sent; not the last one, from which the
                # reader may not come back.
                hashing = asyncio.get_running_loop().run_in_executor(None, _absorb, sums, block)
                if self._absorbed == self._size:
                    await hashing
            else:
                _absorb(sums, block)
            yield block

    def __iter__(self) -> Iterator[bytes]:
        if self._memory is None:
            raise TypeError("only a body made by Body.of can be read without a loop")
        self._restart()
        self._absorbed = len(self._memory)
        _absorb(self._digests.values(), self._memory)
        yield self._memory

    def digest(self, name: str) -> str | None:
        """Return the digest of what was just sent, or None when it was not computed."""
        found = self._digests.get(name)
        return None if found is None else found.text()

    def _restart(self) -> None:
        self._digests = {name: digests.new(name) for name in self._names}
        self._absorbed = 0


def _absorb(sums: Iterable[digests.Digest], block: bytes | memoryview) -> None:
    for digest in sums:
        digest.update(block)


class Rest(Stream):
    """The end of a body, for protocols that go on where the server stopped."""

    def __init__(self, body: Body, skip: int) -> None:
        self._body = body
        self._skip = skip

    @property
    def size(self) -> int:
        """The length in bytes."""
        return self._body.size - self._skip

    async def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        skip = self._skip
        async for block in self._body:
            if skip < len(block):
                yield block[skip:]
            skip = max(0, skip - len(block))

    def __iter__(self) -> Iterator[bytes]:
        for block in self._body:
            yield block[self._skip :]


def answered(value: T) -> Flow[T]:
    """Return a flow that needs no request."""
    return value
    yield  # makes this a generator


def drive(flow: Flow[T], send: Send) -> T:
    """Run a flow to its end with a plain function from request to response.

    ``send`` may be a sandbox's ``handle`` or a blocking client. Nothing is retried;
    an ``AnswerLost`` that ``send`` raises is thrown into the flow.
    """
    try:
        request = next(flow)
        while True:
            try:
                response = send(request)
            except AnswerLost as lost:
                request = flow.throw(lost)
            else:
                request = flow.send(response)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        flow.close()


def utc_now() -> float:
    """Return Unix seconds: the clock of providers that sign or watch an expiry."""
    return time.time()


ARGUMENT: Mapping[str, Any] = {"argument": True}
"""Metadata of a provider's field that callers in Python may give, whether or not a line can."""


def option(
    default: Any = None,
    *,
    help: str,  # noqa: A002  argparse calls it that, and so do our users
    flag: str | None = None,
    aliases: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    metavar: str | None = None,
    repeat: bool = False,
    toggle: bool = False,
    parse: Callable[[str], Any] | None = None,
    factory: Callable[[], Any] | None = None,
    address: bool = False,
    settled: bool = False,
) -> Any:
    """Declare a provider's field that is also an option of the magic and the shell.

    ``flag`` defaults to the field's name with dashes. ``repeat`` collects ``K=V``
    pairs into a dictionary; ``toggle`` takes no value. ``parse`` turns the option's
    text into the field's value and raises ``ValueError`` with a sentence.
    ``address``: it says where the real service is, so that a sandbox does without it.
    ``settled``: it is told when the session opens and cannot be changed afterwards.
    """
    meta = {
        **ARGUMENT,
        "option": True,
        "help": help,
        "flag": flag,
        "aliases": aliases,
        "choices": choices,
        "metavar": metavar,
        "repeat": repeat,
        "toggle": toggle,
        "parse": parse,
        "address": address,
        "settled": settled,
    }
    if factory is not None:
        return field(default_factory=factory, metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True, kw_only=True)
class Provider(ABC):
    """A destination, and the verbs that bring a file there.

    Verbs return flows: nothing happens until a flow is run, and a flow never waits.
    Every yielded request may be sent again (one marked ``once`` only by its flow);
    every verb may be run again, in a new process, from the session and receipts alone.
    """

    title: ClassVar[str]
    """The vendor's name as people write it."""
    form: ClassVar[str] = ""
    """What a destination looks like, for the help: ``oss://BUCKET/KEY``."""
    needs: ClassVar[tuple[Need, ...]] = ()
    """Credentials and settings that come from the user's environment."""
    config_file: ClassVar[str] = ""
    """The vendor's own configuration file that may hold them ("~/.ossutilconfig")."""
    waits_ready: ClassVar[bool] = False
    """Whether uploads wait for ``ready`` unless told otherwise."""

    lapses: ClassVar[bool] = False
    """Whether only time ends a session there: ``abort`` forgets it on this side alone."""

    keeps_paths: ClassVar[bool] = False
    """Whether a file below a folder keeps its path there (``docs/a.txt`` as a key)."""

    rules: Rules = Rules()

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, **fields: Any) -> Provider:
        """Return the destination that a URL-like text names.

        ``fields`` are options and credentials by field name, already parsed.
        Raises ``InvalidUpload`` with a sentence that lists what is possible.
        """

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the file goes, without secrets: it is shown, and it keys the journal."""

    @property
    def account(self) -> str:
        """What tells two accounts at one ``url`` apart in the journal; never a key."""
        return ""

    @property
    def terms(self) -> dict[str, Any]:
        """The fields that are settled when a session opens and say something; JSON-ready."""
        found = {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.metadata.get("settled")
        }
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in found.items()
            if value
        }

    @property
    def holds_many(self) -> bool:
        """Whether several files can go to this destination."""
        return True

    @property
    def kind(self) -> str:
        """Which pre-flight checks apply, such as ``openai:fine-tune``."""
        return ""

    @property
    def states_digest(self) -> bool:
        """Whether the user stated the file's digest, so that ours is always computed."""
        return False

    def for_file(self, file: FileInfo) -> Provider:
        """Return the destination of this very file (``oss://bucket/dir/`` appends its name)."""
        return self

    def check(self, file: FileInfo) -> Sequence[str]:
        """Return warnings about this file; raise ``InvalidUpload`` when it can't work."""
        return ()

    @abstractmethod
    def create(self, file: FileInfo, part_size: int) -> Flow[Session]:
        """Open a session. The provider may overrule ``part_size``."""

    @abstractmethod
    def put_part(self, session: Session, part: Part, body: Body) -> Flow[PartReceipt]:
        """Send one part. Raises ``IntegrityError`` when the server got other bytes."""

    @abstractmethod
    def complete(
        self, session: Session, receipts: Sequence[PartReceipt], digest: str | None = None
    ) -> Flow[Result | NotYet]:
        """Finish; ends when the provider has confirmed the bytes. Receipts come sorted."""

    def held(self, session: Session) -> Flow[Held]:
        """Say what the server has. Raises ``SessionLost`` when it knows nothing of it."""
        return answered(None)

    def acknowledge(self, session: Session, receipts: Sequence[PartReceipt]) -> Flow[None]:
        """Report finished parts, at most ``rules.report_every`` of them. May be repeated."""
        return answered(None)

    def abort(self, session: Session) -> Flow[None]:
        """Make the server forget the session. May be repeated."""
        return answered(None)

    def ready(self, result: Result) -> Flow[Result | NotYet]:
        """Say whether the result can be used. Raises ``Refused`` when processing failed."""
        return answered(result)

    def delete(self, result: Result) -> Flow[None]:
        """Delete what was uploaded. Raises ``InvalidUpload`` where that is impossible."""
        raise InvalidUpload(f"{self.title} offers no way to delete an upload")

    def list_open(self) -> Flow[Sequence[Session]]:
        """List unfinished sessions; empty where the provider cannot."""
        return answered(())

    def existing(self, file: FileInfo) -> Flow[Result | None]:
        """Return what already stands where the file would go, as far as can be asked.

        Raises ``InvalidUpload`` when it may not be replaced.
        """
        return answered(None)

    def look_up(self, result: Result) -> Flow[Result | None]:
        """Return what stands under an earlier result's id, None when its bytes are gone.

        ``result.raw`` may hold the file's ``crc64`` (decimal) to be compared. Raises
        ``InvalidUpload`` where that cannot be asked.
        """
        raise InvalidUpload(
            f"{self.title} cannot say whether {result.id} is still there; "
            "leave --reuse out to upload the file"
        )

    def next_cell(self, result: Result) -> str:
        """Return the code of a next cell that uses the result."""
        return ""
