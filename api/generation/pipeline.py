"""The steps that all calls that generate share, whichever face they have: whose key it is, whether
the job may come to be, and the wait for its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from flask import g

from api.auth.authentication import authenticate_presented_key
from api.generation.admission import AdmittedJob, KeyChanged, admit, may_use_cached_key
from api.generation.idempotency import read_idempotency
from api.generation.validation import NATIVE_NAMES, FieldNames
from api.generation.waiting import wait_for_end
from api.http.body import parse_body, receive_json
from api.http.disconnect import present_hang_up
from api.runtime.large_requests import LARGE_BYTES, hold_turn, leave_turn
from api.runtime.load_shedding import leave_entrance
from api.runtime.user_slots import Opened
from api.services import services
from core.errors import ApiError, Unavailable
from core.generation import Body, Generation
from models.accounts.key_cache import PresentedKey
from models.jobs.job import Job

B = TypeVar("B", bound=Body)
#: Times that a request is admitted under its key, while the key changes each time.
MAX_KEY_LOOKUPS = 5


def authenticate_and_parse(kind: type[B]) -> tuple[PresentedKey, B]:
    """Return the key that the present request may generate with, and its body.

    Raises:
        Unauthorized: no credentials, or bad ones.
        Forbidden: the key is inactive or has expired.
        ApiError: what `read_body` raises.
        Unavailable: the body is large, and too many large ones are read.
        RateLimited: the body is large, and the key has no request left in this minute.
    """
    key = _look_up(may_believe=True)
    with confirm_key_on_error(key):
        data = receive_json()
        if len(data) >= LARGE_BYTES:
            _wait_for_turn(key, len(data))
        return key, parse_body(kind, data)


def authenticate_fresh_key() -> PresentedKey:
    """Return the key that the present request may generate with, looked up for it.

    Raises:
        Unauthorized: no credentials, or bad ones.
        Forbidden: the key is inactive or has expired.
    """
    return _look_up(may_believe=False)


@contextmanager
def confirm_key_on_error(key: PresentedKey) -> Iterator[None]:
    """Let no error leave this block under a believed key that is not good any more."""
    try:
        yield
    except Exception:
        _confirm(key)
        raise


def admit_request(
    key: PresentedKey,
    generation: Generation,
    *,
    may_shorten: bool = False,
    names: FieldNames = NATIVE_NAMES,
) -> AdmittedJob:
    """Admit what the present request asks for; it raises what `admit` raises.

    A believed key's refusals are told only if it is still what it was believed to be; otherwise the
    request is admitted, or refused, under the key as it is now.
    """

    def admit_with(key: PresentedKey) -> AdmittedJob:
        traces = services().traces
        with traces.admitting():
            return admit(
                services(),
                key,
                generation,
                request_id=g.request_id,
                traceparent=traces.header(),
                idempotency=idempotency,
                may_shorten=may_shorten,
                names=names,
            )

    with confirm_key_on_error(key):
        idempotency = read_idempotency(generation)
    if not may_use_cached_key(generation, idempotency):
        key = _confirm(key)
    try:
        for _ in range(MAX_KEY_LOOKUPS):
            try:
                return admit_with(key)
            except KeyChanged:
                key = _look_up(may_believe=False)  # refuses a key that has ended
            except ApiError:
                known = _confirm(key)
                if known.version == key.version:
                    raise
                key = known
        raise Unavailable("the API key is being changed at this moment, try again soon")
    finally:
        leave_turn()


def _wait_for_turn(key: PresentedKey, size: int) -> None:
    """Wait until the present request's large body may be read.

    A key without a request left is refused before its body costs anything.
    """
    leave_entrance()  # those who wait here are no crowd that others would have to wait for
    hold_turn(services().slots.large_requests, key.user_id, size)
    services().limits.limiter.check_requests(key, recall=services().recall(key.id))


@contextmanager
def hold_connection_slot(key: PresentedKey, what: Opened) -> Iterator[None]:
    """Count a connection of the key's user that waits or streams, while the block runs.

    Take it before the job: what is refused here has cost nothing.

    Raises:
        RateLimited: the user has too many.
    """
    with ExitStack() as held:
        with confirm_key_on_error(key):
            held.enter_context(services().slots.connections.one_more(key.user_id, what))
        yield


def _confirm(key: PresentedKey) -> PresentedKey:
    """Return the key as it is now, if it was only believed.

    Raises:
        Unauthorized: the secret proves no key any more.
        Forbidden: the key is inactive or has expired.
    """
    return _look_up(may_believe=False) if key.is_believed else key


def _look_up(*, may_believe: bool) -> PresentedKey:
    key = authenticate_presented_key(services(), may_believe=may_believe)
    if not key.is_believed:
        services().keys.mark_used(key)
    return key


def wait_for_completion(admitted: AdmittedJob, seconds: float) -> Job | None:
    """Send an admitted job and return it as it is when it has ended or the time is over.

    Returns `None` when the client has gone: then the job is cancelled, unless it may be asked for
    again.
    """
    hang_up = present_hang_up()
    with admitted.services.jobs.events.watch(admitted.job.id) as watch:
        admitted.send()
        leave_entrance()
        with hang_up.watched(watch.changed.set):
            job = wait_for_end(admitted.services, admitted.job, watch, hang_up, seconds=seconds)
    if not hang_up.is_gone:
        return job
    if admitted.is_cancelled_on_disconnect and not job.is_final:
        admitted.services.jobs.cancellation.abandon(job.id)
    return None
