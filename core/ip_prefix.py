"""Groups IP addresses for limits per address."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

IPV6_NETWORK_BITS = 64


def counted_address(address: str) -> str:
    """Return the key of an address for limits: the /64 of an IPv6 address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, IPV6_NETWORK_BITS), strict=False))
