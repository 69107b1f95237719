"""Keys, their secrets and what they may still use."""

from __future__ import annotations

from datetime import datetime

from pydantic import NonNegativeInt

from api.responses.base import NOT_REQUIRED, CamelCaseSchema, KeyId, PageSchema, UserId


class SetByAdminSchema(CamelCaseSchema):
    """What an admin switched off or lowered on a key; only an admin lifts it."""

    is_active: bool = NOT_REQUIRED
    rate_limit: int = NOT_REQUIRED
    token_limit: int = NOT_REQUIRED
    monthly_token_limit: int = NOT_REQUIRED
    max_in_flight: int = NOT_REQUIRED
    expires_at: datetime = NOT_REQUIRED


class KeySchema(CamelCaseSchema):
    """A key, without its secret. A limit of null is none.

    Attributes:
        prefix: what its secret begins with.
        rate_limit: requests a minute.
        token_limit: tokens a minute.
        monthly_token_limit: tokens a calendar month, UTC.
        max_in_flight: jobs that wait or run at once.
        priority: its share where keys compete.
        set_by_admin: what its owner cannot lift, by field.
        previous_secret_expires_at: until when the secret before a rotation works.
        last_used: when a generation last came with it.
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
    """A key with its secret, which is shown this once.

    Attributes:
        secret: what programs send.
    """

    secret: str


class KeyPageSchema(PageSchema):
    data: list[KeySchema]


class WebhookSecretSchema(CamelCaseSchema):
    """What a key's webhooks are signed with.

    Attributes:
        secret: of the Standard Webhooks scheme, `whsec_…`.
    """

    secret: str


class LimitSchema(CamelCaseSchema):
    """One limit.

    Attributes:
        limit: null is none.
        resets_at: when it begins again, if by a clock.
    """

    limit: int | None
    used: NonNegativeInt
    remaining: NonNegativeInt | None
    resets_at: datetime | None


class LimitsSchema(CamelCaseSchema):
    """Each limit of a key, under the name of the key's field."""

    rate_limit: LimitSchema
    token_limit: LimitSchema
    monthly_token_limit: LimitSchema
    max_in_flight: LimitSchema
