"""Measures each page of the admin UI in a busy service: latency and number of statements.

python -m tests.bench.pages [--rounds 20] [--keep DIR] [--only TEXT] [--jobs 1000000]
The demo data has 10,000 users and 20,000 keys. Each round requests every page, one at a time.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import requests

from admin_ui.app import create_app
from admin_ui.services import PageServices
from core.config.settings import Settings
from models.database.base import open_database, sessions, utc_now
from models.demo.data import DemoSize
from tests.bench.pages.addresses import Heaviest, addresses, admin_email
from tests.bench.servers import DEMO_PASSWORD, filled_servers
from tests.support.service import Service

#: The bounds of a page: its 95th percentile, and its statements.
BUDGET_MS = 300.0
MOST_STATEMENTS = 12
CALL_SECONDS = 60.0
#: A download is not a page: it is listed, but has no bound.
DOWNLOAD_ROUNDS = 2
_ID = re.compile(r"(user|key|batch|gen)_[0-9a-f]{32}")


@dataclass
class Page:
    """A page, and its responses."""

    who: str
    address: str
    taken: list[float] = field(default_factory=list)
    status: int = 0
    statements: int = 0
    is_download: bool = False

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.taken, n=20, method="inclusive")[-1]

    @property
    def is_refused(self) -> bool:
        """Say whether the visitor may not see the page, or it does not exist: it has no figures."""
        return self.status >= 400

    @property
    def is_over(self) -> bool:
        return not self.is_download and (self.p95 > BUDGET_MS or self.statements > MOST_STATEMENTS)

    @property
    def name(self) -> str:
        address = _ID.sub(r"<\1>", self.address)
        address = re.sub(r"(%2C<\w+>)+", ",…", address)
        return f"{self.who} {address}"

    def ask(self, browser: requests.Session, url: str) -> None:
        began = time.perf_counter()
        response = browser.get(url + self.address, allow_redirects=False, timeout=CALL_SECONDS)
        self.taken.append((time.perf_counter() - began) * 1000)
        if response.status_code >= 500:
            raise SystemExit(f"{self.name}: {response.status_code}\n{response.text}")
        self.status = response.status_code
        self.is_download = "attachment" in response.headers.get("content-disposition", "")
        timing = response.headers.get("server-timing", "")
        found = re.search(r'desc="(\d+) statements', timing)
        self.statements = int(found[1]) if found else 0

    def __str__(self) -> str:
        figures = (statistics.median(self.taken), self.p95, max(self.taken))
        columns = "".join(f"{ms:9.1f}" for ms in figures)
        marks = {
            "  over": self.is_over,
            "  download": self.is_download,
            "  refused": self.is_refused,
        }
        mark = "".join(mark for mark, is_set in marks.items() if is_set)
        return f"{self.name[:86]:88}{self.status:6}{columns}{self.statements:12}{mark}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="directory that keeps the data")
    parser.add_argument("--only", default="", help="pages whose address contains this text")
    parser.add_argument("--jobs", type=int, default=DemoSize().jobs)
    args = parser.parse_args()
    with (
        filled_servers(DemoSize(jobs=args.jobs), args.keep) as (settings, directory),
        Service.started(settings, directory, workers=0) as service,
    ):
        service.start_admin_ui()
        pages = []
        for who, email, found in _visitors(service.settings, args.only):
            asked = [Page(who, address) for address in found]
            _visit(service.admin_url, email, asked, args.rounds)
            pages += asked
    _report(pages)


def _visitors(settings: Settings, only: str) -> list[tuple[str, str, list[str]]]:
    """Return each visitor's name, email and addresses."""
    app = create_app(PageServices.from_settings(settings))
    engine = open_database(settings)
    try:
        with sessions(engine)() as session:
            everyone = Heaviest.read(session, utc_now(), is_own=False)
            own = Heaviest.read(session, utc_now(), is_own=True)
            admin = admin_email(session)
    finally:
        engine.dispose()
    return [
        (who, email, [address for address in addresses(app, about) if only in address])
        for who, email, about in (("admin", admin, everyone), ("customer", own.email, own))
    ]


def _visit(url: str, email: str, pages: list[Page], rounds: int) -> None:
    with requests.Session() as browser:
        _sign_in(browser, url, email)
        for page in pages:  # the first request loads code and templates
            page.ask(browser, url)
            page.taken.clear()
        for number in range(rounds):
            for page in pages:
                if not page.is_download or number < DOWNLOAD_ROUNDS:
                    page.ask(browser, url)


def _sign_in(browser: requests.Session, url: str, email: str) -> None:
    form = browser.get(f"{url}/sign-in", timeout=CALL_SECONDS).text
    token = re.search(r'name="csrf_token" value="([^"]+)"', form)
    assert token
    fields = {"csrf_token": token[1], "email": email, "password": DEMO_PASSWORD, "next": ""}
    response = browser.post(f"{url}/sign-in", data=fields, timeout=CALL_SECONDS)
    if not response.ok or response.url.endswith("/sign-in"):
        raise SystemExit(f"{email} cannot sign in: {response.status_code}")


def _report(pages: list[Page]) -> None:
    print(f"{'page':88}{'status':>6}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}{'statements':>12}")
    for page in pages:
        print(page)
    judged = [page for page in pages if not page.is_download and not page.is_refused]
    if not judged:
        raise SystemExit("no page was measured")
    worst = max(judged, key=lambda page: page.p95)
    most = max(page.statements for page in judged)
    over = [page.name for page in judged if page.is_over]
    print(
        f"worst p95: {worst.p95:.0f} ms ({worst.name}); most statements: {most}; of {len(judged)} "
        f"over {BUDGET_MS:.0f} ms or {MOST_STATEMENTS} statements: {', '.join(over) or 'none'}"
    )


if __name__ == "__main__":
    main()
