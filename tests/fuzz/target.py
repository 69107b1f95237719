"""A target of fuzzing, and the rules that hold for each input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from werkzeug.exceptions import HTTPException

from core.errors import ApiError

#: Processor time for one input of up to `MOST_BYTES`.
MOST_SECONDS = 2.0
MOST_BYTES = 64 * 1024
#: Size of an error in bytes. It must not grow with a hostile input.
MOST_ERROR_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Code that reads untrusted bytes.

    Attributes:
        run: reads bytes; for any of them it may only return, or raise an error of the contract.
        seeds: valid inputs to start from.
        words: tokens of the input's language.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()

    def check(self, data: bytes) -> None:
        """Run the target on an input.

        Raises:
            Exception: the target raised an error outside of the contract.
            AssertionError: the target broke a rule.
        """
        began = time.thread_time()
        self.run(data)
        took = time.thread_time() - began
        assert took < MOST_SECONDS, f"{took:.2f} s for {len(data)} bytes"


@contextmanager
def refusals_are_fine() -> Iterator[None]:
    """Suppress the errors of the contract, after a check of their shape."""
    try:
        yield
    except ApiError as error:
        body = error_body(error)
        assert error.status < 500, error
        assert len(body) < MOST_ERROR_BYTES, f"{len(body)} bytes of error"
    except HTTPException as error:
        assert error.code is not None and error.code < 500, error


def error_body(error: ApiError) -> bytes:
    """Return an error's body as the API sends it."""
    from flask import current_app

    return current_app.json.dumps(error.body("req_fuzz")).encode()


def fields(data: bytes, count: int) -> list[str]:
    """Return `count` texts, one for each line, as WSGI has headers: each byte is a character."""
    lines = data.decode("latin-1").split("\n", count - 1)
    return [*lines, *[""] * (count - len(lines))]
