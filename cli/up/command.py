"""`bountycoder up`: run the whole service on a bare machine until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.argument_types import whole_number
from cli.servers.libpq import remove_libpq_variables
from cli.system.signals import Interruption, StopRequested
from cli.up.data_directory import FULL_DISK_ERRORS, DataDirectory
from cli.up.progress import StartProgress
from cli.up.readiness import local_url
from cli.up.stack import BOUNTYCODER, Options, Stack
from core.config.settings import EngineKind
from core.errors import LauncherError, SettingsError

if TYPE_CHECKING:
    from cli.commands.database import DevelopmentCredentials

DISK_FULL = "No space left on device"
EXAMPLE_BODY = (
    '{"prompt": "Write a Python function that calculates Fibonacci numbers", '
    '"maxTokens": 160, "temperature": 0}'
)
KILLED_EXIT_CODE = 130
MOST_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="default: ./data")
    parser.add_argument(
        "--api-port", type=whole_number(most=MOST_PORT), help="default: API_PORT, or 5000"
    )
    parser.add_argument(
        "--admin-port", type=whole_number(most=MOST_PORT), help="default: ADMIN_PORT, or 3030"
    )
    parser.add_argument(
        "--workers", type=whole_number(), default=1, help="model processes; default: 1"
    )
    parser.add_argument(
        "--model", help="directory or hub name; default: MODEL_PATH, or a small model for CPUs"
    )
    parser.add_argument(
        "--engine",
        choices=[kind.value for kind in EngineKind],
        help="default: ENGINE, or transformers; echo runs no model",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, program: Sequence[str] = BOUNTYCODER) -> int:
    """Run the service until a stop signal; print every failure as one line on standard error.

    Args:
        program: the command that runs the programs, see `Stack`.
    """
    options = Options(
        data_dir=args.data_dir,
        api_port=args.api_port,
        admin_port=args.admin_port,
        workers=args.workers,
        model=args.model,
        engine=args.engine,
    )
    progress = StartProgress()
    with Interruption() as interruption:
        try:
            _serve(options, program, progress, interruption)
        except StopRequested:
            return KILLED_EXIT_CODE if interruption.is_urgent() else 0
        except Exception as error:
            # The user gets one line for any error; the traceback of a bug goes to the log.
            progress.clear()
            with suppress(OSError):
                print(f"bountycoder: {_one_line(error, options.data_dir)}", file=sys.stderr)
            return 1
    return 0


def _serve(
    options: Options, program: Sequence[str], progress: StartProgress, interruption: Interruption
) -> None:
    began = time.monotonic()
    if not (os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE")):
        remove_libpq_variables(os.environ)
    with DataDirectory.opened(options.data_dir) as data:
        stack = Stack(
            options,
            data,
            environment=os.environ,
            progress=progress,
            interruption=interruption,
            program=program,
        )
        try:
            credentials = stack.start()
            progress.say(announcement(stack, credentials, time.monotonic() - began))
            stack.supervise()
        finally:
            progress.step("stopping")
            stack.stop()
            progress.clear()


def announcement(stack: Stack, credentials: DevelopmentCredentials, seconds: float) -> str:
    """Return the text that the user sees when everything runs."""
    settings = stack.settings
    api = local_url(settings.api_host, settings.api_port)
    password = credentials.admin_password or "(the password that you chose)"
    curl = (
        f"curl -s {api}/api/llm/generate "
        f"-H {shlex.quote(f'Authorization: Bearer {credentials.key_secret}')} "
        f"-H 'Content-Type: application/json' -d {shlex.quote(EXAMPLE_BODY)}"
    )
    return f"""
BountyCoder is ready after {seconds:.1f} s.

  API        {api}
  admin UI   {local_url(settings.admin_host, settings.admin_port)}
  sign in    {credentials.admin_email}  {password}
  API key    {credentials.key_secret}  (id {credentials.key_id})
  model      {settings.model_name} ({settings.engine})
  metrics    {_metrics(stack)}
  settings   {stack.data.run_file} (addresses, passwords, process ids)
  logs       {stack.data.logs}

Try it:

  {curl}

Ctrl-C stops everything."""


def _metrics(stack: Stack) -> str:
    host = stack.settings.metrics_host
    ports = stack.metrics_ports.by_program()
    return "\n             ".join(
        f"{local_url(host, port)}/metrics ({name})" for name, port in ports.items()
    )


def _one_line(error: Exception, data_dir: Path) -> str:
    if isinstance(error, LauncherError):
        return " ".join(str(error).split())
    if isinstance(error, SettingsError):
        return "wrong settings: " + "; ".join(error.faults)
    is_full = isinstance(error, OSError) and error.errno in FULL_DISK_ERRORS
    if is_full or DISK_FULL in str(error):
        return f"disk full: {getattr(error, 'filename', None) or data_dir} cannot be written"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    log = _log_traceback(error, data_dir)
    return f"cannot continue: {type(error).__name__}: {_first_line(error)}{log}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


def _log_traceback(error: Exception, data_dir: Path) -> str:
    """Write the traceback to a log and return a note with the log's path."""
    log = data_dir / "logs" / "up.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        handler: Any = logging.FileHandler(log, mode="w")
    except OSError:
        return ""
    logger = logging.Logger("up")
    logger.addHandler(handler)
    logger.error("bountycoder up failed", exc_info=error)
    handler.close()
    return f" (log: {log})"
