"""Programs that send one generation to the API, in three languages.

They read the secret of the key from the environment; a `curl` may contain it instead.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Environment variable from which the programs read the secret of the key.
SECRET_VARIABLE = "BOUNTYCODER_API_KEY"  # noqa: S105 - no secret
PATH = "/api/llm/generate"


class CodeSample(NamedTuple):
    """A program on a page; `name` is part of an element's id."""

    name: str
    title: str
    text: str


def code_samples(api_url: str, body: Mapping[str, Any]) -> list[CodeSample]:
    """Return the programs that send `body`, one for each language."""
    url = api_url + PATH
    return [
        CodeSample("curl", "cURL", curl_call(api_url, body)),
        CodeSample("python", "Python", _python(url, body)),
        CodeSample("javascript", "JavaScript", _javascript(url, body)),
    ]


def curl_call(api_url: str, body: Mapping[str, Any], secret: str = f"${SECRET_VARIABLE}") -> str:
    """Return a shell command that sends `body`.

    Args:
        secret: stands in double quotes, where the shell expands a variable.
    """
    content = shlex.quote(json.dumps(body, indent=2, ensure_ascii=False))
    return (
        f"curl {shlex.quote(api_url + PATH)} \\\n"
        f'  -H "Authorization: Bearer {secret}" \\\n'
        f"  -H 'Content-Type: application/json' \\\n"
        f"  --data-raw {content}"
    )


def _python(url: str, body: Mapping[str, Any]) -> str:
    return f"""import os

import requests

response = requests.post(
    {_python_value(url)},
    headers={{"Authorization": f"Bearer {{os.environ['{SECRET_VARIABLE}']}}"}},
    json={_python_value(body, 1)},
    timeout=630,
)
response.raise_for_status()
print(response.json()["choices"][0]["text"])
"""


def _python_value(value: Any, depth: int = 0) -> str:
    """Write a value as Python source, one entry a line; JSON strings are valid in Python."""
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


def _javascript(url: str, body: Mapping[str, Any]) -> str:
    content = json.dumps(body, indent=2, ensure_ascii=False).replace("\n", "\n  ")
    return f"""const response = await fetch({json.dumps(url)}, {{
  method: "POST",
  headers: {{
    "Authorization": `Bearer ${{process.env.{SECRET_VARIABLE}}}`,
    "Content-Type": "application/json",
  }},
  body: JSON.stringify({content}),
}});
const result = await response.json();
if (!response.ok) throw new Error(result.error.message);
console.log(result.choices[0].text);
"""
