"""The sources of the client's settings; no output contains the key."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from cli.batch.credentials import Credentials, read_credentials
from cli.batch.exit_codes import UsageFault

KEY = "bc_abc_a-secret-key"


def read(
    environment: dict[str, str], warnings: list[str] | None = None, **flags: object
) -> Credentials:
    given = {"url": None, "key": None, "config": None, **flags}
    warn = warnings.append if warnings is not None else pytest.fail
    return read_credentials(argparse.Namespace(**given), environment, warn)


def config(home: Path, text: str, mode: int = 0o600) -> Path:
    path = home / ".config" / "bountycoder" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_flag_overrides_the_environment_and_the_environment_the_file(tmp_path: Path) -> None:
    config(tmp_path, 'url = "http://file"\nkey = "bc_file"\n')
    home = {"HOME": str(tmp_path)}
    environment = {**home, "BOUNTYCODER_URL": "http://env/", "BOUNTYCODER_API_KEY": "bc_env"}

    of_file = read(home)
    of_environment = read(environment)
    flagged = read(environment, url="http://flag", key="bc_flag")

    assert (of_file.url, of_file.key) == ("http://file", "bc_file")
    assert (of_environment.url, of_environment.key) == ("http://env", "bc_env")
    assert (flagged.url, flagged.key) == ("http://flag", "bc_flag")


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/api", "/api/"])
def test_base_urls_of_other_clients_are_accepted(end: str) -> None:
    credentials = read(
        {"BOUNTYCODER_URL": f"http://host/below{end}", "BOUNTYCODER_API_KEY": "bc_a"}
    )

    assert credentials.url == "http://host/below"


def test_xdg_config_home_is_respected(tmp_path: Path) -> None:
    (tmp_path / "bountycoder").mkdir()
    path = tmp_path / "bountycoder" / "config.toml"
    path.write_text('url = "http://xdg"\nkey = "bc_xdg"\n')
    path.chmod(0o600)

    credentials = read({"XDG_CONFIG_HOME": str(tmp_path), "HOME": "/nowhere"})

    assert credentials.url == "http://xdg"


def test_a_file_with_a_key_that_others_can_read_causes_a_warning(tmp_path: Path) -> None:
    path = config(tmp_path, f'url = "http://file"\nkey = "{KEY}"\n', mode=0o644)
    warnings: list[str] = []

    read({"HOME": str(tmp_path)}, warnings)

    assert warnings == [f"others can read the key in {path}: chmod 600 {path}"]


def test_a_file_without_a_key_may_be_read_by_others(tmp_path: Path) -> None:
    config(tmp_path, 'url = "http://file"\n', mode=0o644)

    assert read({"HOME": str(tmp_path), "BOUNTYCODER_API_KEY": "bc_1"}).url == "http://file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'key = "{KEY}', "is not valid TOML"),
        (f"key = {KEY}", "is not valid TOML"),
        (f'token = "{KEY}"', "no such setting: token"),
        ("key = 1", "key must be a string"),
        ("", "no URL: set"),
        ('url = "http://a"', "no API key: set"),
        (f'url = "{KEY}"\nkey = "{KEY}"', "must be such as https://llm.example.com"),
        (f'url = "http://me:{KEY}@a"\nkey = "b"', "must not have a user"),
        (f'url = "http://a"\nkey = "{KEY}\\nX: y"', "characters that no key has"),
        (f'url = "http://a:b"\nkey = "{KEY}"', "URL is not a valid URL"),
    ],
)
def test_error_messages_do_not_contain_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = config(tmp_path, text)

    with pytest.raises(UsageFault) as caught:
        read({}, config=path)

    assert message in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="does not exist"):
        read({}, config=tmp_path / "none.toml")


def test_the_representation_and_the_flags_do_not_contain_the_key() -> None:
    credentials = read({}, url="http://a", key=KEY)

    assert KEY not in repr(credentials)
    assert not any(KEY in flag for flag in credentials.flags)
