"""`bountycoder monitoring`: configure Prometheus, Alertmanager and Grafana for this service."""

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
        ("alerts.yml", "write Prometheus' rules from the settings ALERT_*"),
        ("alertmanager.yml", "write Alertmanager's configuration from the settings ALERT_*"),
    ):
        action = actions.add_parser(Path(file).stem, help=text, description=text)
        action.add_argument("-o", "--output", type=Path, metavar="FILE", help="instead of printing")
        action.set_defaults(run=_render, file=file)
    text = "create or update the database role of Grafana"
    reader = actions.add_parser("database-reader", help=text, description=text)
    reader.add_argument(
        "--password-file", type=Path, required=True, metavar="FILE", help="holds its password"
    )
    reader.set_defaults(run=_create_reader)
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
            "bountycoder: alerts have no receiver: set ALERT_EMAIL_TO, ALERT_SLACK_URL_FILE "
            "or ALERT_WEBHOOK_URL",
            file=sys.stderr,
        )
    return 0


def _create_reader(args: argparse.Namespace) -> int:
    from models.monitoring.grafana_role import ROLE

    try:
        password = args.password_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LauncherError(f"cannot read {args.password_file}: {error}") from None
    if len(password) < MIN_READER_PASSWORD:
        raise LauncherError(
            f"{args.password_file} must contain at least {MIN_READER_PASSWORD} characters"
        )
    create_reader(Settings.from_environment(os.environ), password)
    print(f"{ROLE} can read the data of the dashboards")
    return 0


def create_reader(settings: Settings, password: str) -> None:
    """Create or update the role of Grafana.

    Raises:
        LauncherError: the database is away, or does not allow this user to create a role.
    """
    from models.database.base import open_database
    from models.monitoring.grafana_role import create_grafana_role

    engine = open_database(settings, pool_size=1)
    try:
        with translating_database_errors(), engine.begin() as connection:
            create_grafana_role(connection, password=password)
    finally:
        engine.dispose()


def _replace(file: Path, text: str) -> None:
    """Replace a file atomically: its readers never see half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(text)
    beside.replace(file)


def _list(args: argparse.Namespace) -> int:
    print(settings_table(MonitoringSettings), end="")
    return 0
