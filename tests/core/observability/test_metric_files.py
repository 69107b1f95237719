"""The counters of several processes, also when some of them are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.prometheus import samples, total

#: A process that counts `argv[3]` jobs and requests, and then waits until its input ends.
COUNT = """
import sys
from pathlib import Path
from core.observability.metric_files import MetricFiles
from core.observability.metrics import EndedJobs, requests_in_progress
with MetricFiles.opened(sys.argv[1], "program", layout=sys.argv[2]) as files:
    slot = files.claim_slot()
    jobs, open_requests = EndedJobs(["failed"]), requests_in_progress()
    for _ in range(int(sys.argv[3])):
        jobs.count("bulk", "failed", 1)
        open_requests.inc()
    print(slot, files.path, flush=True)
    sys.stdin.readline()
"""
#: A process that prints the metrics of all processes.
PRINT_PAGE = """
import sys
from pathlib import Path
from core.observability.metric_files import MetricFiles
from core.observability.metrics_page import metrics_page
page = metrics_page("test", MetricFiles(Path(sys.argv[1])))
environ = {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET"}
sys.stdout.write(b"".join(page(environ, lambda *response: None)).decode())
"""
#: A process whose fork exits first, as those of gunicorn do.
FORK = """
import os, sys
from core.observability.metric_files import MetricFiles
with MetricFiles.opened("", "program", layout="1") as files:
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
    print(files.path.is_dir())
"""

#: A process with more series than a new file has room for. It counts each of them twice.
GROW = """
import sys
from core.observability.metric_files import MetricFiles
from core.observability.metrics import counter
with MetricFiles.opened(sys.argv[1], "program", layout="1") as files:
    files.claim_slot()
    grown = counter("grown", "A counter of many series.", ["series"])
    series = [grown.labels(f"{number:050}") for number in range(1000)]
    for one in series * 2:
        one.inc()
    print([one._value.get() for one in (series[0], series[-1])])
"""

#: A process whose disk is full from its start or after its first count, and later has room.
FILL = """
import sys, time
from contextlib import suppress
from pathlib import Path
from core.observability import metric_values
from core.observability.metric_files import MetricFiles
from core.observability.metrics import counter, requests_in_progress
from core.observability.metrics_page import metrics_page
from prometheus_client.parser import text_string_to_metric_families

def fill():
    with suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))

def read_counts():
    environ = {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET"}
    text = b"".join(metrics_page("test", files)(environ, lambda *response: None)).decode()
    found = [s for f in text_string_to_metric_families(text) for s in f.samples]
    names = ("bountycoder_series_total", "bountycoder_http_requests_in_progress")
    return [sum(s.value for s in found if s.name == name) for name in names]

metric_values.RETRY_SECONDS = 0.05
directory, is_full_at_start = sys.argv[1], sys.argv[2] == "start"
ballast = Path(directory, "ballast")
if is_full_at_start:
    fill()
with MetricFiles.opened(directory, "program", layout="1") as files:
    files.claim_slot()
    series = counter("series", "A counter of many series.", ["series"])
    series.labels("first").inc()
    if not is_full_at_start:
        fill()
    for number in range(1000):
        series.labels(f"{number:050}").inc()
    requests_in_progress().inc()
    full = read_counts()
    ballast.unlink()
    deadline = time.monotonic() + 10
    while read_counts() != [1001, 1] and time.monotonic() < deadline:
        time.sleep(0.02)
    series.labels("first").inc()
    print(full[0] < 1001, *read_counts())
"""


def start(directory: Path | str, count: int, layout: str = "1") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", COUNT, str(directory), layout, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process


def slot_of(process: subprocess.Popen[str]) -> int:
    """Wait until the process has counted; return its slot."""
    assert process.stdout is not None
    return int(process.stdout.readline().split()[0])


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=10)
    assert process.returncode == 0


def read_counts(directory: Path) -> tuple[float, float, int]:
    """Return the jobs counted, the requests in progress, and the number of processes."""
    values = samples(page(directory / "program"))
    return (
        total(values, "bountycoder_jobs_total", queue="bulk", state="failed"),
        total(values, "bountycoder_http_requests_in_progress"),
        sum(name == "process_resident_memory_bytes" for name, _ in values),
    )


def page(files: Path) -> str:
    """Return the metrics page of a program's files."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_PAGE, str(files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout


def test_a_killed_process_leaves_its_counters_and_no_gauges(tmp_path: Path) -> None:
    killed, living = start(tmp_path, 3), start(tmp_path, 4)
    slots = {slot_of(killed), slot_of(living)}
    before = read_counts(tmp_path)

    kill(killed)
    after = read_counts(tmp_path)
    end(living)

    assert slots == {0, 1}
    assert before == (7, 7, 2)
    assert after == (7, 4, 1)


def test_a_new_process_continues_the_counts_of_a_dead_one(tmp_path: Path) -> None:
    first, second = start(tmp_path, 3), start(tmp_path, 4)
    free = slot_of(first)
    slot_of(second)
    kill(first)

    third = start(tmp_path, 5)
    slot = slot_of(third)
    found = read_counts(tmp_path)
    files = len(list((tmp_path / "program").glob("counter_*.db")))
    end(second)
    end(third)

    assert slot == free
    assert found == (12, 9, 2)
    assert files == 2


def test_counts_outlive_a_program_but_not_its_layout(tmp_path: Path) -> None:
    end(start(tmp_path, 3))
    before = read_counts(tmp_path)

    end(start(tmp_path, 1, layout="2"))
    after = read_counts(tmp_path)

    assert before == (3, 0, 0)
    assert after == (1, 0, 0)


def test_files_that_cannot_be_read_are_removed(tmp_path: Path) -> None:
    end(start(tmp_path, 3))
    (tmp_path / "program" / "counter_0.db").write_bytes(b"\xff\x0f\0\0" + bytes(range(256)) * 15)

    end(start(tmp_path, 2))

    assert read_counts(tmp_path) == (2, 0, 0)


def test_a_temporary_directory_is_removed_with_its_program() -> None:
    process = start("", 1)
    assert process.stdout is not None
    path = Path(process.stdout.readline().split()[1])
    was_there = path.is_dir()

    end(process)

    assert was_there
    assert not path.exists()


def test_a_fork_that_ends_leaves_the_directory_to_its_program() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], cwd=ROOT, capture_output=True, text=True, timeout=30
    )

    assert done.stdout == "True\n", done.stderr


def test_counts_survive_the_growth_of_their_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROW, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout == "[2.0, 2.0]\n"
    assert (tmp_path / "program" / "counter_0.db").stat().st_size > 1 << 16
    values = samples(page(tmp_path / "program"))
    assert total(values, "bountycoder_grown_total") == 2 * 1000


@pytest.mark.parametrize("since", ["start", "later"])
def test_a_full_disk_stops_no_counting_and_loses_nothing(tmp_path: Path, since: str) -> None:
    rights = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    mount = f'mount -t tmpfs -o size=512k tmpfs {tmp_path} && exec "$@"'
    count = (sys.executable, "-c", FILL, str(tmp_path), since)
    done = subprocess.run(
        (*rights, "sh", "-c", mount, "sh", *count),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "True 1002.0 1.0\n"
    assert done.stderr.count("no room for metrics") <= (4 if since == "start" else 2)
