"""python -m deploy: writes deploy/grafana/*.json and deploy/prometheus/rules.yml from alerts.py and dashboards.py.

The Helm chart has a copy of each: a chart can only read files of its own."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from . import alerts, dashboards

HERE = Path(__file__).parent
CHART = Path("helm") / "edge-extproc"
NOTE = "# Written by `python -m deploy` from deploy/alerts.py.\n"


def files() -> dict[Path, str]:
    """What each is to hold, by its path below this directory."""
    boards = {
        Path("grafana") / "dashboards" / f"{board.name}.json": json.dumps(dashboards.grafana(board), indent=1) + "\n"
        for board in dashboards.DASHBOARDS
    }
    rules = NOTE + yaml.safe_dump(alerts.rules(), sort_keys=False, width=1000)
    copies = {CHART / "files" / "dashboards" / path.name: text for path, text in boards.items()}
    return {Path("prometheus") / "rules.yml": rules, **boards, CHART / "files" / "rules.yml": rules, **copies}


def main() -> None:
    for path, text in files().items():
        (HERE / path).parent.mkdir(parents=True, exist_ok=True)
        (HERE / path).write_text(text)


if __name__ == "__main__":
    main()
