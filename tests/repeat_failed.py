"""Repeats the tests that failed in the last run, each file's in a process of its own, if they are few.

`make test REPEAT=3` runs it after a run in which tests failed. Its status is that of the repetition. A run with more
failures than REPEAT, or one that ended in another way, keeps its own status.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

FAILED = Path(".pytest_cache/v/cache/lastfailed")

TESTS_FAILED = 1
"""Pytest's status of a run that ended, in which tests failed."""


def files_of(failed: list[str]) -> dict[str, list[str]]:
    """The node ids by their file."""
    files = defaultdict(list)
    for node_id in failed:
        files[node_id.partition("::")[0]].append(node_id)
    return files


def main(status: int, most: int) -> int:
    """The status of the whole: 0 if each test that failed passed when it was repeated."""
    if status != TESTS_FAILED or not FAILED.exists():
        return status
    # Pytest also keeps the names of its processes, if they could not collect the tests.
    failed = sorted(each for each in json.loads(FAILED.read_text()) if Path(each.partition("::")[0]).exists())
    if not 0 < len(failed) <= most:
        return status
    print(f"\n{len(failed)} failed. Repeated alone:", flush=True)
    for node_ids in files_of(failed).values():
        if status := subprocess.run([sys.executable, "-m", "pytest", "-v", *node_ids], check=False).returncode:
            return status
    print("\nUNSTEADY: failed once, passed alone. Each is a defect, of a test or of the gateway:")
    print("\n".join(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
