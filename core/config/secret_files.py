"""Reads secrets from files that the environment names: `SECRET_KEY_FILE` for `SECRET_KEY`.

Containers receive secrets as files, because lists of processes and containers do not show them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

SUFFIX = "_FILE"
#: A larger file is not a secret, but the wrong file.
MAX_BYTES = 16 * 1024


def read_secret_files(
    environment: Mapping[str, str], names: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment with the secrets of its files, and the faults.

    A fault is one line, under the name of its secret. A faulty secret is missing in the result.
    """
    result = dict(environment)
    faults = {}
    for name in names:
        path = result.pop(name + SUFFIX, "")
        if not path:
            continue
        if result.pop(name, "") != "":
            faults[name] = f"{name} and {name}{SUFFIX} must not both be set"
            continue
        try:
            result[name] = _read(Path(path))
        except (OSError, ValueError) as error:
            faults[name] = f"{name}{SUFFIX} cannot be read: {_reason(error)}"
    return result, faults


def _read(path: Path) -> str:
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES} bytes")
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        # The message of the error itself quotes the file.
        raise ValueError(f"{path} is not UTF-8") from None
    if not text or "\0" in text:
        raise ValueError(f"{path} contains no secret")
    return text


def _reason(error: OSError | ValueError) -> str:
    return f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
