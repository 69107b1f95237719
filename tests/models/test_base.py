from __future__ import annotations

from core.settings import Settings
from models.base import SessionFactory, open_database, sessions
from models.feeding import try_to_feed
from tests.service import wait_until


def test_a_process_that_freezes_in_a_transaction_does_not_hold_its_locks_for_ever(
    database: SessionFactory, base_settings: Settings
) -> None:
    engine = open_database(base_settings.model_copy(update={"database_timeout_seconds": 0.2}))
    frozen = sessions(engine)()
    assert try_to_feed(frozen)

    def is_free() -> bool:
        with database.begin() as session:
            return try_to_feed(session)

    assert not is_free()
    wait_until(is_free, 5)
    frozen.invalidate()
    engine.dispose()
