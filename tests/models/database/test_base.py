from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import text

from core.config.settings import Settings
from models.batches.dispatch import try_to_dispatch
from models.database.base import Session, SessionFactory, open_database, sessions
from models.database.group_commit import MOST_REFUSALS, persist
from tests.support.paths import ROOT
from tests.support.polling import wait_until

#: Prints the state of the database on a new disk, on a full one, and with room again.
FULL_DISK = """
import sys
from contextlib import suppress
from pathlib import Path
from cli.servers.postgres import Postgres
from models.database.base import DATABASE_AWAY, check_writable, sessions, away_kind
from sqlalchemy import create_engine

def state():
    try:
        with sessions(engine)() as session:
            check_writable(session)
    except DATABASE_AWAY as error:
        return away_kind(error)
    return "ok"

disk = Path(sys.argv[1])
postgres = Postgres(disk / "postgres", log_dir=disk / "logs", is_durable=False)
postgres.start()
try:
    engine = create_engine(postgres.url)
    print(state())
    with suppress(OSError), open(disk / "ballast", "wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    print(state())
    (disk / "ballast").unlink()
    print(state())
    engine.dispose()
finally:
    postgres.stop()
"""


def test_a_process_that_freezes_in_a_transaction_loses_its_locks(
    database: SessionFactory, base_settings: Settings
) -> None:
    engine = open_database(base_settings.model_copy(update={"database_timeout_seconds": 0.2}))
    frozen = sessions(engine)()
    assert try_to_dispatch(frozen)

    def is_free() -> bool:
        with database.begin() as session:
            return try_to_dispatch(session)

    assert not is_free()
    wait_until(is_free, 5)
    frozen.invalidate()
    engine.dispose()


def test_statements_of_pages_use_no_parallel_workers(base_settings: Settings) -> None:
    helpers = {}
    for is_serial in (False, True):
        engine = open_database(base_settings, is_serial=is_serial)
        with sessions(engine)() as session:
            helpers[is_serial] = session.scalar(text("show max_parallel_workers_per_gather"))
        engine.dispose()

    assert helpers[True] == "0" != helpers[False]


def test_a_full_disk_is_found_without_a_change(tmp_path: Path) -> None:
    rights = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    mount = f'mount -t tmpfs -o size=150m tmpfs {tmp_path} && exec "$@"'
    done = subprocess.run(
        (*rights, "sh", "-c", mount, "sh", sys.executable, "-c", FULL_DISK, str(tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ok", "full", "ok"]


def test_a_change_that_waits_for_a_lock_is_made_after_its_release(
    database: SessionFactory, base_settings: Settings
) -> None:
    """Its values are valid, so it must not fail as a refused change does."""
    engine = open_database(base_settings.model_copy(update={"database_timeout_seconds": 0.2}))
    lock = text("select pg_advisory_xact_lock(1)")
    attempts = 0

    def change(session: Session) -> str:
        nonlocal attempts
        attempts += 1
        session.execute(lock)
        return "made"

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as other:
            other.execute(lock)
            made = pool.submit(persist, sessions(engine), change, threading.Event())
            wait_until(lambda: made.done() or attempts > MOST_REFUSALS, 10)
        assert made.result(timeout=5) == "made"
    engine.dispose()
