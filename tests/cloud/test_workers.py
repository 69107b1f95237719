"""`python3 -m cloud` against local servers that speak as RunPod's and Lambda's APIs do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cloud.__main__ import main
from cloud.lambda_labs import instances
from cloud.runpod import pods
from core.config.settings import EMBEDDED_DATABASE, Settings
from tests.cloud.apis import KEY, LambdaApi, RunPodApi, filled
from tests.support.paths import ROOT

SECRETS = {
    "SECRET_KEY": "x" * 64,
    "ADMIN_PASSWORD": "a good password",
    "DATABASE_URL": f"postgresql://u:p@h/not_{EMBEDDED_DATABASE}",
    "REDIS_URL": "rediss://h",
}


@pytest.fixture
def runpod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RunPodApi]:
    api = RunPodApi()
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    monkeypatch.setenv("RUNPOD_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with api.served() as address:
        monkeypatch.setenv("RUNPOD_API_URL", address)
        yield api


@pytest.fixture
def lambda_labs(monkeypatch: pytest.MonkeyPatch) -> Iterator[LambdaApi]:
    api = LambdaApi()
    monkeypatch.setenv("LAMBDA_API_KEY", KEY)
    with api.served() as address:
        monkeypatch.setenv("LAMBDA_API_URL", address)
        yield api


@pytest.fixture
def ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program `ssh` that records its arguments and fails for the address 192.0.2.1."""
    notes, program = tmp_path / "ssh.log", tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{notes}\n'
        'case "$*" in *@192.0.2.1*) echo "no route" >&2; exit 255;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return notes


def test_pods_are_created_as_the_api_takes_them(
    runpod: RunPodApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = filled(pods.BODY, tmp_path)

    assert main(["runpod", "--body", str(body), "create", "2"]) == 0

    assert capsys.readouterr().out.split() == ["pod0", "pod1"]
    names = {pod["name"] for pod in runpod.things.values()}
    assert len(names) == 2
    assert all(name.startswith("bountycoder-worker-") for name in names)


def test_a_body_that_was_not_filled_in_rents_nothing(
    runpod: RunPodApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runpod", "create", "1"]) == 1

    assert "replace YOUR-REGISTRY-ID, YOUR-REGISTRY/" in capsys.readouterr().err
    assert runpod.calls == []


def test_a_pods_environment_is_settings_and_holds_no_secret() -> None:
    given = json.loads(pods.BODY.read_text())["env"]

    assert set(given) <= {name.upper() for name in Settings.model_fields}
    secret = {name for name, value in given.items() if "{{ RUNPOD_SECRET_" in value}
    assert secret == set(SECRETS)
    assert Settings.from_environment({**given, **SECRETS}).is_production


def test_others_pods_are_not_listed_and_not_ended(
    runpod: RunPodApi, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"image": "i", "gpu": {"id": "g"}}
    runpod.add_pod({**body, "name": "somebody-elses"})
    runpod.add_pod({**body, "name": "bountycoder-worker-a"})

    assert main(["runpod", "list"]) == 0
    listed = capsys.readouterr().out
    assert main(["runpod", "end", "pod0"]) == 1
    assert main(["runpod", "end", "all"]) == 0

    assert listed == "pod1\tbountycoder-worker-a\tRUNNING\tUS-KS-2\t$3.99/h\n"
    assert list(runpod.things) == ["pod0"]


def test_a_pod_stops_before_it_is_deleted(runpod: RunPodApi) -> None:
    runpod.add_pod({"image": "i", "gpu": {"id": "g"}, "name": "bountycoder-worker-a"})

    assert main(["runpod", "end", "pod0"]) == 0

    assert runpod.calls[1:] == [
        ("POST", "/v2/pods/pod0/action"),
        ("GET", "/v2/pods/pod0"),
        ("GET", "/v2/pods/pod0"),
        ("DELETE", "/v2/pods/pod0"),
    ]


def test_storage_and_prices_of_runpod(
    runpod: RunPodApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runpod", "storage", "weights", "US-KS-2", "--gigabytes", "150"]) == 0
    assert main(["runpod", "prices"]) == 0

    assert capsys.readouterr().out == "volume-1\n$3.99/h\tNVIDIA H100 80GB HBM3\n"


def test_a_creation_whose_fate_is_unknown_is_not_repeated(
    runpod: RunPodApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runpod.refusals = [(502, None, {})]

    assert main(["runpod", "--body", str(filled(pods.BODY, tmp_path)), "create", "1"]) == 1

    assert runpod.calls == [("POST", "/v2/pods")]
    assert "502" in capsys.readouterr().err


def test_a_call_that_was_refused_for_its_rate_is_retried(runpod: RunPodApi, tmp_path: Path) -> None:
    problem = {"title": "Too Many Requests", "status": 429, "detail": "slow down"}
    runpod.refusals = [(429, problem, {"Retry-After": "1"})] * 2

    assert main(["runpod", "--body", str(filled(pods.BODY, tmp_path)), "create", "1"]) == 0

    assert runpod.calls == [("POST", "/v2/pods")] * 3
    assert len(runpod.things) == 1


def test_a_refusal_is_one_line_without_the_key(
    runpod: RunPodApi, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {"title": "Unprocessable", "status": 422, "detail": "no", "errors": ["$: bad"]}
    runpod.refusals = [(422, problem, {})]

    assert main(["runpod", "list"]) == 1

    assert capsys.readouterr().err == "cloud: GET /v2/pods: 422 no $: bad\n"


def test_the_key_is_needed_and_follows_no_redirect(
    runpod: RunPodApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runpod.refusals = [(302, None, {"Location": "http://127.0.0.1:1/"})]
    assert main(["runpod", "list"]) == 1
    monkeypatch.delenv("RUNPOD_API_KEY_FILE")
    assert main(["runpod", "list"]) == 1

    said = capsys.readouterr().err.splitlines()
    assert "302" in said[0]
    assert said[1] == "cloud: set RUNPOD_API_KEY, or RUNPOD_API_KEY_FILE to a file with the key"


def test_instances_are_launched_as_the_api_takes_them(
    lambda_labs: LambdaApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(instances.CLOUD_INIT, tmp_path)

    assert main(["lambda", "--body", str(filled(instances.BODY, tmp_path)), "create", "1"]) == 0
    assert main(["lambda", "list"]) == 0
    assert main(["lambda", "storage", "bountycoder", "us-east-1"]) == 0
    assert main(["lambda", "prices"]) == 0

    name = next(iter(lambda_labs.things.values()))["name"]
    assert capsys.readouterr().out.splitlines() == [
        "instance0",
        f"instance0\t{name}\tactive\t127.0.0.1\t$4.29/h",
        "/lambda/nfs/bountycoder",
        "$4.29/h\tgpu_1x_h100_sxm5",
    ]


def test_an_instance_is_drained_over_ssh_before_it_ends(
    lambda_labs: LambdaApi, ssh: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lambda_labs.add_instance("bountycoder-worker-a", ip="198.51.100.2")
    lambda_labs.add_instance("bountycoder-worker-b", ip="192.0.2.1")

    assert main(["lambda", "end", "all"]) == 0

    assert lambda_labs.things == {}
    asked = ssh.read_text().splitlines()
    assert asked[0].endswith("ubuntu@198.51.100.2 sudo systemctl stop 'bountycoder-worker@*'")
    # One that cannot be reached is ended all the same: its leases run out.
    assert len(asked) == 2
    assert "no route: returning it without a drain" in caplog.text


def test_now_is_without_draining(lambda_labs: LambdaApi, ssh: Path) -> None:
    lambda_labs.add_instance("bountycoder-worker-a")

    assert main(["lambda", "end", "instance0", "--now"]) == 0

    assert not ssh.exists()


def test_cloud_init_runs_a_worker_for_each_gpu_as_the_settings_say() -> None:
    config = yaml.safe_load(instances.CLOUD_INIT.read_text())
    unit = config["write_files"][0]["content"]
    settings = dict(
        line.split("=", 1)
        for line in instances.CLOUD_INIT.with_name("worker.env").read_text().splitlines()
    )

    assert instances.CLOUD_INIT.read_text().startswith("#cloud-config\n")
    assert "--env-file /lambda/nfs/bountycoder/worker.env" in unit
    assert "docker stop --time 45 " in unit
    assert "bountycoder-worker@$gpu" in config["runcmd"][-1]
    files = {name for name in settings if name.endswith("_FILE")}
    assert {name.removesuffix("_FILE") for name in files} == set(SECRETS)
    plain = {name: value for name, value in settings.items() if name not in files}
    given = Settings.from_environment({**plain, **SECRETS})
    assert given.is_production
    assert set(plain) <= {name.upper() for name in Settings.model_fields}
    assert float(plain["DRAIN_SECONDS"]) + 15 <= 45


def test_an_api_that_does_not_respond_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAMBDA_API_KEY", KEY)
    monkeypatch.setenv("LAMBDA_API_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    assert main(["lambda", "list"]) == 1

    assert capsys.readouterr().err.startswith("cloud: http://127.0.0.1:1 does not respond")


def test_scripts_need_pythons_standard_library_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-m", "cloud", "--help"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
