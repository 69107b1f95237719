"""Settings for tests without servers."""

from __future__ import annotations

from typing import Any

from core.config.settings import Settings


def made_settings(**changes: Any) -> Settings:
    settings = Settings.from_environment(
        {"DATABASE_URL": "postgresql://u:p@127.0.0.1:5/x", "REDIS_URL": "redis://127.0.0.1:6/0"}
    )
    return settings.model_copy(update=changes)
