"""The product document's examples run as printed there; only host and credentials change."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from core.settings import EngineKind, Settings
from tests.clients.node import run_node
from tests.service import Service

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


@pytest.fixture(scope="module")
def printed(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str]]]:
    """What each example prints; they run at once, at the service with the small model."""
    directory = tmp_path_factory.mktemp("real")
    changes = {"engine": EngineKind.TRANSFORMERS, "sync_wait_seconds": 120.0}
    with Service.started(base_settings, directory, **changes) as service:
        jwt = service.sign_in_admin()["Authorization"].split()[1]
        values = {
            "https://api.bountycoder.com": service.url,
            **dict.fromkeys(("<jwt_token>", "your_jwt_token"), jwt),
            **dict.fromkeys(("<api_key_id>", "your_api_key_id"), service.make_key()["id"]),
        }
        python, javascript = directory / "example.py", directory / "example.cjs"
        python.write_text(filled(PYTHON, values))
        javascript.write_text(filled(JAVASCRIPT, values))
        with ThreadPoolExecutor(3) as pool:
            yield {
                "curl": pool.submit(output_of, "bash", "-c", filled(CURL, values)),
                "python": pool.submit(output_of, sys.executable, python),
                "javascript": pool.submit(run_node, javascript),
            }


def filled(example: str, values: dict[str, str]) -> str:
    for place, value in values.items():
        example = example.replace(place, value)
    return example


def output_of(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=True)
    return done.stdout


def test_the_curl_example_runs_as_printed(printed: dict[str, Future[str]]) -> None:
    answer = json.loads(printed["curl"].result())

    assert answer["object"] == "text_completion", answer
    assert answer["choices"][0]["text"]
    assert answer["choices"][0]["finish_reason"] in {"stop", "length"}
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_python_example_runs_as_printed(printed: dict[str, Future[str]]) -> None:
    assert printed["python"].result().strip()


def test_the_javascript_example_runs_as_printed(printed: dict[str, Future[str]]) -> None:
    assert printed["javascript"].result().strip()
