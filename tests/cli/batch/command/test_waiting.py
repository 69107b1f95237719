"""`bountycoder batch` waits for the end of a batch, and prints how to continue."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.support.cli.batch_command import KEY, run
from tests.support.http.failing_service import (
    Handler,
    batch,
    disconnects,
    failing,
    refuses,
    responds,
    result_lines,
)
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from tests.support.processes import CLI


def test_waiting_survives_a_restart_and_writes_the_results(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = responds(200, batch("running", queued=1, succeeded=2))
    steps = (responds(201, batch("running", queued=3)), running, disconnects, refuses(502, "away"))
    target = tmp_path / "out.jsonl"
    with failing(
        *steps, running, responds(200, batch("completed")), responds(200, result_lines(1, 2, 3))
    ) as service:
        code = run(service, "submit", lines, "--wait", "-o", target)

    printed = capsys.readouterr()
    assert code == 0
    assert target.read_bytes() == result_lines(1, 2, 3)
    assert printed.out.startswith("batch_1\n")
    assert "status:   completed" in printed.out
    assert "broke: retrying\nbountycoder: the service is back" in printed.err


def test_waiting_ends_at_the_time_out_and_prints_how_to_continue(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with failing(responds(200, batch("running", queued=3))) as service:
        code = run(service, "status", "batch_1", "--wait", "--timeout", "0.3")

    errors = capsys.readouterr().err
    assert code == 6
    assert f"  bountycoder batch status batch_1 --wait --url={service.url}\n" in errors
    assert "batch_1 is still running after the 0.3 s of --timeout" in errors


@pytest.mark.alone
def test_waiting_for_a_silent_service_ends_at_the_time_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    is_over = threading.Event()

    def stays_silent(_: Handler) -> None:
        is_over.wait(60)

    with failing(stays_silent) as service:
        began = time.monotonic()
        code = run(service, "status", "batch_1", "--timeout", "0.3")
        took = time.monotonic() - began
        is_over.set()

    assert code == 5
    assert took < 20
    assert "the service does not respond in time" in capsys.readouterr().err


def test_ctrl_c_leaves_the_batch_running_and_prints_how_to_continue(
    lines: Path, tmp_path: Path
) -> None:
    running = batch("running", queued=3)
    with failing(responds(201, running), responds(200, running)) as service:
        command = ["batch", "submit", str(lines), "--wait", "--url", service.url]
        command += ["-o", str(tmp_path / "out.jsonl")]
        process = subprocess.Popen(
            [*CLI, *command],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "BOUNTYCODER_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: len(service.seen) > 1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            process.communicate()

    options = f"-o {tmp_path}/out.jsonl --url={service.url}"
    assert process.returncode == 130
    assert out == "batch_1\n"
    assert err.endswith(
        "batch_1 continues without this command. To return to it:\n"
        f"  bountycoder batch status batch_1 --wait {options}\n"
        f"  bountycoder batch results batch_1 {options}\n"
    )
    assert all("cancel" not in path for path in service.paths)
