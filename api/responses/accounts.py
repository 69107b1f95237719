"""Users and tokens."""

from __future__ import annotations

from datetime import datetime

from pydantic import NonNegativeInt

from api.responses.base import CamelCaseSchema, PageSchema, UserId
from models.accounts.user import Role


class UserSchema(CamelCaseSchema):
    """A user.

    Attributes:
        is_active: false while the user is suspended.
    """

    id: UserId
    email: str
    name: str
    role: Role
    is_active: bool
    created_at: datetime


class ListedUserSchema(UserSchema):
    """A user.

    Attributes:
        key_count: the number of keys that are not deleted.
    """

    key_count: NonNegativeInt


class UserPageSchema(PageSchema):
    data: list[ListedUserSchema]


class SignedInSchema(CamelCaseSchema):
    """Tokens of a user.

    Attributes:
        token: the JWT, for `Authorization: Bearer`.
        refresh_token: for `POST /api/auth/refresh`, when `token` has expired.
    """

    token: str
    refresh_token: str
    user: UserSchema
