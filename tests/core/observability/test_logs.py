"""Log lines of a process, as it writes them."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.paths import ROOT

BEGIN = """
import json, logging, pydantic, psycopg2, sqlalchemy.exc
from core.observability.logs import configure_logging
configure_logging(program="test", level="INFO")
"""


def logged(program: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    line: dict[str, str] = json.loads(done.stderr)
    return line


def test_a_traceback_has_the_line_and_the_error() -> None:
    line = logged("try: 1 / 0\nexcept Exception: logging.exception('failed')")

    assert (line["level"], line["message"], line["program"]) == ("ERROR", "failed", "test")
    assert "line 5" in line["exc_info"]
    assert "ZeroDivisionError: division by zero" in line["exc_info"]


def test_an_exception_that_quotes_a_row_or_input_is_logged_without_its_text() -> None:
    line = logged(
        """
def fail():
    text = "Failing row contains (my prompt)"
    try:
        try:
            raise psycopg2.IntegrityError(text)
        except psycopg2.Error as error:
            raise sqlalchemy.exc.IntegrityError("insert", {"prompt": text}, error) from error
    except Exception as error:
        raise RuntimeError("outer") from error
try: fail()
except Exception: logging.exception("failed")
"""
    )

    for text in (
        "psycopg2.IntegrityError",
        "sqlalchemy.exc.IntegrityError",
        "RuntimeError: outer",
    ):
        assert text in line["exc_info"]
    assert line["exc_info"].index("psycopg2.Int") < line["exc_info"].index("RuntimeError: outer")
    assert "my prompt" not in line["exc_info"]
    assert line["exc_info"].count("(text not logged)") == 2


def test_circular_causes_end() -> None:
    line = logged(
        "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\n"
        "logging.error('failed', exc_info=a)"
    )

    assert "ValueError: a" in line["exc_info"]


def test_line_breaks_in_a_message_begin_no_new_log_line() -> None:
    line = logged("logging.info('method %s', 'GET\\n{\"level\": \"forged\"}\\r\\u2028x')")

    assert (line["level"], line["program"]) == ("INFO", "test")
    assert line["message"].startswith('method GET\n{"level": "forged"}')
