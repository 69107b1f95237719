"""The same call as programs make it. The secret stands in none of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

#: The variable of the environment that the samples take the key's secret from.
SECRET_VARIABLE = "BOUNTYCODER_API_KEY"  # noqa: S105 - no secret
PATH = "/api/llm/generate"


class CodeSample(NamedTuple):
    """A program. `name` is good for an id in a page."""

    name: str
    title: str
    text: str


def code_samples(api_url: str, body: Mapping[str, Any]) -> list[CodeSample]:
    """Return a generation in each language."""
    address = api_url + PATH
    return [
        CodeSample("curl", "cURL", _curl(address, body)),
        CodeSample("python", "Python", _python(address, body)),
        CodeSample("javascript", "JavaScript", _javascript(address, body)),
    ]


def _curl(address: str, body: Mapping[str, Any]) -> str:
    content = shlex.quote(json.dumps(body, indent=2, ensure_ascii=False))
    return (
        f"curl {shlex.quote(address)} \\\n"
        f'  -H "Authorization: Bearer ${SECRET_VARIABLE}" \\\n'
        f"  -H 'Content-Type: application/json' \\\n"
        f"  --data-raw {content}"
    )


def _python(address: str, body: Mapping[str, Any]) -> str:
    return f"""import os

import requests

answer = requests.post(
    {_python_value(address)},
    headers={{"Authorization": f"Bearer {{os.environ['{SECRET_VARIABLE}']}}"}},
    json={_python_value(body, 1)},
    timeout=630,
)
answer.raise_for_status()
print(answer.json()["choices"][0]["text"])
"""


def _python_value(value: Any, depth: int = 0) -> str:
    """Write a value as Python does, one entry a line; JSON's strings are Python's, too."""
    space = "    " * (depth + 1)
    if isinstance(value, Mapping):
        entries = [f"{json.dumps(k)}: {_python_value(v, depth + 1)}" for k, v in value.items()]
    elif isinstance(value, list):
        entries = [_python_value(one, depth + 1) for one in value]
    else:
        return json.dumps(value)
    lines = "".join(f"{space}{entry},\n" for entry in entries)
    begin, end = "{}" if isinstance(value, Mapping) else "[]"
    return f"{begin}\n{lines}{space[4:]}{end}"


def _javascript(address: str, body: Mapping[str, Any]) -> str:
    content = json.dumps(body, indent=2, ensure_ascii=False).replace("\n", "\n  ")
    return f"""const answer = await fetch({json.dumps(address)}, {{
  method: "POST",
  headers: {{
    "Authorization": `Bearer ${{process.env.{SECRET_VARIABLE}}}`,
    "Content-Type": "application/json",
  }},
  body: JSON.stringify({content}),
}});
const result = await answer.json();
if (!answer.ok) throw new Error(result.error.message);
console.log(result.choices[0].text);
"""
