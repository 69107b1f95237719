"""The small model, converted once for all runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

SMALL_MODEL = "smollm2-135m-instruct"
MODEL_STORE = ROOT / ".cache" / "models"


def small_model_dir() -> Path:
    """Return the directory of the small model; convert the model on first use."""
    directory = MODEL_STORE / SMALL_MODEL
    if not directory.exists():
        MODEL_STORE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "worker.engine.hf.tools.convert", str(directory)],
            cwd=ROOT,
            check=True,
            timeout=300,
        )
    return directory
