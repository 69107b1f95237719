"""Find and run PostgreSQL's `pg_dump` and `pg_restore`.

`PG_BIN` names their directory. Without it, the PATH and the embedded PostgreSQL's binaries are
tried. The password goes by the environment, never by the command line.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg2.extensions import make_dsn

from cli.servers.postgres_cluster import wheel_bin_dir
from core.errors import BackupError, LauncherError
from models.maintenance.backup import CONNECT_SECONDS, libpq_values

VERSION_SECONDS = 20.0
POLL_SECONDS = 0.05
#: Longest part of a tool's output in an error message.
MAX_REASON_CHARACTERS = 300
DISK_FULL = "No space left on device"
#: From this version on, `pg_restore` sets parameters that older servers do not know.
_SETS_MORE = 17


@dataclass(frozen=True, slots=True)
class PostgresTools:
    """A directory of PostgreSQL's programs, and their major version."""

    bin_dir: Path
    major: int

    def may_dump(self, server: int) -> bool:
        return self.major >= server

    def may_restore(self, server: int, *, written_by: int) -> bool:
        """Return whether these tools can restore a dump into a server.

        Args:
            server: major version of the server.
            written_by: major version of the `pg_dump` that wrote the dump.
        """
        return self.major >= written_by and (self.major < _SETS_MORE or server >= _SETS_MORE)


def tools_to_dump(environment: Mapping[str, str], server: int) -> PostgresTools:
    """Return the oldest available tools that can dump a server of this major version.

    Raises:
        BackupError: all available tools are too old.
    """
    found = list(_available_tools(environment))
    fitting = [tools for tools in found if tools.may_dump(server)]
    if not fitting:
        raise _no_suitable_tools(
            found, f"pg_dump {server} or newer is needed for this PostgreSQL {server}"
        )
    return min(fitting, key=lambda tools: tools.major)


def tools_to_restore(
    environment: Mapping[str, str], server: int, *, written_by: int
) -> PostgresTools:
    """Return the tools that can restore the dump, nearest to the server's major version.

    Raises:
        BackupError: no available tools can restore it.
    """
    found = list(_available_tools(environment))
    fitting = [tools for tools in found if tools.may_restore(server, written_by=written_by)]
    if not fitting:
        need = f"pg_restore {written_by} or newer is needed for this backup"
        if server < _SETS_MORE:
            need += f", and for this PostgreSQL {server} one older than {_SETS_MORE}"
        raise _no_suitable_tools(found, need)
    return min(fitting, key=lambda tools: abs(tools.major - server))


def run_tool(
    tools: PostgresTools,
    name: str,
    arguments: Sequence[str],
    *,
    url: str,
    environment: Mapping[str, str],
    timeout_seconds: float,
    tick: Callable[[], None],
) -> None:
    """Run a tool on a database and wait for its end.

    Args:
        tick: called every `POLL_SECONDS`; an exception of it kills the tool.

    Raises:
        BackupError: the tool failed, or took longer than `timeout_seconds`.
    """
    values = libpq_values(url)
    password = values.pop("password", None)
    command = [
        str(tools.bin_dir / name),
        *arguments,
        "--no-password",
        f"--dbname={make_dsn(**values)}",
    ]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            env=_tool_environment(environment, password),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            umask=0o077,
        )
        try:
            deadline = time.monotonic() + timeout_seconds
            while process.poll() is None:
                tick()
                if time.monotonic() > deadline:
                    raise BackupError(f"{name} took longer than {timeout_seconds:.0f} s")
                time.sleep(POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise BackupError(f"{name}: {_reason(output)}")


def _tool_environment(environment: Mapping[str, str], password: str | None) -> dict[str, str]:
    selected = {
        name: value
        for name, value in environment.items()
        if name in ("PATH", "HOME", "TMPDIR") or (name.startswith("PG") and name != "PG_BIN")
    }
    selected |= {"LC_ALL": "C", "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS)}
    return selected if password is None else {**selected, "PGPASSWORD": password}


def _available_tools(environment: Mapping[str, str]) -> Iterator[PostgresTools]:
    if given := environment.get("PG_BIN"):
        directories = [Path(given)]
    else:
        on_path = shutil.which("pg_dump", path=environment.get("PATH", ""))
        directories = [Path(on_path).parent] if on_path else []
        with suppress(LauncherError):  # the wheel is not installed
            directories.append(wheel_bin_dir())
    for directory in directories:
        if (major := _major(directory / "pg_dump")) is not None:
            yield PostgresTools(directory, major)


def _major(program: Path) -> int | None:
    try:
        done = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\) (\d+)", done.stdout)
    return int(found[1]) if found else None


def _no_suitable_tools(found: Sequence[PostgresTools], need: str) -> BackupError:
    here = ", ".join(f"{tools.major} in {tools.bin_dir}" for tools in found) or "none"
    return BackupError(f"{need}; found: {here} (PG_BIN names the directory of others)")


def _reason(output: IO[bytes]) -> str:
    """Return the error of a tool without the rows that it may quote: they contain prompts."""
    output.seek(0)
    lines = [line.decode(errors="replace").strip() for line in output]
    errors = [line for line in lines if re.search(r"\b(error|FATAL|ERROR):", line)]
    full = [line for line in lines if DISK_FULL in line]
    reason = (full or errors or ["it printed no error"])[0]
    return re.sub(r"^pg_\w+: ", "", reason)[:MAX_REASON_CHARACTERS]
