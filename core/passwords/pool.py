"""Bounds concurrent password hashing: each hash is slow and takes 64 MiB.

One account uses one slot at a time, one address two, and neither may have many waiting. So repeated
sign-ins of one account do not slow down other users.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from core.concurrency.greenlets import run_blocking
from core.errors import RateLimited, Unavailable
from core.ip_prefix import counted_address
from core.passwords.hashing import hash_password, is_password_of
from core.text.canonical import canonical_email

T = TypeVar("T")

AT_ONCE = 3
#: For one account, and for one address: slots at once, and these plus waiting work.
ACCOUNT_AT_ONCE, MAX_OF_ACCOUNT = 1, 4
ADDRESS_AT_ONCE, MAX_OF_ADDRESS = 2, 16
#: A caller without a slot after this wait gets 503.
WAIT_SECONDS = 10.0
#: `Retry-After` beyond the share of an account or an address.
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class PasswordUser:
    """The account whose password is checked, by its email, and the client's address."""

    account: str
    address: str


class _Work:
    """One password to hash: it waits, then it runs."""

    def __init__(self, user: PasswordUser) -> None:
        self.user = user
        self.is_running = False


class PasswordPool:
    """Assigns slots in order of arrival; skips work whose account or address has its share.

    Every wait ends after `WAIT_SECONDS`.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._changed = threading.Condition()
        self._queue: list[_Work] = []  # in order of arrival

    @contextmanager
    def slot(self, user: PasswordUser) -> Iterator[None]:
        """Wait for a slot and hold it during the block.

        Raises:
            RateLimited: `too_many_attempts`: the account or the address exceeds its share.
            Unavailable: `overloaded`: no slot was free in time.
        """
        user = PasswordUser(canonical_email(user.account), counted_address(user.address))
        with self._changed:
            self._check_share(user)
            work = _Work(user)
            self._queue.append(work)
            try:
                is_mine = self._changed.wait_for(lambda: self._next() is work, WAIT_SECONDS)
            except BaseException:  # the client disconnected
                self._remove(work)
                raise
            if not is_mine:
                self._remove(work)
                raise Unavailable("too many sign in at this moment, try again")
            work.is_running = True
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._remove(work)

    def _check_share(self, user: PasswordUser) -> None:
        account = sum(work.user.account == user.account for work in self._queue)
        address = sum(work.user.address == user.address for work in self._queue)
        if account >= MAX_OF_ACCOUNT or address >= MAX_OF_ADDRESS:
            who = "this account" if account >= MAX_OF_ACCOUNT else "your address"
            raise RateLimited(
                f"too many passwords of {who} are checked at once, try again in a second",
                code="too_many_attempts",
                retry_after_seconds=RETRY_SECONDS,
            )

    def _next(self) -> _Work | None:
        """Return the first waiting work whose account and address have a free share."""
        running = [work.user for work in self._queue if work.is_running]
        if len(running) >= self._at_once:
            return None
        for work in self._queue:
            user = work.user
            if (
                not work.is_running
                and sum(other.account == user.account for other in running) < ACCOUNT_AT_ONCE
                and sum(other.address == user.address for other in running) < ADDRESS_AT_ONCE
            ):
                return work
        return None

    def _remove(self, work: _Work) -> None:
        self._queue.remove(work)
        self._changed.notify_all()


_pool = PasswordPool()


def make_password_hash(password: str, *, user: PasswordUser) -> str:
    """Return the hash of a new password; raises like `PasswordPool.slot`."""
    return _in_slot(user, hash_password, password)


def check_password(password_hash: str | None, password: str, *, user: PasswordUser) -> bool:
    """Check the password of an account, or of none (`None`), in the same time.

    Raises like `PasswordPool.slot`.
    """
    return _in_slot(user, is_password_of, password_hash, password)


def _in_slot(user: PasswordUser, function: Callable[..., T], *args: str | None) -> T:
    with _pool.slot(user):
        return run_blocking(function, *args)
