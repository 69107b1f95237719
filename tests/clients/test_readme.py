"""The example of the README runs as printed; only host and key change."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.service import Service

README = ROOT / "README.md"


def test_the_example_with_openais_client_runs(service: Service, tmp_path: Path) -> None:
    section = README.read_text().split("## Use it with OpenAI's clients")[1]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    program = found[1].replace("http://127.0.0.1:5000", service.url)
    program = program.replace("bc_…", service.make_key()["secret"])
    (tmp_path / "example.py").write_text(program)

    done = subprocess.run(
        [sys.executable, tmp_path / "example.py"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "Write a function that adds two numbers" in done.stdout
