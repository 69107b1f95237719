"""Every address of the admin UI that serves GET, from its map of routes, with variants.

A route whose arguments have no value here ends the benchmark, as does a variant without a route:
the benchmark cannot miss a page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.ids import Prefix, earliest_id, format_id
from models.accounts.user import Role, User
from models.batches.batch import Batch
from models.jobs.job import Job
from models.usage.ranges import HOUR, UsageScope
from models.usage.report import UsageGroup, UsageOrder, page_usage

_CHARTS = ("tokens", "requests", "times")
_DAYS = 60


@dataclass(frozen=True, slots=True)
class Heaviest:
    """The objects with most rows, which the addresses name. Ids are as the API writes them.

    Attributes:
        email: the customer with most usage.
        jobs: the newest jobs; only of that customer if `is_own`.
        middle: the id that a job in the middle of the time would have.
    """

    email: str
    user: str
    key: str
    batch: str
    lines: int
    jobs: list[str]
    batches: list[str]
    middle: str

    @classmethod
    def read(cls, session: Session, now: datetime, *, is_own: bool) -> Heaviest:
        until = now.replace(minute=0, second=0, microsecond=0) + HOUR
        since = until - timedelta(days=_DAYS)
        user_id, email = _heaviest_customer(session, UsageScope(since, until))
        wanted = UsageScope(since, until, user_id=user_id if is_own else None)
        key_id = page_usage(session, wanted, UsageGroup.KEY, limit=1).rows[0].group
        assert isinstance(key_id, UUID)
        jobs = select(Job.id).where(Job.batch_id.is_(None)).order_by(Job.id.desc()).limit(50)
        batches = select(Batch.id).order_by(Batch.id.desc()).limit(30)
        largest = select(Batch.id, Batch.total).order_by(Batch.total.desc()).limit(1)
        if is_own:
            jobs = jobs.where(Job.user_id == user_id)
            batches = batches.where(Batch.user_id == user_id)
            largest = largest.where(Batch.user_id == user_id)
        batch_id, lines = session.execute(largest).one()
        return cls(
            email=email,
            user=format_id(Prefix.USER, user_id),
            key=format_id(Prefix.KEY, key_id),
            batch=format_id(Prefix.BATCH, batch_id),
            lines=lines,
            jobs=[format_id(Prefix.JOB, found) for found in session.scalars(jobs)],
            batches=[format_id(Prefix.BATCH, found) for found in session.scalars(batches)],
            middle=format_id(Prefix.JOB, earliest_id(now - timedelta(days=_DAYS) / 2)),
        )


def admin_email(session: Session) -> str:
    query = select(User.email).where(User.role == Role.ADMIN, User.deleted_at.is_(None))
    return session.scalars(query.order_by(User.id).limit(1)).one()


def addresses(app: Flask, about: Heaviest) -> Iterator[str]:
    """Yield each route that serves GET, with every value of its arguments, and its variants."""
    values = {
        "user_id": [about.user],
        "key_id": [about.key],
        "batch_id": [about.batch],
        "job_id": [about.jobs[0]],
        "chart": list(_CHARTS),
    }
    variants = _variants(about)
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or ()) or rule.endpoint == "static":
            continue
        names = sorted(rule.arguments)
        if unknown := set(names) - set(values):
            raise SystemExit(f"{rule.rule}: which {', '.join(unknown)} is to be measured?")
        queries: list[dict[str, Any]] = [{}, *variants.pop(rule.endpoint, [])]
        for chosen in product(*(values[name] for name in names)):
            for query in queries:
                with app.test_request_context():
                    yield app.url_for(
                        rule.endpoint, **dict(zip(names, chosen, strict=True)), **query
                    )
    if variants:
        raise SystemExit(f"there are no such pages: {', '.join(variants)}")


def _heaviest_customer(session: Session, wanted: UsageScope) -> tuple[UUID, str]:
    """Return id and email of the customer with most usage who can still sign in."""
    for sums in page_usage(session, wanted, UsageGroup.USER, limit=50).rows:
        is_customer = (User.id == sums.group) & (User.role == Role.CUSTOMER)
        query = select(User.id, User.email).where(is_customer, User.deleted_at.is_(None))
        if row := session.execute(query).first():
            return row[0], row[1]
    raise SystemExit("no customer used anything")


def _variants(about: Heaviest) -> dict[str, list[dict[str, Any]]]:
    """Return the queries of each page beside the empty one, by endpoint."""
    states = [{"state": s} for s in ("queued", "running", "succeeded", "failed", "expired")]
    newest = {"newest": about.jobs[0]}
    return {
        "dashboard.show": [{"over": "month"}, {"over": "hour"}],
        "dashboard.series": [{"over": "month"}, {"over": "hour"}],
        "customers.index": [
            *({"sort": s} for s in ("-tokens", "tokens", "-keys", "email", "name")),
            {"page": 190},
            {"q": "a1", "sort": "-tokens"},
        ],
        "customers.suggestions": [{"owner": "u"}, {"owner": about.email}],
        "keys.index": [
            *({"sort": s} for s in ("-tokens", "tokens", "owner", "-lastUsed", "-limit", "name")),
            *({"status": s} for s in ("active", "inactive", "expired")),
            {"page": 390},
            {"q": "ro", "sort": "-tokens"},
            {"owner": about.user, "sort": "-tokens"},
        ],
        "jobs.index": [
            *states,
            {"state": "cancelled", "range": "30d"},
            {"range": "7d"},
            {"source": "batch"},
            {"source": "batch", "state": "failed"},
            {"after": about.middle},
            {"before": about.middle},
            {"key": about.key},
            {"key": about.key, "state": "expired"},
            {"user": about.user},
            {"user": about.email, "state": "failed"},
        ],
        "jobs.rows": [{"ids": ",".join(about.jobs)}],
        "jobs.now": [newest, {"newest": about.jobs[-1], "state": "failed"}],
        "batches.index": [{"state": "cancelled"}, {"state": "running"}, {"user": about.user}],
        "batches.rows": [{"ids": ",".join(about.batches)}],
        "batches.show": [{"state": "failed"}, {"after": about.lines // 2}],
        "batches.lines": [{"state": "failed"}, {"after": about.lines // 2}],
        "activity.index": [
            {"group": "key."},
            {"group": "auth."},
            {"actor": about.email},
            {"target": about.key},
            {"address": "192.0.2.7"},
            {"range": "30d"},
        ],
        "playground.outcome": [{"job": about.jobs[0]}],
        "quick_start.show": [{"key": about.key}],
        "usage.index": [
            *({"by": by, "range": time} for by in UsageGroup for time in ("7d", "30d", "year")),
            *({"by": "user", "sort": f"-{o}"} for o in UsageOrder if o is not UsageOrder.GROUP),
            {"by": "key", "sort": "-mean", "range": "year"},
            {"by": "user", "page": 100},
            {"by": "key", "page": 200},
            {"by": "hour", "page": 10},
            {"by": "key", "user": about.user},
            {"by": "day", "key": about.key},
            {"by": "key", "model": "none"},
        ],
        "usage.series": [{"range": "7d"}, {"range": "year"}, {"user": about.user}],
        "usage.download": [{"by": "key"}, {"by": "key", "range": "year"}, {"by": "hour"}],
    }
