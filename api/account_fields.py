"""The fields of a user as callers write them, in every body that has them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from core.generation import Text
from core.passwords import MAX_PASSWORD_LENGTH
from core.settings import MIN_PASSWORD_LENGTH

MAX_EMAIL_LENGTH = 320
MAX_NAME_LENGTH = 200

_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+")


def _check_email(text: str) -> str:
    email = text.lower()
    if not _EMAIL.fullmatch(email) or len(email) > MAX_EMAIL_LENGTH:
        raise ValueError("email must be an address such as name@example.com")
    return email


#: Kept in lower case, so that one address is one user.
Email = Annotated[
    Text,
    StringConstraints(max_length=MAX_EMAIL_LENGTH),
    AfterValidator(_check_email),
    Field(json_schema_extra={"pattern": f"^{_EMAIL.pattern}$"}),
]
NewPassword = Annotated[
    str, Field(min_length=MIN_PASSWORD_LENGTH, max_length=MAX_PASSWORD_LENGTH, repr=False)
]
GivenPassword = Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_LENGTH, repr=False)]
UserName = Annotated[str, StringConstraints(max_length=MAX_NAME_LENGTH, pattern=r"^[^\x00]*$")]
