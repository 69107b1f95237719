"""Reads the `Idempotency-Key` header: the same key and body within a day mean the same job."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from uuid import UUID

from flask import request

from core.errors import IdempotencyConflict, InvalidRequest
from core.generation import Generation
from models.database.base import Session
from models.jobs.idempotency import find_idempotency_key
from models.jobs.job import Job, find_job

#: Printable ASCII, as in other services.
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's idempotency key, and the SHA-256 of the route and the generation."""

    key: str
    body_hash: str


def read_idempotency_key() -> str | None:
    """Return the idempotency key of the current request, if it has one.

    Raises:
        InvalidRequest: the header is not a valid key.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key must be 1 to 255 printable ASCII characters")
    return key


def read_idempotency(generation: Generation) -> Idempotency | None:
    """Return the idempotency key of the current request with the hash of its generation.

    Raises:
        InvalidRequest: the header is not a valid key.
    """
    key = read_idempotency_key()
    if key is None:
        return None
    # Hash the route: callers can spell its path in several ways.
    route = request.url_rule.rule if request.url_rule else request.path
    body = json.dumps([route, generation.to_row()], sort_keys=True)
    return Idempotency(key, hashlib.sha256(body.encode()).hexdigest())


def find_repeated(session: Session, api_key_id: UUID, idempotency: Idempotency) -> Job | None:
    """Return the job that the same request made earlier.

    Raises:
        IdempotencyConflict: the key belongs to another request.
    """
    found = find_idempotency_key(session, api_key_id, idempotency.key)
    if found is None:
        return None
    if found.body_hash != idempotency.body_hash:
        raise IdempotencyConflict("this Idempotency-Key was used for another request")
    return find_job(session, found.job_id)
