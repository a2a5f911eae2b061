"""Where a session may make us send bytes, and with which headers."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from ...errors import ProtocolError
from ...wire import is_loopback

# What a session may ask us to send to its storage. Everything else is left out: a key
# or a cookie of ours must not be asked for, and Host and lengths are the transport's.
_HEADERS = re.compile(
    r"content-type|content-disposition|content-language|cache-control|expires"
    r"|x-(amz|goog|ms|oss)-[a-z0-9-]+",
    re.IGNORECASE,
)


def check_presigned(url: object, base_url: str) -> str:
    """Return a presigned URL that bytes of the user's may be sent to.

    https only, to a public host; where the API itself is on this machine, so may its
    storage be, in plain http. Names are resolved and checked by the transport.

    Raises:
        ProtocolError: naming what is wrong with it, not the URL.
    """
    local = is_loopback(base_url)

    def refused(why: str) -> ProtocolError:
        return ProtocolError(f"TwelveLabs named a storage address that {why}; nothing was sent")

    if not isinstance(url, str) or not re.fullmatch(r"[!-\[\]-~]{1,8192}", url):
        raise refused("is no URL")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise refused("is no URL") from None
    if parts.scheme != "https" and not (local and parts.scheme == "http"):
        raise refused("is not https")
    if "@" in parts.netloc or "#" in url:
        raise refused("carries a user or a fragment")
    if not re.fullmatch(r"[a-z0-9.:_-]+", host):
        raise refused("has no proper host")
    address = _address(host)
    if address is not None:
        never = address.is_link_local or address.is_multicast or address.is_unspecified
        near = local and address.is_private  # loopback is part of it
        if never or not (near or (address.is_global and not address.is_reserved)):
            raise refused("is not public")
    elif not local:
        labels = host.rstrip(".").split(".")
        if len(labels) < 2 or labels[-1] in ("localhost", "local", "internal"):
            raise refused("is not public")
    return url


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host spells out, None when it is a name.

    Understands what resolvers do: ``2130706433``, ``0x7f.1``, ``0177.0.0.1``,
    ``::ffff:10.0.0.1`` and the IPv4 addresses inside 6to4, NAT64 and Teredo.
    """
    if ":" in host:
        try:
            six = ipaddress.IPv6Address(host)
        except ValueError:
            return ipaddress.IPv6Address("::")  # not an address and not a name either
        if six.is_site_local:
            return ipaddress.IPv6Address("::")  # private long ago, and "global" to Python
        inner = six.ipv4_mapped or six.sixtofour or (six.teredo[1] if six.teredo else None)
        if int(six) >> 32 in (0x0064FF9B << 64, 0) and int(six) > 0xFFFF:  # NAT64, compatible
            inner = ipaddress.IPv4Address(int(six) & 0xFFFFFFFF)
        return inner or six
    labels = host.rstrip(".").split(".")
    if not re.fullmatch(r"0x[0-9a-f]*|[0-9]+", labels[-1]):
        return None
    try:
        numbers = [_number(label) for label in labels]
        *heads, tail = numbers
        if (
            len(numbers) > 4
            or any(each > 255 for each in heads)
            or tail >= 256 ** (5 - len(numbers))
        ):
            raise ValueError(host)
        value = tail + sum(each << 8 * (3 - place) for place, each in enumerate(heads))
        return ipaddress.IPv4Address(value)
    except ValueError:
        return ipaddress.IPv4Address(0)  # looks like an address and is none: refused


def _number(label: str) -> int:
    """Return a label as inet_aton reads it: decimal, 0 octal, 0x hexadecimal."""
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") else 10)


def allowed(headers: object) -> dict[str, str]:
    """Return those headers of a session that are sent to its storage."""
    if headers is None:
        return {"Content-Type": "application/octet-stream"}  # what the SDK sends
    if not isinstance(headers, dict) or len(headers) > 64:
        raise ProtocolError("TwelveLabs' upload headers make no sense")
    kept = {}
    for name, value in headers.items():
        if _HEADERS.fullmatch(name):
            if not isinstance(value, str) or not re.fullmatch(r"[ -~]{0,4096}", value):
                raise ProtocolError(f"TwelveLabs' upload header {name} makes no sense")
            kept[name] = value
    return kept
