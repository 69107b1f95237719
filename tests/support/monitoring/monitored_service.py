"""A whole monitored service: our programs, their servers, exporters, Prometheus."""

from __future__ import annotations

import datetime
import json
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import requests
import trustme

from cli.monitoring.command import create_reader
from cli.monitoring.settings import MonitoringSettings
from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey
from cli.system.ports import free_port
from core.config.settings import Settings
from migrations.run import upgrade
from tests.support.monitoring.exporters import Exporters
from tests.support.monitoring.monitoring import Monitoring, Programs
from tests.support.polling import wait_until
from tests.support.processes import kill_with_children
from tests.support.service import Service
from tests.support.webhook_receiver import Receiver, receiving

READER_PASSWORD = "a password of the dashboards"
#: Tokens a second of each stream: more than the promised 30, and less.
PACE, SLOW_PACE = 60.0, 15.0
#: Short times for the shipped rules.
ALERTS = {
    "ALERT_WINDOW": "4s",
    "ALERT_HOLD": "500ms",
    "ALERT_HOLD_CRITICAL": "500ms",
    "ALERT_RESTART_WINDOW": "25s",
    "ALERT_TOKEN_WINDOW": "4s",
    "ALERT_TOKENS": "20000",
    "ALERT_QUEUE_SECONDS": "2",
    "ALERT_FIRST_TOKEN_SECONDS": "2",
    "ALERT_WORKER_RESTARTS": "0",
    "ALERT_CONNECTIONS_RATIO": "0.5",
    "ALERT_REDIS_MEMORY_RATIO": "0.5",
    "ALERT_BACKUP_HOURS": "0.01",
    "ALERT_GROUP_WAIT": "500ms",
    "ALERT_GROUP_INTERVAL": "1s",
    # An alert that was sent, then silenced until it ended, is sent again only after this time.
    "ALERT_REPEAT_INTERVAL": "2s",
}
#: The receiver's path that Alertmanager posts to; our own webhooks have other paths.
ALERTS_PATH = "/hook"
SERVICE = {
    "api_processes": 2,
    "echo_tokens_per_second": PACE,
    "lease_seconds": 3.0,
    "max_queue_length": 30,
    "login_attempts_per_email": 2,
    "webhook_allowed_networks": "127.0.0.0/8",
}


class MonitoredService:
    """A service with its monitoring, and the ways to break and mend it."""

    def __init__(
        self,
        service: Service,
        postgres: Postgres,
        valkey: Valkey,
        receiver: Receiver,
        programs: Programs,
    ) -> None:
        self.service = service
        self.postgres = postgres
        self.valkey = valkey
        self.receiver = receiver
        self.programs = programs
        self.ports = [free_port(), free_port()]
        self.workers: list[subprocess.Popen[bytes]] = []
        self._skipped = 0
        settings = {**ALERTS, "ALERT_WEBHOOK_URL": receiver.url}
        self.monitoring = Monitoring(programs, MonitoringSettings.from_environment(settings))
        self.exporters = Exporters(programs)
        self.probed_port = free_port()
        self._authority = trustme.CA()

    def start(self) -> None:
        """Start the workers, the exporters and the monitoring."""
        for port in self.ports:
            self.workers.append(self.service.add_worker(worker_metrics_port=port))
        targets = {
            "bountycoder-api": [self.service.settings.api_metrics_port],
            "bountycoder-admin": [self.service.settings.admin_metrics_port],
            "bountycoder-worker": [self.ports[0]],
            **self.exporters.start(self.postgres, self.valkey, self._authority),
        }
        self._write_targets()
        prober, files = self.exporters.prober_port, self.programs.directory
        self.monitoring.start(targets, files=files, prober=prober)
        self.service.wait_ready(2)
        self.headers = {"x-api-key": self.service.make_key(name="steady")["secret"]}

    def _write_targets(self) -> None:
        """Name one worker and the probed address to Prometheus in files."""
        worker = {"job": "bountycoder-worker"}
        for name, address, labels in (
            ("targets", f"127.0.0.1:{self.ports[1]}", worker),
            ("probes", f"https://127.0.0.1:{self.probed_port}/", {}),
        ):
            file = self.programs.directory / name / "test.json"
            file.parent.mkdir()
            file.write_text(json.dumps([{"targets": [address], "labels": labels}]))

    @contextmanager
    def serving_tls(self, *, days: float) -> Iterator[None]:
        """Respond to the probe with a certificate that expires in so many days."""
        expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert("127.0.0.1", not_after=expiry).configure_cert(context)
        with receiving(tls=context, port=self.probed_port):
            yield

    def generate(self, *, headers: dict[str, str] | None = None, **body: Any) -> int:
        """Make one synchronous request; return its status, or 0 if the connection broke."""
        try:
            return requests.post(
                f"{self.service.url}/api/llm/generate",
                json={"prompt": "one two three four five six seven", "maxTokens": 12, **body},
                headers=headers or self.headers,
                timeout=60,
            ).status_code
        except requests.ConnectionError:
            return 0

    def running(self) -> int:
        """Return how many jobs the workers run."""
        url = self.postgres.url.replace("+psycopg2", "")
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("select count(*) from jobs where state = 'running'")
            return int(cursor.fetchone()[0])

    def end_worker(self, number: int, by: signal.Signals = signal.SIGTERM) -> None:
        """Drain a worker, or end it by another signal."""
        self.service.end_worker(self.workers[number], by)

    def start_worker(self, number: int, **changes: Any) -> None:
        """Replace a worker that has ended."""
        port = self.ports[number]
        self.workers[number] = self.service.add_worker(worker_metrics_port=port, **changes)

    def kill_api(self) -> None:
        """Kill the API with all its processes."""
        assert self.service.api is not None
        kill_with_children(self.service.api)

    def skip_alerts(self, since: int | None = None) -> None:
        """Let `sent_alerts` skip the messages received until now, or before message `since`."""
        self._skipped = len(self.receiver.received) if since is None else since

    def sent_alerts(self, status: str) -> set[str]:
        """Return the names of the alerts that the receiver got in this state."""
        return {
            alert["labels"]["alertname"]
            for received in self.receiver.received[self._skipped :]
            if received.path == ALERTS_PATH
            for alert in json.loads(received.body)["alerts"]
            if alert["status"] == status
        }

    def wait_sent(self, status: str, *names: str) -> None:
        wait_until(
            lambda: set(names) <= self.sent_alerts(status),
            30,
            lambda: f"{status}: {self.sent_alerts(status)}",
        )


@contextmanager
def monitored_service(base_settings: Settings, directory: Path) -> Iterator[MonitoredService]:
    """Run a monitored service with its own servers, which a test may stop."""
    with ExitStack() as stack:
        postgres = Postgres(directory / "postgres", log_dir=directory, is_durable=False)
        valkey = Valkey(directory / "valkey", log_dir=directory)
        for server in (postgres, valkey):
            stack.callback(server.stop)
            server.start()
        upgrade(postgres.url)
        own = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url}
        settings = Settings.from_environment({**base_settings.to_environment(), **own})
        create_reader(settings, READER_PASSWORD)
        receiver = stack.enter_context(receiving())
        programs = Programs(directory)
        stack.callback(programs.stop)
        ports = {f"{name}_metrics_port": free_port() for name in ("api", "admin")}
        service = stack.enter_context(
            Service.started(
                settings.model_copy(update={"admin_port": free_port()}),
                directory,
                workers=0,
                metrics_dir=str(directory / "metrics"),
                **ports,
                **SERVICE,
            )
        )
        monitored = MonitoredService(service, postgres, valkey, receiver, programs)
        service.start_admin_ui()
        monitored.start()
        yield monitored
