"""Schemas of keys, their secrets and their limits."""

from __future__ import annotations

from datetime import datetime

from pydantic import NonNegativeInt

from api.responses.base import NOT_REQUIRED, CamelCaseSchema, KeyId, PageSchema, UserId


class SetByAdminSchema(CamelCaseSchema):
    """The fields of a key that an admin switched off or lowered; only an admin can lift them."""

    is_active: bool = NOT_REQUIRED
    rate_limit: int = NOT_REQUIRED
    token_limit: int = NOT_REQUIRED
    monthly_token_limit: int = NOT_REQUIRED
    max_in_flight: int = NOT_REQUIRED
    expires_at: datetime = NOT_REQUIRED


class KeySchema(CamelCaseSchema):
    """A key, without its secret. A limit of null means no limit.

    Attributes:
        prefix: the first characters of its secret.
        rate_limit: requests per minute.
        token_limit: tokens per minute.
        monthly_token_limit: tokens per calendar month, in UTC.
        max_in_flight: jobs that wait or run at the same time.
        priority: the share of the key where keys compete.
        set_by_admin: the fields that its owner cannot lift.
        previous_secret_expires_at: when the secret before the last rotation stops working.
        last_used: the time of the last generation with the key.
    """

    id: KeyId
    user_id: UserId
    name: str
    prefix: str
    rate_limit: int
    token_limit: int | None
    monthly_token_limit: int | None
    max_in_flight: int | None
    priority: int
    is_active: bool
    set_by_admin: SetByAdminSchema
    expires_at: datetime | None
    previous_secret_expires_at: datetime | None
    last_used: datetime | None
    created_at: datetime


class MadeKeySchema(KeySchema):
    """A key with its secret, which is returned only once.

    Attributes:
        secret: the credential that programs send.
    """

    secret: str


class KeyPageSchema(PageSchema):
    data: list[KeySchema]


class WebhookSecretSchema(CamelCaseSchema):
    """The secret that signs the webhooks of a key.

    Attributes:
        secret: a secret of Standard Webhooks, `whsec_…`.
    """

    secret: str


class LimitSchema(CamelCaseSchema):
    """One limit.

    Attributes:
        limit: null means no limit.
        resets_at: the time of the reset, if the limit resets by a clock.
    """

    limit: int | None
    used: NonNegativeInt
    remaining: NonNegativeInt | None
    resets_at: datetime | None


class LimitsSchema(CamelCaseSchema):
    """The limits of a key, by the names of the key's fields."""

    rate_limit: LimitSchema
    token_limit: LimitSchema
    monthly_token_limit: LimitSchema
    max_in_flight: LimitSchema
