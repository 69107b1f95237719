"""One command starts the whole service; the line that it prints generates real code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import create_engine, text

from core.generation import Generation
from core.prompts.tokenizer import PromptTokenizer
from tests.support.cli.installation import Installation, shell_environment
from tests.support.processes import CLI, all_end, run

ECHO = ("--engine", "echo")
#: Variables that libpq and PostgreSQL's programs read; each value is wrong here.
ANOTHER_SERVER = {
    "PGCHANNELBINDING": "require",
    "PGCONNECT_TIMEOUT": "soon",
    "PGDATA": "/nowhere",
    "PGDATABASE": "nothing",
    "PGGSSENCMODE": "require",
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGKRBSRVNAME": "stranger",
    "PGLOADBALANCEHOSTS": "maybe",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGPASSFILE": "/nowhere",
    "PGPORT": "1",
    "PGREQUIREAUTH": "none",
    "PGREQUIRESSL": "1",
    "PGSERVICE": "none",
    "PGSERVICEFILE": "/nowhere",
    "PGSSLMODE": "require",
    "PGSSLROOTCERT": "/nowhere",
    "PGSYSCONFDIR": "/nowhere",
    "PGTARGETSESSIONATTRS": "read-only",
    "PGTZ": "Mars",
    "PGUSER": "stranger",
}
PROMPT = "Write a Python function that calculates Fibonacci numbers"


def usage_rows(installation: Installation) -> list[dict[str, Any]]:
    engine = create_engine(installation.database_url)
    with engine.connect() as connection:
        rows = connection.execute(text("select * from usage order by job_id")).mappings().all()
    engine.dispose()
    return [dict(row) for row in rows]


def test_the_printed_line_generates_code_and_kill_9_loses_nothing(
    tmp_path: Path, model_dir: Path, tokenizer: PromptTokenizer
) -> None:
    installation = Installation(tmp_path / "data")
    installation.start()
    running = installation.processes()

    pasted = subprocess.run(
        ["bash", "-c", installation.curl], capture_output=True, text=True, timeout=120, check=True
    )
    completion = json.loads(pasted.stdout)

    code = completion["choices"][0]["text"]
    prompt_ids = tokenizer.encode(Generation(prompt=PROMPT))
    text_ids = tokenizer.tokenizer.encode(code, add_special_tokens=False).ids
    assert "def " in code, completion
    assert completion["usage"]["prompt_tokens"] == len(prompt_ids)
    assert completion["usage"]["completion_tokens"] == len(text_ids)
    key = installation.key

    installation.stop(signal.SIGKILL)
    assert all_end(running), "processes outlived a killed `bountycoder up`"

    with installation.up():
        job_url = f"{installation.url}/api/llm/jobs/{completion['id']}"
        job = requests.get(job_url, headers={"x-api-key": key}, timeout=30).json()
        rows = usage_rows(installation)

        assert installation.key == key
        assert job["status"] == "succeeded"
        assert job["result"] == completion
        assert len(rows) == 1
        assert rows[0]["prompt_tokens"] == len(prompt_ids)
        assert rows[0]["completion_tokens"] == len(text_ids)


@pytest.fixture(scope="module")
def data_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that several starts use, one after the other."""
    return tmp_path_factory.mktemp("installation") / "data"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_every_process(
    data_directory: Path, model_dir: Path, number: signal.Signals
) -> None:
    installation = Installation(data_directory, ECHO)
    installation.start()
    running = installation.processes()

    assert installation.stop(number) == 0
    assert all_end(running)


def generate(installation: Installation, key: str, prompt: str = "x") -> requests.Response:
    return requests.post(
        f"{installation.url}/api/llm/generate",
        json={"prompt": prompt},
        headers={"x-api-key": key},
        timeout=60,
    )


def test_variables_of_libpq_do_not_lead_away_from_its_own_database(
    tmp_path: Path, model_dir: Path
) -> None:
    installation = Installation(tmp_path / "data", ECHO, shell_environment(**ANOTHER_SERVER))
    with installation.up():
        response = generate(installation, installation.key)
        given = installation.run_file()["environment"]
        backup = run(
            [*CLI, "backup", "--to", str(tmp_path / "backups")],
            environment={"PATH": os.environ["PATH"], **given, **ANOTHER_SERVER},
        )

    assert response.status_code == 200
    assert backup.returncode == 0, backup.stderr


@pytest.fixture(scope="module")
def installed(data_directory: Path, model_dir: Path) -> Iterator[Installation]:
    """A running installation with two workers."""
    with Installation(data_directory, (*ECHO, "--workers", "2")).up() as installation:
        yield installation


def test_two_installations_run_side_by_side(installed: Installation, tmp_path: Path) -> None:
    with Installation(tmp_path / "two", ECHO).up() as two:
        for installation, status in ((installed, 200), (two, 401)):
            assert generate(installation, installed.key).status_code == status


def test_every_program_serves_metrics_at_its_target_for_prometheus(
    installed: Installation,
) -> None:
    targets = json.loads((installed.data_dir / "metrics" / "targets.json").read_text())
    announced = installed.output()
    for target in targets:
        (address,) = target["targets"]
        page = requests.get(f"http://{address}/metrics", timeout=10)

        assert page.status_code == 200
        assert f"http://{address}/metrics ({target['labels']['instance']})" in announced
    names = [target["labels"]["instance"] for target in targets]
    assert names == ["api", "admin", "worker-1", "worker-2"]


def test_killed_workers_are_replaced_and_a_job_is_done_once(installed: Installation) -> None:
    before = len(usage_rows(installed))
    for name in ("worker-1", "worker-2"):
        os.kill(installed.run_file()["pids"][name], signal.SIGKILL)

    response = generate(installed, installed.key, "after the crash")

    assert response.status_code == 200
    assert len(usage_rows(installed)) == before + 1
