"""An environment for the command, and a file for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli.batch_command import KEY


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment with the key, without a proxy or a configuration, in an empty directory."""
    for name in ("http_proxy", "HTTP_PROXY", "XDG_CONFIG_HOME", "BOUNTYCODER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BOUNTYCODER_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}\n')
    return path
