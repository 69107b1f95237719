"""`bountycoder batch results` writes each line once, after a break too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli.batch_command import run
from tests.support.http.failing_service import (
    batch,
    disconnects_after,
    ends_early,
    failing,
    responds,
    result_lines,
)
from tests.support.paths import ROOT


def test_a_cut_download_resumes_after_the_last_whole_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = result_lines(1, 2, 3)
    target = tmp_path / "out.jsonl"
    with failing(
        responds(200, batch()),
        disconnects_after(data[: len(result_lines(1)) + 20], length=len(data)),
        disconnects_after(result_lines(2), length=len(data)),
        responds(200, result_lines(3)),
    ) as service:
        code = run(service, "results", "batch_1", "-o", target)

    assert code == 0
    assert target.read_bytes() == data
    assert service.paths[1:] == [
        "/batch_1/results",
        "/batch_1/results?after=1",
        "/batch_1/results?after=2",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_download_that_ends_too_soon_is_resumed(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    with failing(
        responds(200, batch()), ends_early(result_lines(1, 2)), ends_early(result_lines(3))
    ) as service:
        code = run(service, "results", "batch_1", "-o", target)

    assert code == 0
    assert target.read_bytes() == result_lines(1, 2, 3)


def test_an_incomplete_download_makes_no_file_and_the_next_one_resumes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.jsonl"
    half = result_lines(1) + result_lines(2)[:-5]
    with failing(responds(200, batch()), ends_early(half), ends_early(b"")) as service:
        first = run(service, "results", "batch_1", "-o", target)
    was_there = target.exists()
    with failing(responds(200, batch()), responds(200, result_lines(2, 3))) as service:
        second = run(service, "results", "batch_1", "-o", target)

    assert (first, was_there, second) == (5, False, 0)
    assert service.paths[1] == "/batch_1/results?after=1"
    assert target.read_bytes() == result_lines(1, 2, 3)


def test_each_line_of_the_results_is_printed_once(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    data = result_lines(1, 2, 3)
    with failing(
        responds(200, batch()),
        disconnects_after(data[:70], length=len(data)),
        responds(200, result_lines(2, 3)),
    ) as service:
        code = run(service, "results", "batch_1")

    assert code == 0
    assert capfdbinary.readouterr().out == data


def test_results_of_a_running_batch_are_downloaded_only_as_partial_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.jsonl"
    running = responds(200, batch("running", queued=1, succeeded=2))
    with failing(running, running, responds(200, result_lines(1, 3))) as service:
        refused = run(service, "results", "batch_1", "-o", target)
        was_there = target.exists()
        partial = run(service, "results", "batch_1", "-o", target, "--partial")

    assert (refused, was_there, partial) == (6, False, 0)
    assert target.read_bytes() == result_lines(1, 3)


def test_a_closed_pipe_causes_no_traceback() -> None:
    data = result_lines(*range(1, 20_001))
    with failing(
        responds(200, batch(total=20_000)), responds(200, data), responds(200, data)
    ) as service:
        done = subprocess.run(
            f"{sys.executable} -m cli.main batch results batch_1 --url {service.url} | head -n 1;"
            " exit ${PIPESTATUS[0]}",
            shell=True,
            executable="/bin/bash",
            cwd=ROOT,
            env={**os.environ},
            capture_output=True,
            timeout=60,
        )

    assert (done.returncode, done.stdout, done.stderr) == (141, result_lines(1), b"")
