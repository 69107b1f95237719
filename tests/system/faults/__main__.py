from __future__ import annotations

import sys

from tests.system.faults.run import main

sys.exit(main())
