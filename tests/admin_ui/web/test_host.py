"""An invalid `Host` is rejected on every path, with one line in the log."""

from __future__ import annotations

import logging

import pytest
from flask.testing import FlaskClient

from admin_ui.web.host import is_host

VALID = ["localhost", "admin.example.com:443", "127.0.0.1:3030", "[::1]:80", "a_b.example", "a.b."]
INVALID = [
    "a" * 64,
    ".",
    "a..b",
    "",
    "a b",
    "a/b",
    "-a",
    "[::1",
    "a:b",
    "a.example:999999",
    "\xe4.de",
]
INVALID += ["a@b", "a.b" * 99]


@pytest.mark.parametrize("host", VALID)
def test_a_valid_host_is_accepted(host: str) -> None:
    assert is_host(host)


@pytest.mark.parametrize("host", INVALID)
@pytest.mark.parametrize("path", ["/", "/sign-in", "/nowhere", "/static/app.css"])
def test_an_invalid_host_is_rejected_in_one_line(
    pages_client: FlaskClient, caplog: pytest.LogCaptureFixture, host: str, path: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        response = pages_client.get(path, headers={"Host": host})

    assert (response.status_code, response.mimetype) == (400, "text/plain")
    assert "host" in response.text
    assert [record.message for record in caplog.records] == [
        "a request with a malformed Host is rejected"
    ]
    assert caplog.records[0].exc_info is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Cookie", "bountycoder_session=\xff\x00;;==;"),
        ("HX-Request", "\xff"),
        ("HX-Boosted", "\xff"),
        ("X-CSRF-Token", "\xff"),
        ("X-Forwarded-For", "\xff, a..b"),
        ("X-Forwarded-Host", "a..b"),
        ("X-Forwarded-Proto", "\xff://"),
        ("Accept-Language", "\xff;q=\xff"),
        ("Range", "bytes=\xff-"),
        ("If-Modified-Since", "\xff"),
        ("Referer", "http://["),
        ("Content-Length", "\xff"),
        ("Content-Type", "multipart/form-data; boundary=\xff"),
    ],
)
@pytest.mark.parametrize("path", ["/sign-in", "/nowhere", "/static/app.css"])
def test_no_other_header_breaks_a_page(
    pages_client: FlaskClient, caplog: pytest.LogCaptureFixture, name: str, value: str, path: str
) -> None:
    for method in ("GET", "POST"):
        response = pages_client.open(path, method=method, headers={name: value})

        assert response.status_code < 500
        response.close()
    assert [record for record in caplog.records if record.exc_info] == []
