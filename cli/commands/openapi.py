"""`bountycoder openapi`: print the API's OpenAPI document without starting a server."""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    parser.set_defaults(run=_print)


def _print(args: argparse.Namespace) -> int:
    from api.app import published_document

    print(json.dumps(published_document(), indent=2, ensure_ascii=False))
    return 0
