"""`bountycoder monitoring`: what Prometheus, Alertmanager and Grafana need of this service."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cli.commands.database import translating_database_errors
from cli.monitoring.rendering import render
from cli.monitoring.settings import MonitoringSettings
from core.config.environment import settings_table
from core.config.settings import Settings
from core.errors import LauncherError

MIN_READER_PASSWORD = 16


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for file, text in (
        ("alerts.yml", "make Prometheus' rules of the settings ALERT_*"),
        ("alertmanager.yml", "make Alertmanager's configuration of the settings ALERT_*"),
    ):
        action = actions.add_parser(Path(file).stem, help=text, description=text)
        action.add_argument("-o", "--output", type=Path, metavar="FILE", help="instead of printing")
        action.set_defaults(run=_render, file=file)
    text = "make the role as which Grafana reads the database, or bring it up to date"
    reader = actions.add_parser("database-reader", help=text, description=text)
    reader.add_argument(
        "--password-file", type=Path, required=True, metavar="FILE", help="holds its password"
    )
    reader.set_defaults(run=_make_reader)
    listed = actions.add_parser("settings", help="list the settings ALERT_* with their defaults")
    listed.set_defaults(run=_list)


def _render(args: argparse.Namespace) -> int:
    settings = MonitoringSettings.from_environment(os.environ)
    text = render(args.file, settings)
    if args.output is None:
        print(text, end="")
    else:
        _replace(args.output, text)
    if args.file == "alertmanager.yml" and not settings.has_receiver:
        print(
            "bountycoder: nobody is told of alerts: set ALERT_EMAIL_TO, ALERT_SLACK_URL_FILE "
            "or ALERT_WEBHOOK_URL",
            file=sys.stderr,
        )
    return 0


def _make_reader(args: argparse.Namespace) -> int:
    from models.monitoring.grafana_role import ROLE

    try:
        password = args.password_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LauncherError(f"cannot read {args.password_file}: {error}") from None
    if len(password) < MIN_READER_PASSWORD:
        raise LauncherError(
            f"{args.password_file} must hold {MIN_READER_PASSWORD} characters or more"
        )
    make_reader(Settings.from_environment(os.environ), password)
    print(f"{ROLE} may read what the dashboards show")
    return 0


def make_reader(settings: Settings, password: str) -> None:
    """Make the role in the database of `settings`.

    Raises:
        LauncherError: the database does not answer, or lets nobody make a role.
    """
    from models.database.base import open_database
    from models.monitoring.grafana_role import make_dashboard_reader

    engine = open_database(settings, pool_size=1)
    try:
        with translating_database_errors(), engine.begin() as connection:
            make_dashboard_reader(connection, password=password)
    finally:
        engine.dispose()


def _replace(file: Path, text: str) -> None:
    """Put a whole file in the place of another: its reader never sees half of one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(text)
    beside.replace(file)


def _list(args: argparse.Namespace) -> int:
    print(settings_table(MonitoringSettings), end="")
    return 0
