"""The command `bountycoder`, which imports only the module of the subcommand that runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from core.errors import BountyError

#: The exit code that a shell reports for a program that Ctrl-C ended.
_INTERRUPTED = 130
#: Module and help text of each subcommand. The module has `add_arguments(parser, name)`.
_COMMANDS = {
    "up": ("cli.up.command", "run the whole service on this machine"),
    "api": ("cli.commands.programs", "serve the HTTP API"),
    "worker": ("cli.commands.programs", "take jobs and run the model"),
    "admin-ui": ("cli.commands.programs", "serve the admin pages"),
    "migrate": ("cli.commands.database", "bring the database's schema up to date"),
    "seed": ("cli.commands.database", "create the first admin if there is none"),
    "unlock": ("cli.commands.unlock", "allow an account to sign in after too many wrong passwords"),
    "demo-data": ("cli.commands.demo_data", "fill a database with two months of demo data"),
    "plan": ("cli.plan.command", "estimate the GPUs that a number of users needs"),
    "model": ("cli.commands.model", "prove that this machine runs its model"),
    "batch": ("cli.batch.command", "send, watch and download batches over HTTP"),
    "backup": ("cli.backup.command", "write a consistent backup of the database to files"),
    "restore": ("cli.backup.command", "restore a backup and compare it with the original"),
    "usage": ("cli.commands.usage", "compare jobs, usage and roll-ups"),
    "monitoring": ("cli.monitoring.command", "configure Prometheus, Alertmanager and Grafana"),
    "settings": ("cli.commands.programs", "list every setting with its default"),
    "openapi": ("cli.commands.openapi", "print the OpenAPI document of the HTTP API"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code; print our own errors as one line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        args = _parser(given).parse_args(given)
        _ignore_libpq_variables()
        return int(args.run(args))
    except BountyError as error:
        print(f"bountycoder: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _ignore_libpq_variables() -> None:
    """Remove libpq's variables if `DATABASE_URL` names an embedded PostgreSQL."""
    from cli.servers.libpq import remove_libpq_variables, uses_embedded

    if uses_embedded(os.environ):
        remove_libpq_variables(os.environ)


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bountycoder", description="Run and maintain a BountyCoder service."
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, text) in _COMMANDS.items():
        command = subparsers.add_parser(name, help=text, description=text)
        if name in given[:1]:
            # Import no earlier: gevent must patch sockets before other modules import them.
            import_module(module).add_arguments(command, name)
    return parser


if __name__ == "__main__":
    sys.exit(main())
