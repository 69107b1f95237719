"""Batch lines are charged only for the month."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import redis

from core.ids import new_id
from core.limits.limiter import ChargeVerdict, Limiter, LineCharge
from core.limits.state import KeyUse
from tests.support.factories.charges import charge, counts
from tests.support.factories.limit_key import Key, nothing


def line(key: Key, tokens: int, job: UUID | None = None) -> LineCharge:
    return LineCharge(job or new_id(), key.id, tokens, key.monthly_token_limit)


def charge_lines(limiter: Limiter, *lines: LineCharge) -> list[ChargeVerdict]:
    verdicts = limiter.charge_lines(lines, recall=lambda _, began: nothing(began))
    return [one.verdict for one in verdicts]


def test_a_line_is_charged_only_for_the_month(limiter: Limiter) -> None:
    key = Key(rate_limit=1, token_limit=10, max_in_flight=1, monthly_token_limit=1000)

    assert charge_lines(limiter, line(key, 300), line(key, 200)) == [ChargeVerdict.CHARGED] * 2

    assert counts(limiter, key) == (0, 0, 0, 500)
    charge(limiter, key, tokens=10)
    assert counts(limiter, key) == (1, 10, 1, 510)


def test_a_line_is_charged_once_and_settled_once(limiter: Limiter) -> None:
    key, job = Key(), new_id()

    charge_lines(limiter, line(key, 300, job), line(key, 300, job))
    charge_lines(limiter, line(key, 300, job))
    assert counts(limiter, key) == (0, 0, 0, 300)
    assert list(limiter.busy_keys()) == [key.id]
    for _ in range(2):
        limiter.settle(key.id, job, 20)

    assert counts(limiter, key) == (0, 0, 0, 20)
    assert list(limiter.busy_keys()) == []


def test_a_line_waits_for_reserved_tokens_and_fails_for_used_ones(limiter: Limiter) -> None:
    key, job = Key(monthly_token_limit=100), new_id()
    charge(limiter, key, tokens=60, job=job)

    lines = [line(key, 41), line(key, 40), line(key, 101)]
    verdicts = charge_lines(limiter, *lines)
    assert verdicts == [ChargeVerdict.RESERVED, ChargeVerdict.CHARGED, ChargeVerdict.USED_UP]
    limiter.settle(key.id, job, 60)

    assert charge_lines(limiter, lines[0]) == [ChargeVerdict.USED_UP]


def test_lines_of_several_keys_are_charged_together_by_an_empty_redis(
    redis_client: redis.Redis, limiter: Limiter
) -> None:
    one, other, lost = Key(), Key(monthly_token_limit=5), new_id()
    redis_client.script_flush()
    asked = []

    def recall(key_id: UUID, _: datetime) -> KeyUse:
        asked.append(key_id)
        return KeyUse(0, bulk={lost: 7} if key_id == one.id else {})

    verdicts = limiter.charge_lines([line(one, 9), line(other, 9), line(one, 1)], recall=recall)

    assert [s.verdict for s in verdicts] == [
        ChargeVerdict.CHARGED,
        ChargeVerdict.USED_UP,
        ChargeVerdict.CHARGED,
    ]
    assert sorted(asked) == sorted([one.id, other.id])
    assert counts(limiter, one) == (0, 0, 0, 17)
    assert lost in limiter.in_flight(one.id)


def test_lines_are_restored_as_lines(limiter: Limiter) -> None:
    key, lost = Key(), new_id()
    charge_lines(limiter, line(key, 5))

    limiter.restore(key.id, {lost: 20}, is_bulk=True)

    assert counts(limiter, key) == (0, 0, 0, 25)
    assert limiter.in_flight(key.id)[lost].tokens == 20
