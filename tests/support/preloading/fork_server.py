"""A process that imports the modules of some programs once and starts each program as a fork.

The imports take 2 seconds of a processor for the API and 8 for the model's engine. Otherwise a fork
runs as the program's command does: it calls the same `main` and ends as an interpreter does.

Requests come over the socket of `program.py`: arguments and environment as JSON, with two file
descriptors: the program's log, and a pipe that gets the program's process id and, at its end, its
wait status. The process ends when the socket closes.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from contextlib import suppress
from importlib import import_module

# gevent replaces these functions in their modules. Its fork would start its loop in this process,
# which no fork may inherit.
from os import fork, waitpid
from select import POLLIN, poll
from signal import SIG_DFL, SIGCHLD, set_wakeup_fd, signal
from socket import recv_fds, socket
from struct import Struct
from typing import Any

from cli.commands.programs import use_greenlets
from cli.main import main

#: The modules of each kind of program.
MODULES = {
    "web": ("api.server", "admin_ui.server"),
    "echo worker": ("worker.main",),
    "worker": ("worker.main", "worker.engine.hf.engine"),
}
REQUEST_BYTES = 64 * 1024
#: A process id or a wait status.
NUMBER = Struct("i")


class ForkServer:
    """Starts programs until its socket closes."""

    def __init__(self, requests: socket) -> None:
        self._requests = requests
        self._reports: dict[int, int] = {}  # the pipe of each running program
        self._ended, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)

    def serve(self) -> list[str]:
        """Return in each program with its arguments; in this process, never."""
        signal(SIGCHLD, lambda *_: None)
        set_wakeup_fd(self._wakeup)
        waiting = poll()
        waiting.register(self._requests, POLLIN)
        waiting.register(self._ended, POLLIN)
        while True:
            ready = [number for number, _ in waiting.poll()]
            if self._ended in ready:
                self._report_ends()
            if self._requests.fileno() not in ready:
                continue
            message, files, _, _ = recv_fds(self._requests, REQUEST_BYTES, 2)
            if not message:
                sys.exit()
            log, reports = files
            program = fork()
            if program == 0:
                return self._become(json.loads(message), log, reports)
            os.close(log)
            self._reports[program] = reports
            os.write(reports, NUMBER.pack(program))

    def _report_ends(self) -> None:
        os.read(self._ended, 1024)
        for program in list(self._reports):
            ended, status = waitpid(program, os.WNOHANG)
            if ended:
                reports = self._reports.pop(program)
                with suppress(BrokenPipeError):  # the tests ended before their program
                    os.write(reports, NUMBER.pack(status))
                os.close(reports)

    def _become(self, request: dict[str, Any], log: int, reports: int) -> list[str]:
        set_wakeup_fd(-1)
        signal(SIGCHLD, SIG_DFL)
        os.environ.clear()
        os.environ.update(request["environment"])
        for output in (1, 2):
            os.dup2(log, output)
        for number in (log, reports, self._ended, self._wakeup, *self._reports.values()):
            os.close(number)
        self._requests.close()
        return list(request["arguments"])


if __name__ == "__main__":
    kind, number = sys.argv[1:]
    server = ForkServer(socket(fileno=int(number)))
    if kind == "web":
        use_greenlets()
    for name in MODULES[kind]:
        import_module(name)
    gc.collect()
    gc.freeze()  # no collection in a fork copies the memory of the modules
    sys.exit(main(server.serve()))
