"""Fills the templates of Prometheus' rules and Alertmanager's configuration with the settings.

Prometheus does not replace anything in its rules, nor Alertmanager in its configuration; both have
`{{ … }}` of their own, so that ours are `<< … >>`.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cli.monitoring.settings import MonitoringSettings

TEMPLATES = Path(__file__).parent / "templates"
#: Each file that can be rendered.
FILES = ("alerts.yml", "alertmanager.yml")


def render(file: str, settings: MonitoringSettings) -> str:
    """Return the text of one of `FILES`."""
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
        # YAML: texts go through `tojson`, whose strings are YAML's too.
        autoescape=False,  # noqa: S701 - no HTML
    )
