"""What a target of fuzzing is, and the rules that each input must keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from werkzeug.exceptions import HTTPException

from core.errors import ApiError

#: Of the processor, for one input of up to `MOST_BYTES`.
MOST_SECONDS = 2.0
MOST_BYTES = 64 * 1024
#: What a caller is told of an input, in bytes; it must not grow with a hostile one.
MOST_TOLD = 32 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads bytes of strangers.

    Attributes:
        run: returns or raises what the contract allows for any bytes, else something else.
        seeds: good inputs, to begin with.
        words: of the input's language.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()

    def check(self, data: bytes) -> None:
        """Run the target on an input.

        Raises:
            Exception: whatever it should not have raised.
            AssertionError: it kept a rule not.
        """
        began = time.thread_time()
        self.run(data)
        took = time.thread_time() - began
        assert took < MOST_SECONDS, f"{took:.2f} s for {len(data)} bytes"


@contextmanager
def refusals_are_fine() -> Iterator[None]:
    """Let the contract's refusals pass, once they have the shape in which they would leave."""
    try:
        yield
    except ApiError as error:
        told = error_body(error)
        assert error.status < 500, error
        assert len(told) < MOST_TOLD, f"{len(told)} bytes are told"
    except HTTPException as error:
        assert error.code is not None and error.code < 500, error


def error_body(error: ApiError) -> bytes:
    """Return an error's body as the API sends it."""
    from flask import current_app

    return current_app.json.dumps(error.body("req_fuzz")).encode()


def fields(data: bytes, count: int) -> list[str]:
    """Return this many texts, one a line, as WSGI gives headers: each byte a character."""
    lines = data.decode("latin-1").split("\n", count - 1)
    return [*lines, *[""] * (count - len(lines))]
