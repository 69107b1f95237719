"""Raises the limit of open files, which includes the connections of a process."""

from __future__ import annotations

import logging
import resource

_log = logging.getLogger(__name__)

#: Files besides the connections of clients: connections to servers, logs, uploads.
OWN_FILES = 256


def connections_that_fit(wanted: int) -> int:
    """Raise the limit of open files as far as needed and allowed; return the connections that fit.

    The usual soft limit of 1024 exists for programs that use `select`.
    """
    limit = _raise_limit(wanted + OWN_FILES)
    fit = min(wanted, max(1, limit - OWN_FILES))
    if fit < wanted:
        _log.warning(
            "%d connections fit into the %d files that a process may open here, but %d are wanted: "
            "raise the hard limit (LimitNOFILE, nofile, ulimit -Hn)",
            *(fit, limit, wanted),
        )
    return fit


def _raise_limit(wanted: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
