"""Keys, their secrets and what they may still use."""

from __future__ import annotations

from datetime import datetime

from api.responses.shown import SOMETIMES, Count, KeyId, Page, Shown, UserId


class SetByAdmin(Shown):
    """What an admin switched off or lowered on a key; only an admin lifts it."""

    is_active: bool = SOMETIMES
    rate_limit: int = SOMETIMES
    token_limit: int = SOMETIMES
    monthly_token_limit: int = SOMETIMES
    max_in_flight: int = SOMETIMES
    expires_at: datetime = SOMETIMES


class ShownKey(Shown):
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
    set_by_admin: SetByAdmin
    expires_at: datetime | None
    previous_secret_expires_at: datetime | None
    last_used: datetime | None
    created_at: datetime


class MadeKey(ShownKey):
    """A key with its secret, which is shown this once.

    Attributes:
        secret: what programs send.
    """

    secret: str


class KeyPage(Page):
    data: list[ShownKey]


class WebhookSecretShown(Shown):
    """What a key's webhooks are signed with.

    Attributes:
        secret: of the Standard Webhooks scheme, `whsec_…`.
    """

    secret: str


class ShownLimit(Shown):
    """One limit.

    Attributes:
        limit: null is none.
        resets_at: when it begins again, if by a clock.
    """

    limit: int | None
    used: Count
    remaining: Count | None
    resets_at: datetime | None


class ShownLimits(Shown):
    """Each limit of a key, under the name of the key's field."""

    rate_limit: ShownLimit
    token_limit: ShownLimit
    monthly_token_limit: ShownLimit
    max_in_flight: ShownLimit
