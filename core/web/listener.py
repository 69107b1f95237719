"""Accepts the connections of a web server."""

from __future__ import annotations

import errno
import logging
import time
from typing import Any

from gevent.server import StreamServer

_log = logging.getLogger(__name__)

#: Connections that the kernel holds until they are accepted.
BACKLOG = 2048
#: No connection can be opened: the process or the system has too many files, or no memory.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: The wait before the next attempt, and before the next warning.
PAUSE_SECONDS, WARN_SECONDS = 0.2, 60.0


class Listener(StreamServer):  # type: ignore[misc]  # gevent has no annotations
    """gevent's server, with a pause while no connection can be opened and a complete close.

    gevent's own server logs a traceback each time. It also resets connections that the kernel has
    accepted, and a load balancer must not send the POST of such a connection to another server.
    """

    _may_warn_at = 0.0
    _is_closing = False

    def do_read(self) -> Any:
        """Accept a waiting connection."""
        try:
            return super().do_read()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._pause(error)
            return None

    def close(self) -> None:
        """Accept the waiting connections, then stop."""
        if not self.closed and not self._is_closing:  # a fatal error in between also closes it
            self._is_closing, self.max_accept = True, BACKLOG
            self._do_read()
        super().close()

    def _pause(self, error: OSError) -> None:
        if time.monotonic() >= self._may_warn_at:
            _log.warning("no more connections are accepted for now: %s", error.strerror)
            # The process has one listener for each port, and they share the warning.
            Listener._may_warn_at = time.monotonic() + WARN_SECONDS
        self.stop_accepting()
        self._timer = self.loop.timer(PAUSE_SECONDS)
        self._timer.start(self._start_accepting_if_started)
