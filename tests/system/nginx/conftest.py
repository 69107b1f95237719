"""NGINX for the tests of a module, because its start takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme

from cli.system.ports import free_port
from tests.support.docker.nginx import Nginx, certificate, servers, variables
from tests.support.docker.proxy import ADDRESSES, API, Proxy, TlsProxy, kill
from tests.support.service import Service


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
                kill(api)


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


@pytest.fixture(scope="module")
def secret(proxy: Proxy) -> str:
    """The secret of a key."""
    return str(proxy.service.make_key()["secret"])


@pytest.fixture(scope="module")
def headers(secret: str) -> dict[str, str]:
    """The headers of a request with the key."""
    return {"Authorization": f"Bearer {secret}"}
