"""The calls for webhooks: the messages, their attempts, resending, and the secret of a key."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.auth.auditing import audit
from api.auth.authentication import Caller, authenticate, authenticate_user
from api.auth.visible_jobs import find_visible_job
from api.generation.polling import charge_poll
from api.http.paging import read_page, serialize_page
from api.http.query import read_choice
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import paging, query
from api.openapi.refusals import TOO_MANY_POLLS
from api.openapi.response import json_response
from api.responses.keys import WebhookSecretSchema
from api.responses.webhooks import WebhookPageSchema, WebhookSchema, WebhooksOfJobSchema
from api.services import services
from core.errors import NotFound
from core.ids import Prefix, format_id, parse_id
from core.webhooks.signature import WebhookSecret
from models.accounts.api_key import find_key
from models.database.base import Session
from models.jobs.serializer import format_time
from models.webhooks.queue import resend_delivery
from models.webhooks.webhook import (
    DeliveryState,
    WebhookAttempt,
    WebhookDelivery,
    find_delivery,
    list_attempts,
    list_deliveries,
    webhook_lease,
)

blueprint = Blueprint("webhooks", __name__, url_prefix="/api")

#: The newest attempts that a response lists; every resend adds more.
MOST_ATTEMPTS = 50
#: A job has one webhook.
MOST_OF_A_JOB = 10


@blueprint.get("/keys/<key_id>/webhook-secret")
@described(CallerKind.USER, {200: json_response(WebhookSecretSchema, "the secret")})
def secret(key_id: str) -> ResponseReturnValue:
    """Return the secret that signs the webhooks of a key, to its owner."""
    with services().database.sessions() as session:
        caller = authenticate_user(session)
        wanted = parse_id(Prefix.KEY, key_id)
        found = find_key(session, wanted) if wanted else None
    if found is None or found[0].user_id != caller.id:
        raise NotFound("there is no such key")
    return {"secret": WebhookSecret.of_key(services().settings, found[0].id).text}


@blueprint.get("/llm/jobs/<job_id>/webhooks")
@described(
    CallerKind.KEY_OR_USER,
    {200: json_response(WebhooksOfJobSchema, "the webhooks")},
    TOO_MANY_POLLS,
)
def of_job(job_id: str) -> ResponseReturnValue:
    """Return the webhooks of a job with each attempt to deliver them."""
    with services().database.sessions() as session:
        caller = _authenticate(session)
        job = find_visible_job(session, caller, job_id)
        deliveries = list_deliveries(session, job_id=job.id, limit=MOST_OF_A_JOB)
        return {
            "data": [_serialize_with_attempts(session, delivery) for delivery in deliveries.rows]
        }


@blueprint.get("/webhooks")
@described(
    CallerKind.KEY_OR_USER,
    {200: json_response(WebhookPageSchema, "webhooks")},
    TOO_MANY_POLLS,
    parameters=(
        *paging(Prefix.WEBHOOK),
        query("state", DeliveryState, "only webhooks in this state"),
    ),
)
def index() -> ResponseReturnValue:
    """List the caller's webhooks, newest first; an admin gets those of all users."""
    page = read_page(Prefix.WEBHOOK)
    state = read_choice("state", DeliveryState)
    with services().database.sessions() as session:
        caller = _authenticate(session)
        deliveries = list_deliveries(
            session,
            user_id=None if caller.sees_all else caller.user.id,
            state=state,
            after=page.after,
            limit=page.limit,
        )
    return serialize_page(deliveries, page, _serialize)


@blueprint.post("/webhooks/<webhook_id>/resend")
@described(
    CallerKind.KEY_OR_USER,
    {202: json_response(WebhookSchema, "the webhook, in a new round of attempts")},
    TOO_MANY_POLLS,
)
def resend(webhook_id: str) -> ResponseReturnValue:
    """Start a new round of attempts with the same id, also after a success."""
    with services().database.sessions.begin() as session:
        caller = _authenticate(session)
        delivery = _find(session, caller, webhook_id)
        before = delivery.state
        sent = resend_delivery(session, delivery.id, lease=webhook_lease(services().settings))
        assert sent is not None  # no delivery is deleted while a transaction that read it runs
        audit(
            session,
            "webhook.resend",
            actor=caller.user,
            target_id=sent.id,
            details={**_about(sent), "stateBefore": before},
        )
        return _serialize_with_attempts(session, sent), 202


def _authenticate(session: Session) -> Caller:
    caller = authenticate(session)
    charge_poll(services(), caller.poller_id)
    return caller


def _find(session: Session, caller: Caller, webhook_id: str) -> WebhookDelivery:
    wanted: UUID | None = parse_id(Prefix.WEBHOOK, webhook_id)
    delivery = find_delivery(session, wanted) if wanted else None
    if delivery is None or not caller.may_see(delivery.user_id):
        raise NotFound("there is no such webhook")
    return delivery


def _serialize(delivery: WebhookDelivery) -> dict[str, Any]:
    is_pending = delivery.state == DeliveryState.PENDING
    return {
        "id": format_id(Prefix.WEBHOOK, delivery.id),
        "object": "webhook",
        "type": delivery.event,
        **{"jobId": None, "batchId": None, **_about(delivery)},
        "keyId": format_id(Prefix.KEY, delivery.api_key_id),
        "url": delivery.url,
        "state": delivery.state,
        "attemptsInRound": delivery.attempts,
        "createdAt": format_time(delivery.created_at),
        "nextAttemptAt": format_time(delivery.next_attempt_at) if is_pending else None,
        "finishedAt": format_time(delivery.finished_at),
    }


def _about(delivery: WebhookDelivery) -> dict[str, str]:
    """Return the job or batch that the message is about."""
    if delivery.job_id is not None:
        return {"jobId": format_id(Prefix.JOB, delivery.job_id)}
    assert delivery.batch_id is not None  # by a constraint of the table
    return {"batchId": format_id(Prefix.BATCH, delivery.batch_id)}


def _serialize_with_attempts(session: Session, delivery: WebhookDelivery) -> dict[str, Any]:
    attempts = list_attempts(session, delivery.id, limit=MOST_ATTEMPTS)
    return {
        **_serialize(delivery),
        "attempts": [_serialize_attempt(attempt) for attempt in attempts],
    }


def _serialize_attempt(attempt: WebhookAttempt) -> dict[str, Any]:
    return {
        "at": format_time(attempt.at),
        "status": attempt.status,
        "error": attempt.error,
        "durationMs": attempt.duration_ms,
    }
