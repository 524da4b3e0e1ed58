"""Structlog without rich, as in the gateway's own processes: `conftest.py` imports this before anything imports it.

With rich, a logged traceback shows the local variables of each frame, which takes seconds of CPU in a process that has
loaded the tests.
"""

from edge_extproc.telemetry.plain_structlog import import_structlog

import_structlog()
