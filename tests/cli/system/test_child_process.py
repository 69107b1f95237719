"""Children end with their parent, write to their own logs, and stop within a bounded time."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from cli.system import child_process
from cli.system.child_process import Child, WaitTimeout
from core.errors import LauncherError
from tests.support.polling import wait_until
from tests.support.processes import all_end, printed_ids, python, with_descendants

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)"
    "; time.sleep(60)",
)
PARENT = """
import sys, time
from pathlib import Path
from cli.system.child_process import Child
child = Child.start("sleep", [sys.executable, "-c", "import time; time.sleep(60)"],
                    log_dir=Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_parent_leaves_no_child_behind(tmp_path: Path) -> None:
    with python(PARENT, tmp_path) as parent:
        children = with_descendants(printed_ids(parent))

        parent.kill()

        assert all_end(children)


def test_a_child_does_not_get_the_signals_of_the_terminal(tmp_path: Path) -> None:
    child = Child.start("sleep", SLEEP, log_dir=tmp_path)

    session = os.getsid(child.pid)

    child.kill()
    assert session == child.pid


def test_the_log_has_the_output_of_a_child(tmp_path: Path) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr)"

    child = Child.start("talker", (sys.executable, "-c", code), log_dir=tmp_path)
    child.wait(10)

    assert sorted((tmp_path / "talker.log").read_text().split()) == ["err", "out"]
    assert child.last_log_line() in ("err", "out")


def test_the_previous_log_stays(tmp_path: Path) -> None:
    for word in ("first", "second"):
        Child.start("talker", ("echo", word), log_dir=tmp_path).wait(10)

    assert (tmp_path / "talker.log").read_text() == "second\n"
    assert (tmp_path / "talker.log.1").read_text() == "first\n"


def test_a_child_gets_its_input(tmp_path: Path) -> None:
    child = Child.start("cat", ("cat",), log_dir=tmp_path, stdin=b"secret\n")

    assert child.wait(10) == 0
    assert child.log_tail() == "secret\n"


def test_a_child_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    child = Child.start("stubborn", STUBBORN, log_dir=tmp_path)
    wait_until(lambda: child.log_tail() != "")

    child.stop(signal.SIGTERM, timeout_seconds=0.2)

    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.alone
def test_an_urgent_stop_does_not_wait(tmp_path: Path) -> None:
    child = Child.start("stubborn", STUBBORN, log_dir=tmp_path)
    wait_until(lambda: child.log_tail() != "")
    began = time.monotonic()

    child.send(signal.SIGTERM)
    child.end(60, is_urgent=lambda: True)

    assert time.monotonic() - began < 10
    assert not child.is_alive()


def test_processes_of_a_dead_child_are_killed_with_it(tmp_path: Path) -> None:
    code = f"import subprocess; print(subprocess.Popen({list(SLEEP)!r}).pid, flush=True)"
    child = Child.start("forker", (sys.executable, "-c", code), log_dir=tmp_path)
    child.wait(10)
    orphan = psutil.Process(int(child.last_log_line()))

    child.kill()

    assert all_end({orphan})


def test_a_missing_program_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="cannot run /nowhere/program for thing"):
        Child.start("thing", ("/nowhere/program",), log_dir=tmp_path)


def test_no_wait_is_endless() -> None:
    with pytest.raises(WaitTimeout, match="for a miracle"):
        child_process.wait_until(lambda: False, timeout_seconds=0.05, what="a miracle")
