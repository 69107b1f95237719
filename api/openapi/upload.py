"""A file that a call takes: as the body itself, line by line, or in a form."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Upload:
    """What the document says of a file.

    Attributes:
        types: of the body, where it may be the file itself.
        line: what each line is, where that is known.
        form: the fields of a form, the file among them.
    """

    types: tuple[str, ...]
    line: type[BaseModel] | None
    form: type[BaseModel]
