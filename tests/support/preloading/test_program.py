"""A preloaded program starts, fails and ends as its command does."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from core.config.settings import Settings
from tests.support.preloading.program import start_preloaded
from tests.support.processes import CLI, bare_environment, end, run


@pytest.mark.parametrize(("kind", "program"), [("web", "api"), ("echo worker", "worker")])
def test_a_program_that_cannot_start_has_the_code_and_output_of_its_command(
    tmp_path: Path, kind: str, program: str
) -> None:
    command = run([*CLI, program], environment=bare_environment())
    log = tmp_path / "log"

    preloaded = start_preloaded(kind, [program], log=log, environment=bare_environment())

    assert preloaded.wait(20) == command.returncode == 1
    assert log.read_text() == command.stderr
    assert "DATABASE_URL" in command.stderr


def test_a_program_runs_until_a_signal_ends_it(tmp_path: Path, base_settings: Settings) -> None:
    environment = {**bare_environment(), **base_settings.to_environment()}
    log = tmp_path / "log"
    worker = start_preloaded("echo worker", ["worker"], log=log, environment=environment)

    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.1)

    assert worker.poll() is None
    assert end(worker, signal.SIGKILL) == -signal.SIGKILL
    assert worker.poll() == -signal.SIGKILL
