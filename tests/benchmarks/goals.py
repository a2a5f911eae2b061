"""What is measured, and what it must reach: every function yields rows of the table."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import link
from .answers import PATTERN
from .senders import Case, Taken, in_process, split_for_curl
from .sink import Sink, started

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ONE, BOTH = (0,), (0, 1)
"""The client's cores; the sink has the second."""


@dataclass(frozen=True)
class Row:
    """One line of the table: ``least`` or ``most`` is what ``value`` is held to."""

    what: str
    value: float
    unit: str = "×"
    least: float | None = None
    most: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None when there is none."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    @property
    def goal(self) -> str:
        """What is asked for, in a few characters."""
        if self.least is not None:
            return f"≥ {self.least:g} {self.unit}"
        return "" if self.most is None else f"≤ {self.most:g} {self.unit}"


@dataclass
class Bench:
    """Files, a sink, and everything taken so far."""

    folder: Path
    memory: Path
    sink: Sink
    size: int
    rounds: int
    tell: Callable[[str], None]
    taken: list[dict[str, object]] = field(default_factory=list)

    def case(self, size: int = 0, part_size: int = 16 * MIB, **fields: object) -> Case:
        """Return a case over a file of ``size`` bytes, made when it is not there yet."""
        size = size or self.size
        return replace(
            Case(
                self.sink.base(tls=True),
                str(self.sink.ca),
                str(self.file(size)),
                str(self.file(part_size)),
                str(self.memory),
                size,
                part_size,
            ),
            **fields,  # type: ignore[arg-type]
        )

    def file(self, size: int) -> Path:
        """Return a file of the pattern's bytes; sparse from 8 GiB on."""
        path = self.folder / f"file-{size}.bin"
        if not path.exists():
            with path.open("wb") as file:
                if size < 8 * GIB:
                    for at in range(0, size, MIB):
                        file.write((PATTERN * (MIB // len(PATTERN)))[: size - at])
                file.truncate(size)
            with path.open("rb") as file:  # what the disk takes is nobody's merit
                while file.read(MIB):
                    pass
        return path

    def round(self, senders: dict[str, Case], rounds: int | None = None) -> dict[str, list[Taken]]:
        """Run each of the senders in turn, ``rounds`` times."""
        found: dict[str, list[Taken]] = {label: [] for label in senders}
        for number in range(rounds or self.rounds):
            for label, case in senders.items():
                taken = in_process(label.partition(" @")[0], case)
                found[label].append(taken)
                rate = case.size / taken.seconds / GIB
                cpu = taken.cpu / case.size * GIB
                self.tell(
                    f"{label:34} {rate:7.3f} GiB/s {cpu:8.3f} CPU s/GiB {taken.peak >> 20:5} MiB"
                )
                self.taken.append(
                    {
                        "sender": label,
                        "round": number,
                        "size": case.size,
                        "part_size": case.part_size,
                        "jobs": case.jobs,
                        "cores": len(case.cores),
                        "seconds": taken.seconds,
                        "cpu": taken.cpu,
                        "peak": taken.peak,
                        "growth": taken.growth,
                        "written": taken.written,
                    }
                )
        return found


Measure = Callable[[Bench], Iterator[Row]]


def transports(bench: Bench) -> Iterator[Row]:
    """Both of ours beside what Python and curl can do."""
    case = bench.case()
    split_for_curl(case)
    ours = {"stock httpx": "chunkup openai", "the fast extra": "chunkup openai fast"}
    got = bench.round(
        dict.fromkeys(("raw asyncio and ssl", "curl --parallel", *ours.values()), case)
    )
    goals = {"stock httpx": (0.75, 0.9), "the fast extra": (1.0, 1.25)}
    for name, sender in ours.items():
        raw, curl = goals[name]
        yield Row(
            f"{name}: rate against raw asyncio/ssl",
            faster(got, sender, "raw asyncio and ssl"),
            least=raw,
        )
        yield Row(
            f"{name}: rate against curl --parallel",
            faster(got, sender, "curl --parallel"),
            least=curl,
        )


def oss(bench: Bench) -> Iterator[Row]:
    """OSS with its CRC-64 on, as everybody has it by default."""
    peers = ("oss2 resumable_upload", "alibabacloud-oss-v2 Uploader")
    got = bench.round(dict.fromkeys(("chunkup oss", *peers), bench.case()))
    for peer in peers:
        yield Row(f"OSS: rate against {peer}", faster(got, "chunkup oss", peer), least=4.5)
        yield Row(f"OSS: CPU against {peer}", thriftier(got, "chunkup oss", peer), most=0.25)


def twelvelabs(bench: Bench) -> Iterator[Row]:
    """TwelveLabs, with and without the MD5 of each part."""
    peer = "twelvelabs upload_file"
    got = bench.round(
        dict.fromkeys(("chunkup twelvelabs", "chunkup twelvelabs md5", peer), bench.case())
    )
    two = bench.round(dict.fromkeys(("chunkup twelvelabs md5", peer), bench.case(cores=BOTH)))
    yield Row(
        "TwelveLabs, --verify none: rate against its SDK",
        faster(got, "chunkup twelvelabs", peer),
        least=2.2,
    )
    yield Row(
        "TwelveLabs, MD5 of parts, one core", faster(got, "chunkup twelvelabs md5", peer), least=0.8
    )
    yield Row(
        "TwelveLabs, MD5 of parts, two cores",
        faster(two, "chunkup twelvelabs md5", peer),
        least=1.5,
    )
    written = max(each.written for each in two["chunkup twelvelabs md5"])
    yield Row("TwelveLabs: written to disk meanwhile", written / MIB, "MiB", most=1)


def openai(bench: Bench) -> Iterator[Row]:
    """OpenAI, and its MD5 beside the sender."""
    peer = "openai upload_file_chunked"
    got = bench.round(
        dict.fromkeys(("chunkup openai", peer, "openai parts.create in threads"), bench.case())
    )
    both = bench.case(cores=BOTH)
    two = bench.round(dict.fromkeys(("chunkup openai md5", "hashlib md5"), both))
    yield Row(
        "OpenAI without md5: rate against its SDK", faster(got, "chunkup openai", peer), least=1.0
    )
    yield Row(
        "OpenAI with md5, two cores: rate against hashlib",
        faster(two, "chunkup openai md5", "hashlib md5"),
        least=0.9,
    )


def references(bench: Bench) -> Iterator[Row]:
    """Uploaders for S3, for comparison."""
    peers = ("boto3 upload_file", "obstore put")
    got = bench.round(dict.fromkeys(("chunkup oss", *peers), bench.case()))
    for peer in peers:
        yield Row(f"OSS: rate against {peer}", faster(got, "chunkup oss", peer))


def links(bench: Bench) -> Iterator[Row]:
    """A link of 40 MB/s for each connection with 50 ms of delay, jobs found by trying."""
    with slow_link(bench.sink) as port:
        case = bench.case(base=bench.sink.base(tls=True, port=port), jobs=0, cores=BOTH)
        ours = bench.round({"chunkup openai": case})
        peer = "openai upload_file_chunked"
        # Its default part is the largest one: that is kindest to who sends one at a time.
        theirs = bench.round({peer: replace(case, part_size=64 * MIB)}, 1)
        got = {"chunkup openai": ours["chunkup openai"], peer: theirs[peer] * bench.rounds}
        yield Row(
            "40 MB/s a connection, 50 ms: rate against the OpenAI SDK",
            faster(got, "chunkup openai", peer),
            least=7,
        )
        for jobs in (1, 2, 4, 8, 16):
            some = replace(case, jobs=jobs, size=bench.size // 4)
            some = replace(some, path=str(bench.file(some.size)))
            bench.round(
                {"chunkup openai @link": some, "openai parts.create in threads @link": some}, 1
            )


def memory(bench: Bench) -> Iterator[Row]:
    """8 parts of 64 MiB in flight, whatever the size of the file."""
    sizes = [100 * MIB, GIB, 8 * GIB if bench.rounds > 1 else 2 * GIB]
    most = f"{sizes[-1] // GIB} GiB"
    cases = {
        f"{name} @{size // MIB}": bench.case(size, 64 * MIB, jobs=8)
        for size in sizes
        for name in ("chunkup openai", "openai parts.create in threads")
    }
    got = bench.round(cases, 1)
    tiny, small, large = (got[f"chunkup openai @{size // MIB}"][0] for size in sizes)
    yield Row(f"memory growth, {most} file, 8 jobs of 64 MiB", large.growth / MIB, "MiB", most=64)
    yield Row(f"peak memory, {most} file against 1 GiB", large.peak / small.peak, most=1.1)
    yield Row(f"peak memory, {most} file against 100 MiB (two parts)", large.peak / tiny.peak)


def parts(bench: Bench) -> Iterator[Row]:
    """10,000 tiny parts: what the engine, its journal and the hashing cost each."""
    many = 10_000 if bench.rounds > 1 else 2_000
    case = bench.case(many * 4 * KIB, 4 * KIB)
    got = bench.round(dict.fromkeys(("chunkup openai md5", "bare httpx"), case))
    cost = statistics.median(
        (ours.cpu - bare.cpu) / many * 1000
        for ours, bare in zip(got["chunkup openai md5"], got["bare httpx"], strict=True)
    )
    bare = statistics.median(each.cpu for each in got["bare httpx"]) / many * 1000
    yield Row(f"CPU per part at {many:,} tiny parts, above bare httpx", cost, "ms", most=0.5)
    yield Row("the same of bare httpx", bare, "ms")


def files(bench: Bench) -> Iterator[Row]:
    """1,000 small files in one call."""
    size = 64 * KIB
    folder = bench.folder / "many"
    folder.mkdir(exist_ok=True)
    for number in range(1000):
        (folder / f"{number:04}-{size}.bin").write_bytes(PATTERN * (size // len(PATTERN)))
    case = replace(bench.case(size, size), path=str(folder), many=True)
    got = bench.round({"chunkup oss folder": case}, 1)["chunkup oss folder"][0]
    yield Row("1,000 files of 64 KiB in one call: CPU of each", got.cpu, "ms")
    yield Row("the same: files a second", 1000 / got.seconds, "/s")


def imports(bench: Bench) -> Iterator[Row]:
    """What the first lines of a notebook wait for."""
    yield Row("import chunkup_jupyter", _milliseconds("import chunkup_jupyter"), "ms", most=60)
    shell = "from IPython.core.interactiveshell import InteractiveShell as S; s = S.instance()"
    load = "s.run_line_magic('load_ext', 'chunkup_jupyter')"
    yield Row("%load_ext chunkup_jupyter, in IPython", _milliseconds(load, shell), "ms", most=150)


EVERYTHING: tuple[Measure, ...] = (
    transports, oss, twelvelabs, openai, references, parts, files, memory, links, imports,
)  # fmt: skip


def faster(got: dict[str, list[Taken]], one: str, other: str) -> float:
    """Return how many times the rate of ``other`` that of ``one`` is: the rounds' median."""
    pairs = zip(got[one], got[other], strict=True)
    return statistics.median(theirs.seconds / ours.seconds for ours, theirs in pairs)


def thriftier(got: dict[str, list[Taken]], one: str, other: str) -> float:
    """Return how many times the CPU seconds of ``other`` those of ``one`` are."""
    pairs = zip(got[one], got[other], strict=True)
    return statistics.median(ours.cpu / theirs.cpu for ours, theirs in pairs)


@contextlib.contextmanager
def slow_link(sink: Sink, rate: float = 40e6, delay: float = 0.05) -> Iterator[int]:
    """Run a link to the sink's TLS port; its own port is what comes out."""
    command = [sys.executable, "-m", link.__name__, str(sink.tls), str(rate), str(delay)]
    with contextlib.ExitStack() as stack:
        process = started(stack, command, set(BOTH), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        yield int(process.stdout.readline())


def _milliseconds(code: str, before: str = "") -> float:
    """Return how long code takes in a fresh interpreter, the median of nine."""
    clock = "import time; began = time.perf_counter()"
    script = f"{before}\n{clock}\n{code}\nprint(time.perf_counter() - began)"
    command = [sys.executable, "-c", script]
    runs = (subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(9))
    return statistics.median(float(run.stdout.split()[-1]) for run in runs) * 1000
