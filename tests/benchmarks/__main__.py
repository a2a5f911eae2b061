"""Measure everything, and print what was reached."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import ssl
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from . import plots, sink
from .goals import EVERYTHING, GIB, MIB, Bench, Row

PACKAGES = "chunkup-jupyter httpx pycurl openai oss2 alibabacloud-oss-v2 twelvelabs boto3 obstore"


def main() -> None:
    """Run the groups that were asked for."""
    groups = {measure.__name__: measure for measure in EVERYTHING}
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(groups))
    parser.add_argument("--quick", action="store_true", help="small files, one round")
    parser.add_argument(
        "--out", type=Path, default=Path("build/benchmarks"), help="for JSON and plots"
    )
    asked = parser.parse_args()
    if unknown := set(asked.groups) - set(groups):
        parser.error(f"there is no group {', '.join(unknown)}; there are {', '.join(groups)}")
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("two cores are needed: one for the client, one for the sink")
    with (
        tempfile.TemporaryDirectory() as folder,
        # What peers write meanwhile goes to memory: a disk would slow them down.
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
        tempfile.TemporaryDirectory() as place,
        sink.serve(Path(place), {1}) as server,
    ):
        bench = Bench(
            Path(folder),
            Path(memory),
            server,
            size=GIB // 2 if asked.quick else 2 * GIB,
            rounds=1 if asked.quick else 3,
            tell=lambda line: print(f"  {line}", file=sys.stderr, flush=True),
        )
        rows: list[Row] = []
        for name in asked.groups or groups:
            bench.tell(name)
            for row in groups[name](bench):
                rows.append(row)
                bench.tell(_line(row))
    print("\n".join([_machine(), "", *_table(rows), "", *_senders(bench)]))
    asked.out.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": _machine(),
        "when": time.strftime("%Y-%m-%d"),
        "rows": [{**asdict(row), "reached": row.reached} for row in rows],
        "taken": bench.taken,
    }
    (asked.out / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    plots.draw(bench.taken, asked.out)


def _machine() -> str:
    versions = []
    for name in PACKAGES.split():
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return (
        f"{len(os.sched_getaffinity(0))} cores ({_processor()}), {platform.system()} "
        f"{platform.release().partition('-')[0]}, Python {platform.python_version()}, "
        f"{ssl.OPENSSL_VERSION.rpartition(' ')[0].rsplit(' ', 2)[0]}; {', '.join(versions)}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _table(rows: list[Row]) -> list[str]:
    return [
        "| what | goal | measured | |",
        "|---|---|---|---|",
        *(_line(row) for row in rows),
    ]


def _line(row: Row) -> str:
    mark = {True: "✓", False: "missed", None: ""}[row.reached]
    return f"| {row.what} | {row.goal} | {row.value:.3g} {row.unit} | {mark} |"


def _senders(bench: Bench) -> list[str]:
    """Return the medians of everything that was taken, one line for each sender and case."""
    kinds: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for each in bench.taken:
        key = tuple(each[name] for name in ("sender", "size", "part_size", "jobs", "cores"))
        kinds.setdefault(key, []).append(each)
    lines = [
        "| sender | MiB | parts of KiB | jobs | cores | GiB/s | CPU s/GiB | peak MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (sender, size, part_size, jobs, cores), group in kinds.items():
        assert isinstance(size, int)
        assert isinstance(part_size, int)
        seconds, cpu, peak = (
            statistics.median(each[name] for each in group)  # type: ignore[type-var]
            for name in ("seconds", "cpu", "peak")
        )
        lines.append(
            f"| {sender} | {size / MIB:g} | {part_size >> 10} | {jobs or 'auto'} | {cores} | "
            f"{size / GIB / seconds:.3f} | {cpu / size * GIB:.3f} | {peak / MIB:.0f} |"
        )
    return lines


if __name__ == "__main__":
    main()
