"""What buckets and keys may be called, and the addresses they have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from ...answers import clean
from ...errors import InvalidUpload
from ...wire import encoded, is_loopback

MAX_KEY = 1023
"""Bytes of UTF-8; "Terms", OSS developer guide, read 2026-11."""


def check_bucket(bucket: str) -> None:
    """Refuse what is no bucket's name, before it can become part of a host's."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", bucket):
        said = "" if "@" in bucket or ":" in bucket else f"{clean(bucket, 70)!r} is none: "
        raise InvalidUpload(
            f"oss:// is followed by a bucket's name; {said}3 to 63 lower-case letters, digits "
            "and hyphens, as in oss://bucket/key"
        )


def check_key(key: str) -> None:
    """Refuse keys that would not arrive, or not be found again.

    Libraries and proxies remove ``.`` and ``..`` from a path even where they are
    escaped, which in path style names another bucket; the vendor's own SDKs cannot
    read such objects back.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidUpload(f"the key {clean(ascii(key), 80)} is not Unicode text") from None
    if size > MAX_KEY:
        raise InvalidUpload(f"the key has {size:,} bytes; the most is {MAX_KEY:,}")
    if key[:1] in ("/", "\\"):
        raise InvalidUpload("a key does not begin with a slash; write oss://bucket/key")
    if {".", ".."} & set(key.split("/")):
        raise InvalidUpload(f"{clean(key, 80)!r}: a key has no part called . or ..")
    if re.search(r"[\x00-\x1f\x7f]", key):
        raise InvalidUpload("a key holds no control characters")


def origin(endpoint: str, region: str, bucket: str) -> str:
    """Return scheme, host and port of an endpoint as people write it, without the bucket."""
    if not endpoint or endpoint in ("public", "internal", "dualstack"):
        if not region:
            raise InvalidUpload("OSS needs --region (or OSS_REGION), such as cn-hangzhou")
        form = {"internal": "oss-{}-internal", "dualstack": "{}.oss"}.get(endpoint, "oss-{}")
        return f"https://{form.format(region)}.aliyuncs.com"
    if endpoint in ("accelerate", "accelerate-overseas"):
        return f"https://oss-{endpoint}.aliyuncs.com"
    if "://" not in endpoint:
        endpoint = ("http://" if is_loopback(f"http://{endpoint}") else "https://") + endpoint
    match = re.fullmatch(r"(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?/?", endpoint)
    if not match or match[2].startswith(("-", ".")) or int((match[3] or ":0")[1:]) > 65_535:
        raise InvalidUpload(
            "the endpoint is a host, such as oss-cn-hangzhou.aliyuncs.com, without a path"
        )
    scheme, host, port = match[1], match[2].lower(), match[3] or ""
    if host.endswith(".aliyuncs.com"):
        host = host.removeprefix(f"{bucket}.")
    return f"{scheme}://{host}{port}"


def region_of(origin: str) -> str:
    """Return the region that an endpoint names; "" for accelerate, CNAME and others."""
    host = urlsplit(origin).hostname or ""
    match = re.fullmatch(
        r"oss-(?!accelerate)([a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com"
        r"|([a-z0-9-]+)\.oss\.aliyuncs\.com",
        host,
    )
    return (match[1] or match[2]) if match else ""


def is_bare(origin: str) -> bool:
    """Say whether the host is an address or localhost, which no bucket can be put before."""
    host = urlsplit(origin).hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def path_text(key: str) -> str:
    """Return a key as it stands in a URL.

    The second of two slashes is escaped: servers and proxies in between like to merge
    them, and OSS reads both spellings alike (its own SDK escapes every slash).
    """
    return re.sub("(?<=/)/", "%2F", encoded(key, "/"))


def query_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a query in the order given; a parameter without a value is just its name."""
    return "&".join(f"{encoded(k)}={encoded(v)}" if v else encoded(k) for k, v in pairs)
