"""The steps that all calls that generate share, whichever face they have: whose key it is, whether
the job may come to be, and the wait for its end.
"""

from __future__ import annotations

from flask import g

from api.admission import Admitted, admit
from api.authentication import authenticate_presented_key
from api.hang_up import present_hang_up
from api.idempotency import read_idempotency
from api.services import services
from api.waiting import wait_for_end
from core.generation import Generation
from models.base import utc_now
from models.job import Job
from models.statements import PresentedKey, mark_used

#: nginx's status for a client that closed the connection: only the log ever shows it.
CLIENT_CLOSED_REQUEST = 499


def present_key() -> PresentedKey:
    """Return the key that the present request may generate with, and note its use.

    Raises:
        Unauthorized: no credentials, or bad ones.
        Forbidden: the key is inactive or has expired.
    """
    key = authenticate_presented_key(services())
    mark_used(services().statements, key, utc_now())
    return key


def admit_present(
    key: PresentedKey, generation: Generation, *, may_shorten: bool = False
) -> Admitted:
    """Admit what the present request asks for; it raises what `admit` raises."""
    return admit(
        services(),
        key,
        generation,
        request_id=g.request_id,
        idempotency=read_idempotency(generation),
        may_shorten=may_shorten,
    )


def wait_for_answer(admitted: Admitted, seconds: float) -> Job | None:
    """Send an admitted job and return it as it is when it has ended or the time is over.

    Returns `None` when the client has gone: then the job is cancelled, unless it may be asked for
    again.
    """
    hang_up = present_hang_up()
    with services().news.watch(admitted.job.id) as watch:
        admitted.send()
        with hang_up.watched(watch.changed.set):
            job = wait_for_end(services(), admitted.job, watch, hang_up, seconds=seconds)
    if not hang_up.is_gone:
        return job
    if admitted.is_cancelled_with_its_client and not job.is_final:
        services().cancels.abandon(job.id)
    return None
