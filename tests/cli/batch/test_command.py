"""`bountycoder batch` after failures: its actions, its output and its exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from cli.system.ports import free_port
from tests.support.http.failing_service import (
    FailingService,
    Handler,
    batch,
    disconnects,
    disconnects_after,
    ends_early,
    failing,
    refuses,
    responds,
    result_lines,
)
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from tests.support.processes import CLI
from tests.support.processes import run as run_program

KEY = "bc_abc_a-secret-key"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment with the key, without a proxy or a configuration, in an empty directory."""
    for name in ("http_proxy", "HTTP_PROXY", "XDG_CONFIG_HOME", "BOUNTYCODER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BOUNTYCODER_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}\n')
    return path


def run(service: FailingService, *arguments: str | Path) -> int:
    action, *rest = map(str, arguments)
    return main(["batch", action, "--url", service.url, *rest])


def test_a_lost_connection_is_retried_and_makes_no_second_batch(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = (disconnects, refuses(503, "database_unavailable", retry_after_ms="20"))
    with failing(*steps, responds(201, batch("running", queued=3))) as service:
        code = run(service, "submit", lines)

    assert code == 0
    assert [seen.body for seen in service.seen] == [lines.read_bytes()] * 3
    keys = {seen.headers["idempotency-key"] for seen in service.seen}
    assert len(keys) == 1
    assert service.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert capsys.readouterr().out == "batch_1\n"


def test_every_submission_has_its_own_idempotency_key(lines: Path) -> None:
    with failing(responds(201, batch("running", queued=3))) as service:
        run(service, "submit", lines)
        run(service, "submit", lines)
        run(service, "submit", lines, "--idempotency-key", "mine")

    first, second, third = (seen.headers["idempotency-key"] for seen in service.seen)
    assert first != second
    assert third == "mine"


def test_options_become_parameters(lines: Path) -> None:
    with failing(responds(201, batch("running", queued=3))) as service:
        run(service, "submit", lines, "--name", "a & b", "--on-error=skip", '--metadata={"a": 1}')

    assert service.paths == ["?name=a+%26+b&onError=skip&metadata=%7B%22a%22%3A+1%7D"]


def test_standard_input_can_be_sent_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "a"}\n')))
    with failing(disconnects, responds(201, batch("running", queued=1))) as service:
        code = run(service, "submit", "-")

    assert code == 0
    assert [seen.body for seen in service.seen] == [b'{"prompt": "a"}\n'] * 2


def test_a_pipe_can_be_sent_twice() -> None:
    reader, writer = os.pipe()
    with open(writer, "wb") as end:
        end.write(b'{"prompt": "a"}\n')
    with failing(disconnects, responds(201, batch("running", queued=1))) as service:
        code = run(service, "submit", f"/dev/fd/{reader}")
    os.close(reader)

    assert code == 0
    assert [seen.body for seen in service.seen] == [b'{"prompt": "a"}\n'] * 2


def test_invalid_lines_are_printed_as_compilers_do(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = [
        {"param": "line 17.maxTokens", "message": "line 17: maxTokens must be at least 1"},
        {"param": "line 18", "message": "line 18: it is not valid JSON"},
        {"param": "onError", "message": "onError must be reject or skip"},
    ]
    with failing(refuses(400, "invalid_request", "3 lines are faulty", fields=fields)) as service:
        code = run(service, "submit", lines)

    assert code == 3
    assert capsys.readouterr().err.splitlines() == [
        f"{lines}:17: maxTokens must be at least 1",
        f"{lines}:18: it is not valid JSON",
        f"{lines}: onError must be reject or skip",
        "bountycoder: 3 lines are faulty",
    ]


@pytest.mark.parametrize(
    ("status", "error_code", "headers", "expected"),
    [
        (401, "invalid_api_key", {}, 4),
        (403, "key_inactive", {}, 4),
        (404, "not_found", {}, 3),
        (413, "payload_too_large", {}, 3),
        (422, "idempotency_conflict", {}, 3),
        (429, "too_many_batches", {"retry_after": "60"}, 3),
        (429, "monthly_quota_exceeded", {"x_should_retry": "false"}, 3),
        (503, "no_workers", {"x_should_retry": "false"}, 5),
        (302, "moved", {"location": "http://127.0.0.1:1/"}, 3),
    ],
)
def test_a_refusal_ends_at_once_with_its_exit_code(
    lines: Path,
    capsys: pytest.CaptureFixture[str],
    status: int,
    error_code: str,
    headers: dict[str, str],
    expected: int,
) -> None:
    with failing(refuses(status, error_code, "the reason", **headers)) as service:
        code = run(service, "submit", lines, "--json")

    printed = capsys.readouterr()
    assert code == expected
    assert len(service.seen) == 1
    assert KEY not in printed.out + printed.err
    if status != 302:
        assert json.loads(printed.out)["error"]["code"] == error_code
        assert "the reason" in printed.err


def test_a_connection_that_breaks_after_the_upload_prints_how_to_repeat_it(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with failing(disconnects) as service:
        code = run(service, "submit", lines, "--timeout", "0.1")

    assert code == 5
    errors = capsys.readouterr().err
    assert "the batch may exist already" in errors
    assert "--idempotency-key=" in errors


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_that_is_away_is_named_without_its_password(
    lines: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("http_proxy", f"{scheme}me:hidden@{address}")

    url = "http://llm.example.com"
    code = main(["batch", "submit", str(lines), "--url", url, "--timeout", "0.1"])

    errors = capsys.readouterr().err
    assert code == 5
    assert f"bountycoder: the proxy {address} cannot be reached" in errors
    assert "hidden" not in errors
    assert "not known" not in errors


def test_a_proxy_of_another_kind_is_rejected(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")

    assert main(["batch", "list", "--url", "http://llm.example.com"]) == 2
    assert "http_proxy must be such as" in capsys.readouterr().err


def test_a_service_that_is_away_is_exit_code_5_and_makes_no_batch(
    lines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    code = main(["batch", "submit", str(lines), "--url", url, "--timeout", "0.1"])

    errors = capsys.readouterr().err
    assert code == 5
    assert "bountycoder: the service cannot be reached\n" in errors
    assert "not known" not in errors


def test_a_response_of_another_service_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    with failing(responds(200, b"<html>welcome</html>")) as service:
        code = run(service, "status", "batch_1")

    assert code == 3
    assert "check the URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (batch("completed"), 0),
        (batch("completed", succeeded=2, failed=1), 1),
        (batch("cancelled", succeeded=2, cancelled=1), 1),
        (batch("expired", succeeded=2, expired=1), 1),
        (batch("running", queued=3), 6),
        (batch("cancelling", running=3), 6),
    ],
)
def test_status_ends_with_an_exit_code_for_the_state_of_the_batch(
    response: dict[str, Any], expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with failing(responds(200, response)) as service:
        code = run(service, "status", "batch_1", "--json")

    assert code == expected
    assert json.loads(capsys.readouterr().out) == response


def test_waiting_survives_a_restart_and_writes_the_results(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = responds(200, batch("running", queued=1, succeeded=2))
    steps = (responds(201, batch("running", queued=3)), running, disconnects, refuses(502, "away"))
    target = tmp_path / "out.jsonl"
    with failing(
        *steps, running, responds(200, batch("completed")), responds(200, result_lines(1, 2, 3))
    ) as service:
        code = run(service, "submit", lines, "--wait", "-o", target)

    printed = capsys.readouterr()
    assert code == 0
    assert target.read_bytes() == result_lines(1, 2, 3)
    assert printed.out.startswith("batch_1\n")
    assert "status:   completed" in printed.out
    assert "broke: retrying\nbountycoder: the service is back" in printed.err


def test_waiting_ends_at_the_time_out_and_prints_how_to_continue(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with failing(responds(200, batch("running", queued=3))) as service:
        code = run(service, "status", "batch_1", "--wait", "--timeout", "0.3")

    errors = capsys.readouterr().err
    assert code == 6
    assert f"  bountycoder batch status batch_1 --wait --url={service.url}\n" in errors
    assert "batch_1 is still running after the 0.3 s of --timeout" in errors


@pytest.mark.alone
def test_waiting_for_a_silent_service_ends_at_the_time_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    is_over = threading.Event()

    def stays_silent(_: Handler) -> None:
        is_over.wait(60)

    with failing(stays_silent) as service:
        began = time.monotonic()
        code = run(service, "status", "batch_1", "--timeout", "0.3")
        took = time.monotonic() - began
        is_over.set()

    assert code == 5
    assert took < 20
    assert "the service does not respond in time" in capsys.readouterr().err


def test_ctrl_c_leaves_the_batch_running_and_prints_how_to_continue(
    lines: Path, tmp_path: Path
) -> None:
    running = batch("running", queued=3)
    with failing(responds(201, running), responds(200, running)) as service:
        command = ["batch", "submit", str(lines), "--wait", "--url", service.url]
        command += ["-o", str(tmp_path / "out.jsonl")]
        process = subprocess.Popen(
            [*CLI, *command],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "BOUNTYCODER_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: len(service.seen) > 1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            process.communicate()

    options = f"-o {tmp_path}/out.jsonl --url={service.url}"
    assert process.returncode == 130
    assert out == "batch_1\n"
    assert err.endswith(
        "batch_1 continues without this command. To return to it:\n"
        f"  bountycoder batch status batch_1 --wait {options}\n"
        f"  bountycoder batch results batch_1 {options}\n"
    )
    assert all("cancel" not in path for path in service.paths)


def test_a_cut_download_resumes_after_the_last_whole_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = result_lines(1, 2, 3)
    target = tmp_path / "out.jsonl"
    with failing(
        responds(200, batch()),
        disconnects_after(data[: len(result_lines(1)) + 20], length=len(data)),
        disconnects_after(result_lines(2), length=len(data)),
        responds(200, result_lines(3)),
    ) as service:
        code = run(service, "results", "batch_1", "-o", target)

    assert code == 0
    assert target.read_bytes() == data
    assert service.paths[1:] == [
        "/batch_1/results",
        "/batch_1/results?after=1",
        "/batch_1/results?after=2",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_download_that_ends_too_soon_is_resumed(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    with failing(
        responds(200, batch()), ends_early(result_lines(1, 2)), ends_early(result_lines(3))
    ) as service:
        code = run(service, "results", "batch_1", "-o", target)

    assert code == 0
    assert target.read_bytes() == result_lines(1, 2, 3)


def test_an_incomplete_download_makes_no_file_and_the_next_one_resumes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.jsonl"
    half = result_lines(1) + result_lines(2)[:-5]
    with failing(responds(200, batch()), ends_early(half), ends_early(b"")) as service:
        first = run(service, "results", "batch_1", "-o", target)
    was_there = target.exists()
    with failing(responds(200, batch()), responds(200, result_lines(2, 3))) as service:
        second = run(service, "results", "batch_1", "-o", target)

    assert (first, was_there, second) == (5, False, 0)
    assert service.paths[1] == "/batch_1/results?after=1"
    assert target.read_bytes() == result_lines(1, 2, 3)


def test_each_line_of_the_results_is_printed_once(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    data = result_lines(1, 2, 3)
    with failing(
        responds(200, batch()),
        disconnects_after(data[:70], length=len(data)),
        responds(200, result_lines(2, 3)),
    ) as service:
        code = run(service, "results", "batch_1")

    assert code == 0
    assert capfdbinary.readouterr().out == data


def test_results_of_a_running_batch_are_downloaded_only_as_partial_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.jsonl"
    running = responds(200, batch("running", queued=1, succeeded=2))
    with failing(running, running, responds(200, result_lines(1, 3))) as service:
        refused = run(service, "results", "batch_1", "-o", target)
        was_there = target.exists()
        partial = run(service, "results", "batch_1", "-o", target, "--partial")

    assert (refused, was_there, partial) == (6, False, 0)
    assert target.read_bytes() == result_lines(1, 3)


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


def test_a_large_file_is_not_sent_with_an_invalid_key(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n' * 100_000)
    with failing(refuses(401, "invalid_api_key")) as service:
        code = run(service, "submit", path)

    assert code == 4
    assert [seen.method for seen in service.seen] == ["GET"]


def test_a_closed_pipe_causes_no_traceback() -> None:
    data = result_lines(*range(1, 20_001))
    with failing(
        responds(200, batch(total=20_000)), responds(200, data), responds(200, data)
    ) as service:
        done = subprocess.run(
            f"{sys.executable} -m cli.main batch results batch_1 --url {service.url} | head -n 1;"
            " exit ${PIPESTATUS[0]}",
            shell=True,
            executable="/bin/bash",
            cwd=ROOT,
            env={**os.environ},
            capture_output=True,
            timeout=60,
        )

    assert (done.returncode, done.stdout, done.stderr) == (141, result_lines(1), b"")


def test_a_list_is_fetched_page_by_page(capsys: pytest.CaptureFixture[str]) -> None:
    pages = [
        responds(200, {"data": [batch()] * 100, "nextCursor": "batch_x"}),
        responds(200, {"data": [batch("running", queued=3)], "nextCursor": None}),
    ]
    with failing(*pages) as service:
        code = run(service, "list", "--limit", "150", "--status", "running")

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert service.paths == [
        "?status=running&limit=100",
        "?status=running&limit=50&after=batch_x",
    ]
    assert len(lines) == 102
    assert lines[-1] == "batch_1  running    0/3   0     2026-11-25T12:00:00"


def test_a_retry_has_an_idempotency_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with failing(disconnects, responds(201, batch("running", queued=1, total=1))) as service:
        code = run(service, "retry", "batch_0")

    first, second = (seen.headers["idempotency-key"] for seen in service.seen)
    assert code == 0
    assert first == second
    assert capsys.readouterr().out == "batch_1\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit"],
        ["submit", "f", "--metadata", "[1]"],
        ["submit", "f", "--timeout", "0"],
        ["list", "--limit", "0"],
        ["status", ""],
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["batch", *arguments])

    assert caught.value.code == 2


def test_the_client_imports_no_module_of_the_service() -> None:
    program = (
        "import sys\n"
        "from cli.main import main\n"
        "try:\n"
        "    main(['batch', '--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'flask', 'torch', 'sqlalchemy', 'gevent', 'redis', 'dramatiq', 'psycopg2',\n"
        "         'tokenizers', 'pydantic', 'api', 'worker', 'models', 'admin_ui'}\n"
        "found = heavy & {name.split('.')[0] for name in sys.modules}\n"
        "assert not found, found\n"
    )

    done = run_program([sys.executable, "-c", program], environment=os.environ)

    assert done.returncode == 0, done.stderr
    assert "141  the reader of the output has closed it" in done.stdout
