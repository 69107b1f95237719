"""The last admin stays, even when two admins remove each other at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.http.accounts import Account, make_admin, sign_in
from tests.support.http.errors import error_of
from tests.support.service import Service


@pytest.fixture
def one_admin_service(service_without_workers: Service) -> Service:
    """A service of two API processes on an empty database with one admin."""
    assert service_without_workers.settings.api_processes == 2
    service_without_workers.start_over()
    return service_without_workers


def remove(actor: Account, victim: Account, how: str) -> Any:
    path = f"/api/users/{victim.id}"
    if how == "delete":
        return actor.call("DELETE", path)
    return actor.call("PUT", path, json={"role": "customer"})


def test_the_last_admin_is_neither_demoted_nor_deleted(one_admin_service: Service) -> None:
    seeded = sign_in(one_admin_service, "admin@bountycoder.com", "admin123")

    for how in ("demote", "delete"):
        response = remove(seeded, seeded, how)
        assert (response.status_code, error_of(response)) == (409, "last_admin")
    assert seeded.call("GET", "/api/users").status_code == 200

    made = make_admin(one_admin_service)
    assert remove(made, seeded, "demote").status_code == 200
    response = remove(made, made, "demote")
    assert (response.status_code, error_of(response)) == (409, "last_admin")


def test_of_two_admins_that_remove_each_other_at_once_one_stays(one_admin_service: Service) -> None:
    rivals = [
        sign_in(one_admin_service, "admin@bountycoder.com", "admin123"),
        make_admin(one_admin_service),
    ]

    for n in range(8):
        how = ("demote", "delete")[n % 2]
        with ThreadPoolExecutor(2) as pool:
            responses = list(
                pool.map(lambda pair: remove(*pair), [(*rivals, how), (*rivals[::-1], how)])
            )

        left = [one for one in rivals if one.call("GET", "/api/users").status_code == 200]
        assert len(left) == 1, [response.text for response in responses]
        rivals = [left[0], _new_admin(left[0], n)]


def _new_admin(actor: Account, n: int) -> Account:
    email, password = f"rival{n}@example.com", "a password of the tests"
    body = {"email": email, "password": password, "role": "admin"}
    assert actor.call("POST", "/api/users", json=body).status_code == 201
    return sign_in(actor.service, email)
