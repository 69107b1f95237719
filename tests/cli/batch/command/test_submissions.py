"""`bountycoder batch submit` and `retry` make one batch, after failures too."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from tests.support.cli.batch_command import KEY, run
from tests.support.http.failing_service import batch, disconnects, failing, refuses, responds


def test_a_lost_connection_is_retried_and_makes_no_second_batch(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = (disconnects, refuses(503, "database_unavailable", retry_after_ms="20"))
    with failing(*steps, responds(201, batch("running", queued=3))) as service:
        code = run(service, "submit", lines)

    assert code == 0
    assert [seen.body for seen in service.seen] == [lines.read_bytes()] * 3
    keys = {seen.headers["idempotency-key"] for seen in service.seen}
    assert len(keys) == 1
    assert service.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert capsys.readouterr().out == "batch_1\n"


def test_every_submission_has_its_own_idempotency_key(lines: Path) -> None:
    with failing(responds(201, batch("running", queued=3))) as service:
        run(service, "submit", lines)
        run(service, "submit", lines)
        run(service, "submit", lines, "--idempotency-key", "mine")

    first, second, third = (seen.headers["idempotency-key"] for seen in service.seen)
    assert first != second
    assert third == "mine"


def test_options_become_parameters(lines: Path) -> None:
    with failing(responds(201, batch("running", queued=3))) as service:
        run(service, "submit", lines, "--name", "a & b", "--on-error=skip", '--metadata={"a": 1}')

    assert service.paths == ["?name=a+%26+b&onError=skip&metadata=%7B%22a%22%3A+1%7D"]


def test_standard_input_can_be_sent_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "a"}\n')))
    with failing(disconnects, responds(201, batch("running", queued=1))) as service:
        code = run(service, "submit", "-")

    assert code == 0
    assert [seen.body for seen in service.seen] == [b'{"prompt": "a"}\n'] * 2


def test_a_pipe_can_be_sent_twice() -> None:
    reader, writer = os.pipe()
    with open(writer, "wb") as end:
        end.write(b'{"prompt": "a"}\n')
    with failing(disconnects, responds(201, batch("running", queued=1))) as service:
        code = run(service, "submit", f"/dev/fd/{reader}")
    os.close(reader)

    assert code == 0
    assert [seen.body for seen in service.seen] == [b'{"prompt": "a"}\n'] * 2


def test_invalid_lines_are_printed_as_compilers_do(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = [
        {"param": "line 17.maxTokens", "message": "line 17: maxTokens must be at least 1"},
        {"param": "line 18", "message": "line 18: it is not valid JSON"},
        {"param": "onError", "message": "onError must be reject or skip"},
    ]
    with failing(refuses(400, "invalid_request", "3 lines are faulty", fields=fields)) as service:
        code = run(service, "submit", lines)

    assert code == 3
    assert capsys.readouterr().err.splitlines() == [
        f"{lines}:17: maxTokens must be at least 1",
        f"{lines}:18: it is not valid JSON",
        f"{lines}: onError must be reject or skip",
        "bountycoder: 3 lines are faulty",
    ]


def test_a_connection_that_breaks_after_the_upload_prints_how_to_repeat_it(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with failing(disconnects) as service:
        code = run(service, "submit", lines, "--timeout", "0.1")

    assert code == 5
    errors = capsys.readouterr().err
    assert "the batch may exist already" in errors
    assert "--idempotency-key=" in errors


def test_a_large_file_is_not_sent_with_an_invalid_key(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n' * 100_000)
    with failing(refuses(401, "invalid_api_key")) as service:
        code = run(service, "submit", path)

    assert code == 4
    assert [seen.method for seen in service.seen] == ["GET"]


def test_a_retry_has_an_idempotency_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with failing(disconnects, responds(201, batch("running", queued=1, total=1))) as service:
        code = run(service, "retry", "batch_0")

    first, second = (seen.headers["idempotency-key"] for seen in service.seen)
    assert code == 0
    assert first == second
    assert capsys.readouterr().out == "batch_1\n"
