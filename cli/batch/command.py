"""The subcommands of `bountycoder batch`: their output and their exit codes."""

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
from cli.batch.client import BatchClient
from cli.batch.credentials import Credentials, read_credentials
from cli.batch.download import Download, ResultSelection, check_target, save
from cli.batch.exit_codes import ExitCode, Failure, Unfinished, UsageFault
from cli.batch.progress import ProgressBar
from cli.batch.responses import BatchView, unknown_response
from cli.batch.retries import Retrying
from cli.batch.submit import InputFile, open_input, submit
from cli.batch.tables import batch_table, batch_text
from cli.batch.wait import wait_for_batch

#: How long a call is retried without --timeout. A wait for a batch is retried without limit.
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
    """Run a subcommand; print a failure as a few lines, and as JSON with --json."""
    # Standard output carries the results, unless they go to a file.
    is_json = args.json and not (args.action is _results and args.output in (None, STDOUT))
    try:
        return int(_run(args))
    except Failure as failure:
        return _fail(failure, is_json=is_json)
    except BrokenPipeError:
        # Otherwise Python reports the broken pipe again when it flushes at exit.
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
    progress = ProgressBar()
    credentials = read_credentials(
        args, os.environ, lambda text: progress.say(f"bountycoder: warning: {text}")
    )
    retrying = Retrying(
        patience_seconds=None if args.timeout else PATIENCE_SECONDS,
        timeout_seconds=args.timeout,
        say=lambda text: progress.say(f"bountycoder: {text}"),
    )
    with closing(BatchClient(credentials, time_left=retrying.time_left)) as service:
        command = Command(args, credentials, service, retrying, progress)
        try:
            code = args.action(command)
            sys.stdout.flush()
            return ExitCode(code)
        finally:
            progress.clear()


@dataclass(frozen=True, slots=True)
class Command:
    """The arguments and services of a subcommand."""

    args: argparse.Namespace
    credentials: Credentials
    service: BatchClient
    retrying: Retrying
    progress: ProgressBar

    def get(self, batch_id: str) -> BatchView:
        return self.retrying.call(lambda: self.service.get(batch_id))

    def show(self, batch: BatchView) -> None:
        if self.args.json:
            _print_json(batch.body)
        else:
            print(batch_text(batch))

    def finish(self, batch: BatchView) -> ExitCode:
        """Wait for a batch, write its results and show it, as the arguments request.

        The batch continues when the wait ends early, for example by Ctrl-C. In that case, print
        the commands that resume it.
        """
        try:
            if self.args.wait:
                batch = wait_for_batch(
                    self.service, batch, retrying=self.retrying, progress=self.progress
                )
            if self.args.output and batch.is_final:
                self.download(ResultSelection(batch), self.args.output)
        except (KeyboardInterrupt, Failure, OSError):
            self.progress.say(self.resume_hint(batch))
            raise
        self.show(batch)
        return batch.exit_code

    def resume_hint(self, batch: BatchView) -> str:
        """Return the commands that continue where this one ends."""
        output = ["-o", str(self.args.output)] if self.args.output else []
        output += ["--force"] if output and self.args.force else []
        wait = ["status", batch.id, "--wait", *output]
        fetch = ["results", batch.id, *(output or ["-o", "FILE"])]
        intro = f"{batch.id} is {batch.status}. Its results:"
        if not batch.is_final:
            intro = f"{batch.id} continues without this command. To return to it:"
        lines = [
            "  " + shlex.join(["bountycoder", "batch", *words, *self.credentials.flags])
            for words in ([fetch] if batch.is_final else [wait, fetch])
        ]
        return "\n".join([intro, *lines])

    def download(self, wanted: ResultSelection, target: Path | None) -> int:
        """Write results to the target or to standard output; return the number of lines."""
        download = Download(self.service, wanted, retrying=self.retrying, progress=self.progress)
        if target in (None, STDOUT):
            download.write_to(sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            assert target is not None
            save(target, download, wanted, may_replace=self.args.force)
        self.progress.clear()
        return download.lines


Action = Callable[[Command], ExitCode]


def _submit(command: Command) -> ExitCode:
    args = command.args
    _check_output(args)
    with open_input(args.file) as input_file:
        return _begin(command, lambda: _send(command, input_file))


def _send(command: Command, input_file: InputFile) -> BatchView:
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
        input_file,
        {name: value for name, value in options.items() if value is not None},
        idempotency_key=args.idempotency_key or str(uuid.uuid4()),
        retrying=command.retrying,
        progress=command.progress,
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
    """Create a batch, print its id, and wait for it with --wait."""
    batch = make()
    args = command.args
    if not args.json:
        print(batch.id, flush=True)
    elif args.wait:
        command.progress.say(f"{batch.id} has {batch.total} lines")
    if args.wait:
        return command.finish(batch)
    if args.json:
        _print_json(batch.body)
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
            "--partial downloads those"
        )
    lines = command.download(ResultSelection(batch, args.status), args.output)
    if args.output not in (None, STDOUT):
        if args.json:
            _print_json({"file": str(args.output), "lines": lines, "batch": batch.body})
        else:
            print(f"{args.output}: {lines} lines")
    return batch.exit_code if batch.is_final else ExitCode.OK


def _cancel(command: Command) -> ExitCode:
    command.show(command.retrying.call(lambda: command.service.cancel(command.args.id)))
    return ExitCode.OK


def _list(command: Command) -> ExitCode:
    batches, cursor = _list_batches(command)
    if command.args.json:
        _print_json({"data": [batch.body for batch in batches], "nextCursor": cursor})
    elif batches:
        print(batch_table(batches))
    return ExitCode.OK


def _list_batches(command: Command) -> tuple[list[BatchView], str | None]:
    """Return the newest batches, page by page, and the cursor of the next page."""
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
            raise unknown_response()
        batches += map(BatchView.read, rows)
        if not rows or not cursor or len(batches) >= args.limit:
            return batches, cursor


def _check_output(args: argparse.Namespace) -> None:
    """Reject an output that would fail only after the batch has run."""
    if args.output is None:
        return
    if not args.wait and args.action is not _status:
        raise UsageFault("-o needs --wait")
    if args.output == STDOUT:
        raise UsageFault(
            "-o needs a file here: `bountycoder batch results` writes to standard output"
        )
    check_target(args.output, may_replace=args.force)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)
