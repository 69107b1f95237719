"""The choice of the served model and of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.up.local_model import SMALL_MODEL, LocalModel
from core.errors import LauncherError


def model_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_default_is_the_small_model_which_is_made_once(tmp_path: Path) -> None:
    before = LocalModel.choose(None, {}, tmp_path)
    model_in(tmp_path / SMALL_MODEL)
    after = LocalModel.choose(None, {}, tmp_path)

    assert before == LocalModel(str(tmp_path / SMALL_MODEL), SMALL_MODEL, is_missing=True)
    assert after == LocalModel(str(tmp_path / SMALL_MODEL), SMALL_MODEL, is_missing=False)


def test_a_store_of_models_can_be_shared(tmp_path: Path) -> None:
    store = tmp_path / "store"

    chosen = LocalModel.choose(None, {"MODEL_STORE": str(store)}, tmp_path / "data")

    assert chosen.path == str(store / SMALL_MODEL)


def test_a_directory_gives_the_model_its_name(tmp_path: Path) -> None:
    folder = model_in(tmp_path / "Qwen2.5-Coder-7B")

    assert LocalModel.choose(str(folder), {}, tmp_path) == LocalModel(
        str(folder), "qwen2.5-coder-7b"
    )


def test_the_option_overrides_the_environment(tmp_path: Path) -> None:
    environment = {"MODEL_PATH": "some/other"}

    assert LocalModel.choose("Qwen/Coder", environment, tmp_path).path == "Qwen/Coder"
    assert LocalModel.choose(None, environment, tmp_path).path == "some/other"


@pytest.mark.parametrize("named", ["./nowhere", "/nowhere", "~/nowhere"])
def test_a_path_is_never_a_name_on_the_hub(named: str, tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match=r"no model at .*nowhere"):
        LocalModel.choose(named, {}, tmp_path)
