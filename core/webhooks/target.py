"""Checks the URL of a webhook and the addresses that its name resolves to.

A customer chooses an address, and we connect to it from inside our network. So only public
addresses are allowed, and the networks of `WEBHOOK_ALLOWED_NETWORKS`. The URL is checked when it is
received. Its name is resolved once before each connection, and the connection uses one of the
checked addresses. So a name that changes in between has no effect.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from core.config.settings import Network, Settings
from core.errors import BountyError, InvalidRequest

Address = IPv4Address | IPv6Address

#: Returns all addresses of a name. Raises `OSError` if it has none.
Resolve = Callable[[str, int], Sequence[str]]

DEFAULT_PORTS = {"https": 443, "http": 80}
#: Lower ports belong to mail, remote shells and others that a foreign POST must not reach.
FIRST_FREE_PORT = 1024
MAX_HOST_LENGTH = 253

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: Programs parse a name with such an end as IPv4: 1 to 4 decimal, octal or hexadecimal numbers.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_VISIBLE_ASCII = re.compile(r"[!-~]+")

#: IPv4 networks that are not public: IANA's special-purpose registry, multicast, reserved.
_CLOSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by a carrier's customers
        "127.0.0.0/8",
        "168.63.129.16/32",  # a public address, but the platform service of every Azure machine
        "169.254.0.0/16",  # link-local: the metadata service of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
#: Only global unicast is public in IPv6; loopback, mapped IPv4, NAT64, private, link-local and
#: multicast addresses are outside of it.
_OPEN_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocols of the IETF: Teredo carries IPv4
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries IPv4
        "3fff::/20",
        "2620:4f:8000::/48",
    )
)


class TargetRefused(BountyError):
    """A target is not allowed; the message says why, and contains no internal address."""


class PrivateAddress(OSError):
    """A name resolves to an address that is not allowed.

    The caller must report it like a name that does not resolve: otherwise customers could discover
    internal names.
    """


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """The parts of a webhook's URL.

    Attributes:
        host: lower case; IPv6 without brackets.
        path: path and query of the request.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def check_webhook_url(url: str, settings: Settings) -> WebhookTarget:
    """Return the target of a caller's URL; checks the form and resolves nothing.

    Raises:
        InvalidRequest: the URL is malformed or not allowed.
    """
    try:
        return read_target(url, settings)
    except TargetRefused as refusal:
        raise InvalidRequest(f"webhookUrl {refusal}", param="webhookUrl") from None


def read_target(url: str, settings: Settings) -> WebhookTarget:
    """Parse a URL.

    Raises:
        TargetRefused: the URL is malformed, or contains an address that is not allowed.
    """
    if not _VISIBLE_ASCII.fullmatch(url) or "\\" in url:
        raise TargetRefused("must be ASCII without spaces: escape everything else")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TargetRefused("is not a URL") from None
    schemes = ("https",) if settings.is_production else ("https", "http")
    if parts.scheme not in schemes:
        raise TargetRefused(f"must begin with {' or '.join(f'{s}://' for s in schemes)}")
    if "@" in parts.netloc:
        raise TargetRefused("must not carry credentials")
    if port is None:
        port = DEFAULT_PORTS[parts.scheme]
    if port not in DEFAULT_PORTS.values() and port < FIRST_FREE_PORT:
        raise TargetRefused(f"must have port 80, 443 or one from {FIRST_FREE_PORT} on")
    host = _read_host(parts)
    literal = _literal(host)
    if literal is not None and not is_allowed(literal, settings.webhook_networks):
        raise TargetRefused("names an address that is not allowed")
    query = f"?{parts.query}" if parts.query else ""
    return WebhookTarget(parts.scheme, host, port, (parts.path or "/") + query)


def allowed_addresses(target: WebhookTarget, settings: Settings, resolve: Resolve) -> list[Address]:
    """Resolve the target's name and return its addresses, if all of them are allowed.

    Raises:
        TargetRefused: the host is an address that is not allowed.
        PrivateAddress: the name resolves to an address that is not allowed.
        OSError: the name has no address.
    """
    literal = _literal(target.host)
    found = [literal] if literal else [ip_address(a) for a in resolve(target.host, target.port)]
    if not all(is_allowed(address, settings.webhook_networks) for address in found):
        if literal is not None:
            raise TargetRefused("names an address that is not allowed")
        raise PrivateAddress
    return list(dict.fromkeys(found))


def is_allowed(address: Address, networks: Sequence[Network]) -> bool:
    """Return whether webhooks may go to an address: public, or in one of `networks`."""
    if any(address in network for network in networks):
        return True
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    return address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)


def resolve_name(host: str, port: int) -> list[str]:
    """Return all addresses of a name; waits as long as the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def _read_host(parts: SplitResult) -> str:
    host = (parts.hostname or "").removesuffix(".")
    if "[" in parts.netloc:
        if _literal(host) is None or "%" in host:
            raise TargetRefused("has an IPv6 address that cannot be read")
        return host
    labels = host.split(".")
    is_name = len(host) <= MAX_HOST_LENGTH and all(map(_LABEL.fullmatch, labels))
    if not is_name or (_NUMBER.fullmatch(labels[-1]) and _literal(host) is None):
        raise TargetRefused("has a host that is neither a name nor an address")
    return host


def _literal(host: str) -> Address | None:
    """Return the address of a host that needs no resolution, or `None`."""
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    try:
        return ip_address(host)
    except ValueError:
        return None
