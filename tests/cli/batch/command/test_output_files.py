"""`bountycoder batch -o` replaces a file only with --force."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli.batch_command import run
from tests.support.http.failing_service import (
    Handler,
    batch,
    failing,
    refuses,
    responds,
    result_lines,
)


def test_a_file_is_not_replaced_without_force(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("mine")
    with failing(responds(200, batch()), responds(200, result_lines(1, 2, 3))) as service:
        refused = run(service, "results", "batch_1", "-o", target)
        calls, unchanged = len(service.seen), target.read_text()
        forced = run(service, "results", "batch_1", "-o", target, "--force")

    assert (refused, calls, unchanged, forced) == (2, 0, "mine", 0)
    assert target.read_bytes() == result_lines(1, 2, 3)


def test_an_output_that_cannot_be_written_is_rejected_before_any_request(
    lines: Path, tmp_path: Path
) -> None:
    with failing(refuses(500, "internal_error")) as service:
        codes = [
            run(service, "submit", lines, "--wait", "-o", target)
            for target in (tmp_path, tmp_path / "none" / "out", "/dev/null", "/proc/out", "-")
        ]
        codes.append(run(service, "submit", lines, "-o", tmp_path / "out"))
        codes.append(run(service, "submit", tmp_path / "none"))

    assert codes == [2] * 7
    assert service.seen == []


def test_a_file_that_cannot_be_written_at_the_end_prints_how_to_continue(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()

    def deletes_the_folder(request: Handler) -> None:
        folder.rmdir()
        responds(201, batch())(request)

    with failing(deletes_the_folder) as service:
        code = run(service, "submit", lines, "--wait", "-o", folder / "out", "--json")

    printed = capsys.readouterr()
    assert code == 2
    assert json.loads(printed.out)["error"]["code"] == "usage"
    expected = f"  bountycoder batch results batch_1 -o {folder}/out --url={service.url}\n"
    assert expected in printed.err
