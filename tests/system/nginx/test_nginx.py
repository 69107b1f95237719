"""NGINX with our configuration, in front of two processes of the API."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import trustme

from cli.system.ports import free_port
from tests.conftest import PACE
from tests.support.docker.name_server import NameServer
from tests.support.docker.nginx import Nginx, certificate, servers, variables, write
from tests.support.docker.tools import run
from tests.support.http.batch_files import JSONL, jsonl, requests_of
from tests.support.http.sse import events
from tests.support.polling import wait_until
from tests.support.service import Service

CALLERS = 8
#: How long the load lasts before the kill, and after it: a load has a time, no fact to wait for.
BEFORE_SECONDS, AFTER_SECONDS = 1.0, 2.0
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
        wait_until(lambda: _is_up(f"http://{address}:{self.port}/healthz"), 60, behind.logs)


@pytest.fixture(scope="module")
def proxy(slow_service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """NGINX in front of two APIs of the slow service, and its admin UI."""
    slow_service.start_admin_ui()
    port = free_port()
    given = variables(
        slow_service.settings,
        API_SERVERS=servers(*(f"{address}:{port}" for address in ADDRESSES)),
        ADMIN_SERVERS=servers(f"127.0.0.1:{slow_service.settings.admin_port}"),
    )
    directory = tmp_path_factory.mktemp("nginx")
    with Nginx.started(directory, "plain", given) as nginx:
        settings = slow_service.settings.model_copy(update={"api_port": nginx.ports[API]})
        proxy = Proxy(nginx, Service(settings, directory), {}, port)
        try:
            for address in ADDRESSES:
                proxy.start(address)
            yield proxy
        finally:
            for api in proxy.apis.values():
                _kill(api)


@pytest.fixture(scope="module")
def secret(proxy: Proxy) -> str:
    """The secret of a key."""
    return str(proxy.service.make_key()["secret"])


@pytest.fixture(scope="module")
def headers(secret: str) -> dict[str, str]:
    """The headers of a request with the key."""
    return {"Authorization": f"Bearer {secret}"}


def test_a_stream_arrives_token_by_token(proxy: Proxy, headers: dict[str, str]) -> None:
    body = {"prompt": "one two three four five six seven", "maxTokens": 40, "stream": True}

    response = proxy.service.call(
        "POST", "/api/llm/generate", json=body, headers=headers, stream=True
    )
    times = [time.monotonic() for event in events(response) if "choices" in event.data]

    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) >= 10
    # A proxy that buffers would pass several events at once.
    assert times[-1] - times[0] > 0.7 * (len(times) - 1) / PACE
    assert sorted(gaps)[len(gaps) // 2] > 0.5 / PACE


def test_only_a_batch_file_may_be_large(proxy: Proxy, headers: dict[str, str]) -> None:
    file = jsonl(*({**line, "prompt": "x" * 3000} for line in requests_of(1000)))
    assert len(file) > proxy.service.settings.max_body_bytes

    sent = proxy.service.call("POST", "/api/llm/batches", data=file, headers={**headers, **JSONL})
    refused = requests.post(
        f"{proxy.service.url}/api/llm/jobs",
        data=file,
        headers={**headers, "Content-Type": "application/json", "Expect": "100-continue"},
        timeout=30,
    )

    assert sent.status_code in {200, 201, 202}, sent.text
    assert sent.json()["total"] == 1000, sent.text
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "payload_too_large")
    cancelled = proxy.service.call(
        "POST", f"/api/llm/batches/{sent.json()['id']}/cancel", headers=headers
    )
    assert cancelled.ok


def test_nginx_streams_an_upload_to_the_api(proxy: Proxy) -> None:
    """The API rejects a request without a key before its file has arrived.

    If NGINX buffered the file, the API would not have the request yet.
    """
    with socket.create_connection(("127.0.0.1", proxy.nginx.ports[API]), timeout=10) as connection:
        connection.sendall(
            b"POST /api/llm/batches HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/jsonl\r\nContent-Length: 100000000\r\n\r\n{"
        )
        head = connection.recv(1024)

    assert head.startswith(b"HTTP/1.1 401 ")


#: A response whose head NGINX had sent when its API died.
CUT = "cut"


def test_an_api_killed_under_load_loses_only_its_own_requests(
    proxy: Proxy, headers: dict[str, str]
) -> None:
    load = Load(proxy.service.url, headers)
    address, victim = next(iter(proxy.apis.items()))

    with load.running():
        time.sleep(BEFORE_SECONDS)
        began = time.monotonic()
        _kill(victim)
        ended = time.monotonic()
        time.sleep(AFTER_SECONDS)

    lost = [call for call in load.calls if call.status not in {200, 202}]
    afterwards = [call for call in load.calls if call.began > ended]
    assert {call.method for call in afterwards} == {"GET", "POST"}
    assert len(afterwards) > 20
    assert proxy.passed_to(address) in proxy.nginx.access_log()
    # NGINX repeats a GET at the other API unless its response had begun. It repeats no POST: the
    # killed API may have begun it.
    assert [call for call in lost if call.method == "GET" and call.code != CUT] == []
    assert [call for call in lost if not (call.began < ended and call.ended > began)] == []
    assert {(call.status, call.code) for call in lost} <= {(503, "api_unavailable"), (0, CUT)}
    assert len(lost) <= CALLERS


def test_a_restarted_api_receives_requests(proxy: Proxy, headers: dict[str, str]) -> None:
    address = next(iter(proxy.apis))
    proxy.start(address)
    seen = len(proxy.nginx.access_log())

    def is_back() -> bool:
        assert proxy.service.call("GET", "/healthz").status_code == 200
        return proxy.passed_to(address) in proxy.nginx.access_log()[seen:]

    wait_until(is_back, 15)


def test_nginx_finds_new_addresses_of_a_name(proxy: Proxy, tmp_path: Path) -> None:
    first, second = proxy.apis
    with NameServer.started(first) as name_server:
        given = variables(
            proxy.service.settings,
            NGINX_RESOLVER=name_server.resolver,
            API_SERVERS=f"server api:{proxy.port} resolve max_fails=1 fail_timeout=5s;",
        )
        with Nginx.started(tmp_path / "nginx", "plain", given) as nginx:
            address = f"{nginx.url(API)}/healthz"
            wait_until(lambda: _is_up(address), 15, nginx.log)
            assert _is_up(address)
            assert proxy.passed_to(second) not in nginx.access_log()

            name_server.addresses.append(second)

            wait_until(
                lambda: _is_up(address) and proxy.passed_to(second) in nginx.access_log(), 15
            )
            assert proxy.passed_to(first) in nginx.access_log()


def test_the_audited_address_is_that_of_the_connection(proxy: Proxy) -> None:
    admin = proxy.service.sign_in_admin()
    spoofed = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    made = proxy.service.call(
        "POST", "/api/keys", json={"name": "spoofed"}, headers={**admin, **spoofed}
    )

    entries = proxy.service.call("GET", "/api/admin/activity", headers=admin).json()["data"]

    entry = next(entry for entry in entries if made.json()["id"] in json.dumps(entry))
    assert entry["address"] == "127.0.0.1"


def _logged(proxy: Proxy) -> list[dict[str, Any]]:
    """Return the lines of the log; NGINX writes a line after the response."""
    whole = proxy.nginx.access_log().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def _logged_ids(proxy: Proxy) -> set[str]:
    return {line["request_id"] for line in _logged(proxy)}


def test_a_request_has_one_id(proxy: Proxy) -> None:
    valid = proxy.service.call("GET", "/healthz", headers={"X-Request-Id": "mine.1"})
    invalid = proxy.service.call("GET", "/healthz", headers={"X-Request-Id": "mine 1"})

    assert valid.headers["x-request-id"] == "mine.1"
    assert re.fullmatch("req_[0-9a-f]{32}", invalid.headers["x-request-id"])
    wait_until(lambda: {"mine.1", invalid.headers["x-request-id"]} <= _logged_ids(proxy), 20)


def test_the_log_has_no_secret(proxy: Proxy, headers: dict[str, str], secret: str) -> None:
    with_cookie = {**headers, "Cookie": "session=s3cret"}
    response = proxy.service.call("GET", "/api/llm/jobs?limit=3", headers=with_cookie)
    request_id = response.headers["x-request-id"]
    wait_until(lambda: request_id in _logged_ids(proxy), 20)

    logs = proxy.nginx.access_log() + proxy.nginx.log()

    [line] = [line for line in _logged(proxy) if line["request_id"] == request_id]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/llm/jobs", 200)
    assert [word for word in (secret, "s3cret", "Bearer", "limit=3") if word in logs] == []


@pytest.mark.parametrize("port", [API, ADMIN])
def test_metrics_are_not_proxied(proxy: Proxy, port: str) -> None:
    response = requests.get(f"{proxy.nginx.url(port)}/metrics", timeout=10)

    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_the_admin_ui_has_its_own_port(proxy: Proxy) -> None:
    page = requests.get(f"{proxy.nginx.url(ADMIN)}/sign-in", timeout=10)
    at_the_api = requests.get(f"{proxy.nginx.url(API)}/sign-in", timeout=10)

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert at_the_api.status_code == 404


def test_without_an_api_the_error_has_the_shape_of_all_errors(proxy: Proxy, tmp_path: Path) -> None:
    with Nginx.started(tmp_path / "nginx", "plain", variables(proxy.service.settings)) as alone:
        response = requests.get(f"{alone.url(API)}/healthz", timeout=10)

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (503, "api_unavailable")
    assert set(error) == {"code", "type", "message", "param", "requestId"}
    assert error["requestId"] == response.headers["x-request-id"]
    assert response.headers["retry-after"] == "1"
    assert "nginx/" not in response.headers["server"]


def test_one_address_cannot_take_every_connection(
    proxy: Proxy, headers: dict[str, str], tmp_path: Path
) -> None:
    given = variables(
        proxy.service.settings, API_SERVERS=proxy.servers, CONNECTIONS_PER_ADDRESS="2"
    )
    body = {"prompt": "one two three four five", "maxTokens": 200, "stream": True}
    with Nginx.started(tmp_path / "nginx", "plain", given) as narrow:
        address = f"{narrow.url(API)}/api/llm/generate"
        held = [
            requests.post(address, json=body, headers=headers, stream=True, timeout=30)
            for _ in range(2)
        ]
        refused = requests.get(f"{narrow.url(API)}/healthz", timeout=10)
        for response in held:
            response.close()

    assert [response.status_code for response in held] == [200, 200]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_connections")


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


@pytest.fixture(scope="module")
def tls_proxy(proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsProxy]:
    """NGINX with TLS, in front of the same programs."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    given = variables(
        proxy.service.settings,
        API_SERVERS=proxy.servers,
        ADMIN_SERVERS=servers(f"127.0.0.1:{proxy.service.settings.admin_port}"),
        **certificate(authority, directory),
    )
    with Nginx.started(directory / "nginx", "tls", given) as nginx:
        yield TlsProxy(nginx, authority)


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_http_2_is_negotiated(tls_proxy: TlsProxy, protocol: str) -> None:
    with tls_proxy.connect("api.example.com", protocol) as connection:
        assert connection.selected_alpn_protocol() == protocol
        assert connection.version() in {"TLSv1.2", "TLSv1.3"}


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("api.example.com", "/healthz", b"application/json"),
        ("admin.example.com", "/sign-in", b"text/html"),
    ],
)
def test_each_host_name_has_its_program(
    tls_proxy: TlsProxy, name: str, path: str, kind: bytes
) -> None:
    with tls_proxy.connect(name, "http/1.1") as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
        )
        received = b"".join(iter(lambda: connection.recv(65536), b""))

    head = received.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 200 ")
    assert b"content-type: " + kind in head


def test_another_name_gets_no_certificate(tls_proxy: TlsProxy) -> None:
    with pytest.raises(ssl.SSLError):
        tls_proxy.connect("other.example.com", "h2").close()


def test_http_redirects_to_https_with_the_same_method(tls_proxy: TlsProxy) -> None:
    response = requests.post(
        f"{tls_proxy.nginx.url(HTTP)}/api/llm/generate?a=1",
        headers={"Host": "api.example.com"},
        allow_redirects=False,
        timeout=10,
    )

    assert response.status_code == 308
    assert response.headers["location"] == "https://api.example.com/api/llm/generate?a=1"


@pytest.mark.parametrize("variant", ["plain", "tls"])
def test_gixy_finds_nothing(proxy: Proxy, tmp_path: Path, variant: str) -> None:
    given = variables(proxy.service.settings, **certificate(trustme.CA(), tmp_path))
    write(tmp_path, variant, given)

    done = run("gixy", tmp_path / "nginx.conf")

    assert done.returncode == 0, done.stdout
    assert (
        "Total issues:\n    Informational: 0\n    Low: 0\n    Medium: 0\n    High: 0" in done.stdout
    )


@dataclass(frozen=True)
class Call:
    """A request of the load and its outcome; `status` 0 is a broken connection."""

    method: str
    began: float
    ended: float
    status: int
    code: str


@dataclass
class Load:
    """Callers that read and write without a pause."""

    url: str
    headers: dict[str, str]
    calls: list[Call] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send requests while the block runs."""
        threads = [
            threading.Thread(target=self._repeat, args=[("GET", "POST")[n % 2]])
            for n in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)

    def _repeat(self, method: str) -> None:
        session = requests.Session()
        while not self._stop.is_set():
            self.calls.append(self._call(session, method))

    def _call(self, session: requests.Session, method: str) -> Call:
        path = "/api/llm/models" if method == "GET" else "/api/llm/jobs"
        body = None if method == "GET" else {"prompt": "one", "maxTokens": 1}
        began = time.monotonic()
        status, code = 0, ""
        try:
            response = session.request(
                method, self.url + path, json=body, headers=self.headers, timeout=30
            )
            status = response.status_code
            code = response.json().get("error", {}).get("code", "")
        except requests.exceptions.ChunkedEncodingError:
            code = CUT
        except (requests.ConnectionError, ValueError) as error:
            code = repr(error)
        return Call(method, began, time.monotonic(), status, code)


def _kill(program: subprocess.Popen[bytes]) -> None:
    """Kill a program and its processes at once, and wait for their end."""
    if program.poll() is not None:
        return
    family = [psutil.Process(program.pid), *psutil.Process(program.pid).children()]
    for process in family:
        process.send_signal(signal.SIGKILL)
    program.wait(20)
    psutil.wait_procs(family, timeout=20)


def _is_up(address: str) -> bool:
    """Return whether a request to an address succeeds."""
    try:
        return requests.get(address, timeout=10).ok
    except requests.ConnectionError:
        return False
