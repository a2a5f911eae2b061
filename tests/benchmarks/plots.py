"""Two pictures: the rate against the number of jobs, and memory against the file's size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .goals import GIB, MIB


def draw(taken: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write ``jobs.svg`` and ``memory.svg``, as far as that was measured."""
    link = [each for each in taken if each["sender"].endswith("@link")]
    if link:
        points = _points(link, lambda each: (each["jobs"], each["size"] / each["seconds"] / 1e6))
        title = "40 MB/s a connection, 50 ms delay"
        _plot(points, "jobs", "MB/s", title, folder / "jobs.svg")
    sized = [each for each in taken if each["sender"].rpartition("@")[2].isdigit()]
    if sized:
        points = _points(sized, lambda each: (each["size"] / GIB, each["peak"] / MIB))
        _plot(points, "GiB", "peak MiB", "8 parts of 64 MiB at once", folder / "memory.svg")


def _points(taken: Sequence[dict[str, Any]], place: Any) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for each in taken:
        found.setdefault(each["sender"].partition(" @")[0], []).append(place(each))
    return found


def _plot(
    points: dict[str, list[tuple[float, float]]], x: str, y: str, title: str, path: Path
) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "chunkup"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.5, 3.5), layout="constrained")
    for name, line in points.items():
        axes.plot(*zip(*sorted(line), strict=True), marker="o", label=name)
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
