"""The product document's examples run as printed there; only host and credentials change."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from core.config.settings import EngineKind, Settings
from tests.clients.node import run_node
from tests.support.http.sse import events, text_of
from tests.support.service import Service

CURL = """\
curl -X POST https://api.bountycoder.com/api/llm/generate \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer <jwt_token>" \\
  -H "x-api-key-id: <api_key_id>" \\
  -d '{
    "prompt": "Write a function to calculate Fibonacci numbers",
    "maxTokens": 500,
    "temperature": 0.7
  }'
"""

PYTHON = """\
import requests

API_URL = "https://api.bountycoder.com/api/llm/generate"
JWT_TOKEN = "your_jwt_token"
API_KEY_ID = "your_api_key_id"

headers = {
    "Content-Type": "application/json",
    "Authorization": f"Bearer {JWT_TOKEN}",
    "x-api-key-id": API_KEY_ID
}

data = {
    "prompt": "Write a function to calculate Fibonacci numbers",
    "maxTokens": 500,
    "temperature": 0.7
}

response = requests.post(API_URL, headers=headers, json=data)
result = response.json()

print(result["choices"][0]["text"])
"""

JAVASCRIPT = """\
const axios = require('axios');

const API_URL = 'https://api.bountycoder.com/api/llm/generate';
const JWT_TOKEN = 'your_jwt_token';
const API_KEY_ID = 'your_api_key_id';

async function generateText(prompt) {
  try {
    const response = await axios.post(
      API_URL,
      {
        prompt,
        maxTokens: 500,
        temperature: 0.7
      },
      {
        headers: {
          'Content-Type': 'application/json',
          'Authorization': `Bearer ${JWT_TOKEN}`,
          'x-api-key-id': API_KEY_ID
        }
      }
    );
    
    return response.data.choices[0].text;
  } catch (error) {
    console.error('Error:', error.response ? error.response.data : error.message);
    throw error;
  }
}

generateText('Write a function to calculate Fibonacci numbers')
  .then(text => console.log(text))
  .catch(err => console.error(err));
"""

BODY = """\
{
  "prompt": "Write a function to calculate Fibonacci numbers",
  "maxTokens": 500,
  "temperature": 0.7,
  "topP": 1.0,
  "stop": ["###", "```"] // Optional stop sequences
}
"""
#: How often the body is sent.
TIMES = 10
#: A definition in one of the languages that the model writes; prose has none.
CODE = re.compile(
    r"""
    \b(?:def|func|fn)[ ]\w+\(                        # def name(, func name(, fn name(
    | \bfunction(?:[ ]\w+)?\(                       # function name(, function(
    | =>
    | \bclass[ ]\w+(?:\s*[:({]|[ ](?:extends|implements)\b)
    | ^[ \t]*(?:[\w:<>\[\]]+[ *&]+)+\w+\([^()]*\)\s*\{  # int name(int n) {
    """,
    re.MULTILINE | re.VERBOSE,
)
#: How a definition returns or prints its result.
GIVES_RESULT = re.compile(r"\b(?:return|print|yield|cout|console\.log)")
#: Bound of all requests at once; the machine has other work too.
TIMEOUT_SECONDS = 400.0


@pytest.fixture(scope="module")
def printed(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str]]]:
    """The output of each example, all run at once on a service with the small model.

    The requests with the body run at the same time: the model generates all completions together.
    """
    directory = tmp_path_factory.mktemp("real")
    changes = {"engine": EngineKind.TRANSFORMERS}
    with Service.started(base_settings, directory, **changes) as service:
        jwt = service.sign_in_admin()["Authorization"].split()[1]
        key = service.make_key()
        values = {
            "https://api.bountycoder.com": service.url,
            **dict.fromkeys(("<jwt_token>", "your_jwt_token"), jwt),
            **dict.fromkeys(("<api_key_id>", "your_api_key_id"), key["id"]),
        }
        python, javascript = directory / "example.py", directory / "example.cjs"
        python.write_text(filled(PYTHON, values))
        javascript.write_text(filled(JAVASCRIPT, values))
        body = json.loads(BODY.replace("// Optional stop sequences", ""))
        with ThreadPoolExecutor(5 + TIMES) as pool:
            submit = partial(pool.submit, response_text, service, key["secret"])
            yield {
                # Temperature 0: other sequences of a step change scores a little, and so a draw.
                "stream": submit({**body, "stream": True, "temperature": 0}),
                "whole": submit({**body, "temperature": 0}),
                **{f"body {time}": submit(body) for time in range(TIMES)},
                "curl": pool.submit(output_of, "bash", "-c", filled(CURL, values)),
                "python": pool.submit(output_of, sys.executable, python),
                "javascript": pool.submit(run_node, javascript),
            }


def response_text(service: Service, secret: str, body: dict[str, Any]) -> str:
    """Return the body of the response, or the text of a stream."""
    response = requests.post(
        f"{service.url}/api/llm/generate",
        json=body,
        headers={"x-api-key": secret},
        stream=body.get("stream", False),
        timeout=TIMEOUT_SECONDS,
    )
    return text_of(list(events(response))) if body.get("stream") else response.text


def filled(example: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        example = example.replace(placeholder, value)
    return example


def output_of(*command: str | Path) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True
    )
    return done.stdout


def test_the_curl_example_runs_as_printed(printed: dict[str, Future[str]]) -> None:
    completion = json.loads(printed["curl"].result())

    assert completion["object"] == "text_completion", completion
    assert completion["choices"][0]["text"]
    assert completion["choices"][0]["finish_reason"] in {"stop", "length"}
    usage = completion["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_python_example_runs_as_printed(printed: dict[str, Future[str]]) -> None:
    assert printed["python"].result().strip()


def test_the_javascript_example_runs_as_printed(printed: dict[str, Future[str]]) -> None:
    assert printed["javascript"].result().strip()


def test_the_request_body_as_printed_generates_code(
    printed: dict[str, Future[str]],
) -> None:
    """The stop string ``` asks for code: the completion begins after that fence."""
    completions = [json.loads(printed[f"body {time}"].result()) for time in range(TIMES)]

    texts = [completion["choices"][0]["text"] for completion in completions]
    assert [text for text in texts if not CODE.search(text)] == []
    assert [text for text in texts if not GIVES_RESULT.search(text)] == []
    for completion, text in zip(completions, texts, strict=True):
        assert not [stop for stop in ("###", "```") if stop in text]
        assert completion["choices"][0]["finish_reason"] in {"stop", "length"}
        assert completion["usage"]["completion_tokens"] > 10


def test_a_stream_of_the_body_has_the_same_code(printed: dict[str, Future[str]]) -> None:
    whole = json.loads(printed["whole"].result())["choices"][0]["text"]

    assert printed["stream"].result() == whole
