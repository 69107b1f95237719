"""`bountycoder batch` ends with an exit code and an error for each failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from cli.system.ports import free_port
from tests.support.cli.batch_command import KEY, run
from tests.support.http.failing_service import batch, failing, refuses, responds


@pytest.mark.parametrize(
    ("status", "error_code", "headers", "expected"),
    [
        (401, "invalid_api_key", {}, 4),
        (403, "key_inactive", {}, 4),
        (404, "not_found", {}, 3),
        (413, "payload_too_large", {}, 3),
        (422, "idempotency_conflict", {}, 3),
        (429, "too_many_batches", {"retry_after": "60"}, 3),
        (429, "monthly_quota_exceeded", {"x_should_retry": "false"}, 3),
        (503, "no_workers", {"x_should_retry": "false"}, 5),
        (302, "moved", {"location": "http://127.0.0.1:1/"}, 3),
    ],
)
def test_a_refusal_ends_at_once_with_its_exit_code(
    lines: Path,
    capsys: pytest.CaptureFixture[str],
    status: int,
    error_code: str,
    headers: dict[str, str],
    expected: int,
) -> None:
    with failing(refuses(status, error_code, "the reason", **headers)) as service:
        code = run(service, "submit", lines, "--json")

    printed = capsys.readouterr()
    assert code == expected
    assert len(service.seen) == 1
    assert KEY not in printed.out + printed.err
    if status != 302:
        assert json.loads(printed.out)["error"]["code"] == error_code
        assert "the reason" in printed.err


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_that_is_away_is_named_without_its_password(
    lines: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("http_proxy", f"{scheme}me:hidden@{address}")

    url = "http://llm.example.com"
    code = main(["batch", "submit", str(lines), "--url", url, "--timeout", "0.1"])

    errors = capsys.readouterr().err
    assert code == 5
    assert f"bountycoder: the proxy {address} cannot be reached" in errors
    assert "hidden" not in errors
    assert "not known" not in errors


def test_a_proxy_of_another_kind_is_rejected(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")

    assert main(["batch", "list", "--url", "http://llm.example.com"]) == 2
    assert "http_proxy must be such as" in capsys.readouterr().err


def test_a_service_that_is_away_is_exit_code_5_and_makes_no_batch(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    code = main(["batch", "submit", str(lines), "--url", url, "--timeout", "0.1"])

    errors = capsys.readouterr().err
    assert code == 5
    assert "bountycoder: the service cannot be reached\n" in errors
    assert "not known" not in errors


def test_a_response_of_another_service_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    with failing(responds(200, b"<html>welcome</html>")) as service:
        code = run(service, "status", "batch_1")

    assert code == 3
    assert "check the URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (batch("completed"), 0),
        (batch("completed", succeeded=2, failed=1), 1),
        (batch("cancelled", succeeded=2, cancelled=1), 1),
        (batch("expired", succeeded=2, expired=1), 1),
        (batch("running", queued=3), 6),
        (batch("cancelling", running=3), 6),
    ],
)
def test_status_ends_with_an_exit_code_for_the_state_of_the_batch(
    response: dict[str, Any], expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with failing(responds(200, response)) as service:
        code = run(service, "status", "batch_1", "--json")

    assert code == expected
    assert json.loads(capsys.readouterr().out) == response


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit"],
        ["submit", "f", "--metadata", "[1]"],
        ["submit", "f", "--timeout", "0"],
        ["list", "--limit", "0"],
        ["status", ""],
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["batch", *arguments])

    assert caught.value.code == 2
