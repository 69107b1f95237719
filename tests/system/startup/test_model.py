"""`bountycoder model check` on the small model."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.processes import CLI, bare_environment, run


def check(model: Path | str) -> subprocess.CompletedProcess[str]:
    environment = {**bare_environment(), "ENGINE_MAX_SEQUENCES": "8", "HF_HUB_OFFLINE": "1"}
    command = [*CLI, "model", "check", "--model", str(model)]
    return run(command, environment=environment, seconds=300)


def test_a_machine_that_runs_its_model_passes_and_gets_figures(model_dir: Path) -> None:
    done = check(model_dir)

    assert done.returncode == 0, done.stderr
    assert "12 of 12 completions equal one-by-one generation" in done.stdout
    assert "the model is right on this machine" in done.stdout
    for line in ("device", "weights", "cache", "context", "one step", "speed"):
        assert line in done.stdout
    assert "ENGINE_CUDA_GRAPHS     needs a GPU" in done.stdout


def test_a_directory_without_a_model_is_a_clear_error(tmp_path: Path) -> None:
    done = check(tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("bountycoder: ")
    assert "Traceback" not in done.stderr
