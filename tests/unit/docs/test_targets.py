"""The table of what each proxy can do is what the code does."""

from __future__ import annotations

import runpy
from pathlib import Path

GENERATE = runpy.run_path(str(Path(__file__).parents[3] / "envoy" / "generate.py"))


def test_the_table_is_what_the_code_does() -> None:
    assert GENERATE["targets_page"]() == GENERATE["TARGETS_PAGE"].read_text(), "say `make examples`"


def test_the_table_tells_targets_apart() -> None:
    rows = {line.split(" | ")[0]: line for line in GENERATE["targets_page"]().splitlines() if line.startswith("| ")}

    assert {"yes", "no"} <= {cell.strip(" |") for cell in rows["| `hedge`"].split(" | ")}
    assert "| several workers and hosts | yes | yes | yes | yes | no | yes | yes | yes | yes |" in rows.values()
