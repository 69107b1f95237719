"""`bountycoder batch` starts without the modules of the service."""

from __future__ import annotations

import os
import sys

from tests.support.processes import run as run_program


def test_the_client_imports_no_module_of_the_service() -> None:
    program = (
        "import sys\n"
        "from cli.main import main\n"
        "try:\n"
        "    main(['batch', '--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'flask', 'torch', 'sqlalchemy', 'gevent', 'redis', 'dramatiq', 'psycopg2',\n"
        "         'tokenizers', 'pydantic', 'api', 'worker', 'models', 'admin_ui'}\n"
        "found = heavy & {name.split('.')[0] for name in sys.modules}\n"
        "assert not found, found\n"
    )

    done = run_program([sys.executable, "-c", program], environment=os.environ)

    assert done.returncode == 0, done.stderr
    assert "141  the reader of the output has closed it" in done.stdout
