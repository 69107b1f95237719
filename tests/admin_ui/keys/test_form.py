"""The request body that the form of a key becomes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from admin_ui.keys.form import body_of, entered_values

NOON = datetime(2030, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("60", 60),
        (" 60 ", 60),
        ("", None),
        ("1.5", "1.5"),
        ("-1", -1),
        ("many", "many"),
        ("\N{SUPERSCRIPT TWO}", "\N{SUPERSCRIPT TWO}"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_text_that_is_no_number_reaches_the_api(text: str, value: object) -> None:
    assert entered_values({"rateLimit": text}, is_admin=True)["rateLimit"] == value


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ({}, None),
        ({"expiresAt": "2030-07-01T12:00"}, NOON),
        (
            {"expiresAt": "2030-07-01T21:00", "expiresAtInstant": "2030-07-01T12:00:00.000Z"},
            NOON,
        ),
        ({"expiresAt": "soon"}, "soon"),
        ({"expiresAt": "0001-01-01T00:00+14:00"}, "0001-01-01T00:00+14:00"),
    ],
)
def test_a_time_is_in_utc_unless_the_browser_says_the_instant(
    form: dict[str, str], value: object
) -> None:
    assert entered_values(form, is_admin=False)["expiresAt"] == value


def test_only_an_admin_sets_a_priority() -> None:
    assert "priority" not in entered_values({"priority": "9"}, is_admin=False)


def test_a_change_has_only_the_fields_that_differ() -> None:
    before = {"name": "a", "rateLimit": 60, "expiresAt": None, "priority": 3}
    after = {"name": "b", "rateLimit": 60, "expiresAt": NOON}

    assert body_of(after, before) == {"name": "b", "expiresAt": "2030-07-01T12:00:00+00:00"}
    assert body_of(after) == {**after, "expiresAt": "2030-07-01T12:00:00+00:00"}
