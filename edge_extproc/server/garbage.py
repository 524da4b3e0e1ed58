"""When a process looks for garbage: not while it starts, and not in what it has made until then.

While a process imports and builds, nothing is garbage, and looking for it takes a tenth of the start.
"""

from __future__ import annotations

import gc


def collect_later() -> None:
    """At the beginning of a process."""
    gc.disable()


def collect_from_now() -> None:
    """When the process has started. What it has made so far is exempt for good."""
    gc.collect()
    gc.freeze()
    gc.enable()


def collect_no_more() -> None:
    """Before the end of a process. Python looks for garbage once more then, which takes a quarter of a second in the
    supervisor, and the system takes the memory back in any case."""
    gc.disable()
    gc.freeze()
