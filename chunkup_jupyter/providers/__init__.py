"""Find a provider by the scheme of a destination. Built-ins use the same door as plugins."""

from __future__ import annotations

from importlib.metadata import entry_points

from ..errors import InvalidUpload
from ..model import Provider

GROUP = "chunkup_jupyter.providers"


def schemes() -> list[str]:
    """Return the schemes that can be uploaded to, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def scheme_of(url: str) -> str:
    """Return the scheme of a destination such as ``openai:batch`` or ``oss://bucket/key``."""
    scheme, colon, _ = url.partition(":")
    if not colon:
        known = ", ".join(f"{name}:…" for name in schemes())
        raise InvalidUpload(f"{url!r} is no destination: it needs a colon, as in {known}")
    return scheme.lower()


def load(url: str) -> type[Provider]:
    """Return the provider class for a destination.

    Raises:
        InvalidUpload: no provider of that scheme is installed; the message lists those that are.
    """
    scheme = scheme_of(url)
    for point in entry_points(group=GROUP):
        if point.name == scheme:
            return point.load()  # type: ignore[no-any-return]
    raise InvalidUpload(f"no provider is called {scheme!r}; there are {', '.join(schemes())}")
