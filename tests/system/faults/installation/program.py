"""`bountycoder` with a breakable engine, to be run with `python -m`.

Workers and the API reach the servers by different links, so that the network can fail for one side.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.config.settings import Settings
    from core.prompts.tokenizer import PromptTokenizer
    from worker.engine.protocol import Engine

PROGRAM = (sys.executable, "-m", "tests.system.faults.installation.program")
#: Prefix of a setting's name: the value for workers.
WORKERS = "FAULTS_WORKER_"
ORDERS = "FAULTS_ORDERS"

# Each part imports its own modules, as in `cli/main.py`: gevent must patch sockets before them.


def main(arguments: Sequence[str]) -> int:
    name, *rest = arguments
    if name == "up":
        return _run_up(rest)
    if name == "worker":
        return _run_worker()
    from cli.main import main

    return main(arguments)


def _run_up(arguments: Sequence[str]) -> int:
    from cli.up import command as up

    parser = argparse.ArgumentParser()
    up.add_arguments(parser, "up")
    return up.run(parser.parse_args(arguments), PROGRAM)


def _run_worker() -> int:
    faulthandler.register(signal.SIGUSR1)  # writes the stacks of all threads to the log
    from core.config.settings import Settings
    from worker.main import run

    own = {n.removeprefix(WORKERS): v for n, v in os.environ.items() if n.startswith(WORKERS)}
    return run(Settings.from_environment({**os.environ, **own}), build=_build_engine)


def _build_engine(settings: Settings, tokenizer: PromptTokenizer) -> Engine:
    from tests.system.faults.installation.engine import BreakableEngine

    return BreakableEngine(
        orders=Path(os.environ[ORDERS]),
        stall_seconds=settings.engine_stall_seconds,
        tokens_per_second=settings.echo_tokens_per_second,
        context_length=tokenizer.context_length,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
