from __future__ import annotations

from pathlib import Path

import pytest

from core.config.environment import settings_table
from core.config.settings import DEVELOPMENT_SECRET, SECRET_NAMES, Settings
from core.errors import SettingsError
from tests.support.paths import ROOT

DATABASE = "postgresql+psycopg2://u:p@db.example:5432/bountycoder"
REDIS = "redis://:p@redis.example:6379/0"
NEEDED = {"DATABASE_URL": DATABASE, "REDIS_URL": REDIS}
SAFE = {
    **NEEDED,
    "APP_ENV": "production",
    "SECRET_KEY": "x" * 32,
    "ADMIN_PASSWORD": "a better password",
}


def faults(environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    return caught.value.faults


def test_all_faults_are_reported_together() -> None:
    found = faults({"API_PORT": "70000", "APP_ENV": "test", "LEASE_SECONDS": "soon"})

    assert {fault.split()[0] for fault in found} == {
        "API_PORT",
        "APP_ENV",
        "LEASE_SECONDS",
        "DATABASE_URL",
        "REDIS_URL",
    }


def test_empty_values_count_as_unset() -> None:
    settings = Settings.from_environment({**NEEDED, "API_PORT": ""})

    assert settings.api_port == 5000


def test_settings_cannot_be_changed() -> None:
    settings = Settings.from_environment(NEEDED)

    with pytest.raises(ValueError, match="frozen"):
        settings.api_port = 1  # type: ignore[misc]


def test_a_child_process_gets_the_same_settings() -> None:
    settings = Settings.from_environment({**SAFE, "ENGINE": "echo", "SYNC_WAIT_SECONDS": "7.5"})

    assert Settings.from_environment(settings.to_environment()) == settings


def test_safe_production_settings_are_accepted() -> None:
    assert Settings.from_environment(SAFE).is_production


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ADMIN_PASSWORD": "admin123"}, "ADMIN_PASSWORD must not be the default"),
        ({"ADMIN_PASSWORD": ""}, "ADMIN_PASSWORD must not be the default"),
        ({"ADMIN_PASSWORD": "password"}, "ADMIN_PASSWORD is one of the most common passwords"),
        ({"ADMIN_PASSWORD": "admin@bountycoder.com"}, "ADMIN_PASSWORD must not be the email"),
        ({"SECRET_KEY": ""}, "SECRET_KEY must be set"),
        ({"SECRET_KEY": DEVELOPMENT_SECRET}, "SECRET_KEY must be set"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must have at least 32"),
        ({"DEBUG": "true"}, "DEBUG must be off"),
        (
            {"DATABASE_URL": "postgresql://u:p@127.0.0.1:5/bountycoder_embedded"},
            "DATABASE_URL must not be the embedded database",
        ),
    ],
)
def test_production_refuses_unsafe_settings(change: dict[str, str], expected: str) -> None:
    assert [fault for fault in faults({**SAFE, **change}) if expected in fault]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_database_url_is_accepted_as_providers_write_it(scheme: str) -> None:
    settings = Settings.from_environment({**NEEDED, "DATABASE_URL": f"{scheme}://u:p@db/name"})

    assert settings.database_url.get_secret_value() == "postgresql+psycopg2://u:p@db/name"


def test_other_databases_are_refused() -> None:
    assert faults({**NEEDED, "DATABASE_URL": "sqlite:///x.db"})
    assert faults({**NEEDED, "REDIS_URL": "amqp://x"})


@pytest.mark.parametrize("networks", ["10.0.0.0/8,", "127.0.0.1, fd00:1::/64"])
def test_networks_for_webhooks_are_accepted(networks: str) -> None:
    settings = Settings.from_environment({**NEEDED, "WEBHOOK_ALLOWED_NETWORKS": networks})

    assert settings.webhook_networks


@pytest.mark.parametrize("networks", ["10.0.0.1/8", "localhost", "10.0.0.0/33", "*"])
def test_a_malformed_webhook_network_is_refused(networks: str) -> None:
    found = faults({**NEEDED, "WEBHOOK_ALLOWED_NETWORKS": networks})

    assert found == ["WEBHOOK_ALLOWED_NETWORKS must be networks such as 10.1.0.0/16"]


def test_an_unescaped_password_is_not_in_the_fault() -> None:
    found = faults({**NEEDED, "REDIS_URL": "redis://:s3cr/et@host:1/0"})

    assert found == ["REDIS_URL must be redis://, rediss:// or unix://, escaped as URLs are"]


def test_the_representation_contains_no_secret() -> None:
    settings = Settings.from_environment(SAFE)

    assert "x" * 32 not in repr(settings)
    assert "a better password" not in repr(settings)


@pytest.mark.parametrize("origins", ["*", "app.example.com", "https://a.b/path", "https://a.b,*"])
def test_malformed_origins_are_refused(origins: str) -> None:
    assert faults({**NEEDED, "CORS_ORIGINS": origins}) == [
        "CORS_ORIGINS must be origins such as https://app.example.com"
    ]


def test_several_origins_are_allowed() -> None:
    given = {**NEEDED, "CORS_ORIGINS": "https://a.example.com, http://[::1]:5173,"}

    assert Settings.from_environment(given).allowed_origins == {
        "https://a.example.com",
        "http://[::1]:5173",
    }


def test_every_setting_is_documented() -> None:
    documented = (ROOT / "docs" / "settings.md").read_text()

    assert settings_table(Settings) in documented


def test_every_secret_may_be_in_a_file(tmp_path: Path) -> None:
    environment = {name: value for name, value in SAFE.items() if name not in SECRET_NAMES}
    for name in SECRET_NAMES:
        (tmp_path / name).write_text(SAFE[name] + "\n")
        environment[f"{name}_FILE"] = str(tmp_path / name)

    assert Settings.from_environment(environment) == Settings.from_environment(SAFE)


def test_the_documentation_names_every_secret() -> None:
    documented = (ROOT / "docs" / "settings.md").read_text()

    assert [name for name in SECRET_NAMES if f"`{name}_FILE`" not in documented] == []


def test_a_secret_given_twice_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("y" * 40)

    found = faults({**SAFE, "SECRET_KEY_FILE": str(tmp_path / "key")})

    assert found == ["SECRET_KEY and SECRET_KEY_FILE must not both be set"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory: "),
        (b"", " contains no secret"),
        (b"\n", " contains no secret"),
        (b"s3cr\xff", " is not UTF-8"),
        (b"s3cret\0", " contains no secret"),
        (b"s3cret" * 10_000, " has more than 16384 bytes"),
    ],
)
def test_a_file_without_a_secret_is_one_fault_beside_others(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "url").write_bytes(content)

    found = faults(
        {"REDIS_URL": REDIS, "DATABASE_URL_FILE": str(tmp_path / "url"), "API_PORT": "70000"}
    )

    assert len(found) == 2
    assert found[0].startswith("DATABASE_URL_FILE cannot be read: ")
    assert reason in found[0]
    assert found[1].startswith("API_PORT ")
    assert "s3cr" not in "".join(found)


def test_only_the_newline_at_the_end_of_a_secret_is_removed(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b" a password of words \r\n")

    settings = Settings.from_environment(
        {**NEEDED, "ADMIN_PASSWORD_FILE": str(tmp_path / "password")}
    )

    assert settings.admin_password.get_secret_value() == " a password of words "


def test_a_child_process_does_not_read_the_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("y" * 40)
    environment = {**NEEDED, "SECRET_KEY_FILE": str(tmp_path / "key")}
    settings = Settings.from_environment(environment)

    assert Settings.from_environment({**environment, **settings.to_environment()}) == settings
