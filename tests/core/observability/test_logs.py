"""Log lines of a process, as they are written."""

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


def test_a_traceback_says_where_and_what() -> None:
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


def test_a_circle_of_causes_ends() -> None:
    line = logged(
        "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\n"
        "logging.error('failed', exc_info=a)"
    )

    assert "ValueError: a" in line["exc_info"]


def test_a_text_with_line_breaks_is_one_line_and_begins_no_other() -> None:
    line = logged("logging.info('method %s', 'GET\\n{\"level\": \"forged\"}\\r\\u2028x')")

    assert (line["level"], line["program"]) == ("INFO", "test")
    assert line["message"].startswith('method GET\n{"level": "forged"}')
