from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import SettingsError
from core.settings import DEVELOPMENT_SECRET, Settings, settings_table

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

    assert {line.split()[0] for line in found} == {
        "API_PORT",
        "APP_ENV",
        "LEASE_SECONDS",
        "DATABASE_URL",
        "REDIS_URL",
    }


def test_empty_values_count_as_not_given() -> None:
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
    assert [line for line in faults({**SAFE, **change}) if expected in line]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_database_url_is_taken_as_providers_write_it(scheme: str) -> None:
    settings = Settings.from_environment({**NEEDED, "DATABASE_URL": f"{scheme}://u:p@db/name"})

    assert settings.database_url.get_secret_value() == "postgresql+psycopg2://u:p@db/name"


def test_another_database_is_refused() -> None:
    assert faults({**NEEDED, "DATABASE_URL": "sqlite:///x.db"})
    assert faults({**NEEDED, "REDIS_URL": "amqp://x"})


def test_a_password_that_is_not_escaped_is_not_told() -> None:
    said = faults({**NEEDED, "REDIS_URL": "redis://:s3cr/et@host:1/0"})

    assert said == ["REDIS_URL must be redis://, rediss:// or unix://, escaped as URLs are"]


def test_no_secret_stands_in_the_representation() -> None:
    settings = Settings.from_environment(SAFE)

    assert "x" * 32 not in repr(settings)
    assert "a better password" not in repr(settings)


def test_every_setting_is_documented() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()

    assert settings_table() in documented
