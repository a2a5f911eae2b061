"""The widgets' scripts: a front end is one ES module, and ours are written in several files."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def script(*names: str) -> str:
    """Return one module made of these files: each sees what the ones before it export."""
    return "\n".join((_HERE / f"{name}.js").read_text(encoding="utf-8") for name in names)


def style() -> str:
    """Return the style sheet that all widgets share."""
    return (_HERE / "look.css").read_text(encoding="utf-8")
