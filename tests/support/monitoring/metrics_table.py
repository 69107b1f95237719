"""The table of metrics in `docs/metrics.md`."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

METRICS_DOCUMENT = ROOT / "docs" / "metrics.md"
METRIC_ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)
