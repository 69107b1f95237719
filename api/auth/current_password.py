"""Checks the current password of a signed-in user, which some changes require."""

from __future__ import annotations

from api.http.caller_address import caller_address
from api.services import services
from core.errors import Forbidden
from core.limits.throttle import own_password_rule
from core.passwords.pool import PasswordUser, check_password
from models.accounts.user import User


def check_current_password(user: User, password: str) -> None:
    """Check the password of the user who calls.

    Raises:
        Forbidden: `invalid_credentials`, the password is wrong.
        RateLimited: `too_many_attempts`.
    """
    rule = own_password_rule(services().settings)
    with services().limits.throttle.attempt(
        rule, address=caller_address(), email=user.email
    ) as attempt:
        if not check_password(user.password_hash, password, user=password_user(user.email)):
            raise Forbidden(
                "the current password is wrong", code="invalid_credentials", param="currentPassword"
            )
        attempt.succeed()


def password_user(email: str) -> PasswordUser:
    """Return the account and address that the password pool counts this request for."""
    return PasswordUser(account=email, address=caller_address())
