"""All tables together: import this module where the whole metadata is needed."""

from __future__ import annotations

from models.api_key import ApiKey
from models.audit import AuditEntry
from models.base import Base
from models.job import Job
from models.usage import Usage, UsageHourly
from models.user import User

__all__ = ["ApiKey", "AuditEntry", "Base", "Job", "Usage", "UsageHourly", "User"]

metadata = Base.metadata
