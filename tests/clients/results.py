"""The results of the last run: of each client its version, and the scenarios that it passed at each provider."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def add(passed: Iterable[tuple[str, str, str, str]]) -> None:
    """Adds rows of a client's name, its version, a provider and a scenario, in place of what another version passed.
    Several processes may add at once."""
    with FILE.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        whole = json.load(file)
        for name, version, provider, scenario in passed:
            if whole.get(name, {}).get("version") != version:
                whole[name] = {"version": version, "passed": {}}
            scenarios = whole[name]["passed"].setdefault(provider, [])
            whole[name]["passed"][provider] = sorted({*scenarios, scenario})
        file.seek(0)
        file.truncate()
        file.write(json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
