"""`bountycoder` with an engine that can be broken: `python -m tests.system.faults.program up …`.

Workers reach their servers by links of their own, so that the network fails for some and not for
others.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.config.settings import Settings
    from core.prompts.tokenizer import PromptTokenizer
    from worker.engine.protocol import Engine

PROGRAM = (sys.executable, "-m", "tests.system.faults.program")
#: Put before a setting's name: what workers take in its place.
WORKERS = "FAULTS_WORKER_"
ORDERS = "FAULTS_ORDERS"

# Each part imports its own, as `cli/main.py` has it: the API's greenlets must be on before that.


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
    from core.config.settings import Settings
    from worker.main import run

    own = {n.removeprefix(WORKERS): v for n, v in os.environ.items() if n.startswith(WORKERS)}
    return run(Settings.from_environment({**os.environ, **own}), build=_build_engine)


def _build_engine(settings: Settings, tokenizer: PromptTokenizer) -> Engine:
    from tests.system.faults.engine import BreakableEngine

    return BreakableEngine(
        orders=Path(os.environ[ORDERS]),
        stall_seconds=settings.engine_stall_seconds,
        tokens_per_second=settings.echo_tokens_per_second,
        context_length=tokenizer.context_length,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
