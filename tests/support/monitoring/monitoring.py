"""A real Prometheus and a real Alertmanager that monitor our programs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from cli.monitoring.rendering import render
from cli.monitoring.settings import MonitoringSettings
from cli.system.child_process import Child
from cli.system.ports import free_port
from tests.support.monitoring.programs import UNPACKED, program
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from tests.support.processes import responds

CONFIGURATION = ROOT / "docker" / "prometheus" / "prometheus.yml"
SCRAPE_INTERVAL = "500ms"
STOP_SECONDS = 10.0
READY_SECONDS = 30.0
#: Bound of the time from a fault to its alert, and from its end to the resolved alert.
ALERT_SECONDS = 45.0
CALL_SECONDS = 10.0


class Programs:
    """Third-party programs that end with the test, each with its own log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # For the unpacked Alertmanager: see `tests/tools/install_monitoring.py`.
        (directory / ".usr").symlink_to(UNPACKED / "usr")
        self._children: list[Child] = []

    def start(
        self, name: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start one of `tests.support.monitoring.programs`, or a program by its path."""
        path = name if "/" in name else program(name)
        child = Child.start(
            Path(name).name,
            [path, *arguments],
            log_dir=self.directory,
            death_signal=signal.SIGKILL,
            environment=environment,
            directory=self.directory,
        )
        self._children.append(child)
        return child

    def stop(self) -> None:
        for child in self._children:
            child.send(signal.SIGTERM)
        for child in self._children:
            child.stop(signal.SIGTERM, STOP_SECONDS)


class Monitoring:
    """Prometheus with our rules, and Alertmanager with a webhook, at short times."""

    def __init__(self, programs: Programs, settings: MonitoringSettings) -> None:
        self._programs = programs
        self._settings = settings
        self.port = free_port()
        self.alertmanager_port = free_port()
        self.prometheus: Child | None = None

    def start(self, targets: Mapping[str, Sequence[int]], *, files: Path, prober: int) -> None:
        """Run Prometheus and Alertmanager.

        Args:
            targets: ports by the names of jobs in `prometheus.yml`; other jobs are left out.
            files: the directory of `targets/*.json` and `probes/*.json`.
            prober: port of the blackbox exporter.
        """
        directory = self._programs.directory
        for name in ("alerts.yml", "alertmanager.yml"):
            (directory / name).write_text(render(name, self._settings))
        all_targets = {
            **targets,
            "prometheus": [self.port],
            "alertmanager": [self.alertmanager_port],
        }
        configuration = self._configuration(all_targets, files=files, prober=prober)
        (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        self._programs.start(
            "alertmanager",
            f"--config.file={directory}/alertmanager.yml",
            f"--storage.path={directory}/alertmanager",
            f"--web.listen-address=127.0.0.1:{self.alertmanager_port}",
            "--cluster.listen-address=",
        )
        self.prometheus = self.start_prometheus()
        wait_until(lambda: _is_ready(self.alertmanager_port), READY_SECONDS, self.logs)

    def start_prometheus(self) -> Child:
        """Run Prometheus on its present data and wait until it responds."""
        directory = self._programs.directory
        child = self._programs.start(
            "prometheus",
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/prometheus",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )
        wait_until(lambda: _is_ready(self.port), READY_SECONDS, self.logs)
        return child

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the present result of a query; a rejected query fails the test."""
        return list(self._api("query", query=text)["result"])

    def value(self, text: str) -> float | None:
        """Return the only value of a query, if there is one."""
        result = self.query(text)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    def firing(self) -> set[str]:
        """Return the names of alerts that fire."""
        found = self.query('ALERTS{alertstate="firing"}')
        return {sample["metric"]["alertname"] for sample in found}

    def wait_firing(self, *names: str) -> None:
        wait_until(lambda: set(names) <= self.firing(), ALERT_SECONDS, self._explain(names))

    def wait_resolved(self, *names: str) -> None:
        wait_until(lambda: not set(names) & self.firing(), ALERT_SECONDS, self._explain(names))

    def suppressed(self) -> dict[str, set[str]]:
        """Return the alerts that Alertmanager suppresses, each with the alerts that cause it."""
        alerts = requests.get(
            f"http://127.0.0.1:{self.alertmanager_port}/api/v2/alerts", timeout=CALL_SECONDS
        ).json()
        names = {alert["fingerprint"]: alert["labels"]["alertname"] for alert in alerts}
        return {
            alert["labels"]["alertname"]: {names[by] for by in alert["status"]["inhibitedBy"]}
            for alert in alerts
            if alert["status"]["state"] == "suppressed"
        }

    def wait_suppressed(self, name: str, by: str) -> None:
        wait_until(
            lambda: by in self.suppressed().get(name, set()), ALERT_SECONDS, self._explain([name])
        )

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-2000:]}"
            for path in sorted(self._programs.directory.glob("*.log"))
        )

    def _explain(self, names: Sequence[str]) -> Callable[[], str]:
        def explain() -> str:
            groups = self._api("rules")["groups"]
            states = {
                rule["name"]: (rule["state"], rule.get("lastError"), rule["query"])
                for group in groups
                for rule in group["rules"]
            }
            wanted = "\n".join(f"{name}: {states.get(name)}" for name in names)
            down = self.query("up == 0")
            return f"{wanted}\nfiring: {self.firing()}\ndown: {down}"

        return explain

    def _api(self, path: str, **parameters: str) -> dict[str, Any]:
        response = requests.get(
            f"http://127.0.0.1:{self.port}/api/v1/{path}", params=parameters, timeout=CALL_SECONDS
        )
        assert response.status_code == 200, f"{parameters}: {response.text}"
        return dict(response.json()["data"])

    def _configuration(
        self, targets: Mapping[str, Sequence[int]], *, files: Path, prober: int
    ) -> dict[str, Any]:
        """Return the shipped configuration, with addresses and times of this run."""
        shipped = CONFIGURATION.read_text().replace("/etc/prometheus", str(files))
        made: dict[str, Any] = yaml.safe_load(
            shipped.replace("blackbox-exporter:9115", f"127.0.0.1:{prober}")
        )
        made["global"] = {
            "scrape_interval": SCRAPE_INTERVAL,
            "scrape_timeout": SCRAPE_INTERVAL,
            "evaluation_interval": SCRAPE_INTERVAL,
        }
        made["rule_files"] = [str(self._programs.directory / "alerts.yml")]
        receivers = made["alerting"]["alertmanagers"][0]
        receivers["static_configs"] = [{"targets": [f"127.0.0.1:{self.alertmanager_port}"]}]
        jobs = []
        for job in made["scrape_configs"]:
            if job["job_name"] in targets:
                job.pop("dns_sd_configs", None)
                addresses = [f"127.0.0.1:{port}" for port in targets[job["job_name"]]]
                job["static_configs"] = [{"targets": addresses}]
            elif "file_sd_configs" not in job:
                continue
            jobs.append(job)
        made["scrape_configs"] = jobs
        return made


def _is_ready(port: int) -> bool:
    return responds(f"http://127.0.0.1:{port}/-/ready")
