"""`bountycoder unlock EMAIL`: reset the count of wrong passwords that locks an account."""

from __future__ import annotations

import argparse
import os

import redis

from core.config.settings import Settings
from core.errors import LauncherError
from core.limits.throttle import Throttle
from core.redis.client import open_redis


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("email", metavar="EMAIL")
    parser.set_defaults(run=_unlock)


def _unlock(args: argparse.Namespace) -> int:
    client = open_redis(Settings.from_environment(os.environ))
    try:
        Throttle(client).lift(args.email)
    except redis.RedisError as error:
        raise LauncherError(f"Redis does not respond: {type(error).__name__}") from error
    finally:
        client.close()
    print(f"{args.email} can sign in again")
    return 0
