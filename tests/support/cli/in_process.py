"""The command `bountycoder`, run with its own environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest.mock import patch

from cli.main import main


def run_in_process(
    *arguments: str, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command in this process and return its exit code and output.

    It saves the start of a Python. Use `tests.support.processes.run` for what needs a real process:
    signals, a patched library, memory, the output of other processes.
    """
    output, errors = StringIO(), StringIO()
    with (
        patch.dict(os.environ, environment, clear=True),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse's, after a wrong argument
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())
