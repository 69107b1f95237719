"""Users and tokens."""

from __future__ import annotations

from datetime import datetime

from api.responses.shown import Count, Page, Shown, UserId
from models.accounts.user import Role


class ShownUser(Shown):
    """A user.

    Attributes:
        is_active: false while an admin has suspended the user.
    """

    id: UserId
    email: str
    name: str
    role: Role
    is_active: bool
    created_at: datetime


class ListedUser(ShownUser):
    """A user.

    Attributes:
        key_count: keys that have not been ended.
    """

    key_count: Count


class UserPage(Page):
    data: list[ListedUser]


class SignedIn(Shown):
    """Tokens of a user.

    Attributes:
        token: the JWT, for `Authorization: Bearer`.
        refresh_token: for `POST /api/auth/refresh`, when the other has expired.
    """

    token: str
    refresh_token: str
    user: ShownUser
