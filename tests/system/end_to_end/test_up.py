"""The promise of the first minute: one command, one pasted line, real code, exact usage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import create_engine, text

from core.generation import Generation
from core.prompts.tokenizer import PromptTokenizer
from tests.support.paths import ROOT
from tests.support.processes import all_end
from tests.support.small_model import MODEL_STORE
from tests.system.end_to_end.instance import Instance

#: What libpq and PostgreSQL's programs read of a shell, each a fault here.
ANOTHER_SERVER = {
    "PGCHANNELBINDING": "require",
    "PGCONNECT_TIMEOUT": "soon",
    "PGDATA": "/nowhere",
    "PGDATABASE": "nothing",
    "PGGSSENCMODE": "require",
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGKRBSRVNAME": "nobody",
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
    "PGUSER": "nobody",
}
PROMPT = "Write a Python function that calculates Fibonacci numbers"


def usage_rows(instance: Instance) -> list[dict[str, Any]]:
    engine = create_engine(instance.database_url)
    with engine.connect() as connection:
        rows = connection.execute(text("select * from usage order by job_id")).mappings().all()
    engine.dispose()
    return [dict(row) for row in rows]


def test_the_printed_line_gives_code_and_nothing_is_lost_by_kill_9(
    tmp_path: Path, model_dir: Path, tokenizer: PromptTokenizer
) -> None:
    instance = Instance(tmp_path / "data", MODEL_STORE)
    instance.start()
    running = instance.processes()

    pasted = subprocess.run(
        ["bash", "-c", instance.curl], capture_output=True, text=True, timeout=120, check=True
    )
    answer = json.loads(pasted.stdout)

    code = answer["choices"][0]["text"]
    prompt_ids = tokenizer.encode(Generation(prompt=PROMPT))
    text_ids = tokenizer.tokenizer.encode(code, add_special_tokens=False).ids
    assert "def " in code, answer
    assert answer["usage"]["prompt_tokens"] == len(prompt_ids)
    assert answer["usage"]["completion_tokens"] == len(text_ids)
    key = instance.key

    instance.stop(signal.SIGKILL)
    assert all_end(running), "processes outlived a killed `bountycoder up`"

    with instance.up():
        found = requests.get(
            f"{instance.url}/api/llm/jobs/{answer['id']}", headers={"x-api-key": key}, timeout=30
        ).json()
        rows = usage_rows(instance)

        assert instance.key == key
        assert found["status"] == "succeeded"
        assert found["result"] == answer
        assert len(rows) == 1
        assert rows[0]["prompt_tokens"] == len(prompt_ids)
        assert rows[0]["completion_tokens"] == len(text_ids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_every_process(
    tmp_path: Path, model_dir: Path, number: signal.Signals
) -> None:
    instance = Instance(tmp_path / "data", MODEL_STORE, ("--engine", "echo"))
    instance.start()
    running = instance.processes()

    assert instance.stop(number) == 0
    assert all_end(running)


def test_variables_of_libpq_do_not_lead_away_from_its_own_database(
    tmp_path: Path, model_dir: Path
) -> None:
    instance = Instance(
        tmp_path / "data", MODEL_STORE, ("--engine", "echo"), environment=ANOTHER_SERVER
    )
    with instance.up():
        answer = requests.post(
            f"{instance.url}/api/llm/generate",
            json={"prompt": "x"},
            headers={"x-api-key": instance.key},
            timeout=60,
        )
        run_file = json.loads((instance.data_dir / "run.json").read_text())
        backup = subprocess.run(
            [sys.executable, "-m", "cli.main", "backup", "--to", str(tmp_path / "backups")],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **run_file["environment"], **ANOTHER_SERVER},
            capture_output=True,
            text=True,
            timeout=120,
        )

    assert answer.status_code == 200
    assert backup.returncode == 0, backup.stderr


def test_two_instances_live_side_by_side(tmp_path: Path, model_dir: Path) -> None:
    echo = ("--engine", "echo")
    with (
        Instance(tmp_path / "one", MODEL_STORE, echo).up() as one,
        Instance(tmp_path / "two", MODEL_STORE, echo).up() as two,
    ):
        for instance, status in ((one, 200), (two, 401)):
            answer = requests.post(
                f"{instance.url}/api/llm/generate",
                json={"prompt": "x"},
                headers={"x-api-key": one.key},
                timeout=30,
            )
            assert answer.status_code == status


def test_every_program_shows_metrics_where_prometheus_is_told(
    tmp_path: Path, model_dir: Path
) -> None:
    options = ("--engine", "echo", "--workers", "2")
    with Instance(tmp_path / "data", MODEL_STORE, options).up() as instance:
        targets = json.loads((instance.data_dir / "metrics" / "targets.json").read_text())
        for target in targets:
            (address,) = target["targets"]
            page = requests.get(f"http://{address}/metrics", timeout=10)

            assert page.status_code == 200
            assert f"http://{address}/metrics ({target['labels']['instance']})" in instance.output()
        names = [target["labels"]["instance"] for target in targets]
        assert names == ["api", "admin", "worker-1", "worker-2"]


def test_a_killed_worker_is_replaced_and_its_job_is_done(tmp_path: Path, model_dir: Path) -> None:
    instance = Instance(tmp_path / "data", MODEL_STORE, ("--engine", "echo"))
    with instance.up():
        run_file = json.loads((instance.data_dir / "run.json").read_text())
        worker = run_file["pids"]["worker-1"]
        subprocess.run(["kill", "-9", str(worker)], check=True)

        answer = requests.post(
            f"{instance.url}/api/llm/generate",
            json={"prompt": "after the crash"},
            headers={"x-api-key": instance.key},
            timeout=60,
        )

        assert answer.status_code == 200
        assert len(usage_rows(instance)) == 1
