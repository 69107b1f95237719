"""Answers with server-sent events (WHATWG HTML, section 9.2): the text of a job as it is made."""

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
from api.runtime.user_slots import Opened
from api.services import Services
from core.errors import ApiError
from core.web.disconnect import ClientConnection
from models.jobs.job import Job

_log = logging.getLogger(__name__)

#: A client that takes nothing for this long is let go; it may come back with `Last-Event-ID`.
WRITE_SECONDS = 30.0
DONE = "data: [DONE]\n\n"
KEEP_ALIVE = ": keep-alive\n\n"

#: Makes the JSON objects of one delta, or of the end; the end may raise `ApiError`.
SerializeDelta = Callable[[Delta], list[dict[str, Any]]]
SerializeEnd = Callable[[Job], list[dict[str, Any]]]


def stream_admitted(
    admitted: AdmittedJob,
    serialize_delta: SerializeDelta,
    serialize_end: SerializeEnd,
    *,
    place: AbstractContextManager[object],
    is_resumable: bool = True,
) -> Response:
    """Send a job that was just admitted, and answer with its text as it is made.

    When the client goes away the job is cancelled, unless the client said that it may come back.

    Args:
        place: what the client holds while it streams.
        is_resumable: the client can come back with `Last-Event-ID`. One that cannot takes any end
            of the stream for the end of the text: it is told when it is not, and the job counts as
            abandoned.

    Raises:
        Unavailable: the queue is away.
    """
    on_gone = None
    if admitted.is_cancelled_on_disconnect:

        def on_gone() -> None:
            admitted.services.jobs.cancellation.abandon(admitted.job.id)

    return _answer(
        admitted.services,
        admitted.job,
        serialize_delta,
        serialize_end,
        place,
        send=admitted.enqueue,
        on_gone=on_gone,
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
    """Answer with the text of a job from after the event `position`; it goes on without us.

    Raises:
        InvalidRequest: `position` is no id of this job's events.
    """
    place = services.slots.connections.one_more(job.user_id, Opened.STREAM)
    return _answer(services, job, serialize_delta, serialize_end, place, position=position)


def _answer(
    services: Services,
    job: Job,
    serialize_delta: SerializeDelta,
    serialize_end: SerializeEnd,
    place: AbstractContextManager[object],
    *,
    position: str | None = None,
    send: Callable[[], None] | None = None,
    on_gone: Callable[[], None] | None = None,
    headers: dict[str, str] | None = None,
    is_resumable: bool = True,
) -> Response:
    with ExitStack() as opened:
        opened.enter_context(place)
        watch = opened.enter_context(services.jobs.events.watch(job.id, with_text=True))
        connection = ClientConnection.of_request(request.environ, probe=watch.ask_for_sign)
        following = TextFollower(
            services, job, watch, connection, seconds=services.settings.stream_seconds
        )
        following.resume_after(position)
        if send is None:
            watch.has_gap = True  # of what was told before we listened
        else:
            send()
        opened.enter_context(connection.watched(watch.changed.set))
        opened.enter_context(connection.write_timeout(WRITE_SECONDS))
        events = _EventStream(
            following, serialize_delta, serialize_end, g.request_id, is_resumable=is_resumable
        )
        response = Response(iter(events), mimetype="text/event-stream", headers=headers)
        response.headers["x-accel-buffering"] = "no"
        response.call_on_close(_closing(opened.pop_all(), events, connection, on_gone))
    return response


class _EventStream:
    """The lines of one stream; `has_ended` once nothing of the job is left to tell."""

    def __init__(
        self,
        following: TextFollower,
        serialize_delta: SerializeDelta,
        serialize_end: SerializeEnd,
        request_id: str,
        *,
        is_resumable: bool,
    ) -> None:
        self._following = following
        self._serialize_delta = serialize_delta
        self._serialize_end = serialize_end
        self._request_id = request_id
        self.is_resumable = is_resumable
        self.has_ended = False

    def __iter__(self) -> Iterator[str]:
        yield ": waiting\n\n"  # the headers leave at once, however long the line is
        try:
            for event in self._following.events():
                match event:
                    case Delta():
                        yield from _lines(event.position, self._serialize_delta(event))
                    case KeepAlive():
                        yield KEEP_ALIVE
                    case Ended():
                        self.has_ended = True
                        yield from _lines(self._following.position, self._serialize_end(event.job))
                        yield DONE
            if not (self.has_ended or self.is_resumable):
                raise interrupted()
        except ApiError as error:
            yield f"data: {_json(error.body(self._request_id))}\n\n"
        except Exception:
            # The status has been sent: all that can be told is told in the stream.
            _log.exception("a stream failed")
            failed = ApiError("something went wrong on our side")
            yield f"data: {_json(failed.body(self._request_id))}\n\n"


def _lines(position: str, shown: list[dict[str, Any]]) -> Iterator[str]:
    """Give events that tell one thing together. Only after the last does the stream stand there:
    a client that has only those before comes back with the id it knew, and misses nothing.
    """
    *before, last = [f"data: {_json(one)}\n\n" for one in shown]
    yield from before
    yield f"id: {position}\n{last}"


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _closing(
    opened: ExitStack,
    events: _EventStream,
    connection: ClientConnection,
    on_gone: Callable[[], None] | None,
) -> Callable[[], None]:
    def close() -> None:
        has_left = connection.check() or not events.is_resumable
        is_abandoned = has_left and not events.has_ended
        opened.close()
        if is_abandoned and on_gone is not None:
            on_gone()

    return close
