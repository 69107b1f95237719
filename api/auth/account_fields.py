"""Fields of a user that several request bodies share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo
from pydantic.alias_generators import to_camel

from core.config.settings import MIN_PASSWORD_LENGTH
from core.errors import FieldFault, InvalidRequest
from core.generation import Text
from core.passwords.hashing import MAX_PASSWORD_LENGTH
from core.passwords.rules import password_fault
from core.text.canonical import canonical_email
from core.text.names import VISIBLE, is_seen

MAX_EMAIL_LENGTH = 320
MAX_NAME_LENGTH = 200

_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+")


def _check_email(text: str) -> str:
    email = canonical_email(text)
    is_valid = len(email) <= MAX_EMAIL_LENGTH and all(map(is_seen, email))
    if not is_valid or not _EMAIL.fullmatch(email):
        raise ValueError("email must be an address such as name@example.com")
    return email


def _check_password(text: str, info: ValidationInfo) -> str:
    if fault := password_fault(text):
        raise ValueError(f"{to_camel(info.field_name or '')} {fault}")
    return text


def check_against_email(password: str, email: str, *, param: str) -> None:
    """Check that a new password is not the email of the account.

    Raises:
        InvalidRequest: the password is the email.
    """
    if fault := password_fault(password, email=email):
        message = f"{param} {fault}"
        raise InvalidRequest(message, param=param, fields=[FieldFault(param, message)])


#: Normalized, so that one address is one user.
Email = Annotated[
    Text,
    StringConstraints(max_length=MAX_EMAIL_LENGTH),
    AfterValidator(_check_email),
    Field(json_schema_extra={"pattern": f"^{_EMAIL.pattern}$"}),
]
NewPassword = Annotated[
    str,
    Field(min_length=MIN_PASSWORD_LENGTH, max_length=MAX_PASSWORD_LENGTH, repr=False),
    AfterValidator(_check_password),
]
GivenPassword = Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_LENGTH, repr=False)]
UserName = Annotated[
    str, StringConstraints(max_length=MAX_NAME_LENGTH, pattern=r"^[^\x00]*$"), VISIBLE
]
