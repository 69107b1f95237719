"""All targets of fuzzing."""

from __future__ import annotations

from tests.fuzz import bodies, files, heads, secrets, values

TARGETS = (
    *bodies.TARGETS,
    *files.TARGETS,
    *heads.TARGETS,
    *secrets.TARGETS,
    *values.TARGETS,
)
