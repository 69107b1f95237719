"""`bountycoder model check`: prove that this machine runs its model."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from core.config.settings import EngineKind, Settings
from core.errors import LauncherError
from core.observability.logs import configure_logging

#: The check connects to no server. These values only make the settings valid.
_NO_SERVERS = {"DATABASE_URL": "postgresql://unused/unused", "REDIS_URL": "redis://unused"}


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("check", help="load the model, test it, time it")
    check.add_argument("--model", help="directory or hub name; default: MODEL_PATH")
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    environment = {**_NO_SERVERS, **os.environ, "ENGINE": EngineKind.TRANSFORMERS.value}
    if args.model:
        local = Path(args.model).expanduser()
        environment["MODEL_PATH"] = str(local.resolve()) if local.is_dir() else args.model
    settings = Settings.from_environment(environment)
    configure_logging(program="model-check", level="WARNING")
    from worker.engine.hf.tools.check import check_model

    try:
        is_right = check_model(settings, lambda line: print(line, flush=True))
    except (OSError, ValueError) as error:  # transformers raises these if there is no model
        first_line = str(error).strip().splitlines()[0]
        raise LauncherError(
            f"the model {settings.model_path} cannot be loaded: {first_line}"
        ) from error
    return 0 if is_right else 1
