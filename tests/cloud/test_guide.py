"""cloud/DEPLOYMENT.md says what the programs do."""

from __future__ import annotations

import re
import shlex

import pytest

from cli.main import main
from cloud.__main__ import _parser
from core.config.settings import Settings
from tests.support.paths import ROOT

GUIDE = ROOT / "cloud" / "DEPLOYMENT.md"


def console_blocks() -> list[str]:
    return [part.partition("```")[0] for part in GUIDE.read_text().split("```console\n")[1:]]


def commands(program: str) -> list[str]:
    """Return what follows the program in every command of the guide."""
    lines = [line for block in console_blocks() for line in block.splitlines()]
    found = re.findall(rf"^\$ {re.escape(program)} (.*)$", "\n".join(lines), re.MULTILINE)
    return [command.partition(" #")[0] for command in found]


def test_plans_are_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    plans = [block for block in console_blocks() if block.startswith("$ bountycoder plan")]

    assert len(plans) >= 3
    for block in plans:
        command, _, printed = block.partition("\n")
        main(shlex.split(command.removeprefix("$ bountycoder ")))
        assert capsys.readouterr().out == printed, command


def test_every_command_of_the_scripts_is_one() -> None:
    found = commands("python3 -m cloud")

    assert len(found) >= 8
    for command in found:
        assert _parser().parse_args(shlex.split(command.replace(" ID", " some-id")))


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", GUIDE.read_text()):
        file, _, section = link.partition("#")
        path = (GUIDE.parent / file).resolve() if file else GUIDE
        assert path.exists(), link
        titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not section or section in anchors, link


def test_settings_that_it_names_are_settings() -> None:
    named = set(re.findall(r"`((?:ENGINE|DEFAULT|LEASE|RESPONSE)_[A-Z_]+)", GUIDE.read_text()))

    assert named - {"ENGINE_"} <= {name.upper() for name in Settings.model_fields}
