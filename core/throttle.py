"""How often one address, and one email, may try to sign in or to register.

Redis keys:
    throttle:{what}:address:{hash}   attempts from an address; one of IPv6 counts as its /64
    throttle:{what}:email:{hash}     attempts with an email

A counter lives one window from its first attempt. An attempt is charged before it is judged, so
that many at once cannot slip through. When Redis is away nobody may try (`redis.RedisError`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import IPv6Address, ip_address, ip_network

import redis

from core.errors import ApiError, RateLimited
from core.settings import Settings

IPV6_NETWORK_BITS = 64

#: A counter that has gone in the meantime must not come back without an end.
_GIVE_BACK = """
if tonumber(redis.call("get", KEYS[1]) or "0") > 0 then
    redis.call("decr", KEYS[1])
end
"""


@dataclass(frozen=True, slots=True)
class ThrottleRule:
    """What is tried, and how often in a window."""

    name: str
    per_address: int
    per_email: int
    window_seconds: int


def login_rule(settings: Settings) -> ThrottleRule:
    """Return how often a password may be tried."""
    return ThrottleRule(
        "login",
        per_address=settings.login_attempts_per_address,
        per_email=settings.login_attempts_per_email,
        window_seconds=settings.login_window_seconds,
    )


class Attempt:
    """One attempt that was charged."""

    def __init__(self, client: redis.Redis, *, address_key: str, email_key: str) -> None:
        self._client = client
        self._address_key = address_key
        self._email_key = email_key

    def succeed(self) -> None:
        """Forget what was tried with this email; its address gets only this attempt back."""
        self._client.delete(self._email_key)
        self._give_back(self._address_key)

    def forget(self) -> None:
        """Give the attempt back: it was not judged, because of a fault of ours."""
        self._give_back(self._email_key)
        self._give_back(self._address_key)

    def _give_back(self, key: str) -> None:
        self._client.eval(_GIVE_BACK, 1, key)


class Throttle:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._charge = client.register_script(files("core").joinpath("throttle.lua").read_text())

    @contextmanager
    def attempt(self, rule: ThrottleRule, *, address: str, email: str) -> Iterator[Attempt]:
        """Charge an attempt and let it be judged inside the block.

        An error of ours inside gives it back; a refusal of the caller does not.

        Raises:
            RateLimited: `too_many_attempts`; nothing was charged.
            redis.RedisError: Redis is away.
        """
        keys = {
            "address_key": f"throttle:{rule.name}:address:{_digest(_network(address))}",
            "email_key": f"throttle:{rule.name}:email:{_digest(email.lower())}",
        }
        limits = [rule.per_address, rule.per_email]
        wait_ms = self._charge(keys=[*keys.values()], args=[rule.window_seconds * 1000, *limits])
        if wait_ms:
            raise RateLimited(
                "too many attempts, try again later",
                code="too_many_attempts",
                retry_after_seconds=wait_ms / 1000,
            )
        attempt = Attempt(self._client, **keys)
        try:
            yield attempt
        except BaseException as error:
            if not isinstance(error, ApiError) or error.status >= 500:
                with suppress(redis.RedisError):
                    attempt.forget()
            raise


def _network(address: str) -> str:
    """Return what counts as one address: whoever has one of IPv6 has its whole network."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, IPV6_NETWORK_BITS), strict=False))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
