"""Reports of usage: sums, groups, pages and formats, and whose usage a caller sees."""

from __future__ import annotations

import csv
import io

import pytest
from flask.testing import FlaskClient

from core.ids import Prefix, format_id
from core.security.api_key_secret import KeySecret
from models.accounts.api_key import ApiKey, create_key, delete_key
from models.accounts.user import User
from models.database.base import SessionFactory
from tests.support.factories.usage import add_usage
from tests.support.http.accounts import make_admin, register
from tests.support.http.usage_reader import DAYS, UsageReader
from tests.support.service import Service


def test_a_report_has_sums_rates_times_and_costs(
    heavy_user: UsageReader, keys: list[tuple[ApiKey, KeySecret]]
) -> None:
    report = heavy_user.get(f"{DAYS}&groupBy=key").get_json()

    (row,) = report["data"]
    assert row.pop("p95Ms") == pytest.approx(4000, rel=0.05)
    assert row == {
        "group": format_id(Prefix.KEY, keys[0][0].id),
        "name": "much",
        "requests": 5,
        "succeeded": 4,
        "successRate": 0.8,
        "promptTokens": 50,
        "completionTokens": 25,
        "cachedTokens": 10,
        "totalTokens": 75,
        "meanMs": 808.0,
        "cost": 0.00002,
    }
    assert report["totals"]["requests"] == 5
    assert {name: report[name] for name in ("from", "to", "groupBy", "currency", "nextCursor")} == {
        "from": "2026-11-01T00:00:00.000Z",
        "to": "2026-12-01T00:00:00.000Z",
        "groupBy": "key",
        "currency": "EUR",
        "nextCursor": None,
    }


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("hour", ["2026-11-01T12:00:00.000Z", "2026-11-01T13:00:00.000Z"]),
        ("day", ["2026-11-01T00:00:00.000Z"]),
        ("model", ["m", "other"]),
    ],
)
def test_usage_is_grouped(all_users: UsageReader, by: str, groups: list[str]) -> None:
    report = all_users.get(f"{DAYS}&groupBy={by}").get_json()

    assert [row["group"] for row in report["data"]] == groups
    assert sum(row["requests"] for row in report["data"]) == 6
    assert report["totals"]["requests"] == 6


def test_groups_of_users_have_their_emails_as_names(all_users: UsageReader) -> None:
    report = all_users.get(f"{DAYS}&groupBy=user").get_json()

    assert [(row["name"], row["requests"]) for row in report["data"]] == [
        ("much@example.com", 5),
        ("little@example.com", 1),
    ]


@pytest.mark.parametrize("by", ["key", "user", "model", "hour"])
def test_pages_follow_each_other(all_users: UsageReader, by: str) -> None:
    whole = all_users.get(f"{DAYS}&groupBy={by}").get_json()["data"]

    first = all_users.get(f"{DAYS}&groupBy={by}&limit=1").get_json()
    rest = all_users.get(f"{DAYS}&groupBy={by}&limit=1&after={first['nextCursor']}").get_json()

    assert first["data"] + rest["data"] == whole
    assert rest["nextCursor"] is None
    assert first["totals"] == rest["totals"]


def test_a_customer_sees_only_own_usage_with_a_jwt_and_with_a_key(
    app: FlaskClient,
    heavy_user: UsageReader,
    all_users: UsageReader,
    keys: list[tuple[ApiKey, KeySecret]],
) -> None:
    (_, secret), (other, _) = keys
    by_key = UsageReader(app, {"x-api-key": secret.text})
    other_key, other_user = format_id(Prefix.KEY, other.id), format_id(Prefix.USER, other.user_id)

    for seen in (heavy_user, by_key):
        assert seen.requests("") == 5
        assert seen.requests("model=other") == 0
        for query in (f"keyId={other_key}", f"userId={other_user}"):
            response = seen.get(f"{DAYS}&{query}")
            assert (response.status_code, response.get_json()["error"]["code"]) == (
                404,
                "not_found",
            )
    assert all_users.requests(f"keyId={other_key}") == 1
    assert all_users.requests(f"userId={other_user}") == 1
    assert app.get("/api/usage").status_code == 401


def test_an_admins_key_sees_its_owners_usage_only(
    app: FlaskClient, all_users: UsageReader, admin: User, database: SessionFactory
) -> None:
    with database.begin() as session:
        _, secret = create_key(session, user_id=admin.id, name="k", rate_limit=1)

    assert UsageReader(app, {"x-api-key": secret.text}).requests("") == 0
    assert all_users.requests("") == 6


def test_the_usage_of_a_deleted_key_is_still_reported(
    heavy_user: UsageReader, keys: list[tuple[ApiKey, KeySecret]], database: SessionFactory
) -> None:
    key_id = keys[0][0].id
    with database.begin() as session:
        delete_key(session, session.get_one(ApiKey, key_id))

    assert heavy_user.requests(f"keyId={format_id(Prefix.KEY, key_id)}") == 5


def test_a_csv_report_contains_no_formulas(
    app: FlaskClient,
    heavy_user: UsageReader,
    keys: list[tuple[ApiKey, KeySecret]],
    database: SessionFactory,
) -> None:
    names = ['=cmd|"/c calc"!A1', "+1", "-1", "@x", "\t=1", " =1", 'plain, "quoted"\nname']
    with database.begin() as session:
        for name in names:
            key, _ = create_key(session, user_id=keys[0][0].user_id, name=name, rate_limit=1)
            add_usage(session, key)

    response = heavy_user.get(f"{DAYS}&groupBy=key", "text/csv")

    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    assert [row["name"] for row in rows] == [
        "much",
        *(f"'{name}" for name in names[:-1]),
        names[-1],
    ]
    assert (rows[0]["requests"], rows[0]["totalTokens"]) == ("5", "75")
    assert "x-next-cursor" not in response.headers
    assert (
        len(heavy_user.get(f"{DAYS}&groupBy=key&limit=2", "text/csv").headers["x-next-cursor"])
        == 36
    )


def test_json_is_the_default_format(heavy_user: UsageReader) -> None:
    for accept in ("*/*", "application/json", "text/html"):
        assert heavy_user.get(accept=accept).headers["content-type"] == "application/json"


def test_the_usage_of_a_generation_is_in_the_report_at_once(service: Service) -> None:
    account = register(service)
    key = account.make_key()
    headers = {"x-api-key": key["secret"]}
    body = {"prompt": "hello", "maxTokens": 4}
    response = service.call("POST", "/api/llm/generate", json=body, headers=headers).json()

    report = service.call("GET", "/api/usage?groupBy=key", headers=headers).json()

    (row,) = report["data"]
    assert (row["group"], row["requests"]) == (key["id"], 1)
    assert row["totalTokens"] == response["usage"]["total_tokens"]
    assert row["p95Ms"] == pytest.approx(row["meanMs"], rel=0.06, abs=1)
    assert make_admin(service).call("GET", "/api/usage").json()["totals"]["requests"] >= 1
