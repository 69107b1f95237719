"""The commands that each run one program: `api`, `worker`, `admin-ui`; and `settings`."""

from __future__ import annotations

import argparse
import os

from core.config.environment import settings_table
from core.config.settings import Settings


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    parser.set_defaults(run=_PROGRAMS[name])


def _api(args: argparse.Namespace) -> int:
    use_greenlets()
    from api.server import serve

    settings = Settings.from_environment(os.environ)
    _wait_for_database_in_greenlets(settings)
    _prove_sessions(settings, "api")
    serve(settings)
    return 0


def _admin_ui(args: argparse.Namespace) -> int:
    use_greenlets()
    from admin_ui.server import serve

    settings = Settings.from_environment(os.environ)
    _wait_for_database_in_greenlets(settings)
    _prove_sessions(settings, "admin-ui")
    serve(settings)
    return 0


def _worker(args: argparse.Namespace) -> int:
    settings = Settings.from_environment(os.environ)
    _prove_sessions(settings, "worker")
    from worker.main import run

    return run(settings)


def _settings(args: argparse.Namespace) -> int:
    print(settings_table(Settings), end="")
    return 0


def use_greenlets() -> None:
    """Patch sockets and locks for gevent; call before other modules import them."""
    from gevent import monkey

    monkey.patch_all()


def _wait_for_database_in_greenlets(settings: Settings) -> None:
    from models.database.greenlet_wait import wait_in_greenlets

    wait_in_greenlets(2 * settings.database_timeout_seconds)


def _prove_sessions(settings: Settings, program: str) -> None:
    from core.observability.logs import configure_logging
    from models.database.pooler_check import refuse_transaction_pooler

    configure_logging(program=program, level=settings.effective_log_level)
    refuse_transaction_pooler(settings)


_PROGRAMS = {"api": _api, "worker": _worker, "admin-ui": _admin_ui, "settings": _settings}
