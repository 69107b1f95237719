"""The steps that all generating calls of `/api` and `/v1` share.

They authenticate the key, admit the job, and wait for its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from flask import g

from api.auth.authentication import authenticate_generation_key
from api.generation.admission import AdmittedJob, KeyChanged, admit, may_use_cached_key
from api.generation.idempotency import read_idempotency
from api.generation.validation import NATIVE_NAMES, FieldNames
from api.generation.waiting import wait_for_end
from api.http.body import parse_body, receive_json
from api.http.disconnect import present_connection
from api.runtime.large_requests import (
    LARGE_BYTES,
    acquire_large_request_lock,
    release_large_request_lock,
)
from api.runtime.load_shedding import end_admission
from api.runtime.user_slots import SlotKind
from api.services import services
from core.errors import ApiError, Unavailable
from core.generation import Body, Generation
from models.accounts.key_cache import RequestKey
from models.jobs.job import Job

B = TypeVar("B", bound=Body)
#: Attempts to admit a request whose key changes during each.
MAX_KEY_LOOKUPS = 5


def authenticate_and_parse(kind: type[B]) -> tuple[RequestKey, B]:
    """Return the key and the body of the current request.

    The key may come from the cache.

    Raises:
        Unauthorized: no credentials, or bad ones.
        Forbidden: the key is inactive or has expired.
        ApiError: see `read_body`.
        Unavailable: the body is large, and too many large ones are being read.
        RateLimited: the body is large, and the key has no request left in this minute.
    """
    key = _authenticate(may_use_cache=True)
    with confirm_key_on_error(key):
        data = receive_json()
        if len(data) >= LARGE_BYTES:
            _wait_to_parse(key, len(data))
        return key, parse_body(kind, data)


def authenticate_fresh_key() -> RequestKey:
    """Return the key of the current request, read from the database.

    Raises:
        Unauthorized: no credentials, or bad ones.
        Forbidden: the key is inactive or has expired.
    """
    return _authenticate(may_use_cache=False)


@contextmanager
def confirm_key_on_error(key: RequestKey) -> Iterator[None]:
    """Check a cached key against the database before an error leaves this block.

    A revoked key then gets 401 or 403 instead of the error.
    """
    try:
        yield
    except Exception:  # any error: a revoked key must get 401 or 403
        _confirm(key)
        raise


def admit_request(
    key: RequestKey,
    generation: Generation,
    *,
    may_shorten: bool = False,
    names: FieldNames = NATIVE_NAMES,
) -> AdmittedJob:
    """Admit the current request; see `admit` for errors.

    Before a request with a cached key is rejected, the key is read again. If the key has changed,
    the request is admitted or rejected under the new state of the key.
    """

    def admit_with(key: RequestKey) -> AdmittedJob:
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
                key = _authenticate(may_use_cache=False)  # rejects a key that has ended
            except ApiError:
                current = _confirm(key)
                if current.version == key.version:
                    raise
                key = current
        raise Unavailable("the API key is being changed at this moment, try again soon")
    finally:
        release_large_request_lock()


def _wait_to_parse(key: RequestKey, size: int) -> None:
    """Wait until the large body of the current request may be parsed.

    A key without a request left is rejected before its body costs anything.
    """
    end_admission()  # waiting here is no sign of an overloaded process
    acquire_large_request_lock(services().slots.large_requests, key.user_id, size)
    services().limits.limiter.check_requests(key, recall=services().recall(key.id))


@contextmanager
def hold_connection_slot(key: RequestKey, kind: SlotKind) -> Iterator[None]:
    """Count one waiting or streaming connection of the key's user while the block runs.

    Take the slot before the job is admitted: a rejected request then costs nothing.

    Raises:
        RateLimited: the user has too many.
    """
    with ExitStack() as held:
        with confirm_key_on_error(key):
            held.enter_context(services().slots.connections.acquire(key.user_id, kind))
        yield


def _confirm(key: RequestKey) -> RequestKey:
    """Return the key; a cached one is read from the database.

    Raises:
        Unauthorized: the secret no longer proves a key.
        Forbidden: the key is inactive or has expired.
    """
    return _authenticate(may_use_cache=False) if key.is_cached else key


def _authenticate(*, may_use_cache: bool) -> RequestKey:
    key = authenticate_generation_key(services(), may_use_cache=may_use_cache)
    if not key.is_cached:
        services().keys.mark_used(key)
    return key


def wait_for_completion(admitted: AdmittedJob, seconds: float) -> Job | None:
    """Enqueue an admitted job and wait for its end, at most `seconds`.

    Returns the job, which may still be running. Returns `None` if the client has disconnected; the
    job is then cancelled, unless the client can retry with its idempotency key.
    """
    connection = present_connection()
    with admitted.services.jobs.events.watch(admitted.job.id) as watch:
        admitted.enqueue()
        end_admission()
        with connection.watched(watch.changed.set):
            job = wait_for_end(admitted.services, admitted.job, watch, connection, seconds=seconds)
    if not connection.is_gone:
        return job
    if admitted.is_cancelled_on_disconnect and not job.is_final:
        admitted.services.jobs.cancellation.abandon(job.id)
    return None
