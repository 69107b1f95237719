"""NGINX in front of two APIs, and with TLS."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
from dataclasses import dataclass

import psutil
import trustme

from tests.support.docker.nginx import Nginx, servers
from tests.support.polling import wait_until
from tests.support.processes import responds
from tests.support.service import Service

API, ADMIN, HTTP, HTTPS = "5000", "3030", "8080", "8443"
#: Linux has all of 127.0.0.0/8.
ADDRESSES = ("127.0.0.2", "127.0.0.3")


@dataclass
class Proxy:
    """NGINX in front of two APIs.

    Attributes:
        service: calls the APIs through NGINX, and checks every response.
        apis: the programs by their addresses.
        port: of both APIs: as containers, they differ in the address.
    """

    nginx: Nginx
    service: Service
    apis: dict[str, subprocess.Popen[bytes]]
    port: int

    @property
    def servers(self) -> str:
        """The APIs as upstream servers of NGINX."""
        return servers(*(f"{address}:{self.port}" for address in self.apis))

    def passed_to(self, address: str) -> str:
        """Return the text that the log has for a request to an API."""
        return f'"upstream":"{address}:{self.port}"'

    def start(self, address: str) -> None:
        """Start the API at an address, and wait until it responds."""
        settings = self.service.settings.model_copy(update={"api_port": self.port})
        changes = {"trusted_proxies": 1, "api_processes": 1, "poll_rate_limit": 1_000_000}
        behind = Service(settings, self.service.directory)
        self.apis[address] = behind.spawn("api", api_host=address, **changes)
        wait_until(lambda: responds(f"http://{address}:{self.port}/healthz"), 60, behind.logs)


@dataclass
class TlsProxy:
    """NGINX with TLS, and the authority that issued its certificate."""

    nginx: Nginx
    authority: trustme.CA

    def connect(self, name: str, *protocols: str) -> ssl.SSLSocket:
        """Open a connection to a host name that offers protocols of HTTP."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        context.set_alpn_protocols(list(protocols))
        plain = socket.create_connection(("127.0.0.1", self.nginx.ports[HTTPS]), timeout=10)
        return context.wrap_socket(plain, server_hostname=name)


def kill(program: subprocess.Popen[bytes]) -> None:
    """Kill a program and its processes at once, and wait for their end."""
    if program.poll() is not None:
        return
    family = [psutil.Process(program.pid), *psutil.Process(program.pid).children()]
    for process in family:
        process.send_signal(signal.SIGKILL)
    program.wait(20)
    psutil.wait_procs(family, timeout=20)
