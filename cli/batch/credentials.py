"""The service's URL and API key: from flags, then the environment, then a file."""

from __future__ import annotations

import argparse
import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cli.batch.exit_codes import UsageFault

URL_VARIABLE = "BOUNTYCODER_URL"
KEY_VARIABLE = "BOUNTYCODER_API_KEY"
API_PATHS = ("/v1", "/api")
_NAMES = ("url", "key")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The URL and API key of the service.

    Attributes:
        flags: the flags that a later command needs too, without the key.
    """

    url: str
    key: str = field(repr=False)
    flags: tuple[str, ...] = ()


def add_credential_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the service")
    group.add_argument("--url", help=f"default: {URL_VARIABLE}, or `url` in the file")
    group.add_argument(
        "--key",
        help=f"bc_…; default: {KEY_VARIABLE}, or `key` in the file; `ps` shows this argument",
    )
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML with `url` and `key`; default: ~/.config/bountycoder/config.toml",
    )


def read_credentials(
    args: argparse.Namespace, environment: Mapping[str, str], warn: Callable[[str], None]
) -> Credentials:
    """Return the URL and the key, each from flag, environment or file, in this order.

    Raises:
        UsageFault: one of them is missing or wrong. The message never contains a key.
    """
    file_values = _read_file(args.config, environment, warn)
    url = args.url or environment.get(URL_VARIABLE) or file_values.get("url")
    key = args.key or environment.get(KEY_VARIABLE) or file_values.get("key")
    faults = []
    if not url:
        faults.append(f"no URL: set --url, {URL_VARIABLE} or `url` in the file")
    if not key:
        faults.append(f"no API key: set {KEY_VARIABLE}, `key` in the file, or --key")
    if not url or not key:
        raise UsageFault("; ".join(faults))
    return Credentials(_checked_url(url), _checked_key(key), _flags(args))


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        raise UsageFault("the service's URL is not a valid URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right:
        raise UsageFault("the service's URL must be such as https://llm.example.com")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageFault("the service's URL must not have a user, a query or a fragment")
    url = url.rstrip("/")
    # Remove the path of OpenAI's clients or of our own API.
    return next((url.removesuffix(end) for end in API_PATHS if url.endswith(end)), url).rstrip("/")


def _checked_key(key: str) -> str:
    """Reject a key that is no valid header before a library does: its error would show the key."""
    key = key.strip()
    if not key or not all("!" <= letter <= "~" for letter in key):
        raise UsageFault("the API key contains characters that no key has")
    return key


def _read_file(
    given: Path | None, environment: Mapping[str, str], warn: Callable[[str], None]
) -> dict[str, str]:
    path = given or _default_path(environment)
    if path is None:
        return {}
    try:
        with open(path, "rb") as file:
            file_values = tomllib.load(file)
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        if given is None:
            return {}
        raise UsageFault(f"{path} does not exist") from None
    except OSError as error:
        raise UsageFault(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        # The parser's message may quote the line with the key.
        raise UsageFault(f"{path} is not valid TOML") from None
    if unknown := sorted(set(file_values) - set(_NAMES)):
        raise UsageFault(f"{path}: no such setting: {', '.join(unknown)}")
    if wrong := [name for name in file_values if not isinstance(file_values[name], str)]:
        raise UsageFault(f"{path}: {', '.join(wrong)} must be a string")
    if "key" in file_values and os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"others can read the key in {path}: chmod 600 {path}")
    return file_values


def _default_path(environment: Mapping[str, str]) -> Path | None:
    if base := environment.get("XDG_CONFIG_HOME"):
        folder = Path(base)
    elif home := environment.get("HOME"):
        folder = Path(home) / ".config"
    else:
        return None
    return folder / "bountycoder" / "config.toml"


def _flags(args: argparse.Namespace) -> tuple[str, ...]:
    flags = [f"--url={args.url}"] if args.url else []
    flags += [f"--config={args.config}"] if args.config else []
    return (*flags, "--key=YOUR_KEY") if args.key else tuple(flags)
