"""Imports structlog without rich.

structlog imports rich where it is installed, to show the local variables of a traceback. No log of the gateway has a
traceback, and rich takes as long to import as structlog, and 5 MiB in each process.
"""

from __future__ import annotations

import sys


def import_structlog() -> None:
    """Call it before the first import of structlog. Afterwards, rich can be imported as usual."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # while it is None, an import of it raises ImportError
    try:
        import structlog  # noqa: F401  # for its effect
    finally:
        del sys.modules["rich"]
