"""A caller who reads usage through an API in this process."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient

DAYS = "from=2026-11-01&to=2026-12-01"


class UsageReader:
    """One caller, who reads the usage of two customers in two hours through the API."""

    def __init__(self, app: FlaskClient, headers: dict[str, str]) -> None:
        self._app = app
        self._headers = headers

    def get(self, query: str = "", accept: str = "*/*") -> Any:
        return self._app.get(f"/api/usage?{query}", headers={**self._headers, "Accept": accept})

    def requests(self, query: str) -> int:
        return int(self.get(f"{DAYS}&{query}").get_json()["totals"]["requests"])
