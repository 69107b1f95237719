"""`bountycoder batch` with a running service, from the file to the results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from core.config.settings import Settings
from tests.support.http.batch_files import jsonl, requests_of
from tests.support.service import Service

MAX_BATCH_BYTES = 4 * 1024**2

Run = Callable[..., int]


@pytest.fixture(scope="module")
def service(base_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that accepts small files only, and whose lines take a while."""
    directory = tmp_path_factory.mktemp("service")
    changes: dict[str, Any] = {
        "max_batch_bytes": MAX_BATCH_BYTES,
        "echo_tokens_per_second": 100.0,
        "max_open_batches": 2,
    }
    with Service.started(base_settings, directory, **changes) as running:
        yield running


@pytest.fixture
def run(service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A function that runs an action of the command with a new key."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("BOUNTYCODER_URL", service.url)
    monkeypatch.setenv("BOUNTYCODER_API_KEY", service.make_key()["secret"])
    monkeypatch.chdir(tmp_path)

    def run(action: str, *arguments: str | Path) -> int:
        return main(["batch", action, *map(str, arguments)])

    return run


def write(*lines: Any) -> str:
    Path("lines.jsonl").write_bytes(jsonl(*lines))
    return "lines.jsonl"


def test_a_file_becomes_results_in_its_order(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code = run("submit", write(*requests_of(40)), "--name=mine", "--wait", "-o", "out.jsonl")

    out = capsys.readouterr().out
    results = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert code == 0
    assert "lines:    40: 40 succeeded" in out
    assert [result["custom_id"] for result in results] == [f"c{number}" for number in range(40)]
    assert run("results", out.split()[0]) == 0
    assert capsys.readouterr().out == Path("out.jsonl").read_text()
    assert run("list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["data"][0]["name"] == "mine"


def test_invalid_lines_are_reported_or_skipped(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write({"prompt": "a"}, b"{", {"prompt": "c", "maxTokens": 0})

    refused = run("submit", file)
    output = capsys.readouterr().err
    skipped = run("submit", file, "--on-error=skip", "--wait", "--json")

    assert refused == 3
    assert output.splitlines() == [
        "lines.jsonl:2: it is not valid JSON at column 2: the text ends too early",
        "lines.jsonl:3: maxTokens must be at least 1",
        "bountycoder: 2 of 3 lines are not valid",
    ]
    assert skipped == 1
    assert json.loads(capsys.readouterr().out)["counts"]["failed"] == 2


def test_the_same_idempotency_key_makes_one_batch(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(*requests_of(2))

    codes = [run("submit", file, "--idempotency-key=mine") for _ in range(2)]
    first, second = capsys.readouterr().out.split()
    write(*requests_of(3))
    other = run("submit", file, "--idempotency-key=mine")

    assert codes == [0, 0]
    assert first == second
    assert other == 3


def test_a_cancelled_batch_can_be_retried(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"prompt": "word " * 200, "maxTokens": 200} for _ in range(60)]
    assert run("submit", write(*lines)) == 0
    batch = capsys.readouterr().out.strip()

    assert run("status", batch) == 6
    assert run("results", batch) == 6
    assert run("results", batch, "--partial", "-o", "partial.jsonl") == 0
    assert run("cancel", batch) == 0
    assert run("status", batch, "--wait") == 1
    capsys.readouterr()
    assert run("results", batch, "--status=cancelled", "--json", "-o", "cancelled.jsonl") == 1
    lost = json.loads(capsys.readouterr().out)["lines"]
    assert lost > 0
    assert run("retry", batch, "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["retryOf"], second["total"]) == (batch, lost)
    assert run("cancel", second["id"]) == 0


def test_too_many_batches_and_a_wrong_key_are_rejected(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"prompt": "word " * 200, "maxTokens": 200} for _ in range(60)]
    file = write(*lines)

    codes = [run("submit", file) for _ in range(3)]
    assert codes == [0, 0, 3]
    assert "already has" in capsys.readouterr().err
    assert run("list") == 0
    for batch in [row.split()[0] for row in capsys.readouterr().out.splitlines()[1:]]:
        assert run("cancel", batch) == 0
    assert run("status", "batch_" + 32 * "0") == 3
    monkeypatch.setenv("BOUNTYCODER_API_KEY", "bc_abcdefgh_wrong")
    assert run("submit", file) == 4


def test_a_file_that_is_too_large_is_rejected_during_its_upload(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("large.jsonl", "wb") as file:
        for _ in range(16):
            file.write(b'{"prompt": "' + b"a" * 2**20 + b'"}\n')

    code = run("submit", "large.jsonl")

    assert code == 3
    assert "larger than" in capsys.readouterr().err
