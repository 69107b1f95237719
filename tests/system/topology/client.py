"""One client of the service: it asks through NGINX, comes again when it is refused, and writes down
both. What it sends twice has an `Idempotency-Key`, but for plain synchronous calls.
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
from tests.system.topology.records import NO_ANSWER, Done, Records, Refusal, Told

#: Before a refused request is sent again: less than `Retry-After` asks for, to see more of the time
#: that a part is away.
AGAIN_SECONDS = 0.1
#: A request that is refused this long is lost.
PATIENCE_SECONDS = 30.0
CALL_SECONDS = 60.0
BATCH_LINES = 3
MAX_TOKENS = 8
#: All that a client can ask for.
KINDS = ("answer", "job", "stream", "long stream", "batch", "page")
FINAL = {"succeeded", "failed", "cancelled", "expired"}


class Given(Exception):
    """A client was given something that it cannot make anything of."""


@dataclass
class Client:
    """Asks for one thing after the other.

    Attributes:
        long_tokens: of an answer that takes longer than a drain.
        holds_to_document: each answer must be as the document of this version says; those of
            another version may know less.
    """

    url: str
    admin_url: str
    secret: str
    records: Records
    long_tokens: int
    holds_to_document: bool = True
    session: requests.Session = field(default_factory=requests.Session)
    refused: int = 0

    def ask(self, kind: str) -> Done:
        """Ask for one thing of a kind, and get it."""
        match kind:
            case "answer":
                return self.answer()
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

    def answer(self) -> Done:
        """Wait for an answer; told to wait no longer, look at the job."""
        began, body, refused = time.monotonic(), self._body(MAX_TOKENS), self.refused
        got = self._call("answer", "POST", "/api/llm/generate", {200, 202}, json=body)
        is_sole = self.refused == refused
        if got.status_code == 202:
            told = self._end_of("answer", got.json()["id"], is_sole)
        else:
            said = got.json()
            told = _told(said["id"], said["choices"][0]["text"], said["usage"], is_sole)
        return self._done("answer", began, told)

    def job(self) -> Done:
        began, key = time.monotonic(), {"Idempotency-Key": uuid4().hex}
        made = self._call(
            "job", "POST", "/api/llm/jobs", {202}, json=self._body(MAX_TOKENS), headers=key
        )
        return self._done("job", began, self._end_of("job", made.json()["id"], True))

    def stream(self, kind: str, max_tokens: int) -> Done:
        """Take a stream, and take it up again wherever it breaks off."""
        began, key = time.monotonic(), {"Idempotency-Key": uuid4().hex}
        body = {**self._body(max_tokens), "stream": True}
        taken = _Taken()
        for again in itertools.count():
            if taken.job_id:
                path = f"/api/llm/jobs/{taken.job_id}/stream"
                position = {"Last-Event-ID": taken.position} if taken.position else {}
                got = self._call(kind, "GET", path, {200}, headers=position, stream=True)
            else:
                path = "/api/llm/generate"
                got = self._call(kind, "POST", path, {200}, json=body, headers=key, stream=True)
            if taken.take(got):
                told = _told(taken.job_id, taken.text, taken.usage, True)
                return self._done(kind, began, told, again=again)
            if time.monotonic() - began > CALL_SECONDS:
                raise Given(f"a stream that does not end: {taken}")
        raise AssertionError

    def batch(self) -> Done:
        began, key = time.monotonic(), {"Idempotency-Key": uuid4().hex}
        lines = [{"custom_id": f"c{i}", **self._body(MAX_TOKENS)} for i in range(BATCH_LINES)]
        path, headers = "/api/llm/batches", {**key, **JSONL}
        made = self._call("batch", "POST", path, {200, 201}, data=jsonl(*lines), headers=headers)
        address = f"/api/llm/batches/{made.json()['id']}"
        shown: dict[str, Any] = {}
        while shown.get("status") not in {"completed", "cancelled", "expired"}:
            time.sleep(AGAIN_SECONDS)
            shown = self._call("batch", "GET", address, {200}).json()
            if time.monotonic() - began > CALL_SECONDS:
                raise Given(f"a batch that does not end: {shown}")
        text = self._call("batch", "GET", f"{address}/results", {200}).text
        results = [json.loads(line) for line in text.splitlines()]
        got = [(result["custom_id"], result["status"]) for result in results]
        if got != [(f"c{i}", "succeeded") for i in range(BATCH_LINES)]:
            raise Given(f"not each line once: {got}")
        return Done("batch", began, time.monotonic(), batch_id=made.json()["id"])

    def page(self) -> Done:
        """Look at the admin UI's page to sign in."""
        began = time.monotonic()
        page = self._call("page", "GET", "/sign-in", {200}, url=self.admin_url)
        if "<form" not in page.text:
            raise Given("a page to sign in without a form")
        time.sleep(AGAIN_SECONDS)
        return Done("page", began, time.monotonic())

    def _body(self, max_tokens: int) -> dict[str, Any]:
        # As many words as tokens, at least: the echo engine gives the prompt again.
        return {"prompt": f"{uuid4().hex[:8]} " + "one " * max_tokens, "maxTokens": max_tokens}

    def _end_of(self, kind: str, job_id: str, is_sole: bool) -> Told:
        """Wait until a job has ended."""
        began = time.monotonic()
        shown: dict[str, Any] = {}
        while shown.get("status") not in FINAL:
            shown = self._call(kind, "GET", f"/api/llm/jobs/{job_id}?wait=5", {200}).json()
            if time.monotonic() - began > CALL_SECONDS:
                raise Given(f"a job that does not end: {shown}")
        if shown["status"] != "succeeded":
            raise Given(f"a job that {shown['status']}: {shown}")
        return _told(job_id, shown["result"]["choices"][0]["text"], shown["usage"], is_sole)

    def _done(self, kind: str, began: float, told: Told, again: int = 0) -> Done:
        return Done(kind, began, time.monotonic(), (told,), again=again)

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
            Given: it is refused for too long, or answered with what no refusal is.
        """
        began = time.monotonic()
        headers = {"x-api-key": self.secret, **(headers or {})}
        while True:
            try:
                answer = self.session.request(
                    method,
                    (url or self.url) + path,
                    headers=headers,
                    timeout=CALL_SECONDS,
                    **options,
                )
            except requests.RequestException as error:
                refusal = Refusal(
                    kind, time.monotonic(), NO_ANSWER, f"{type(error).__name__}: {error}"
                )
            else:
                if self.holds_to_document and not url and not _is_of_nginx(answer):
                    check_response(answer, has_body=not options.get("stream", False))
                if answer.status_code in accepted:
                    return answer
                refusal = self._refused(kind, answer)
            self.refused += 1
            self.records.add(refusal)
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise Given(f"{method} {path} was refused for {PATIENCE_SECONDS} s: {refusal}")
            time.sleep(AGAIN_SECONDS)

    def _refused(self, kind: str, answer: requests.Response) -> Refusal:
        if answer.status_code < 500:
            raise Given(f"{answer.request.path_url}: {answer.status_code} {answer.text}")
        try:
            code = str(answer.json()["error"]["code"])
        except ValueError:
            code = "a page"
        when = "retry-after" in answer.headers
        return Refusal(kind, time.monotonic(), answer.status_code, code, says_when=when)


@dataclass
class _Taken:
    """What a client has of a stream."""

    job_id: str = ""
    text: str = ""
    position: str = ""
    usage: dict[str, int] = field(default_factory=dict)

    def take(self, answer: requests.Response) -> bool:
        """Take what comes until the end, which is true, or until the connection breaks."""
        try:
            for event in events(answer):
                if event.data == "[DONE]":
                    return True
                said = event.json
                if "error" in said:
                    raise Given(f"a stream with an error: {said}")
                self.job_id, self.position = said["id"], event.id or self.position
                self.text += "".join(choice["text"] for choice in said["choices"])
                self.usage = said.get("usage") or self.usage
        except requests.RequestException:
            pass  # it is taken up again
        return False


def _is_of_nginx(answer: requests.Response) -> bool:
    """Say whether NGINX answers for APIs that do not; the document speaks of theirs."""
    return answer.status_code == 503 and '"api_unavailable"' in answer.text


def _told(job_id: str, text: str, usage: dict[str, int], is_sole: bool) -> Told:
    return Told(job_id, text, usage["prompt_tokens"], usage["completion_tokens"], is_sole)
