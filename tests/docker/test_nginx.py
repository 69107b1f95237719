"""A real NGINX with our configuration before two processes of the API."""

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
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import trustme

from tests.api.batch_files import JSONL, jsonl, requests_of
from tests.api.sse import events
from tests.conftest import PACE
from tests.docker.names import Names
from tests.docker.nginx import Nginx, certificate, servers, variables, write
from tests.docker.tools import run
from tests.service import Service, free_port, wait_until

CALLERS = 8
#: How long the callers go on before the process is killed, and afterwards.
BEFORE_SECONDS, AFTER_SECONDS = 1.0, 2.0
API, ADMIN, HTTP, HTTPS = "5000", "3030", "8080", "8443"
#: Linux has all of 127.0.0.0/8.
ADDRESSES = ("127.0.0.2", "127.0.0.3")


@dataclass
class Front:
    """Two APIs behind one NGINX. `service` calls them through it, and checks every answer.

    Attributes:
        port: of both APIs, each at an address of its own, as containers have it.
    """

    nginx: Nginx
    service: Service
    apis: dict[str, subprocess.Popen[bytes]]
    port: int

    @property
    def servers(self) -> str:
        return servers(*(f"{address}:{self.port}" for address in self.apis))

    def passed_to(self, address: str) -> str:
        """Return what the log says of requests that went to an API."""
        return f'"upstream":"{address}:{self.port}"'

    def start(self, address: str) -> None:
        """Start the API at an address; it answers when this returns."""
        settings = self.service.settings.model_copy(update={"api_port": self.port})
        changes = {"trusted_proxies": 1, "api_processes": 1, "poll_rate_limit": 1_000_000}
        behind = Service(settings, self.service.directory)
        self.apis[address] = behind.spawn("api", api_host=address, **changes)
        wait_until(lambda: _answers(f"http://{address}:{self.port}/healthz"), 60, behind.logs)


@pytest.fixture(scope="module")
def front(paced: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    paced.start_admin_ui()
    port = free_port()
    given = variables(
        paced.settings,
        API_SERVERS=servers(*(f"{address}:{port}" for address in ADDRESSES)),
        ADMIN_SERVERS=servers(f"127.0.0.1:{paced.settings.admin_port}"),
    )
    directory = tmp_path_factory.mktemp("nginx")
    with Nginx.started(directory, "plain", given) as nginx:
        settings = paced.settings.model_copy(update={"api_port": nginx.ports[API]})
        front = Front(nginx, Service(settings, directory), {}, port)
        try:
            for address in ADDRESSES:
                front.start(address)
            yield front
        finally:
            for api in front.apis.values():
                _kill(api)


@pytest.fixture(scope="module")
def secret(front: Front) -> str:
    return str(front.service.make_key()["secret"])


@pytest.fixture(scope="module")
def headers(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_stream_comes_token_by_token(front: Front, headers: dict[str, str]) -> None:
    body = {"prompt": "one two three four five six seven", "maxTokens": 40, "stream": True}

    answer = front.service.call(
        "POST", "/api/llm/generate", json=body, headers=headers, stream=True
    )
    times = [time.monotonic() for event in events(answer) if "choices" in event.data]

    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) >= 10
    # All at once, or in buffers of several, they would come together.
    assert times[-1] - times[0] > 0.7 * (len(times) - 1) / PACE
    assert sorted(gaps)[len(gaps) // 2] > 0.5 / PACE


def test_a_file_of_a_batch_passes_that_no_other_call_may_send(
    front: Front, headers: dict[str, str]
) -> None:
    file = jsonl(*({**line, "prompt": "x" * 3000} for line in requests_of(1000)))
    assert len(file) > front.service.settings.max_body_bytes

    sent = front.service.call("POST", "/api/llm/batches", data=file, headers={**headers, **JSONL})
    refused = requests.post(
        f"{front.service.url}/api/llm/jobs",
        data=file,
        headers={**headers, "Content-Type": "application/json", "Expect": "100-continue"},
        timeout=30,
    )

    assert sent.status_code in {200, 201, 202}, sent.text
    assert sent.json()["total"] == 1000, sent.text
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "payload_too_large")
    cancelled = front.service.call(
        "POST", f"/api/llm/batches/{sent.json()['id']}/cancel", headers=headers
    )
    assert cancelled.ok


def test_the_api_sees_a_file_while_it_comes(front: Front) -> None:
    """It refuses a stranger before the file is there, which it could not if NGINX kept it."""
    with socket.create_connection(("127.0.0.1", front.nginx.ports[API]), timeout=10) as connection:
        connection.sendall(
            b"POST /api/llm/batches HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/jsonl\r\nContent-Length: 100000000\r\n\r\n{"
        )
        said = connection.recv(1024)

    assert said.startswith(b"HTTP/1.1 401 ")


#: An answer whose head had been passed on when its API died.
CUT = "cut"


def test_an_api_killed_under_load_loses_only_what_it_had(
    front: Front, headers: dict[str, str]
) -> None:
    load = Load(front.service.url, headers)
    address, victim = next(iter(front.apis.items()))

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
    wait_until(lambda: front.passed_to(address) in front.nginx.access_log(), 20)
    # A GET is repeated elsewhere, unless its answer was on the way; a POST that the process may
    # have begun is its caller's matter.
    assert [call for call in lost if call.method == "GET" and call.code != CUT] == []
    assert [call for call in lost if not (call.began < ended and call.ended > began)] == []
    assert {(call.status, call.code) for call in lost} <= {(503, "api_unavailable"), (0, CUT)}
    assert len(lost) <= CALLERS


def test_an_api_that_is_back_gets_requests_again(front: Front, headers: dict[str, str]) -> None:
    address = next(iter(front.apis))
    front.start(address)
    seen = len(front.nginx.access_log())

    def is_back() -> bool:
        assert front.service.call("GET", "/healthz").status_code == 200
        return front.passed_to(address) in front.nginx.access_log()[seen:]

    wait_until(is_back, 15)


def test_more_apis_of_one_name_are_found_while_it_runs(front: Front, tmp_path: Path) -> None:
    first, second = front.apis
    with Names.served(first) as names:
        given = variables(
            front.service.settings,
            NGINX_RESOLVER=names.resolver,
            API_SERVERS=f"server api:{front.port} resolve max_fails=1 fail_timeout=5s;",
        )
        with Nginx.started(tmp_path / "nginx", "plain", given) as nginx:
            address = f"{nginx.url(API)}/healthz"
            wait_until(lambda: _answers(address), 15, nginx.log)
            assert _answers(address)
            assert front.passed_to(second) not in nginx.access_log()

            names.addresses.append(second)

            wait_until(
                lambda: _answers(address) and front.passed_to(second) in nginx.access_log(), 15
            )
            wait_until(lambda: front.passed_to(first) in nginx.access_log(), 20)


def test_addresses_are_those_of_connections(front: Front) -> None:
    admin = front.service.sign_in_admin()
    spoofed = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    made = front.service.call(
        "POST", "/api/keys", json={"name": "spoofed"}, headers={**admin, **spoofed}
    )

    entries = front.service.call("GET", "/api/admin/activity", headers=admin).json()["data"]

    entry = next(entry for entry in entries if made.json()["id"] in json.dumps(entry))
    assert entry["address"] == "127.0.0.1"


def _logged(front: Front) -> list[dict[str, Any]]:
    """Return the lines of the log, which are written after their answers are sent."""
    whole = front.nginx.access_log().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def _logged_ids(front: Front) -> set[str]:
    return {line["request_id"] for line in _logged(front)}


def test_a_request_has_one_id(front: Front) -> None:
    given = front.service.call("GET", "/healthz", headers={"X-Request-Id": "mine.1"})
    unfit = front.service.call("GET", "/healthz", headers={"X-Request-Id": "mine 1"})

    assert given.headers["x-request-id"] == "mine.1"
    assert re.fullmatch("req_[0-9a-f]{32}", unfit.headers["x-request-id"])
    wait_until(lambda: {"mine.1", unfit.headers["x-request-id"]} <= _logged_ids(front), 20)


def test_the_log_has_no_secret(front: Front, headers: dict[str, str], secret: str) -> None:
    asked = {**headers, "Cookie": "session=s3cret"}
    request_id = front.service.call("GET", "/api/llm/jobs?limit=3", headers=asked).headers[
        "x-request-id"
    ]
    wait_until(lambda: request_id in _logged_ids(front), 20)

    said = front.nginx.access_log() + front.nginx.log()

    [line] = [line for line in _logged(front) if line["request_id"] == request_id]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/llm/jobs", 200)
    assert [word for word in (secret, "s3cret", "Bearer", "limit=3") if word in said] == []


@pytest.mark.parametrize("port", [API, ADMIN])
def test_metrics_are_not_there(front: Front, port: str) -> None:
    answer = requests.get(f"{front.nginx.url(port)}/metrics", timeout=10)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_the_admin_ui_is_on_a_port_of_its_own(front: Front) -> None:
    page = requests.get(f"{front.nginx.url(ADMIN)}/sign-in", timeout=10)
    at_the_api = requests.get(f"{front.nginx.url(API)}/sign-in", timeout=10)

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert at_the_api.status_code == 404


def test_nobody_behind_it_is_told_in_the_shape_of_all_errors(front: Front, tmp_path: Path) -> None:
    with Nginx.started(tmp_path / "nginx", "plain", variables(front.service.settings)) as alone:
        answer = requests.get(f"{alone.url(API)}/healthz", timeout=10)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "api_unavailable")
    assert set(error) == {"code", "type", "message", "param", "requestId"}
    assert error["requestId"] == answer.headers["x-request-id"]
    assert answer.headers["retry-after"] == "1"
    assert "nginx/" not in answer.headers["server"]


def test_one_address_cannot_take_every_connection(
    front: Front, headers: dict[str, str], tmp_path: Path
) -> None:
    given = variables(
        front.service.settings, API_SERVERS=front.servers, CONNECTIONS_PER_ADDRESS="2"
    )
    body = {"prompt": "one two three four five", "maxTokens": 200, "stream": True}
    with Nginx.started(tmp_path / "nginx", "plain", given) as narrow:
        address = f"{narrow.url(API)}/api/llm/generate"
        held = [
            requests.post(address, json=body, headers=headers, stream=True, timeout=30)
            for _ in range(2)
        ]
        refused = requests.get(f"{narrow.url(API)}/healthz", timeout=10)
        for answer in held:
            answer.close()

    assert [answer.status_code for answer in held] == [200, 200]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_connections")


@dataclass
class Secured:
    """NGINX with TLS, and the authority that its certificate is of."""

    nginx: Nginx
    authority: trustme.CA

    def connect(self, name: str, *protocols: str) -> ssl.SSLSocket:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        context.set_alpn_protocols(list(protocols))
        plain = socket.create_connection(("127.0.0.1", self.nginx.ports[HTTPS]), timeout=10)
        return context.wrap_socket(plain, server_hostname=name)


@pytest.fixture(scope="module")
def secured(front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    given = variables(
        front.service.settings,
        API_SERVERS=front.servers,
        ADMIN_SERVERS=servers(f"127.0.0.1:{front.service.settings.admin_port}"),
        **certificate(authority, directory),
    )
    with Nginx.started(directory / "nginx", "tls", given) as nginx:
        yield Secured(nginx, authority)


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_http_2_is_negotiated_with_those_who_speak_it(secured: Secured, protocol: str) -> None:
    with secured.connect("api.example.com", protocol) as connection:
        assert connection.selected_alpn_protocol() == protocol
        assert connection.version() in {"TLSv1.2", "TLSv1.3"}


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("api.example.com", "/healthz", b"application/json"),
        ("admin.example.com", "/sign-in", b"text/html"),
    ],
)
def test_each_name_has_its_program(secured: Secured, name: str, path: str, kind: bytes) -> None:
    with secured.connect(name, "http/1.1") as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
        )
        said = b"".join(iter(lambda: connection.recv(65536), b""))

    head = said.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 200 ")
    assert b"content-type: " + kind in head


def test_another_name_gets_no_certificate(secured: Secured) -> None:
    with pytest.raises(ssl.SSLError):
        secured.connect("other.example.com", "h2").close()


def test_http_is_sent_to_https_and_keeps_its_method(secured: Secured) -> None:
    answer = requests.post(
        f"{secured.nginx.url(HTTP)}/api/llm/generate?a=1",
        headers={"Host": "api.example.com"},
        allow_redirects=False,
        timeout=10,
    )

    assert answer.status_code == 308
    assert answer.headers["location"] == "https://api.example.com/api/llm/generate?a=1"


@pytest.mark.parametrize("variant", ["plain", "tls"])
def test_gixy_finds_nothing(front: Front, tmp_path: Path, variant: str) -> None:
    given = variables(front.service.settings, **certificate(trustme.CA(), tmp_path))
    write(tmp_path, variant, given)

    done = run("gixy", tmp_path / "nginx.conf")

    assert done.returncode == 0, done.stdout
    assert (
        "Total issues:\n    Informational: 0\n    Low: 0\n    Medium: 0\n    High: 0" in done.stdout
    )


@dataclass(frozen=True)
class Call:
    """A request of the load, and what became of it; `status` 0 is a broken connection."""

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

    def running(self) -> Any:
        return _Running(self)

    def call_on(self, method: str) -> None:
        session = requests.Session()
        while not self._stop.is_set():
            self.calls.append(self._call(session, method))

    def stop(self) -> None:
        self._stop.set()

    def _call(self, session: requests.Session, method: str) -> Call:
        path = "/api/llm/models" if method == "GET" else "/api/llm/jobs"
        body = None if method == "GET" else {"prompt": "one", "maxTokens": 1}
        began = time.monotonic()
        status, code = 0, ""
        try:
            answer = session.request(
                method, self.url + path, json=body, headers=self.headers, timeout=30
            )
            status = answer.status_code
            code = answer.json().get("error", {}).get("code", "")
        except requests.exceptions.ChunkedEncodingError:
            code = CUT
        except (requests.ConnectionError, ValueError) as error:
            code = repr(error)
        return Call(method, began, time.monotonic(), status, code)


class _Running:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._threads = [
            threading.Thread(target=load.call_on, args=[("GET", "POST")[n % 2]])
            for n in range(CALLERS)
        ]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._load.stop()
        for thread in self._threads:
            thread.join(60)


def _kill(program: subprocess.Popen[bytes]) -> None:
    """Kill a program and its processes at once, and wait until none of them is left."""
    if program.poll() is not None:
        return
    family = [psutil.Process(program.pid), *psutil.Process(program.pid).children()]
    for process in family:
        process.send_signal(signal.SIGKILL)
    program.wait(20)
    psutil.wait_procs(family, timeout=20)


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=10).ok
    except requests.ConnectionError:
        return False
