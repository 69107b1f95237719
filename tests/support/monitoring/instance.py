"""A whole instance that is watched: our programs, their servers, exporters, Prometheus."""

from __future__ import annotations

import datetime
import json
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
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
from tests.support.monitoring.watch import Programs, Watch
from tests.support.polling import wait_until
from tests.support.service import Service
from tests.support.webhook_receiver import Receiver, receiving

READER_PASSWORD = "a password of the dashboards"
#: Tokens a second of each stream: more than the promised 30, and less.
PACE, SLOW_PACE = 60.0, 15.0
#: Between two calls of one that asks all the time: the machine does other things too.
PAUSE_SECONDS = 0.1
#: Short times; the rules are those that we ship.
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
#: Of the receiver that Alertmanager posts to; other paths are those of our own webhooks.
ALERTS_PATH = "/hook"
SERVICE = {
    "api_processes": 2,
    "echo_tokens_per_second": PACE,
    "lease_seconds": 3.0,
    "max_queue_length": 30,
    "login_attempts_per_email": 2,
    "webhook_allowed_networks": "127.0.0.0/8",
}
#: nginx with what its exporter asks for.
NGINX = """daemon off; error_log stderr; pid {directory}/nginx.pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/nginx; proxy_temp_path {directory}/nginx;
  fastcgi_temp_path {directory}/nginx; uwsgi_temp_path {directory}/nginx;
  scgi_temp_path {directory}/nginx;
  server {{ listen 127.0.0.1:{port}; location / {{ stub_status; }} }}
}}
"""
PROBER = """modules:
  http_2xx:
    prober: http
    http: {{tls_config: {{ca_file: {ca}}}}}
"""


class Instance:
    """Everything, and the ways to break and mend it."""

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
        self._heard = 0
        settings = {**ALERTS, "ALERT_WEBHOOK_URL": receiver.url}
        self.watch = Watch(programs, MonitoringSettings.from_environment(settings))
        self.textfiles = programs.directory / "textfiles"
        self.probed_port = free_port()
        self._authority = trustme.CA()

    def start(self) -> None:
        """Start workers, exporters and what watches them."""
        self.textfiles.mkdir()
        for port in self.ports:
            self.workers.append(self.service.add_worker(worker_metrics_port=port))
        prober = free_port()
        targets = {
            "bountycoder-api": [self.service.settings.api_metrics_port],
            "bountycoder-admin": [self.service.settings.admin_metrics_port],
            "bountycoder-worker": [self.ports[0]],
            **self._start_exporters(prober),
        }
        self._announce()
        self.watch.start(targets, files=self.programs.directory, prober=prober)
        self.service.wait_ready(2)
        self.headers = {"x-api-key": self.service.make_key(name="steady")["secret"]}

    def _announce(self) -> None:
        """Tell Prometheus by files of one worker, and of the address to be probed."""
        worker = {"job": "bountycoder-worker"}
        for name, port, labels in (
            ("targets", f"127.0.0.1:{self.ports[1]}", worker),
            ("probes", f"https://127.0.0.1:{self.probed_port}/", {}),
        ):
            file = self.programs.directory / name / "test.json"
            file.parent.mkdir()
            file.write_text(json.dumps([{"targets": [port], "labels": labels}]))

    def _start_exporters(self, prober: int) -> dict[str, list[int]]:
        directory = self.programs.directory
        start = self.programs.start
        ports = {name: free_port() for name in ("node", "postgres", "redis", "nginx")}
        listen = {name: f"--web.listen-address=127.0.0.1:{port}" for name, port in ports.items()}
        start(
            "node_exporter",
            listen["node"],
            f"--collector.textfile.directory={self.textfiles}",
        )
        url = self.service.settings.database_url.get_secret_value()
        start(
            "postgres_exporter",
            listen["postgres"],
            "--no-collector.bgwriter",  # Debian's does not know PostgreSQL 17 and newer
            environment={
                "DATA_SOURCE_NAME": url.replace("+psycopg2", "") + "?sslmode=disable",
            },
        )
        address, password = self._redis_address()
        start(
            "redis_exporter",
            f"-redis.addr={address}",
            f"-redis.password={password}",
            listen["redis"].removeprefix("-"),
        )
        nginx, configuration = free_port(), directory / "nginx.conf"
        configuration.write_text(NGINX.format(directory=directory, port=nginx))
        start("nginx", "-p", str(directory), "-c", str(configuration))
        start(
            "nginx_exporter",
            f"-nginx.scrape-uri=http://127.0.0.1:{nginx}/",
            "-nginx.retries=50",
            "-nginx.retry-interval=100ms",
            listen["nginx"].removeprefix("-"),
        )
        authority = directory / "authority.pem"
        self._authority.cert_pem.write_to_path(str(authority))
        (directory / "blackbox.yml").write_text(PROBER.format(ca=authority))
        start(
            "blackbox_exporter",
            f"--config.file={directory}/blackbox.yml",
            f"--web.listen-address=127.0.0.1:{prober}",
            "--timeout-offset=0.1",  # of the time that Prometheus gives it, here half a second
        )
        return {name: [port] for name, port in ports.items()}

    def _redis_address(self) -> tuple[str, str]:
        password, _, place = self.valkey.url.removeprefix("redis://:").partition("@")
        return f"redis://{place.partition('/')[0]}", password

    @contextmanager
    def serving_tls(self, *, days: float) -> Iterator[None]:
        """Answer the probe with a certificate that ends in so many days."""
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert("127.0.0.1", not_after=ends).configure_cert(context)
        with receiving(tls=context, port=self.probed_port):
            yield

    def ask(self, *, headers: dict[str, str] | None = None, **body: Any) -> int:
        """Make one synchronous request; return its status, 0 if it broke off."""
        try:
            answer = requests.post(
                f"{self.service.url}/api/llm/generate",
                json={"prompt": "one two three four five six seven", "maxTokens": 12, **body},
                headers=headers or self.headers,
                timeout=60,
            )
        except requests.ConnectionError:
            return 0
        return answer.status_code

    def write_backup_metric(self, at: float | None) -> None:
        """Write what a backup does when it is done; None is no backup at all."""
        if at is None:
            (self.textfiles / "backup.prom").unlink(missing_ok=True)
            return
        text = f"bountycoder_backup_last_success_timestamp_seconds {at}\n"
        beside = self.textfiles / "backup.new"
        beside.write_text(text)
        beside.replace(self.textfiles / "backup.prom")

    def running(self) -> int:
        """Return how many jobs workers have begun."""
        url = self.postgres.url.replace("+psycopg2", "")
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("select count(*) from jobs where state = 'running'")
            return int(cursor.fetchone()[0])

    def kill_worker(self, number: int) -> None:
        worker = self.workers[number]
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
        self.service.workers.remove(worker)

    def start_worker(self, number: int, **changes: Any) -> None:
        """Start a worker in the place of one that was killed."""
        port = self.ports[number]
        self.workers[number] = self.service.add_worker(worker_metrics_port=port, **changes)

    def stop_worker(self, number: int) -> None:
        worker = self.workers[number]
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
        self.service.workers.remove(worker)

    def kill_api(self) -> None:
        """Kill the API with all its processes."""
        assert self.service.api is not None
        processes = psutil.Process(self.service.api.pid).children()
        self.service.api.kill()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.service.api.wait(10)

    def skip_alerts(self, since: int | None = None) -> None:
        """Let `sent_alerts` skip the messages received until now, or before message `since`."""
        self._heard = len(self.receiver.received) if since is None else since

    def sent_alerts(self, status: str) -> set[str]:
        """Return the names of the alerts that the receiver got in this state."""
        return {
            alert["labels"]["alertname"]
            for received in self.receiver.received[self._heard :]
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
def repeating(action: Callable[[], object], *, threads: int = 1) -> Iterator[None]:
    """Do something again and again, in threads, for the length of the block."""
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(PAUSE_SECONDS):
            action()

    workers = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        is_over.set()
        for worker in workers:
            worker.join(90)


@contextmanager
def watched_instance(base_settings: Settings, directory: Path) -> Iterator[Instance]:
    """Run an instance with servers of its own, that may be stopped."""
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
        instance = Instance(service, postgres, valkey, receiver, programs)
        admin = service.spawn("admin-ui")
        stack.callback(admin.wait, 20)
        stack.callback(admin.terminate)
        instance.start()
        yield instance
