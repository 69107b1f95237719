"""Run `bountycoder backup` and `restore` as an operator does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from core.config.settings import Settings
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from tests.support.processes import CLI, run


def environment(settings: Settings, **changes: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **settings.to_environment(), **changes}


def bountycoder(
    settings: Settings, *arguments: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    return run([*CLI, *arguments], environment=environment(settings, **changes))


@contextmanager
def begun(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command, and kill it at the end of the block if it still runs."""
    with subprocess.Popen(
        [*CLI, *arguments],
        cwd=ROOT,
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def working_tool(process: subprocess.Popen[str], name: str) -> psutil.Process:
    """Wait until the command has started the tool `name`, and return the tool's process."""
    found: list[psutil.Process] = []

    def find() -> bool:
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess):
                # The command first asks the tool for its version. A process that has just started
                # has no command line yet.
                if child.name() == name and len(child.cmdline()) > len([name, "--version"]):
                    found.append(child)
        return bool(found)

    wait_until(find, 60)
    return found[0]
