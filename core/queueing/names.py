"""The names of the queues and of the actors that run their jobs; imports no Dramatiq."""

from __future__ import annotations

from enum import StrEnum


class QueueName(StrEnum):
    """The two queues of jobs; interactive work goes before bulk everywhere."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


def actor_name(queue: QueueName) -> str:
    """Return the name of the actor that runs jobs of this queue."""
    return f"run_{queue}_job"
