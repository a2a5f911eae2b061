"""Where a request may go: this machine, a proxy's, or only what is public."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from . import NotConnected, Untrusted, is_loopback

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def proxy_for(url: str) -> str | None:
    """Return the proxy the environment names for this URL; none for this machine."""
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if found and "://" not in found:
        found = f"http://{found}"
    return found


async def public_address(host: str, proxy: str | None) -> str | None:
    """Return the address to connect to, None to let the proxy resolve the name.

    Raises ``Untrusted`` when the host is, or resolves to, an address that is not public.
    """
    addresses: list[Address] = []
    private = host == "localhost" or host.endswith(".localhost")
    if not private:
        addresses = [literal] if (literal := _literal(host)) else await _resolved(host, proxy)
    if private or not all(map(_is_public, addresses)):
        raise Untrusted(f"a server named {host}, which is not a public address")
    # One family is enough for a storage service, and the older one works everywhere.
    addresses.sort(key=lambda address: address.version)
    return str(addresses[0]) if addresses else None


async def _resolved(host: str, proxy: str | None) -> list[Address]:
    if proxy is not None:
        return []
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host, 443, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except (OSError, UnicodeError):
        raise NotConnected(f"the name {host} cannot be resolved") from None
    return [ipaddress.ip_address(info[4][0]) for info in found]


def _literal(host: str) -> Address | None:
    """Return the address that a host spells out, in any way the system would read it."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 2130706433, 0x7f.1
    except (OSError, UnicodeError):
        return None


def _is_public(address: Address) -> bool:
    """Say whether an address, or the one inside it, is on the public internet."""
    inner: Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address.teredo is not None:
            inner = address.teredo[1]
        if int(address) >> 32 in (0, 0x0064FF9B << 64):  # compatible, NAT64
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.is_site_local:
            return False
    return all(
        each.is_global and not each.is_multicast and not each.is_reserved
        for each in (inner or address,)
    )
