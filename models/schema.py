"""All tables together: import this module where the whole metadata is needed."""

from __future__ import annotations

from models.api_key import ApiKey
from models.audit import AuditEntry
from models.base import Base
from models.batch import Batch
from models.file import File, FilePiece
from models.idempotency import IdempotencyKey
from models.job import Job
from models.last_backup import LastBackup
from models.refused_batch import RefusedBatch
from models.retention import RetentionMark
from models.usage import Usage, UsageHourly
from models.usage_levels import (
    UsageClosing,
    UsageDaily,
    UsageMonthly,
    UsageTotalDaily,
    UsageTotalHourly,
)
from models.user import User
from models.user_session import UserSession
from models.webhook import WebhookAttempt, WebhookDelivery

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
    "RefusedBatch",
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
