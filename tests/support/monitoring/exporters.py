"""The exporters that docker/prometheus scrapes, for one PostgreSQL and one Valkey."""

from __future__ import annotations

from urllib.parse import urlsplit

import trustme

from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey
from cli.system.ports import free_port
from tests.support.monitoring.monitoring import Programs

#: An NGINX with the status page that its exporter reads.
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


class Exporters:
    """Exporters of the machine, PostgreSQL, Valkey and NGINX, and the prober of certificates.

    Attributes:
        textfiles: the directory whose metrics the machine's exporter adds to its own.
        prober_port: of the blackbox exporter.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self.textfiles = programs.directory / "textfiles"
        self.prober_port = free_port()

    def start(
        self, postgres: Postgres, valkey: Valkey, authority: trustme.CA
    ) -> dict[str, list[int]]:
        """Start them and return their ports by the names of their jobs in `prometheus.yml`."""
        ports = {name: free_port() for name in ("node", "postgres", "redis", "nginx")}
        listen = {name: f"web.listen-address=127.0.0.1:{port}" for name, port in ports.items()}
        self._start_node(f"--{listen['node']}")
        self._programs.start(
            "postgres_exporter",
            f"--{listen['postgres']}",
            "--no-collector.bgwriter",  # Debian's does not know PostgreSQL 17 and newer
            environment={
                "DATA_SOURCE_NAME": postgres.url.replace("+psycopg2", "") + "?sslmode=disable",
            },
        )
        redis = urlsplit(valkey.url)
        self._programs.start(
            "redis_exporter",
            f"-redis.addr=redis://{redis.hostname}:{redis.port}",
            f"-redis.password={redis.password}",
            f"-{listen['redis']}",
        )
        self._start_nginx(f"-{listen['nginx']}")
        self._start_prober(authority)
        return {name: [port] for name, port in ports.items()}

    def write_backup_metric(self, at: float | None) -> None:
        """Write the metric of a finished backup; None means that there is no backup."""
        if at is None:
            (self.textfiles / "backup.prom").unlink(missing_ok=True)
            return
        new = self.textfiles / "backup.new"
        new.write_text(f"bountycoder_backup_last_success_timestamp_seconds {at}\n")
        new.replace(self.textfiles / "backup.prom")

    def _start_node(self, listen: str) -> None:
        self.textfiles.mkdir()
        directory = f"--collector.textfile.directory={self.textfiles}"
        self._programs.start("node_exporter", listen, directory)

    def _start_nginx(self, listen: str) -> None:
        directory, port = self._programs.directory, free_port()
        configuration = directory / "nginx.conf"
        configuration.write_text(NGINX.format(directory=directory, port=port))
        self._programs.start("nginx", "-p", str(directory), "-c", str(configuration))
        self._programs.start(
            "nginx_exporter",
            f"-nginx.scrape-uri=http://127.0.0.1:{port}/",
            "-nginx.retries=50",
            "-nginx.retry-interval=100ms",
            listen,
        )

    def _start_prober(self, authority: trustme.CA) -> None:
        directory = self._programs.directory
        certificate = directory / "authority.pem"
        authority.cert_pem.write_to_path(str(certificate))
        (directory / "blackbox.yml").write_text(PROBER.format(ca=certificate))
        self._programs.start(
            "blackbox_exporter",
            f"--config.file={directory}/blackbox.yml",
            f"--web.listen-address=127.0.0.1:{self.prober_port}",
            "--timeout-offset=0.1",  # Prometheus gives it half a second here
        )
