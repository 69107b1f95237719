"""The commands that run one program each: `api`, `worker`, `admin-ui`; and `settings`."""

from __future__ import annotations

import argparse
import os

from core.settings import Settings, settings_table


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    parser.set_defaults(run=_PROGRAMS[name])


def _api(args: argparse.Namespace) -> int:
    _use_greenlets()
    from api.server import serve

    serve(Settings.from_environment(os.environ))
    return 0


def _admin_ui(args: argparse.Namespace) -> int:
    _use_greenlets()
    from admin_ui.server import serve

    serve(Settings.from_environment(os.environ))
    return 0


def _worker(args: argparse.Namespace) -> int:
    settings = Settings.from_environment(os.environ)
    from worker.main import run

    return run(settings)


def _settings(args: argparse.Namespace) -> int:
    print(settings_table(), end="")
    return 0


def _use_greenlets() -> None:
    """Make sockets, locks and psycopg2 cooperative, before anything imports them."""
    from gevent import monkey

    monkey.patch_all()
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()


_PROGRAMS = {"api": _api, "worker": _worker, "admin-ui": _admin_ui, "settings": _settings}
