"""When a process looks for garbage."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc, sys
from edge_extproc.server import garbage
garbage.collect_later()
print(gc.isenabled())
made = [[] for _ in range(1000)]
garbage.collect_from_now()
print(gc.isenabled(), gc.get_freeze_count() > 1000)
before = gc.get_freeze_count()
made += [[] for _ in range(1000)]
garbage.collect_no_more()
print(gc.isenabled(), gc.get_freeze_count() - before >= 1000)
"""


def test_a_process_looks_for_garbage_from_its_start_to_its_end() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    assert ["False", "True True", "False True"] == done.stdout.splitlines()
