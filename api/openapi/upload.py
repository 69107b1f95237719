"""A file that a call accepts: as the body itself, or as a field of a form."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class UploadSpec:
    """The description of a file.

    Attributes:
        types: media types of a body that is the file itself.
        line: the model of each line, where there is one.
        form: the fields of the form, the file included.
    """

    types: tuple[str, ...]
    line: type[BaseModel] | None
    form: type[BaseModel]
