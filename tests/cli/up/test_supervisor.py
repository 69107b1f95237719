"""The supervisor restarts processes that end, and no process outlives `bountycoder up`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from cli.system.child_process import Child
from cli.up import supervisor as module
from cli.up.supervisor import MAX_DEATHS, SupervisedProcess, Supervisor
from core.errors import LauncherError
from tests.support.polling import wait_until
from tests.support.processes import all_end, is_running, printed_ids, python, with_descendants

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")
#: A program like gunicorn, which starts its own child.
UP = """
import signal, sys, time
from pathlib import Path
from cli.system.child_process import Child
from cli.up.supervisor import SupervisedProcess, Supervisor
forker = "import subprocess, time; subprocess.Popen(['sleep', '60']); "
forker += "print('forked', flush=True); time.sleep(60)"
start = lambda: Child.start("web", [sys.executable, "-c", forker], log_dir=Path(sys.argv[1]))
supervisor = Supervisor(say=print, changed=lambda: None)
supervisor.add(SupervisedProcess("web", start, signal.SIGTERM, 5, stage=0))
while not supervisor.processes[0].child.log_tail():
    time.sleep(0.02)
print(*supervisor.pids.values(), flush=True)
time.sleep(60)
"""


class SupervisedCommand:
    """A supervisor with one process that runs `command`."""

    def __init__(self, log_dir: Path, command: tuple[str, ...] = SLEEP) -> None:
        self.messages: list[str] = []
        self.supervisor = Supervisor(say=self.messages.append, changed=lambda: None)

        def start() -> Child:
            return Child.start("process", command, log_dir=log_dir)

        self.process = SupervisedProcess("process", start, signal.SIGTERM, 5.0, stage=0)
        self.supervisor.add(self.process)

    def check_until_restarted(self, pid: int) -> None:
        def is_restarted() -> bool:
            self.supervisor.check()
            return self.process.child is not None and self.process.child.pid != pid

        wait_until(is_restarted)

    def check_until_gone(self) -> None:
        def is_gone() -> bool:
            self.supervisor.check()
            return False

        wait_until(is_gone)

    def stop(self) -> None:
        self.supervisor.stop(is_urgent=lambda: False)


def test_no_process_outlives_a_killed_parent_not_even_those_of_its_children(
    tmp_path: Path,
) -> None:
    with python(UP, tmp_path) as up:
        processes = with_descendants(printed_ids(up))

        up.kill()

        assert len(processes) == 3
        assert all_end(processes)


def test_a_killed_process_is_restarted(tmp_path: Path) -> None:
    supervised = SupervisedCommand(tmp_path)
    pid = supervised.supervisor.pids["process"]

    os.kill(pid, signal.SIGKILL)

    try:
        supervised.check_until_restarted(pid)
    finally:
        supervised.stop()
    assert len(supervised.messages) == 1
    assert "process was killed by signal 9" in supervised.messages[0]


def test_a_process_that_ends_repeatedly_ends_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_RESTART_SECONDS", 0.001)
    supervised = SupervisedCommand(
        tmp_path, (sys.executable, "-c", "raise SystemExit('no such model')")
    )

    with pytest.raises(LauncherError, match=r"no such model .* 5 times within 60 s"):
        supervised.check_until_gone()

    supervised.stop()
    assert len(supervised.messages) == MAX_DEATHS - 1


def test_a_killed_guardian_is_restarted(tmp_path: Path) -> None:
    supervised = SupervisedCommand(tmp_path)
    pid = supervised.supervisor.pids["guardian"]

    os.kill(pid, signal.SIGKILL)

    def is_restarted() -> bool:
        supervised.supervisor.check()
        return supervised.supervisor.pids["guardian"] != pid

    try:
        wait_until(is_restarted)
    finally:
        supervised.stop()


def test_a_stop_leaves_no_process(tmp_path: Path) -> None:
    supervised = SupervisedCommand(tmp_path)
    processes = with_descendants(list(supervised.supervisor.pids.values()))

    supervised.stop()

    assert not any(is_running(process) for process in processes)
    assert supervised.supervisor.pids == {}


def not_started() -> Child:
    raise AssertionError("it already runs")


def test_stages_stop_one_after_the_other(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, lambda *_: (print(time.time_ns()), exit())); "
    code += "print('up', flush=True); time.sleep(60)"
    supervisor = Supervisor(say=print, changed=lambda: None)
    children = {
        name: Child.start(name, (sys.executable, "-c", code), log_dir=tmp_path)
        for name in ("late", "early")
    }
    for stage, child in zip((1, 0), children.values(), strict=True):
        process = SupervisedProcess(
            child.name, not_started, signal.SIGTERM, 10.0, stage=stage, child=child
        )
        supervisor.add(process)
    wait_until(lambda: all(child.log_tail() for child in children.values()))

    supervisor.stop(is_urgent=lambda: False)

    assert int(children["early"].last_log_line()) < int(children["late"].last_log_line())


@pytest.mark.alone
def test_an_urgent_stop_kills_at_once(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); "
    supervised = SupervisedCommand(tmp_path, (sys.executable, "-c", code + "time.sleep(60)"))
    child = supervised.process.child
    assert child is not None
    wait_until(lambda: child.log_tail() != "")
    process = psutil.Process(child.pid)
    began = time.monotonic()

    supervised.supervisor.stop(is_urgent=lambda: True)

    assert time.monotonic() - began < 5
    assert not is_running(process)
