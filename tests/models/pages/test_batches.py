"""Lists of batches and of their lines: owner, progress and filters."""

from __future__ import annotations

from sqlalchemy.orm import Session

from core.ids import new_id
from models.batches.batch import BatchState
from models.database.base import utc_now
from models.jobs.job import Job, JobState
from models.pages.batches import BatchFilter, list_batch_page, list_lines
from tests.support.factories.batches import add_batch


def test_batches_show_their_owner_progress_and_lines(session: Session) -> None:
    batch = add_batch(session, lines=6, failed=2, state=BatchState.RUNNING)
    add_batch(session, state=BatchState.COMPLETED, succeeded=1, finished_at=utc_now())
    lines = session.query(Job).filter_by(batch_id=batch.id).order_by(Job.line).all()
    for line in (lines[1], lines[4]):
        line.state = JobState.FAILED
    lines[0].state, lines[0].is_held = JobState.RUNNING, False
    session.flush()

    page = list_batch_page(session, BatchFilter(state=BatchState.RUNNING), limit=9)
    (listed,) = page.rows

    assert (listed.batch.id, listed.key_name) == (batch.id, "key")
    assert (listed.running, listed.batch.ended) == (1, 2)
    assert len(list_batch_page(session, BatchFilter(), limit=9).rows) == 2
    assert len(list_batch_page(session, BatchFilter(batch.user_id), limit=9).rows) == 1
    assert list_batch_page(session, BatchFilter(key_id=new_id()), limit=9).rows == []
    second = list_lines(session, batch.id, after=2, limit=2)
    assert [job.line for job in second.rows] == [3, 4]
    assert [j.line for j in list_lines(session, batch.id, before=3, limit=9).rows] == [1, 2]
    failed = list_lines(session, batch.id, states=[JobState.FAILED], after=2, limit=9)
    assert [job.line for job in failed.rows] == [5]
