"""How a source that is elsewhere is spelled, and what of that may be shown.

The query of a URL may be a password: it is never shown, logged, or written anywhere.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*([A-Za-z][A-Za-z0-9+.-]+)://")


def is_remote(source: object) -> bool:
    """Say whether a source is spelled as a URL (``C:\\x`` is a drive)."""
    return isinstance(source, str) and _URL.match(source) is not None and not _is_file(source)


def local(source: Any) -> Any:
    """Return the path that a ``file://`` URL means; anything else as it is."""
    if not isinstance(source, str) or not _is_file(source):
        return source
    return url2pathname(urlsplit(source).path)


def is_web(url: str) -> bool:
    """Say whether it is a page or file of a web server."""
    return url.lower().startswith(("http://", "https://"))


def plain(url: str) -> str:
    """Return a URL without query, fragment and login; a path as it is."""
    if not is_remote(url):
        return url
    if is_web(url):
        scheme, host, path, _, _ = urlsplit(url)
        return urlunsplit((scheme, host.rpartition("@")[2], path, "", ""))
    scheme, colons, rest = url.rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{colons}{host.rpartition('@')[2]}{slash}{path}".partition("?")[0]


def shown(source: object) -> str:
    """Return a source as it may be shown."""
    return plain(str(source))


def scheme_of(url: str) -> str:
    """Return the scheme that says where a URL leads: ``s3`` of ``simplecache::s3://…``."""
    found = _URL.match(url)
    return found[1].lower() if found else ""


def _is_file(url: str) -> bool:
    return url.lower().startswith(("file://", "local://"))
