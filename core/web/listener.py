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
#: No connection can be opened: this process, or the system, has too many files or no memory.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: Until it is tried again, and until the next warning.
REST_SECONDS, WARN_SECONDS = 0.2, 60.0


class Listener(StreamServer):  # type: ignore[misc]  # gevent has no annotations
    """gevent's server, which rests for a moment when no connection can be opened, and closes with
    nobody in its queue.

    Its own would write a traceback each time, and reset connections that the kernel had taken: a
    load balancer must not send the POST of such a connection to another server.
    """

    _may_warn_at = 0.0
    _is_closing = False

    def do_read(self) -> Any:
        """Called when a connection waits to be accepted."""
        try:
            return super().do_read()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._rest(error)
            return None

    def close(self) -> None:
        """Accept the connections that are there, then take no more."""
        if not self.closed and not self._is_closing:  # a fatal error in between closes it, too
            self._is_closing, self.max_accept = True, BACKLOG
            self._do_read()
        super().close()

    def _rest(self, error: OSError) -> None:
        if time.monotonic() >= self._may_warn_at:
            _log.warning("no more connections are taken for now: %s", error.strerror)
            # For the whole process, which has a listener for each of its ports.
            Listener._may_warn_at = time.monotonic() + WARN_SECONDS
        self.stop_accepting()
        self._timer = self.loop.timer(REST_SECONDS)
        self._timer.start(self._start_accepting_if_started)
