"""The Dockerfiles, as far as a test can check them without a build."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.system.ports import free_port
from tests.support.docker.tools import DOCKER, run
from tests.support.paths import ROOT
from tests.support.service import Service

DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
USER = "10001"


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    done = run("hadolint", "--no-color", file)

    assert (done.stdout, done.returncode) == ("", 0)


def test_hadolint_finds_a_fault(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:latest\nRUN cd /tmp\n")

    assert run("hadolint", tmp_path / "Dockerfile").returncode == 1


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_programs_run_as_an_ordinary_user_with_a_health_check(file: Path) -> None:
    text = file.read_text()

    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == [f"{USER}:{USER}"]
    programs = text.count("\nENTRYPOINT ")
    assert text.count("\nHEALTHCHECK ") == programs > 0
    # The last stages run commands as root only to create that user.
    assert "\nUSER root" not in text


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_images_from_elsewhere_have_a_full_version(file: Path) -> None:
    named = re.findall(r"^ARG [A-Z_]+=(\S+/\S+|python:\S+)$", file.read_text(), re.MULTILINE)

    images = [image for image in named if "://" not in image]
    assert images
    assert [image for image in images if not re.search(r":\d+\.\d+\.\d+", image)] == []


def test_copied_files_are_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    admitted = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    listed = (ROOT / "setup.cfg").read_text().split("[options.packages.find]")[1]
    packages = re.findall(r"^    (\w+)\*$", listed.split("[", 1)[0], re.MULTILINE)

    assert ignored[1] == "*"
    assert packages
    assert {*packages, "setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= admitted
    for file in DOCKERFILES:
        for line in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.*) \S+$", file.read_text(), re.M):
            for source in set(line.split()) - {"."}:
                assert (ROOT / source).is_file(), source
                parent = Path(source).parent.as_posix()
                assert source in admitted or parent == "docker/requirements", source


def run_health_check(*arguments: str) -> int:
    """Return the exit status of docker/health.py: 0 if the program is healthy."""
    script = DOCKER / "health.py"
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, timeout=20)
    return done.returncode


def test_a_program_is_healthy_if_its_response_has_the_text(service: Service) -> None:
    assert run_health_check(f"{service.url}/healthz") == 0
    assert run_health_check(f"{service.url}/healthz", '{"status":"ok"}') == 0
    assert run_health_check(f"{service.url}/healthz", "bountycoder_worker_ready 1.0") == 1
    assert run_health_check(f"{service.url}/nothing-here") == 1
    assert run_health_check(f"http://127.0.0.1:{free_port()}/healthz") == 1


def test_a_worker_is_healthy_once_it_is_ready(service: Service, tmp_path: Path) -> None:
    port = free_port()
    worker = service.add_worker(worker_metrics_port=port, metrics_dir=str(tmp_path))
    address = f"http://127.0.0.1:{port}/metrics"

    assert run_health_check(address, "bountycoder_worker_ready 1.0") == 1
    service.wait_ready(2)
    try:
        assert run_health_check(address, "bountycoder_worker_ready 1.0") == 0
    finally:
        worker.terminate()
        worker.wait(20)
        service.workers.remove(worker)
