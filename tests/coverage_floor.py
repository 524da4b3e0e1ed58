"""Fails if the branch coverage of a core room is under its floor: the end of `make coverage`."""

from __future__ import annotations

import sys
from pathlib import Path

from coverage import Coverage

FLOORS = {"model": 90, "codecs": 90, "dialects": 90, "exchange": 90}
"""Percent of statements and branches, per room."""


def main() -> int:
    coverage = Coverage()
    coverage.load()
    failed = 0
    for room, floor in FLOORS.items():
        files = [str(path) for path in Path("edge_extproc", room).rglob("*.py")]
        hit = wanted = 0
        for file in files:
            numbers = coverage._analyze(file).numbers
            hit += numbers.n_executed + numbers.n_executed_branches
            wanted += numbers.n_statements + numbers.n_branches
        share = 100 * hit / wanted if wanted else 100.0
        sys.stdout.write(f"coverage of {room}: {share:.1f} % (floor {floor} %)\n")
        failed += share < floor
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
