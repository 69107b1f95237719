"""The programs of the playground run against the service."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

import pytest

from admin_ui.playground.form import DEFAULTS, body_of
from admin_ui.widgets.code_samples import SECRET_VARIABLE, code_samples
from tests.support.service import Service

PROMPT = 'it\'s "quoted" $HOME `x` \\n\n{brace} \N{SNOWMAN}'
RUN = {
    "curl": ["bash", "-c"],
    "python": [sys.executable, "-c"],
    "javascript": ["node", "--input-type=module", "-e"],
}


def body(**fields: str) -> dict[str, Any]:
    """Return the request body of the form, with some fields filled in."""
    return body_of({**DEFAULTS, **fields})


@pytest.mark.parametrize("name", RUN)
def test_a_sample_runs_unchanged(service: Service, name: str) -> None:
    if shutil.which(RUN[name][0]) is None or (name == "curl" and shutil.which("curl") is None):
        pytest.skip(f"{name} is not on this machine")
    request = body(prompt=PROMPT, mode="raw", temperature="0", stop="\N{PILE OF POO}", seed="7")
    sample = next(s for s in code_samples(service.url, request) if s.name == name)

    done = subprocess.run(
        [*RUN[name], sample.text],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", SECRET_VARIABLE: service.make_key()["secret"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    output = done.stdout.encode().decode("unicode_escape") if name == "curl" else done.stdout
    assert '"quoted" $HOME `x`' in output


def test_the_form_becomes_a_request() -> None:
    assert body(prompt="p") == {
        "prompt": "p",
        "promptMode": "chat",
        "maxTokens": 500,
        "temperature": 0.7,
    }
    assert body(prompt="p", system="s", maxTokens="", temperature=" 1 ", stop="a\n\nb") == {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
        "temperature": 1.0,
        "stop": ["a", "b"],
    }


@pytest.mark.parametrize("text", ["many", "1.5", "1e999", "nan", "inf"])
def test_the_playground_sends_a_text_that_is_no_number(text: str) -> None:
    request = body(prompt="p", maxTokens=text, temperature=text)

    assert request["maxTokens"] == text
    assert request["temperature"] in {text, 1.5}
