"""A real process accepts a file of the largest size while its memory stays flat."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psutil
import pytest

from tests.support.http.batch_files import JSONL, PATH, made
from tests.support.service import Service

MOST_GROWTH = 100 * 1024**2
#: Bytes of a line: mostly white space, so that the test measures files and not tokens.
LINE_BYTES = 100_000
BOUNDARY = "a-boundary-of-the-test"


@pytest.mark.parametrize("is_form", [False, True])
def test_the_largest_file_takes_no_memory(single_process_service: Service, is_form: bool) -> None:
    service = single_process_service
    headers = {"x-api-key": service.make_key()["secret"]}
    made(service, headers, {"prompt": "x"})  # the first batch loads modules
    count = service.settings.max_batch_bytes // LINE_BYTES
    kind = f"multipart/form-data; boundary={BOUNDARY}" if is_form else JSONL["Content-Type"]
    body = upload(count, is_form=is_form)

    with Watched(service) as watched:
        response = service.call("POST", PATH, data=body, headers={**headers, "Content-Type": kind})

    assert response.status_code == 201, response.text
    assert response.json()["total"] == count > 2000
    assert watched.growth < MOST_GROWTH, f"{watched.growth / 2**20:.0f} MiB more"


def upload(count: int, *, is_form: bool) -> Iterator[bytes]:
    """Yield a body of `count` lines."""
    if is_form:
        part = 'Content-Disposition: form-data; name="file"; filename="x.jsonl"'
        yield f"--{BOUNDARY}\r\n{part}\r\n\r\n".encode()
    line = b'{"maxTokens": 4, "prompt": "' + b"word " * 50 + b'"'
    line += b" " * (LINE_BYTES - len(line) - 2) + b"}\n"
    for _ in range(count):
        yield line
    if is_form:
        yield f"\r\n--{BOUNDARY}--\r\n".encode()


class Watched:
    """Measure the peak growth of the API process's memory during a block."""

    def __init__(self, service: Service) -> None:
        assert service.api is not None
        (self._process,) = psutil.Process(service.api.pid).children()
        self._before = self._process.memory_info().rss
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.growth = 0

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.01):
            self.growth = max(self.growth, self._process.memory_info().rss - self._before)
