"""The webhooks of a job or a batch, with their newest attempts."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from flask import abort, flash

from admin_ui.web.access import viewer
from admin_ui.web.page import api, database
from core.ids import Prefix, format_id, parse_id
from models.pages.jobs import read_attempts
from models.webhooks.webhook import WebhookAttempt, WebhookDelivery, list_deliveries

#: A job or a batch has one webhook.
MAX_WEBHOOKS = 2


class WebhookLog(NamedTuple):
    """A webhook and its attempts, newest first."""

    webhook: WebhookDelivery
    attempts: list[WebhookAttempt]


def webhooks_of(*, job_id: UUID | None = None, batch_id: UUID | None = None) -> list[WebhookLog]:
    """Return the webhooks of one job or one batch."""
    found = list_deliveries(database(), job_id=job_id, batch_id=batch_id, limit=MAX_WEBHOOKS).rows
    attempts = read_attempts(database(), [webhook.id for webhook in found])
    return [WebhookLog(webhook, attempts.get(webhook.id, [])) for webhook in found]


def resend_webhook(text: str) -> None:
    """Start a new round of attempts; the API checks whether the viewer may.

    Args:
        text: the webhook's id, as the form sent it. Another text ends in 404.
    """
    webhook_id = parse_id(Prefix.WEBHOOK, text)
    if webhook_id is None:
        abort(404)
    path = f"/api/webhooks/{format_id(Prefix.WEBHOOK, webhook_id)}/resend"
    api().call(viewer(), "POST", path)
    flash("The webhook is sent again.")
