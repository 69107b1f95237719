"""Passwords are slow to check and take 64 MiB each: only a few at once in a process.

Those few turns are shared: one account has one of them at a time, one address two, and neither may
have many wait. So whoever signs in again and again slows down nobody else.
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
#: Of one account, and of one address: turns at once, and together with those that wait.
ACCOUNT_AT_ONCE, ACCOUNT_IN_FLIGHT = 1, 4
ADDRESS_AT_ONCE, ADDRESS_IN_FLIGHT = 2, 16
#: A caller whose turn has not come by then is told to come back.
WAIT_SECONDS = 10.0
#: After which one of too many may come back: a few turns.
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class PasswordUser:
    """Whose password it is, by the account's email, and from which address it comes."""

    account: str
    address: str


class _Turn:
    """One piece of work: it waits, then it runs."""

    def __init__(self, user: PasswordUser) -> None:
        self.user = user
        self.is_running = False


class PasswordPool:
    """Hands out turns in the order of arrival, past those whose account or address has its share.

    Every wait ends after `WAIT_SECONDS`.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._changed = threading.Condition()
        self._turns: list[_Turn] = []  # in the order of arrival

    @contextmanager
    def turn(self, user: PasswordUser) -> Iterator[None]:
        """Wait for a turn and hold it for the block.

        Raises:
            RateLimited: `too_many_attempts`: the account or the address has too many in flight.
            Unavailable: `overloaded`: no turn came in time.
        """
        user = PasswordUser(canonical_email(user.account), counted_address(user.address))
        with self._changed:
            self._check_share(user)
            turn = _Turn(user)
            self._turns.append(turn)
            try:
                is_mine = self._changed.wait_for(lambda: self._next() is turn, WAIT_SECONDS)
            except BaseException:  # a caller that hung up
                self._leave(turn)
                raise
            if not is_mine:
                self._leave(turn)
                raise Unavailable("too many sign in at this moment, try again")
            turn.is_running = True
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._leave(turn)

    def _check_share(self, user: PasswordUser) -> None:
        account = sum(turn.user.account == user.account for turn in self._turns)
        address = sum(turn.user.address == user.address for turn in self._turns)
        if account >= ACCOUNT_IN_FLIGHT or address >= ADDRESS_IN_FLIGHT:
            who = "this account" if account >= ACCOUNT_IN_FLIGHT else "your address"
            raise RateLimited(
                f"too many passwords of {who} are checked at once, try again in a second",
                code="too_many_attempts",
                retry_after_seconds=RETRY_SECONDS,
            )

    def _next(self) -> _Turn | None:
        """Return the turn that may begin now: the first whose account and address have room."""
        running = [turn.user for turn in self._turns if turn.is_running]
        if len(running) >= self._at_once:
            return None
        for turn in self._turns:
            user = turn.user
            if (
                not turn.is_running
                and sum(other.account == user.account for other in running) < ACCOUNT_AT_ONCE
                and sum(other.address == user.address for other in running) < ADDRESS_AT_ONCE
            ):
                return turn
        return None

    def _leave(self, turn: _Turn) -> None:
        self._turns.remove(turn)
        self._changed.notify_all()


_turns = PasswordPool()


def make_password_hash(password: str, *, user: PasswordUser) -> str:
    """Return what is stored of a new password; raises as `PasswordPool.turn`."""
    return _in_turn(user, hash_password, password)


def check_password(password_hash: str | None, password: str, *, user: PasswordUser) -> bool:
    """Say whether it is the password of an account, or of none (`None`), in the same time.

    Raises as `PasswordPool.turn`.
    """
    return _in_turn(user, is_password_of, password_hash, password)


def _in_turn(user: PasswordUser, work: Callable[..., T], *args: str | None) -> T:
    with _turns.turn(user):
        return run_blocking(work, *args)
