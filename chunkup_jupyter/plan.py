"""Part arithmetic: how big, how many, where; and what an upload would do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from . import units
from .errors import EmptyFile, InvalidUpload
from .model import FileInfo, Part, PartReceipt, Rules, Session

MIB = 1 << 20
PREFERRED_PART = 16 * MIB  # bytes; large enough for speed, small enough to resend


def choose_part_size(size: int, preferred: int, rules: Rules) -> int:
    """Return the smallest legal part size that is at least ``preferred``.

    All sizes are in bytes. The result is a multiple of ``rules.multiple`` and keeps
    the number of parts within ``rules.max_parts``; it is capped at ``rules.max_part``.
    A size that had to grow is rounded up to a whole MiB where the rules allow it.

    Raises:
        InvalidUpload: no legal size exists for a file of this size.
    """
    wanted = max(preferred, rules.min_part, 1)
    if rules.max_part is not None:
        wanted = min(wanted, rules.max_part)
    if rules.max_parts is not None and count(size, wanted) > rules.max_parts:
        wanted = -(-size // rules.max_parts)
        rounded = -(-wanted // MIB) * MIB
        if wanted > MIB and (rules.max_part is None or rounded <= rules.max_part):
            wanted = rounded
    wanted = -(-wanted // rules.multiple) * rules.multiple
    if rules.max_part is not None and wanted > rules.max_part:
        wanted -= rules.multiple
    too_many = rules.max_parts is not None and count(size, max(wanted, 1)) > rules.max_parts
    if wanted < max(rules.min_part, 1) or too_many:
        raise InvalidUpload(
            f"{units.size(size)} do not fit {rules.max_parts:,} parts of at most "
            f"{units.chosen(rules.max_part or size)}"
        )
    return wanted


def check_part_size(part_size: int, size: int, rules: Rules) -> None:
    """Refuse a part size the user asked for when the provider would refuse it.

    Raises:
        InvalidUpload: with the limit that is crossed, or that the server decides.
    """
    if rules.server_decides:
        raise InvalidUpload("the server decides the part size here; leave --part-size out")
    if part_size < 1:
        raise InvalidUpload("a part holds at least one byte")
    if part_size < rules.min_part and part_size < size:
        raise InvalidUpload(
            f"parts of {units.chosen(part_size)} are too small; the least is "
            f"{units.chosen(rules.min_part)}"
        )
    if rules.max_part is not None and part_size > rules.max_part:
        raise InvalidUpload(
            f"parts of {units.chosen(part_size)} are too large; the most is "
            f"{units.chosen(rules.max_part)}"
        )
    if rules.max_parts is not None and count(size, part_size) > rules.max_parts:
        least = choose_part_size(size, part_size, rules)
        raise InvalidUpload(
            f"{count(size, part_size):,} parts are too many; the most is {rules.max_parts:,}, "
            f"so --part-size {units.written(least)} or more"
        )


def check_size(file: FileInfo, rules: Rules) -> tuple[str, ...]:
    """Return warnings about the file's size; refuse what cannot work.

    Raises:
        EmptyFile: the provider needs at least one byte.
        InvalidUpload: the file is larger than the provider's limit.
    """
    if file.size < rules.min_size:
        if file.size == 0:
            raise EmptyFile(f"{file.name} is empty, and this provider needs at least one byte")
        raise InvalidUpload(f"{file.name} has {file.size} bytes; the least is {rules.min_size}")
    if rules.max_size is not None and file.size > rules.max_size:
        raise InvalidUpload(
            f"{file.name} has {units.size(file.size)} ({file.size:,} bytes); the most this "
            f"provider takes is {units.chosen(rules.max_size)}"
        )
    if rules.advised_max is not None and file.size > rules.advised_max:
        return (rules.advice,)
    return ()


def count(size: int, part_size: int) -> int:
    """Return how many parts a file has; an empty one is one empty part."""
    return max(1, -(-size // part_size))


def part_at(number: int, size: int, part_size: int) -> Part:
    """Return the part of that number; sizes in bytes."""
    start = (number - 1) * part_size
    return Part(number, start, min(part_size, size - start))


def parts(session: Session) -> Iterator[Part]:
    """Yield all parts in order. They tile the file exactly."""
    size, step = session.file.size, session.part_size
    for number in range(1, count(size, step) + 1):
        yield part_at(number, size, step)


def fits(receipt: PartReceipt, session: Session) -> bool:
    """Say whether a receipt belongs to a part of this session, by number and size."""
    total = count(session.file.size, session.part_size)
    if not 1 <= receipt.number <= total:
        return False
    return part_at(receipt.number, session.file.size, session.part_size).size == receipt.size


def limits(rules: Rules) -> tuple[str, ...]:
    """Return the provider's limits that a plan keeps, in words."""
    found = []
    if rules.max_size is not None:
        found.append(f"a file of at most {units.chosen(rules.max_size)}")
    if rules.max_part is not None and not rules.server_decides:
        found.append(f"parts of at most {units.chosen(rules.max_part)}")
    if rules.max_parts is not None:
        found.append(f"at most {rules.max_parts:,} parts")
    return tuple(found)


@dataclass(frozen=True, repr=False)
class Plan:
    """What an upload would do, before a byte is sent. Sizes in bytes, times in seconds.

    ``life`` is how long the provider keeps a session open, None for ever. ``checks``
    are limits of the provider that the plan keeps. ``notes`` and ``warnings`` are
    sentences for the reader. ``sandbox`` says that it would go to a server on this machine.
    """

    file: FileInfo
    target: str
    part_size: int
    jobs: int
    in_order: bool = False
    life: float | None = None
    checks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    resumable: Sequence[PartReceipt] = field(default=())
    sandbox: bool = False

    def __repr__(self) -> str:
        where = f"{self.target} (sandbox)" if self.sandbox else self.target
        return f"<Plan: {self.file.name} → {where}, {self.cut}>"

    @property
    def parts(self) -> int:
        """The number of parts."""
        return count(self.file.size, self.part_size)

    @property
    def cut(self) -> str:
        """How the file is cut, in words: ``49 parts of 16 MiB``, or ``1 part``."""
        if self.parts == 1:
            return "1 part"
        return f"{self.parts:,} parts of {units.chosen(self.part_size)}"

    @property
    def memory(self) -> int:
        """The most bytes of the file held in memory at once: one block a job."""
        return self.jobs * MIB

    def seconds_at(self, rate: float) -> float:
        """Return how long the file takes at ``rate`` bytes a second."""
        return self.file.size / rate if rate > 0 else float("inf")
