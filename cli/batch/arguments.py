"""The arguments of `bountycoder batch`'s subcommands and their help texts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cli.argument_types import whole_number
from cli.batch.credentials import add_credential_arguments
from cli.batch.exit_codes import MEANINGS

STATES = ("running", "cancelling", "expiring", "completed", "cancelled", "expired")
LINE_STATES = ("succeeded", "failed", "cancelled", "expired")
LISTED = 20

_EXIT_CODES = "exit codes:\n" + "\n".join(f"  {code:>3}  {text}" for code, text in MEANINGS.items())


def add_subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Add all subcommands and return their parsers by name."""
    _add_exit_codes(parser)
    subparsers = parser.add_subparsers(required=True, metavar="ACTION")
    texts = {
        "submit": "send a file of requests, one JSON object a line",
        "status": "show a batch",
        "results": "download the results of a batch, one JSON object a line",
        "cancel": "cancel the lines of a batch that have not ended",
        "list": "list batches, newest first",
        "retry": "create a new batch of the lines that did not succeed",
    }
    made = {
        name: subparsers.add_parser(name, help=text, description=text)
        for name, text in texts.items()
    }
    for name in ("status", "results", "cancel", "retry"):
        made[name].add_argument("id", metavar="ID", type=_batch_id, help="batch_…")
    _add_submit(made["submit"])
    for name in ("submit", "status", "retry"):
        made[name].add_argument(
            "--wait", action="store_true", help="wait until the batch is finished; show progress"
        )
        _add_output(made[name], "when the batch is finished, write its results to FILE")
    _add_output(made["results"], "default: standard output")
    _add_results(made["results"])
    _add_list(made["list"])
    for subparser in made.values():
        subparser.add_argument("--json", action="store_true", help="print JSON, for scripts")
        subparser.add_argument(
            "--timeout",
            type=_seconds,
            metavar="SECONDS",
            help="limit of the whole command, waiting included; default: no limit for a batch, "
            "one minute for a service that is away",
        )
        add_credential_arguments(subparser)
        _add_exit_codes(subparser)
    return made


def _add_submit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="JSONL; - reads standard input")
    parser.add_argument("--name", help="name of the batch")
    parser.add_argument(
        "--on-error",
        choices=("reject", "skip"),
        help="effect of a faulty line: reject the whole file (default), or skip the line",
    )
    parser.add_argument("--completion-window", metavar="TIME", help="such as 24h")
    parser.add_argument(
        "--webhook-url", metavar="URL", help="receives a message at the batch's end"
    )
    parser.add_argument(
        "--metadata", type=_json_object, metavar="JSON", help="returned with the batch"
    )
    parser.add_argument(
        "--idempotency-key",
        metavar="TEXT",
        help="the same text and file always give the same batch; default: a new key each time",
    )


def _add_output(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=text)
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--partial", action="store_true", help="allow a batch that is not finished")
    parser.add_argument("--status", choices=LINE_STATES, help="only lines with this status")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--status", choices=STATES, help="only batches with this status")
    parser.add_argument(
        "--limit", type=whole_number(), default=LISTED, metavar="N", help="default: 20"
    )
    parser.add_argument("--after", metavar="CURSOR", help="start after this `nextCursor`")


def _add_exit_codes(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXIT_CODES


def _batch_id(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty")
    return text.strip()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return seconds


def _json_object(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return text
