"""The load of `wrk` (Debian's package): many times the same generation."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time

BODY = {"prompt": "Write a Python function that reverses a list", "maxTokens": 32}
#: Settings of a service that admits as many jobs as `wrk` can send.
NO_LIMITS = {
    "ENGINE": "echo",
    "LOG_LEVEL": "WARNING",
    "MAX_QUEUE_LENGTH": "10000000",
    "MAX_QUEUE_SECONDS": "100000",
}


def load(
    url: str, headers: dict[str, str], at_once: int, seconds: int, *, is_warm: bool = False
) -> float:
    """Return the requests a second that succeed, after a warm-up.

    Raises:
        RuntimeError: a request fails.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        lines = ["wrk.method = 'POST'", f"wrk.body = {json.dumps(json.dumps(BODY))}"]
        for name, value in {"Content-Type": "application/json", **headers}.items():
            lines.append(f"wrk.headers['{name}'] = '{value}'")
        script.write("\n".join(lines))
        script.flush()
        command = ["wrk", "-t1", f"-c{at_once}", "--timeout", "30s", "-s", script.name, url]
        if not is_warm:
            subprocess.run([*command, "-d1s"], check=True, capture_output=True)
            time.sleep(0.5)
        ran = subprocess.run(
            [*command, f"-d{seconds}s"], check=True, capture_output=True, text=True
        )
    if "Non-2xx" in ran.stdout or "Socket errors" in ran.stdout:
        raise RuntimeError(ran.stdout)
    found = re.search(r"Requests/sec:\s+([\d.]+)", ran.stdout)
    assert found is not None, ran.stdout
    return float(found[1])
