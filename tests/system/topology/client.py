"""A client of the service: it calls through NGINX, retries refused requests and records both.

Requests that it may send twice have an `Idempotency-Key`, except plain synchronous calls.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import requests

from tests.support.contract import check_response
from tests.support.http.batch_files import JSONL, jsonl
from tests.support.http.sse import events
from tests.system.topology.records import NO_RESPONSE, Done, EndedJob, Records, Refusal

#: The pause before a retry: shorter than `Retry-After`, to meet more of the time without a part.
RETRY_SECONDS = 0.1
#: A request that is refused for this long is lost.
PATIENCE_SECONDS = 30.0
CALL_SECONDS = 60.0
BATCH_LINES = 3
MAX_TOKENS = 8
#: All kinds of requests.
KINDS = ("completion", "job", "stream", "long stream", "batch", "page")
FINAL = {"succeeded", "failed", "cancelled", "expired"}


class UnusableResponse(Exception):
    """A client got a response that it cannot use."""


@dataclass
class Client:
    """Makes one request after the other.

    Attributes:
        long_tokens: of a completion that takes longer than a drain.
        holds_to_document: whether each response must match the document of this version.
    """

    url: str
    admin_url: str
    secret: str
    records: Records
    long_tokens: int
    holds_to_document: bool = True
    session: requests.Session = field(default_factory=requests.Session)
    refused: int = 0

    def request(self, kind: str) -> Done:
        """Make a request of a kind and wait for its end."""
        match kind:
            case "completion":
                return self.complete()
            case "job":
                return self.job()
            case "stream":
                return self.stream(kind, MAX_TOKENS)
            case "long stream":
                return self.stream(kind, self.long_tokens)
            case "batch":
                return self.batch()
            case "page":
                return self.page()
        raise ValueError(kind)

    def complete(self) -> Done:
        """Wait for a completion; poll the job if the API stops waiting."""
        kind = "completion"
        began, body, refused = time.monotonic(), self._body(MAX_TOKENS), self.refused
        response = self._call(kind, "POST", "/api/llm/generate", {200, 202}, json=body)
        is_sole, said = self.refused == refused, response.json()
        if response.status_code == 202:
            job = self._end_of(kind, said["id"], is_sole)
        else:
            job = _ended(said["id"], said["choices"][0]["text"], said["usage"], is_sole)
        return self._done(kind, began, job)

    def job(self) -> Done:
        began, key = time.monotonic(), {"Idempotency-Key": uuid4().hex}
        made = self._call(
            "job", "POST", "/api/llm/jobs", {202}, json=self._body(MAX_TOKENS), headers=key
        )
        return self._done("job", began, self._end_of("job", made.json()["id"], True))

    def stream(self, kind: str, max_tokens: int) -> Done:
        """Read a stream, and resume it after each break."""
        began, key = time.monotonic(), {"Idempotency-Key": uuid4().hex}
        body = {**self._body(max_tokens), "stream": True}
        received = _Received()
        for resumed in itertools.count():
            if received.job_id:
                path = f"/api/llm/jobs/{received.job_id}/stream"
                headers = {"Last-Event-ID": received.position} if received.position else {}
                response = self._call(kind, "GET", path, {200}, headers=headers, stream=True)
            else:
                options = {"json": body, "headers": key, "stream": True}
                response = self._call(kind, "POST", "/api/llm/generate", {200}, **options)
            if received.read(response):
                job = _ended(received.job_id, received.text, received.usage, True)
                return self._done(kind, began, job, resumed=resumed)
            if time.monotonic() - began > CALL_SECONDS:
                raise UnusableResponse(f"a stream that does not end: {received}")
        raise AssertionError

    def batch(self) -> Done:
        began, key = time.monotonic(), {"Idempotency-Key": uuid4().hex}
        lines = [{"custom_id": f"c{i}", **self._body(MAX_TOKENS)} for i in range(BATCH_LINES)]
        path, headers = "/api/llm/batches", {**key, **JSONL}
        made = self._call("batch", "POST", path, {200, 201}, data=jsonl(*lines), headers=headers)
        address = f"/api/llm/batches/{made.json()['id']}"
        batch: dict[str, Any] = {}
        while batch.get("status") not in {"completed", "cancelled", "expired"}:
            time.sleep(RETRY_SECONDS)  # a client's pause between two polls
            batch = self._call("batch", "GET", address, {200}).json()
            if time.monotonic() - began > CALL_SECONDS:
                raise UnusableResponse(f"a batch that does not end: {batch}")
        text = self._call("batch", "GET", f"{address}/results", {200}).text
        results = [json.loads(line) for line in text.splitlines()]
        got = [(result["custom_id"], result["status"]) for result in results]
        if got != [(f"c{i}", "succeeded") for i in range(BATCH_LINES)]:
            raise UnusableResponse(f"not each line once: {got}")
        return Done("batch", began, time.monotonic(), batch_id=made.json()["id"])

    def page(self) -> Done:
        """Load the admin UI's page to sign in."""
        began = time.monotonic()
        page = self._call("page", "GET", "/sign-in", {200}, url=self.admin_url)
        if "<form" not in page.text:
            raise UnusableResponse("a page to sign in without a form")
        time.sleep(RETRY_SECONDS)  # the page is quick, and one client must not fill the machine
        return Done("page", began, time.monotonic())

    def _body(self, max_tokens: int) -> dict[str, Any]:
        # At least as many words as tokens: the echo engine repeats the prompt.
        return {"prompt": f"{uuid4().hex[:8]} " + "one " * max_tokens, "maxTokens": max_tokens}

    def _end_of(self, kind: str, job_id: str, is_sole: bool) -> EndedJob:
        """Wait until a job has ended."""
        began = time.monotonic()
        job: dict[str, Any] = {}
        while job.get("status") not in FINAL:
            job = self._call(kind, "GET", f"/api/llm/jobs/{job_id}?wait=5", {200}).json()
            if time.monotonic() - began > CALL_SECONDS:
                raise UnusableResponse(f"a job that does not end: {job}")
        if job["status"] != "succeeded":
            raise UnusableResponse(f"a job that {job['status']}: {job}")
        return _ended(job_id, job["result"]["choices"][0]["text"], job["usage"], is_sole)

    def _done(self, kind: str, began: float, job: EndedJob, resumed: int = 0) -> Done:
        return Done(kind, began, time.monotonic(), (job,), resumed=resumed)

    def _call(
        self,
        kind: str,
        method: str,
        path: str,
        accepted: Collection[int],
        *,
        url: str = "",
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> requests.Response:
        """Send a request until it is accepted.

        Raises:
            UnusableResponse: it is refused for too long, or the response is no refusal.
        """
        began = time.monotonic()
        headers = {"x-api-key": self.secret, **(headers or {})}
        while True:
            try:
                response = self.session.request(
                    method,
                    (url or self.url) + path,
                    headers=headers,
                    timeout=CALL_SECONDS,
                    **options,
                )
            except requests.RequestException as error:
                code = f"{type(error).__name__}: {error}"
                refusal = Refusal(kind, time.monotonic(), NO_RESPONSE, code)
            else:
                if self.holds_to_document and not url and not _is_of_nginx(response):
                    check_response(response, has_body=not options.get("stream", False))
                if response.status_code in accepted:
                    return response
                refusal = self._refused(kind, response)
            self.refused += 1
            self.records.add(refusal)
            if time.monotonic() - began > PATIENCE_SECONDS:
                wait = f"{PATIENCE_SECONDS} s"
                raise UnusableResponse(f"{method} {path} was refused for {wait}: {refusal}")
            time.sleep(RETRY_SECONDS)

    def _refused(self, kind: str, response: requests.Response) -> Refusal:
        status = response.status_code
        if status < 500:
            raise UnusableResponse(f"{response.request.path_url}: {status} {response.text}")
        try:
            code = str(response.json()["error"]["code"])
        except ValueError:
            code = "a page"
        when = "retry-after" in response.headers
        return Refusal(kind, time.monotonic(), status, code, says_when=when)


@dataclass
class _Received:
    """The part of a stream that a client has."""

    job_id: str = ""
    text: str = ""
    position: str = ""
    usage: dict[str, int] = field(default_factory=dict)

    def read(self, response: requests.Response) -> bool:
        """Read until the stream ends (True) or the connection breaks (False)."""
        try:
            for event in events(response):
                if event.data == "[DONE]":
                    return True
                said = event.json
                if "error" in said:
                    raise UnusableResponse(f"a stream with an error: {said}")
                self.job_id, self.position = said["id"], event.id or self.position
                self.text += "".join(choice["text"] for choice in said["choices"])
                self.usage = said.get("usage") or self.usage
        except requests.RequestException:
            pass  # the client resumes it
        return False


def _is_of_nginx(response: requests.Response) -> bool:
    """Return whether NGINX responds because no API does; the document has only the API's."""
    return response.status_code == 503 and '"api_unavailable"' in response.text


def _ended(job_id: str, text: str, usage: dict[str, int], is_sole: bool) -> EndedJob:
    return EndedJob(job_id, text, usage["prompt_tokens"], usage["completion_tokens"], is_sole)
