"""The service as it is deployed, for load: its servers, its processes and its callers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.config.settings import Settings
from models.database.base import open_database, sessions
from tests.bench.load.arrivals import CALL_SECONDS, Load, Supply
from tests.bench.load.callers import add_callers
from tests.bench.load.connection import Connections
from tests.bench.load.processes import Processes
from tests.bench.servers import MODEL, own_servers
from tests.support.service import Service

#: Not the defaults: polls are limited for each key, and one key sends a tenth of all calls here.
SETTINGS = {"ENGINE": "echo", "POLL_RATE_LIMIT": "1000000"}


@dataclass(frozen=True)
class Deployment:
    """A running service, and the secrets of its callers, the most used first."""

    service: Service
    secrets: Sequence[str]
    processes: Processes

    @classmethod
    @contextmanager
    def started(
        cls,
        settings: Settings,
        directory: Path,
        secrets: Sequence[str],
        *,
        workers: int,
        pace: float,
    ) -> Iterator[Deployment]:
        """Run the service with streams at `pace` tokens a second, until the block ends."""
        with Service.started(
            settings, directory, workers=workers, echo_tokens_per_second=pace
        ) as service:
            processes = Processes(service)
            try:
                yield cls(service, secrets, processes)
            finally:
                processes.close()

    def load(self, supply: Supply, *, is_following: bool = True) -> Load:
        """Return a load of these calls; `run` sends them."""
        settings = self.service.settings
        return Load(
            supply,
            Connections(settings.api_port, timeout_seconds=CALL_SECONDS),
            pace=settings.echo_tokens_per_second,
            is_following=is_following,
        )


@contextmanager
def deployed(users: int, *, workers: int, pace: float) -> Iterator[Deployment]:
    """Run the servers, and the service with `users` users."""
    with own_servers(MODEL, None, **SETTINGS) as (settings, directory):
        engine = open_database(settings)
        with sessions(engine).begin() as session:
            secrets = add_callers(session, users)
        engine.dispose()
        with Deployment.started(
            settings, directory, secrets, workers=workers, pace=pace
        ) as running:
            yield running
