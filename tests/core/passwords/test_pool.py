"""One account or one address cannot take all slots."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from core.errors import RateLimited
from core.passwords.pool import (
    ADDRESS_AT_ONCE,
    MAX_OF_ACCOUNT,
    MAX_OF_ADDRESS,
    PasswordPool,
    PasswordUser,
)
from tests.support.polling import wait_until

SECONDS = 5.0


class Callers:
    """Threads that each hold their slot until `end`."""

    def __init__(self) -> None:
        self.pool = PasswordPool(at_once=3)
        self.begun: list[PasswordUser] = []
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def call(self, account: str, address: str = "192.0.2.1") -> None:
        user = PasswordUser(account, address)
        before = len(self.pool._queue)
        thread = threading.Thread(target=self._hold, args=(user,))
        self._threads.append(thread)
        thread.start()
        wait_until(lambda: len(self.pool._queue) > before, SECONDS)

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(SECONDS)

    def _hold(self, user: PasswordUser) -> None:
        with self.pool.slot(user):
            self.begun.append(user)
            self._end.wait(SECONDS)


@pytest.fixture
def callers() -> Iterator[Callers]:
    with _ended(Callers()) as callers:
        yield callers


@contextmanager
def _ended(callers: Callers) -> Iterator[Callers]:
    with ExitStack() as stack:
        stack.callback(callers.end)
        yield callers


def test_an_account_that_signs_in_in_a_loop_leaves_slots_free(callers: Callers) -> None:
    for n in range(MAX_OF_ACCOUNT):
        callers.call("busy", f"192.0.2.{n}")

    callers.call("other", "198.51.100.1")

    wait_until(lambda: len(callers.begun) == 2, SECONDS)
    assert sorted(user.account for user in callers.begun) == ["busy", "other"]


def test_an_address_with_many_accounts_leaves_a_slot_free(callers: Callers) -> None:
    for n in range(6):
        callers.call(f"{n}@example.com")

    callers.call("other", "198.51.100.1")

    wait_until(lambda: len(callers.begun) == ADDRESS_AT_ONCE + 1, SECONDS)
    assert callers.begun[-1].account == "other"


def test_more_of_one_account_are_refused(callers: Callers) -> None:
    for n in range(MAX_OF_ACCOUNT):
        callers.call("busy", f"192.0.2.{n}")

    with pytest.raises(RateLimited) as caught, callers.pool.slot(PasswordUser("busy", "::1")):
        pass

    assert caught.value.code == "too_many_attempts"
    assert int(caught.value.headers["Retry-After"]) >= 1


def test_more_of_one_address_are_refused(callers: Callers) -> None:
    for n in range(MAX_OF_ADDRESS):
        callers.call(f"{n}@example.com", f"2001:db8::{n:x}")

    with pytest.raises(RateLimited), callers.pool.slot(PasswordUser("x", "2001:db8::ffff")):
        pass


def test_all_waiting_callers_get_a_slot(callers: Callers) -> None:
    for n in range(12):
        callers.call(f"{n // 2}@example.com", f"192.0.2.{n % 5}")

    callers.end()

    assert len(callers.begun) == 12
    assert callers.pool._queue == []
