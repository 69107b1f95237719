"""The scan finds secrets in the repository."""

from __future__ import annotations

import base64
from pathlib import Path
from uuid import UUID

import pytest

from core.security.api_key_secret import KeySecret
from core.webhooks.signature import WebhookSecret
from tests.support.factories.settings import made_settings
from tests.support.paths import ROOT
from tests.tools.secret_scan import ALLOWED_HERE, findings, main, scanned_files

KEY = KeySecret.generate().text
#: Concatenated, so that the scan does not find them in this file.
PLANTED = {
    "a key of ours": f"curl -H 'x-api-key: {KEY}'",
    "a webhook's secret": f"verify({WebhookSecret.of_key(made_settings(), UUID(int=1)).text})",
    "an AWS key": "id = AKIA" + "QWERTYUIOPASDFGH",
    "a GitHub token": "ghp_" + "x1Y2z3" * 6,
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a password in a URL": "redis://default:" + "hunter2" + "@redis.example/0",
    "a random string": f'token = "{base64.b64encode(bytes(range(7, 250, 9))).decode()}"',
}


@pytest.mark.parametrize("line", PLANTED.values(), ids=PLANTED)
def test_a_secret_is_found(line: str) -> None:
    assert [number for number, _ in findings(f"# Title\n{line}\n")][:1] == [2]
    assert list(findings(f"{line}  # {ALLOWED_HERE}")) == []


def test_a_scan_that_finds_something_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad, good = tmp_path / "bad.py", tmp_path / "good.py"
    bad.write_text(f"\n{PLANTED['a key of ours']}\n")
    good.write_text("password = input()\n")

    with pytest.raises(SystemExit, match="1"):
        main([good, bad])
    assert capfd.readouterr().err.endswith("bad.py:2: BountyCoder secret\n")
    assert main([good]) == 1


def test_all_files_of_ours_are_scanned() -> None:
    names = {str(file.relative_to(ROOT)) for file in scanned_files()}

    assert {"setup.cfg", "compose.yaml", "docs/security.md", "core/config/settings.py"} <= names
    assert "docker/requirements/api.txt" not in names
