"""All tables together: import this module where the whole metadata is needed."""

from __future__ import annotations

from models.accounts.api_key import ApiKey
from models.accounts.audit import AuditEntry
from models.accounts.session import UserSession
from models.accounts.user import User
from models.batches.batch import Batch
from models.batches.rejected import RejectedBatch
from models.database.base import Base
from models.files.file import File, FilePiece
from models.jobs.idempotency import IdempotencyKey
from models.jobs.job import Job
from models.maintenance.last_backup import LastBackup
from models.maintenance.retention import RetentionMark
from models.usage.rollups import (
    UsageClosing,
    UsageDaily,
    UsageMonthly,
    UsageTotalDaily,
    UsageTotalHourly,
)
from models.usage.usage import Usage, UsageHourly
from models.webhooks.webhook import WebhookAttempt, WebhookDelivery

__all__ = [
    "ApiKey",
    "AuditEntry",
    "Base",
    "Batch",
    "File",
    "FilePiece",
    "IdempotencyKey",
    "Job",
    "LastBackup",
    "RejectedBatch",
    "RetentionMark",
    "Usage",
    "UsageClosing",
    "UsageDaily",
    "UsageHourly",
    "UsageMonthly",
    "UsageTotalDaily",
    "UsageTotalHourly",
    "User",
    "UserSession",
    "WebhookAttempt",
    "WebhookDelivery",
]

metadata = Base.metadata
