"""Limits attempts to sign in or to register, per address and per email.

Redis keys:
    throttle:{what}:address:{address}         attempts from an address, with any email
    throttle:{what}:email:{email}:{address}   attempts with an email from one address
    throttle:{what}:email:{email}             attempts with an email from all addresses
    throttle:known:{email}:{address}          this address succeeded with this email recently

Keys contain hashes of emails and addresses; an IPv6 address counts as its /64. A counter lives one
window from its first attempt. An attempt is charged before it is checked, so that many concurrent
attempts cannot pass. If Redis is away, every attempt is refused (`redis.RedisError`).

The counter of an email from all addresses refuses only unknown addresses. So attackers who try
wrong passwords cannot lock out the owner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files

import redis

from core.config.settings import Settings
from core.errors import ApiError, RateLimited
from core.ip_prefix import counted_address
from core.text.canonical import canonical_email
from core.text.durations import duration_text

#: How long an address that succeeded with an email stays known.
KNOWN_SECONDS = 90 * 24 * 3600
#: The keys that one step of `lift` scans.
_SCAN_COUNT = 1000

#: A counter that has expired must not return without an expiry.
_GIVE_BACK = """
if tonumber(redis.call("get", KEYS[1]) or "0") > 0 then
    redis.call("decr", KEYS[1])
end
"""


@dataclass(frozen=True, slots=True)
class ThrottleRule:
    """The kind of attempt, and how many of it are allowed in a window.

    Attributes:
        per_email: attempts with one email from one address.
        per_email_anywhere: attempts with one email from all addresses; known addresses pass.
    """

    name: str
    per_address: int
    per_email: int
    per_email_anywhere: int
    window_seconds: int


def login_rule(settings: Settings) -> ThrottleRule:
    """Return the rule for passwords at the sign-in."""
    return _password_rule("login", settings)


def own_password_rule(settings: Settings) -> ThrottleRule:
    """Return the rule for the current password of a signed-in user.

    It has its own counters, so that attempts at the sign-in cannot use them up.
    """
    return _password_rule("password", settings)


def registration_rule(settings: Settings) -> ThrottleRule:
    """Return the rule for registrations."""
    return ThrottleRule(
        "registration",
        per_address=settings.registration_attempts_per_address,
        per_email=settings.registration_attempts_per_email,
        per_email_anywhere=settings.login_attempts_per_email_anywhere,
        window_seconds=settings.registration_window_seconds,
    )


def _password_rule(name: str, settings: Settings) -> ThrottleRule:
    return ThrottleRule(
        name,
        per_address=settings.login_attempts_per_address,
        per_email=settings.login_attempts_per_email,
        per_email_anywhere=settings.login_attempts_per_email_anywhere,
        window_seconds=settings.login_window_seconds,
    )


@dataclass(frozen=True, slots=True)
class _Keys:
    known: str
    address: str
    pair: str
    email: str

    @classmethod
    def of(cls, rule: ThrottleRule, *, address: str, email: str) -> _Keys:
        here, who = _digest(counted_address(address)), _email_digest(email)
        return cls(
            known=f"throttle:known:{who}:{here}",
            address=f"throttle:{rule.name}:address:{here}",
            pair=f"throttle:{rule.name}:email:{who}:{here}",
            email=f"throttle:{rule.name}:email:{who}",
        )

    @property
    def counters(self) -> tuple[str, str, str]:
        return self.address, self.pair, self.email


class Attempt:
    """A charged attempt."""

    def __init__(self, client: redis.Redis, keys: _Keys) -> None:
        self._client = client
        self._keys = keys

    def succeed(self) -> None:
        """Mark the address as known for this email, and delete the counter of both.

        The other counters get back only this attempt.
        """
        self._client.set(self._keys.known, 1, ex=KNOWN_SECONDS)
        self._client.delete(self._keys.pair)
        self._give_back(self._keys.address)
        self._give_back(self._keys.email)

    def forget(self) -> None:
        """Give the attempt back, because it was not checked."""
        for key in self._keys.counters:
            self._give_back(key)

    def _give_back(self, key: str) -> None:
        self._client.eval(_GIVE_BACK, 1, key)


class Throttle:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._charge = client.register_script(
            files("core.limits").joinpath("throttle.lua").read_text()
        )

    @contextmanager
    def attempt(self, rule: ThrottleRule, *, address: str, email: str) -> Iterator[Attempt]:
        """Charge an attempt; check it inside the block.

        A server error or a 429 inside the block gives the attempt back; other errors do not.

        Raises:
            RateLimited: `too_many_attempts`; nothing was charged.
            redis.RedisError: Redis is away.
        """
        keys = _Keys.of(rule, address=address, email=email)
        limits = (rule.per_address, rule.per_email, rule.per_email_anywhere)
        wait_ms = self._charge(
            keys=[keys.known, *keys.counters], args=[rule.window_seconds * 1000, *limits]
        )
        if wait_ms:
            raise RateLimited(
                f"too many attempts, try again in {duration_text(wait_ms / 1000)}",
                code="too_many_attempts",
                retry_after_seconds=wait_ms / 1000,
            )
        attempt = Attempt(self._client, keys)
        try:
            yield attempt
        except BaseException as error:  # also if the greenlet was stopped: nothing was verified
            if not isinstance(error, ApiError) or error.status >= 429:
                with suppress(redis.RedisError):
                    attempt.forget()
            raise

    def lift(self, email: str) -> int:
        """Delete all counters of an email and return their number."""
        pattern = f"throttle:*:email:{_email_digest(email)}*"
        return sum(
            self._client.delete(key) for key in self._client.scan_iter(pattern, count=_SCAN_COUNT)
        )


def _email_digest(email: str) -> str:
    return _digest(canonical_email(email))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
