"""The webhooks of a job or a batch, with their newest attempts."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from flask import abort, flash

from admin_ui.web.access import viewer
from admin_ui.web.page import api, database
from core.ids import Prefix, read_id, show_id
from models.pages.jobs import read_attempts
from models.webhooks.webhook import WebhookAttempt, WebhookDelivery, list_deliveries

#: A job or a batch has one webhook.
MOST_DELIVERIES = 2


class Delivery(NamedTuple):
    """A webhook and the attempts to deliver it, newest first."""

    webhook: WebhookDelivery
    attempts: list[WebhookAttempt]


def deliveries_of(*, job_id: UUID | None = None, batch_id: UUID | None = None) -> list[Delivery]:
    """Return the webhooks of one job or one batch."""
    found = list_deliveries(
        database(), job_id=job_id, batch_id=batch_id, limit=MOST_DELIVERIES
    ).rows
    attempts = read_attempts(database(), [webhook.id for webhook in found])
    return [Delivery(webhook, attempts.get(webhook.id, [])) for webhook in found]


def send_again(text: str) -> None:
    """Begin a new round of attempts to deliver a webhook, if it is the viewer's to send."""
    webhook_id = read_id(Prefix.WEBHOOK, text)
    if webhook_id is None:
        abort(404)
    path = f"/api/webhooks/{show_id(Prefix.WEBHOOK, webhook_id)}/resend"
    api().call(viewer(), "POST", path)
    flash("The webhook is sent again.")
