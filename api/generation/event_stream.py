"""Streams the text of a job as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from flask import Response, g, request

from api.generation.admission import AdmittedJob
from api.generation.outcomes import interrupted
from api.generation.text_follower import Delta, Ended, KeepAlive, TextFollower
from api.runtime.user_slots import SlotKind
from api.services import Services
from core.errors import ApiError
from core.web.disconnect import ClientConnection
from models.jobs.job import Job

_log = logging.getLogger(__name__)

#: Seconds that one write may take. A slower client may reconnect with `Last-Event-ID`.
WRITE_SECONDS = 30.0
DONE = "data: [DONE]\n\n"
KEEP_ALIVE = ": keep-alive\n\n"

#: Return the JSON objects of one delta, or of the end. The end may raise `ApiError`.
SerializeDelta = Callable[[Delta], list[dict[str, Any]]]
SerializeEnd = Callable[[Job], list[dict[str, Any]]]


def stream_admitted(
    admitted: AdmittedJob,
    serialize_delta: SerializeDelta,
    serialize_end: SerializeEnd,
    *,
    slot: AbstractContextManager[object],
    is_resumable: bool = True,
) -> Response:
    """Enqueue an admitted job and stream its text.

    When the client disconnects the job is cancelled, unless the client sent an idempotency key.

    Args:
        slot: held while the client streams.
        is_resumable: the client can reconnect with `Last-Event-ID`. A client that cannot takes any
            end of the stream for the end of the text. It gets an error event if the stream ends
            early, and the job counts as abandoned.

    Raises:
        Unavailable: the queue is away.
    """
    on_disconnect = None
    if admitted.is_cancelled_on_disconnect:

        def on_disconnect() -> None:
            admitted.services.jobs.cancellation.abandon(admitted.job.id)

    return _stream(
        admitted.services,
        admitted.job,
        serialize_delta,
        serialize_end,
        slot,
        enqueue=admitted.enqueue,
        on_disconnect=on_disconnect,
        headers=admitted.headers,
        is_resumable=is_resumable,
    )


def stream_job(
    services: Services,
    job: Job,
    position: str | None,
    serialize_delta: SerializeDelta,
    serialize_end: SerializeEnd,
) -> Response:
    """Stream the text of a job after the event `position`; a disconnect does not cancel the job.

    Raises:
        InvalidRequest: `position` is not the id of an event of this job.
    """
    slot = services.slots.connections.acquire(job.user_id, SlotKind.STREAM)
    return _stream(services, job, serialize_delta, serialize_end, slot, position=position)


def _stream(
    services: Services,
    job: Job,
    serialize_delta: SerializeDelta,
    serialize_end: SerializeEnd,
    slot: AbstractContextManager[object],
    *,
    position: str | None = None,
    enqueue: Callable[[], None] | None = None,
    on_disconnect: Callable[[], None] | None = None,
    headers: dict[str, str] | None = None,
    is_resumable: bool = True,
) -> Response:
    with ExitStack() as opened:
        opened.enter_context(slot)
        watch = opened.enter_context(services.jobs.events.watch(job.id, with_text=True))
        connection = ClientConnection.of_request(request.environ, probe=watch.request_probe)
        follower = TextFollower(
            services, job, watch, connection, seconds=services.settings.stream_seconds
        )
        follower.resume_after(position)
        if enqueue is None:
            watch.has_gap = True  # text may have been published before the subscription
        else:
            enqueue()
        opened.enter_context(connection.watched(watch.changed.set))
        opened.enter_context(connection.write_timeout(WRITE_SECONDS))
        events = _EventStream(
            follower, serialize_delta, serialize_end, g.request_id, is_resumable=is_resumable
        )
        response = Response(iter(events), mimetype="text/event-stream", headers=headers)
        response.headers["x-accel-buffering"] = "no"
        response.call_on_close(_close_stream(opened.pop_all(), events, connection, on_disconnect))
    return response


class _EventStream:
    """The lines of one stream; `has_ended` is set once the job has ended."""

    def __init__(
        self,
        follower: TextFollower,
        serialize_delta: SerializeDelta,
        serialize_end: SerializeEnd,
        request_id: str,
        *,
        is_resumable: bool,
    ) -> None:
        self._follower = follower
        self._serialize_delta = serialize_delta
        self._serialize_end = serialize_end
        self._request_id = request_id
        self.is_resumable = is_resumable
        self.has_ended = False

    def __iter__(self) -> Iterator[str]:
        yield ": waiting\n\n"  # sends the headers at once, however long the queue is
        try:
            for event in self._follower.events():
                match event:
                    case Delta():
                        yield from _format_events(event.position, self._serialize_delta(event))
                    case KeepAlive():
                        yield KEEP_ALIVE
                    case Ended():
                        self.has_ended = True
                        yield from _format_events(
                            self._follower.position, self._serialize_end(event.job)
                        )
                        yield DONE
            if not (self.has_ended or self.is_resumable):
                raise interrupted()
        except ApiError as error:
            yield f"data: {_json(error.body(self._request_id))}\n\n"
        except Exception:
            # The status was sent already: only an event can carry the error.
            _log.exception("a stream failed")
            failed = ApiError("something went wrong on our side")
            yield f"data: {_json(failed.body(self._request_id))}\n\n"


def _format_events(position: str, objects: list[dict[str, Any]]) -> Iterator[str]:
    """Yield events that belong together; only the last has the id of the new position.

    A client that received only some of them resumes at the id before, and gets them again.
    """
    *before, last = [f"data: {_json(one)}\n\n" for one in objects]
    yield from before
    yield f"id: {position}\n{last}"


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _close_stream(
    opened: ExitStack,
    events: _EventStream,
    connection: ClientConnection,
    on_disconnect: Callable[[], None] | None,
) -> Callable[[], None]:
    def close() -> None:
        has_left = connection.check() or not events.is_resumable
        is_abandoned = has_left and not events.has_ended
        opened.close()
        if is_abandoned and on_disconnect is not None:
            on_disconnect()

    return close
