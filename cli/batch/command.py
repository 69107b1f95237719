"""`bountycoder batch`: its subcommands, what they print and how they end."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.batch.arguments import add_subcommands
from cli.batch.client import BatchService
from cli.batch.credentials import Access, read_access
from cli.batch.download import Download, Wanted, check_target, save
from cli.batch.exit_codes import ExitCode, Failure, Unfinished, UsageFault
from cli.batch.progress import Meter
from cli.batch.responses import BatchView, not_ours
from cli.batch.retries import Retrying
from cli.batch.submit import InputFile, open_input, submit
from cli.batch.tables import batch_table, batch_text
from cli.batch.wait import follow

#: How long a call may fail unless --timeout says else. Whoever waits for a batch waits on.
PATIENCE_SECONDS = 60.0
PAGE = 100
STDOUT = Path("-")


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    actions: dict[str, Action] = {
        "submit": _submit,
        "status": _status,
        "results": _results,
        "cancel": _cancel,
        "list": _list,
        "retry": _retry,
    }
    for subcommand, subparser in add_subcommands(parser).items():
        subparser.set_defaults(run=run, action=actions[subcommand])


def run(args: argparse.Namespace) -> int:
    """Run a subcommand; every failure is a few clear lines, and JSON for those who asked for it."""
    # Standard output is the results' own unless they go to a file.
    is_json = args.json and not (args.action is _results and args.output in (None, STDOUT))
    try:
        return int(_run(args))
    except Failure as failure:
        return _fail(failure, is_json=is_json)
    except BrokenPipeError:
        # Python would complain about it once more when it flushes at its end.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        text = f"{where}{error.strerror or type(error).__name__}"
        return _fail(UsageFault(text), is_json=is_json)


def _fail(failure: Failure, *, is_json: bool) -> ExitCode:
    if is_json:
        _print_json(failure.body())
    for line in (*failure.lines, f"bountycoder: {failure}"):
        print(line, file=sys.stderr)
    return failure.exit_code


def _run(args: argparse.Namespace) -> ExitCode:
    meter = Meter()
    access = read_access(args, os.environ, lambda text: meter.say(f"bountycoder: warning: {text}"))
    retrying = Retrying(
        patience_seconds=None if args.timeout else PATIENCE_SECONDS,
        timeout_seconds=args.timeout,
        say=lambda text: meter.say(f"bountycoder: {text}"),
    )
    with closing(BatchService(access, time_left=retrying.time_left)) as service:
        command = Command(args, access, service, retrying, meter)
        try:
            code = args.action(command)
            sys.stdout.flush()
            return ExitCode(code)
        finally:
            meter.clear()


@dataclass(frozen=True, slots=True)
class Command:
    """What a subcommand works with."""

    args: argparse.Namespace
    access: Access
    service: BatchService
    retrying: Retrying
    meter: Meter

    def get(self, batch_id: str) -> BatchView:
        return self.retrying.call(lambda: self.service.get(batch_id))

    def show(self, batch: BatchView) -> None:
        if self.args.json:
            _print_json(batch.shown)
        else:
            print(batch_text(batch))

    def finish(self, batch: BatchView) -> ExitCode:
        """Wait for a batch if asked to, write its results if asked to, and show it.

        The batch goes on whatever ends the wait, Ctrl-C above all: it is said how to come back.
        """
        try:
            if self.args.wait:
                batch = follow(self.service, batch, retrying=self.retrying, meter=self.meter)
            if self.args.output and batch.is_final:
                self.download(Wanted(batch), self.args.output)
        except (KeyboardInterrupt, Failure, OSError):
            self.meter.say(self.way_back(batch))
            raise
        self.show(batch)
        return batch.exit_code

    def way_back(self, batch: BatchView) -> str:
        """Return the commands that go on where this one ends."""
        output = ["-o", str(self.args.output)] if self.args.output else []
        output += ["--force"] if output and self.args.force else []
        look = ["status", batch.id, "--wait", *output]
        fetch = ["results", batch.id, *(output or ["-o", "FILE"])]
        intro = f"{batch.id} is {batch.status}. Its results:"
        if not batch.is_final:
            intro = f"{batch.id} goes on without this command. To come back to it:"
        lines = [
            "  " + shlex.join(["bountycoder", "batch", *words, *self.access.flags])
            for words in ([fetch] if batch.is_final else [look, fetch])
        ]
        return "\n".join([intro, *lines])

    def download(self, wanted: Wanted, target: Path | None) -> int:
        """Write results to the target, or to standard output; return how many lines."""
        download = Download(self.service, wanted, retrying=self.retrying, meter=self.meter)
        if target in (None, STDOUT):
            download.write_to(sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            assert target is not None
            save(target, download, wanted, may_replace=self.args.force)
        self.meter.clear()
        return download.lines


Action = Callable[[Command], ExitCode]


def _submit(command: Command) -> ExitCode:
    args = command.args
    _check_output(args)
    with open_input(args.file) as given:
        return _begin(command, lambda: _send(command, given))


def _send(command: Command, given: InputFile) -> BatchView:
    args = command.args
    options = {
        "name": args.name,
        "onError": args.on_error,
        "completionWindow": args.completion_window,
        "webhookUrl": args.webhook_url,
        "metadata": args.metadata,
    }
    return submit(
        command.service,
        given,
        {name: value for name, value in options.items() if value is not None},
        idempotency_key=args.idempotency_key or str(uuid.uuid4()),
        retrying=command.retrying,
        meter=command.meter,
    )


def _retry(command: Command) -> ExitCode:
    args = command.args
    _check_output(args)
    key = str(uuid.uuid4())
    return _begin(
        command,
        lambda: command.retrying.call(lambda: command.service.retry(args.id, idempotency_key=key)),
    )


def _begin(command: Command, make: Callable[[], BatchView]) -> ExitCode:
    """Make a batch, say its id, and wait for it if asked to."""
    batch = make()
    args = command.args
    if not args.json:
        print(batch.id, flush=True)
    elif args.wait:
        command.meter.say(f"{batch.id} has {batch.total} lines")
    if args.wait:
        return command.finish(batch)
    if args.json:
        _print_json(batch.shown)
    return ExitCode.OK


def _status(command: Command) -> ExitCode:
    _check_output(command.args)
    return command.finish(command.get(command.args.id))


def _results(command: Command) -> ExitCode:
    args = command.args
    if args.output not in (None, STDOUT):
        check_target(args.output, may_replace=args.force)
    batch = command.get(args.id)
    if not batch.is_final and not args.partial:
        raise Unfinished(
            f"{batch.id} is {batch.status}, {batch.ended} of {batch.total} lines have ended: "
            "--partial fetches those"
        )
    lines = command.download(Wanted(batch, args.status), args.output)
    if args.output not in (None, STDOUT):
        if args.json:
            _print_json({"file": str(args.output), "lines": lines, "batch": batch.shown})
        else:
            print(f"{args.output}: {lines} lines")
    return batch.exit_code if batch.is_final else ExitCode.OK


def _cancel(command: Command) -> ExitCode:
    command.show(command.retrying.call(lambda: command.service.cancel(command.args.id)))
    return ExitCode.OK


def _list(command: Command) -> ExitCode:
    batches, cursor = _listed(command)
    if command.args.json:
        _print_json({"data": [batch.shown for batch in batches], "nextCursor": cursor})
    elif batches:
        print(batch_table(batches))
    return ExitCode.OK


def _listed(command: Command) -> tuple[list[BatchView], str | None]:
    """Return the newest batches, page by page, and where the list goes on."""
    args = command.args
    batches: list[BatchView] = []
    cursor = args.after
    while True:
        limit = min(PAGE, args.limit - len(batches))
        page = command.retrying.call(
            lambda limit=limit, after=cursor: command.service.page(  # type: ignore[misc]
                status=args.status, limit=limit, after=after
            )
        )
        rows, cursor = page.get("data"), page.get("nextCursor")
        if not isinstance(rows, list):
            raise not_ours()
        batches += map(BatchView.read, rows)
        if not rows or not cursor or len(batches) >= args.limit:
            return batches, cursor


def _check_output(args: argparse.Namespace) -> None:
    """Refuse what would only fail after the batch has run."""
    if args.output is None:
        return
    if not args.wait and args.action is not _status:
        raise UsageFault("-o needs --wait")
    if args.output == STDOUT:
        raise UsageFault("-o needs a file here: `bountycoder batch results` writes to the output")
    check_target(args.output, may_replace=args.force)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)
