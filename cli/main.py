"""The command `bountycoder`: a subcommand's module is imported only when it is asked for."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from core.errors import BountyError

#: What a shell gives for a program that Ctrl-C ended.
_INTERRUPTED = 130
#: Where each subcommand lives: its module has `add_arguments(parser, name)`.
_COMMANDS = {
    "up": ("cli.up.command", "run the whole service on this machine"),
    "api": ("cli.commands.programs", "serve the HTTP API"),
    "worker": ("cli.commands.programs", "take jobs and run the model"),
    "admin-ui": ("cli.commands.programs", "serve the admin pages"),
    "migrate": ("cli.commands.database", "bring the database's schema up to date"),
    "seed": ("cli.commands.database", "make the first admin, where there is none"),
    "unlock": ("cli.commands.unlock", "let somebody sign in again after too many wrong passwords"),
    "demo-data": ("cli.commands.demo_data", "fill a database as if it had been used for weeks"),
    "plan": ("cli.plan.command", "size GPUs for so many users, before there is one"),
    "model": ("cli.commands.model", "prove that this machine runs its model"),
    "batch": ("cli.batch.command", "send, follow and fetch bulk work over HTTP"),
    "backup": ("cli.backup.command", "write the database to files, consistent and checked"),
    "restore": ("cli.backup.command", "bring a backup back, and check what was restored"),
    "usage": ("cli.commands.usage", "compare jobs, usage and roll-ups"),
    "monitoring": ("cli.monitoring.command", "make what Prometheus, Alertmanager and Grafana need"),
    "settings": ("cli.commands.programs", "list every setting with its default"),
    "openapi": ("cli.commands.openapi", "print the OpenAPI document of the HTTP API"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code; our own errors are one clear message."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        args = _parser(given).parse_args(given)
        _keep_to_the_embedded()
        return int(args.run(args))
    except BountyError as error:
        print(f"bountycoder: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _keep_to_the_embedded() -> None:
    """Let no variable of libpq lead away from an embedded PostgreSQL that `DATABASE_URL` names."""
    from cli.servers.libpq import forget_libpq_variables, uses_embedded

    if uses_embedded(os.environ):
        forget_libpq_variables(os.environ)


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bountycoder", description="Runs and looks after a BountyCoder service."
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, text) in _COMMANDS.items():
        command = subparsers.add_parser(name, help=text, description=text)
        if name in given[:1]:
            # Only now: the API's greenlets must be on before modules that open sockets come in.
            import_module(module).add_arguments(command, name)
    return parser


if __name__ == "__main__":
    sys.exit(main())
