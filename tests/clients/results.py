"""The result of each cell's last run: of each client its version, and the scenarios that it passed at each provider."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")


def read(path: Path = FILE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@dataclass(frozen=True)
class Result:
    """The last run of one cell."""

    client: str
    version: str
    provider: str
    scenario: str
    has_passed: bool


def write(found: Iterable[Result], path: Path = FILE) -> None:
    """Replaces the results of these cells, and all results of another version of the same client. Several processes may
    write at once."""
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        whole = json.load(file)
        for result in found:
            if whole.get(result.client, {}).get("version") != result.version:
                whole[result.client] = {"version": result.version, "passed": {}}
            passed = whole[result.client]["passed"]
            others = set(passed.pop(result.provider, ())) - {result.scenario}
            if scenarios := others | ({result.scenario} if result.has_passed else set()):
                passed[result.provider] = sorted(scenarios)
        file.seek(0)
        file.truncate()
        file.write(json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
