"""The webhook client connects only to addresses that it has checked."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from tests.support.factories.settings import made_settings
from tests.support.webhook_receiver import receiving
from tests.support.worker.webhook_calls import NAME, post, resolve_to


def test_a_name_is_resolved_once_and_its_checked_address_is_called() -> None:
    addresses = itertools.chain([["127.0.0.1"]], itertools.repeat(["127.0.0.2"]))
    resolved = []

    def resolve(host: str, port: int) -> list[str]:
        resolved.append(host)
        return next(addresses)

    with receiving() as receiver:
        result = post(f"http://{NAME}:{receiver.port}/", resolve=resolve)

    assert result.is_delivered
    assert resolved == [NAME]
    assert receiver.received[0].headers["host"] == f"{NAME}:{receiver.port}"


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::ffff:127.0.0.1"]], ids=str
)
def test_a_name_with_an_internal_address_is_reported_as_unknown(
    addresses: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A different error would let customers explore the names of the internal network."""
    with receiving() as receiver:
        url = f"http://{NAME}:{receiver.port}/"
        unknown = post(url, made_settings(), resolve=resolve_to())
        result = post(url, made_settings(), resolve=resolve_to(*addresses))

    assert replace(result, duration_ms=0) == replace(unknown, duration_ms=0)
    assert result.error == "the name has no public address"
    assert receiver.connections == 0
    logged = [vars(record)["host"] for record in caplog.records]
    assert logged == [NAME]  # the operator must see the difference


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:7f00:1]"])
def test_a_stored_url_that_is_not_allowed_is_refused_without_a_connection(host: str) -> None:
    with receiving() as receiver:
        result = post(f"http://{host}:{receiver.port}/", made_settings())

    assert result.is_refused
    assert receiver.connections == 0


def test_the_second_address_is_called_if_the_first_refuses() -> None:
    with receiving() as receiver:
        result = post(
            f"http://{NAME}:{receiver.port}/",
            resolve=resolve_to("127.0.0.2", "127.0.0.3", "127.0.0.1"),
        )

    assert result.is_delivered
