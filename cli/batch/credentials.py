"""Where the service is and with which key to call it: flags, then the environment, then a file."""

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
FACES = ("/v1", "/api")
_NAMES = ("url", "key")


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the service.

    Attributes:
        flags: those that a later command needs as well; the key itself is not among them.
    """

    url: str
    key: str = field(repr=False)
    flags: tuple[str, ...] = ()


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the service")
    group.add_argument("--url", help=f"of the service; default: {URL_VARIABLE}, or the file's")
    group.add_argument(
        "--key",
        help=f"bc_…; default: {KEY_VARIABLE}, or the file's; `ps` shows what is given here",
    )
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML with `url` and `key`; default: ~/.config/bountycoder/config.toml",
    )


def read_access(
    args: argparse.Namespace, environment: Mapping[str, str], warn: Callable[[str], None]
) -> Access:
    """Return the first of flag, environment and file for each setting.

    Raises:
        UsageFault: one is missing or wrong; a key is never part of the message.
    """
    kept = _read_file(args.config, environment, warn)
    url = args.url or environment.get(URL_VARIABLE) or kept.get("url")
    key = args.key or environment.get(KEY_VARIABLE) or kept.get("key")
    faults = []
    if not url:
        faults.append(f"where is the service? Give --url, {URL_VARIABLE} or `url` in the file")
    if not key:
        faults.append(f"which key? Give {KEY_VARIABLE}, `key` in the file, or --key")
    if not url or not key:
        raise UsageFault("; ".join(faults))
    return Access(_checked_url(url), _checked_key(key), _flags(args))


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        raise UsageFault("the service's URL is not one") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right:
        raise UsageFault("the service's URL must be such as https://llm.example.com")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageFault("the service's URL must not have a user, a query or a fragment")
    url = url.rstrip("/")
    # The base URL of OpenAI's clients, or the one of our own calls: the service is above them.
    return next((url.removesuffix(end) for end in FACES if url.endswith(end)), url).rstrip("/")


def _checked_key(key: str) -> str:
    """Refuse what cannot stand in a header before a library does, whose error would show it."""
    key = key.strip()
    if not key or not all("!" <= letter <= "~" for letter in key):
        raise UsageFault("the key has characters that no key has")
    return key


def _read_file(
    given: Path | None, environment: Mapping[str, str], warn: Callable[[str], None]
) -> dict[str, str]:
    path = given or _default_path(environment)
    if path is None:
        return {}
    try:
        with open(path, "rb") as file:
            kept = tomllib.load(file)
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        if given is None:
            return {}
        raise UsageFault(f"{path} does not exist") from None
    except OSError as error:
        raise UsageFault(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        # The parser's own words may quote the line with the key.
        raise UsageFault(f"{path} is not valid TOML") from None
    if strange := sorted(set(kept) - set(_NAMES)):
        raise UsageFault(f"{path}: no such setting: {', '.join(strange)}")
    if wrong := [name for name in kept if not isinstance(kept[name], str)]:
        raise UsageFault(f"{path}: {', '.join(wrong)} must be a string")
    if "key" in kept and os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"others can read the key in {path}: chmod 600 {path}")
    return kept


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
