"""Start, supervise and stop all processes of one instance on this machine."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cli.servers import postgres, valkey
from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey
from cli.system.child_process import Child
from cli.system.signals import Interruption
from cli.up import readiness
from cli.up.data_directory import MODEL_BYTES, START_BYTES, DataDirectory, check_room
from cli.up.local_model import Conversion, LocalModel
from cli.up.metrics_ports import MetricsPorts
from cli.up.progress import StartProgress
from cli.up.run_file import write_run_file
from cli.up.supervisor import SupervisedProcess, Supervisor
from core.config.secret_files import read_secret_files
from core.config.settings import SECRET_NAMES, Settings
from core.errors import LauncherError, SettingsError
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis

if TYPE_CHECKING:
    from cli.commands.database import DevelopmentCredentials

BOUNTYCODER = (sys.executable, "-m", "cli.main")
WEB_STAGE, WORKER_STAGE, QUEUE_STAGE, DATABASE_STAGE = range(4)
#: Added to the time of a program's orderly stop, before it is killed.
GRACE_SECONDS = 5.0
CHECK_SECONDS = 0.2
LEFTOVER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `bountycoder up`."""

    data_dir: Path
    api_port: int | None
    admin_port: int | None
    workers: int
    model: str | None
    engine: str | None


class Stack:
    """One instance. Call `start`, then `supervise`; always call `stop`."""

    def __init__(
        self,
        options: Options,
        data: DataDirectory,
        *,
        environment: Mapping[str, str],
        progress: StartProgress,
        interruption: Interruption,
        program: Sequence[str] = BOUNTYCODER,
    ) -> None:
        """Choose ports, passwords, model and settings; start nothing.

        Args:
            program: the command that runs a program, without the program's subcommand.

        Raises:
            SettingsError: the environment is wrong.
            LauncherError: a port is in use, or the model does not exist.
        """
        self.options = options
        self.data = data
        environment, faults = read_secret_files(environment, SECRET_NAMES)
        if faults:
            raise SettingsError(list(faults.values()))
        self._environment = environment
        self._progress = progress
        self._interruption = interruption
        self._program = program
        self._is_ready = False
        self.supervisor = Supervisor(say=progress.say, changed=self._write_run_file)
        self.model = LocalModel.choose(options.model, environment, data.models)
        self.postgres = None if environment.get("DATABASE_URL") else self._postgres()
        self.valkey = None if environment.get("REDIS_URL") else self._valkey()
        self.metrics_ports = MetricsPorts.choose(environment, workers=options.workers)
        self.settings = Settings.from_environment({**environment, **self._chosen_settings()})
        self.model_store = Path(self.model.path).parent
        self._check_ports()

    def start(self) -> DevelopmentCredentials:
        """Start everything and wait until it serves.

        Raises:
            LauncherError: a disk is full, or a process does not start.
            StopRequested: a stop signal arrived.
        """
        needs = {self.data.path: START_BYTES}
        if self.model.is_missing:
            needs[self.model_store] = needs.get(self.model_store, 0) + MODEL_BYTES
        check_room(needs)
        self.data.run_file.unlink(missing_ok=True)
        self.metrics_ports.write_targets(self.data.metrics, self.settings.metrics_host)
        log_dir = self.data.logs
        conversion = None
        if self.model.is_missing:
            conversion = Conversion(self.model, log_dir=log_dir, progress=self._progress)
        try:
            credentials = self._start_database()
            if conversion is not None:
                conversion.wait(self._tick)
        finally:
            if conversion is not None:
                conversion.stop()
        self._start_programs()
        readiness.wait_ready(self.settings, progress=self._progress, tick=self._watch)
        self._is_ready = True
        self._write_run_file()
        return credentials

    def supervise(self) -> None:
        """Restart processes that end, until a stop signal raises `StopRequested`."""
        while True:
            self._watch()
            time.sleep(CHECK_SECONDS)

    def stop(self) -> None:
        """Stop everything, stage by stage."""
        self.supervisor.stop(is_urgent=self._interruption.is_urgent)
        self.data.run_file.unlink(missing_ok=True)

    def _check_ports(self) -> None:
        settings = self.settings
        if settings.api_port == settings.admin_port:
            raise LauncherError("--api-port and --admin-port must differ")
        # Processes of an instance that was killed may hold their ports for a moment.
        patience = LEFTOVER_SECONDS if self.data.was_left_running else 0.0
        readiness.check_port(settings.api_host, settings.api_port, "--api-port", patience)
        readiness.check_port(settings.admin_host, settings.admin_port, "--admin-port", patience)

    def _start_database(self) -> DevelopmentCredentials:
        self._progress.step("starting the database and the queue")
        if self.postgres is not None:
            self.postgres.prepare(self._tick)
            self._add_server("postgres", self.postgres, DATABASE_STAGE, postgres.STOP_SECONDS)
        if self.valkey is not None:
            self._add_server("valkey", self.valkey, QUEUE_STAGE, valkey.STOP_SECONDS)
        # Imported here: the import is slow, and the servers start at the same time.
        from cli.commands.database import migrate_and_seed

        if self.postgres is not None:
            self.postgres.wait_ready(self._tick)
            self.postgres.create_database()
        if self.valkey is not None:
            self.valkey.wait_ready(self._tick)
            self._remove_old_workers()
        self._progress.step("preparing the tables")
        self._tick()
        return migrate_and_seed(self.settings, key_file=self.data.key_file)

    def _remove_old_workers(self) -> None:
        # Heartbeats outlive a killed worker by seconds: the API would report ready too early.
        with closing(open_redis(self.settings)) as client:
            registry = WorkerRegistry(client)
            for status in registry.alive():
                registry.remove(status.worker_id)

    def _start_programs(self) -> None:
        drain = self.settings.drain_seconds + GRACE_SECONDS
        # Workers first: they take longest to import torch and to load the model.
        for number, port in enumerate(self.metrics_ports.workers, start=1):
            own = {"WORKER_METRICS_PORT": str(port)}
            self._add_program(f"worker-{number}", "worker", WORKER_STAGE, drain, own)
        self._add_program("api", "api", WEB_STAGE, drain)
        self._add_program("admin", "admin-ui", WEB_STAGE, GRACE_SECONDS)

    def _add_server(
        self, name: str, server: Postgres | Valkey, stage: int, stop_seconds: float
    ) -> None:
        number = signal.SIGINT if stage == DATABASE_STAGE else signal.SIGTERM
        start = partial(server.spawn, self._tick)
        self.supervisor.add(
            SupervisedProcess(name, start, number, stop_seconds, stage, ends_itself=True)
        )

    def _add_program(
        self,
        name: str,
        command: str,
        stage: int,
        stop_seconds: float,
        own: Mapping[str, str] | None = None,
    ) -> None:
        environment = {**self._environment, **self.settings.to_environment(), **(own or {})}
        environment["PYTHONUNBUFFERED"] = "1"  # so that the log of a killed process is complete
        start = partial(
            Child.start,
            name,
            (*self._program, command),
            log_dir=self.data.logs,
            environment=environment,
        )
        self.supervisor.add(SupervisedProcess(name, start, signal.SIGTERM, stop_seconds, stage))

    def _postgres(self) -> Postgres:
        bin_dir = self._environment.get("PG_BIN")
        return Postgres(
            self.data.postgres,
            log_dir=self.data.logs,
            bin_dir=Path(bin_dir) if bin_dir else None,
        )

    def _valkey(self) -> Valkey:
        return Valkey(self.data.valkey, log_dir=self.data.logs)

    def _chosen_settings(self) -> dict[str, str]:
        environment = self._environment
        chosen = self.metrics_ports.settings(self.data.metrics)
        chosen["MODEL_PATH"] = self.model.path
        if self.postgres is not None:
            chosen["DATABASE_URL"] = self.postgres.url
        if self.valkey is not None:
            chosen["REDIS_URL"] = self.valkey.url
        if self.model.name and not environment.get("MODEL_NAME"):
            chosen["MODEL_NAME"] = self.model.name
        if not environment.get("SECRET_KEY"):
            chosen["SECRET_KEY"] = self.data.secret_key()
        options = self.options
        for name, value in (
            ("ENGINE", options.engine),
            ("API_PORT", options.api_port),
            ("ADMIN_PORT", options.admin_port),
        ):
            if value is not None:
                chosen[name] = str(value)
        return chosen

    def _tick(self) -> None:
        self._progress.tick()
        self._interruption.check()

    def _watch(self) -> None:
        self._tick()
        self.supervisor.check()

    def _write_run_file(self) -> None:
        servers = {"postgres": self.postgres, "valkey": self.valkey}
        write_run_file(
            self.data.run_file,
            is_ready=self._is_ready,
            settings=self.settings,
            server_ports={name: server.port for name, server in servers.items() if server},
            metrics_ports=self.metrics_ports.by_program(),
            pids=self.supervisor.pids,
        )
