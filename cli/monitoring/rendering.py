"""Render Prometheus' rules and Alertmanager's configuration from templates and settings.

Neither program substitutes variables in these files. Both use `{{ … }}` for other purposes, so
our templates use `<< … >>`.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cli.monitoring.settings import MonitoringSettings

TEMPLATES = Path(__file__).parent / "templates"


def render(file: str, settings: MonitoringSettings) -> str:
    """Return the text of one of the templates."""
    values = {name.removeprefix("alert_"): value for name, value in settings}
    return _templates().get_template(file).render(values)


def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        variable_start_string="<<",
        variable_end_string=">>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Templates quote texts by `tojson`: JSON strings are valid YAML.
        autoescape=False,  # noqa: S701 - no HTML
    )
