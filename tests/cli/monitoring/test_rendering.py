"""Rules and receivers follow the settings, and Prometheus and Alertmanager accept them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import main
from cli.monitoring.rendering import render
from cli.monitoring.settings import RUNBOOKS, MonitoringSettings
from core.config.environment import settings_table
from core.errors import SettingsError
from docker.grafana.dashboards.__main__ import BOARDS, path_of
from tests.support.monitoring.programs import program
from tests.support.paths import ROOT
from tests.support.processes import run

PROMETHEUS = ROOT / "docker" / "prometheus"
ALL_RECEIVERS = {
    "ALERT_EMAIL_TO": "one@example.com, two@example.com",
    "ALERT_EMAIL_FROM": 'BountyCoder "alerts" <alerts@example.com>',
    "ALERT_SMTP": "smtp.example.com:587",
    "ALERT_SMTP_USER": "it's: # me",
    "ALERT_SMTP_PASSWORD_FILE": "/run/secrets/smtp",
    "ALERT_SLACK_URL_FILE": "/run/secrets/slack",
    "ALERT_SLACK_CHANNEL": "#operations",
    "ALERT_WEBHOOK_URL": "https://example.com/alerts?a=1&b={{x}}",
    "ALERT_WEBHOOK_TOKEN_FILE": "/run/secrets/webhook",
}


def settings(**given: str) -> MonitoringSettings:
    return MonitoringSettings.from_environment(given)


def rules() -> dict[str, dict[str, Any]]:
    """Return the alerts of the repository by name."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_the_files_of_the_repository_are_up_to_date() -> None:
    assert (PROMETHEUS / "alerts.yml").read_text() == render("alerts.yml", settings())
    for board in BOARDS:
        assert path_of(board).read_text() == board.json(), f"make dashboards: {board.uid}"


def test_every_setting_is_documented() -> None:
    assert settings_table(MonitoringSettings) in (ROOT / "docs" / "settings.md").read_text()


def test_each_alert_has_a_severity_and_a_runbook() -> None:
    headings = set(re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(), re.M))

    assert set(rules()) == headings
    for name, rule in rules().items():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS}#{name.lower()}"
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def test_every_threshold_is_used_and_can_be_changed() -> None:
    plain = render("alerts.yml", settings())
    fields = set(MonitoringSettings.model_fields)
    receivers = {name for name in fields if re.search("group|repeat|email|smtp|slack|hook", name)}

    for name in fields - receivers:
        default = getattr(settings(), name)
        other = {"str": "7m", "int": "7", "float": "0.123"}[type(default).__name__]
        assert render("alerts.yml", settings(**{name.upper(): other})) != plain, name


@pytest.mark.parametrize("environment", [{}, ALL_RECEIVERS], ids=["none", "all"])
def test_alertmanager_accepts_every_receiver(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "alertmanager.yml"
    file.write_text(render("alertmanager.yml", settings(**environment)))

    check(program("amtool"), "check-config", str(file))


def test_special_characters_of_settings_survive() -> None:
    made = yaml.safe_load(render("alertmanager.yml", settings(**ALL_RECEIVERS)))

    receiver = made["receivers"][0]
    assert made["global"]["smtp_from"] == ALL_RECEIVERS["ALERT_EMAIL_FROM"]
    assert made["global"]["smtp_auth_username"] == ALL_RECEIVERS["ALERT_SMTP_USER"]
    assert receiver["email_configs"][0]["to"] == ALL_RECEIVERS["ALERT_EMAIL_TO"]
    assert receiver["slack_configs"][0]["channel"] == "#operations"
    assert receiver["webhook_configs"][0]["url"] == ALL_RECEIVERS["ALERT_WEBHOOK_URL"]
    assert all(
        receiver[kind][0]["send_resolved"]
        for kind in ("email_configs", "slack_configs", "webhook_configs")
    )


def test_alertmanager_suppresses_only_our_alerts() -> None:
    made = yaml.safe_load(render("alertmanager.yml", settings()))
    matchers = [
        matcher
        for rule in made["inhibit_rules"]
        for matcher in rule["source_matchers"] + rule["target_matchers"]
        if matcher.startswith("alertname")
    ]
    named = {name for m in matchers for name in re.findall(r'"(.+)"', m)[0].split("|")}

    assert named and named <= set(rules())


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"ALERT_EMAIL_TO": "a@b.c"}, "ALERT_EMAIL_TO needs ALERT_EMAIL_FROM and ALERT_SMTP"),
        (
            {"ALERT_SMTP_USER": "me"},
            "ALERT_SMTP_USER and ALERT_SMTP_PASSWORD_FILE need each other",
        ),
        (
            {"ALERT_SLACK_URL_FILE": "/f"},
            "ALERT_SLACK_URL_FILE and ALERT_SLACK_CHANNEL need each other",
        ),
        ({"ALERT_WEBHOOK_TOKEN_FILE": "/f"}, "ALERT_WEBHOOK_TOKEN_FILE needs ALERT_WEBHOOK_URL"),
        ({"ALERT_HOLD": "5"}, "ALERT_HOLD String should match"),
        ({"ALERT_ERROR_RATIO": "5"}, "ALERT_ERROR_RATIO Input should be less than 1"),
        ({"ALERT_EMAIL_FROM": "a\nb"}, "ALERT_EMAIL_FROM String should match"),
    ],
)
def test_wrong_settings_are_rejected(given: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**given)

    assert [line for line in caught.value.faults if line.startswith(fault)]


def test_the_command_replaces_a_file_at_once_and_warns_without_a_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "alertmanager.yml"

    assert main(["monitoring", "alertmanager", "-o", str(file)]) == 0
    silent = capsys.readouterr()
    monkeypatch.setenv("ALERT_WEBHOOK_URL", "http://127.0.0.1:1/")
    assert main(["monitoring", "alertmanager", "-o", str(file)]) == 0
    captured = capsys.readouterr()

    assert "alerts have no receiver" in silent.err
    assert (silent.out, captured.out, captured.err) == ("", "", "")
    assert "http://127.0.0.1:1/" in file.read_text()
    assert [entry.name for entry in file.parent.iterdir()] == ["alertmanager.yml"]


def test_prometheus_accepts_its_configuration_and_rules(tmp_path: Path) -> None:
    text = (PROMETHEUS / "prometheus.yml").read_text()
    file = tmp_path / "prometheus.yml"
    file.write_text(text.replace("/etc/prometheus/alerts.yml", str(PROMETHEUS / "alerts.yml")))

    check(program("promtool"), "check", "config", "--lint-fatal", str(file))
    check(program("promtool"), "check", "rules", "--lint-fatal", str(PROMETHEUS / "alerts.yml"))


@pytest.mark.system
def test_rules_fire_only_in_their_cases() -> None:
    """These faults cannot be caused here, or take hours: promtool simulates them."""
    check(program("promtool"), "test", "rules", "rules_test.yml", directory=Path(__file__).parent)


def check(*command: str, directory: Path = ROOT) -> None:
    done = run(command, environment=os.environ, directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr
