"""Bytes over time as a picture, to see two uploads beside each other."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Mapping

# Seen well on white and on black: a picture cannot follow the page's theme.
_COLOURS = ("#3b8ed0", "#e8710a", "#2ca02c", "#a06cd5")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 200, 56, 16, 30, 28


class Curve:
    """Bytes sent, by the seconds since this was made: ``upload(…, listeners=[curve])``.

    What is no upload of ours tells it with ``add``.
    """

    def __init__(self) -> None:
        self.points: list[tuple[float, int]] = [(0.0, 0)]
        self._began = time.monotonic()

    def __call__(self, event: object, progress: object) -> None:
        """Hear of an event, as every listener does."""
        self.add(getattr(progress, "sent", 0))

    def add(self, sent: float) -> None:
        """Note that so many bytes are sent by now."""
        self.points.append((time.monotonic() - self._began, int(sent)))

    @property
    def seconds(self) -> float:
        """When the last point was noted."""
        return self.points[-1][0]


class Drawing:
    """Curves as an image that any page shows, with the seconds in words beside it."""

    def __init__(self, curves: Mapping[str, Curve]) -> None:
        self._curves = dict(curves)

    def __repr__(self) -> str:
        return ", ".join(f"{name} {curve.seconds:.1f} s" for name, curve in self._curves.items())

    def _repr_html_(self) -> str:
        # JupyterLab takes this one; it shows no SVG of a notebook that is not trusted.
        image = base64.b64encode(self._repr_svg_().encode()).decode()
        told = html.escape(repr(self), quote=True)
        return f'<img alt="{told}" src="data:image/svg+xml;base64,{image}">'

    def _repr_svg_(self) -> str:
        # For pages that take no HTML.
        return _svg(self._curves, repr(self))


def draw(curves: Mapping[str, Curve]) -> Drawing:
    """Return a picture of megabytes over seconds: one line for each name."""
    return Drawing(curves)


def _svg(curves: Mapping[str, Curve], told: str) -> str:
    far = max((curve.seconds for curve in curves.values()), default=0) or 1.0
    top = max((sent for curve in curves.values() for _, sent in curve.points), default=0) or 1
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT

    def x(seconds: float) -> float:
        return _LEFT + seconds / far * (right - _LEFT)

    def y(sent: float) -> float:
        return bottom - sent / top * (bottom - _TOP)

    shapes = [
        f"<title>{html.escape(told)}</title>",
        f'<path d="M{_LEFT} {y(0)}H{right}M{_LEFT} {y(top)}H{right}" stroke="#8885"/>',
        f'<text x="{_LEFT - 6}" y="{y(top) + 4}" text-anchor="end">{_megabytes(top)}</text>',
        f'<text x="{right}" y="{_HEIGHT - 8}" text-anchor="end">{far:.1f} s</text>',
    ]
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = " ".join(f"{x(seconds):.1f},{y(sent):.1f}" for seconds, sent in curve.points)
        shapes += [
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{_LEFT + 190 * number}" y="16" fill="{colour}">{html.escape(name)} '
            f"{curve.seconds:.1f} s</text>",
        ]
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
    font = 'font-family="sans-serif" font-size="12" fill="#888"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>{"".join(shapes)}</svg>'


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
