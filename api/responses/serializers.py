"""Serializes users and API keys to JSON; jobs have `models/jobs/serializer.py`."""

from __future__ import annotations

from typing import Any

from pydantic.alias_generators import to_camel

from core.ids import Prefix, format_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.jobs.serializer import format_time


def serialize_user(user: User) -> dict[str, Any]:
    """Return a user as `UserSchema`."""
    return {
        "id": format_id(Prefix.USER, user.id),
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "isActive": user.is_active,
        "createdAt": format_time(user.created_at),
    }


def serialize_key(key: ApiKey) -> dict[str, Any]:
    """Return a key as `KeySchema`."""
    return {
        "id": format_id(Prefix.KEY, key.id),
        "userId": format_id(Prefix.USER, key.user_id),
        "name": key.name,
        "prefix": f"bc_{key.public_id}",
        "rateLimit": key.rate_limit,
        "tokenLimit": key.token_limit,
        "monthlyTokenLimit": key.monthly_token_limit,
        "maxInFlight": key.max_in_flight,
        "priority": key.priority,
        "isActive": key.is_active,
        "setByAdmin": {to_camel(name): value for name, value in key.holds.items()},
        "expiresAt": format_time(key.expires_at),
        "previousSecretExpiresAt": format_time(key.previous_secret_expires_at),
        "lastUsed": format_time(key.last_used_at),
        "createdAt": format_time(key.created_at),
    }
