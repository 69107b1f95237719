"""Where a webhook may go: its address as a customer wrote it, and what its name resolves to.

A customer names an address and we connect to it from inside our network. So nothing but public
addresses is allowed, except the networks of `WEBHOOK_ALLOWED_NETWORKS`. The URL is checked where it
comes in; its name is resolved before each connection, once, and the connection goes to one of the
addresses that were checked: a name that changes in between changes nothing.
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
#: Below lie the ports of mail, remote shells and others that a stranger's POST must not reach.
FIRST_FREE_PORT = 1024
MAX_HOST_LENGTH = 253

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: Programs read a name that ends so as IPv4, in decimal, octal or hexadecimal, of 1 to 4 parts.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_VISIBLE_ASCII = re.compile(r"[!-~]+")

#: IPv4 that is not for everyone: IANA's special-purpose registry, multicast, reserved.
_CLOSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by a carrier's customers
        "127.0.0.0/8",
        "168.63.129.16/32",  # public by its number: the platform service of every Azure machine
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
#: Only global unicast is open in IPv6; loopback, mapped IPv4, NAT64, private, link-local and
#: multicast addresses lie outside of it.
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
    """Nothing is sent there; the message says why and names no address of ours."""


class PrivateAddress(OSError):
    """A name resolves to an address that is not allowed.

    Its owner is told what is told of a name without any: which names there are inside is nobody's
    to find out.
    """


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """A webhook's address, taken apart.

    Attributes:
        host: in lower case, IPv6 without brackets.
        path: with the query, as it goes into the request.
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
    """Return the target of a URL that a caller named, if its form allows it; nothing is resolved.

    Raises:
        InvalidRequest: it cannot be, or must not be, a webhook's address.
    """
    try:
        return read_target(url, settings)
    except TargetRefused as refusal:
        raise InvalidRequest(f"webhookUrl {refusal}", param="webhookUrl") from None


def read_target(url: str, settings: Settings) -> WebhookTarget:
    """Take a URL apart.

    Raises:
        TargetRefused: its form is wrong, or it names an address that is not allowed.
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
    """Resolve the target's name, and return its addresses if every one of them is allowed.

    Raises:
        TargetRefused: it is an address itself, and not allowed.
        NameLeadsInside: one of them is not.
        OSError: the name has none.
    """
    literal = _literal(target.host)
    found = [literal] if literal else [ip_address(a) for a in resolve(target.host, target.port)]
    if not all(is_allowed(address, settings.webhook_networks) for address in found):
        if literal is not None:
            raise TargetRefused("names an address that is not allowed")
        raise PrivateAddress
    return list(dict.fromkeys(found))


def is_allowed(address: Address, networks: Sequence[Network]) -> bool:
    """Say whether webhooks may go to an address: a public one, or one in `networks`."""
    if any(address in network for network in networks):
        return True
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    return address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)


def resolve_name(host: str, port: int) -> list[str]:
    """Ask the system for all addresses of a name; it waits as long as the system's resolver."""
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
    """Return the address that a host stands for without being resolved, if it does."""
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    try:
        return ip_address(host)
    except ValueError:
        return None
