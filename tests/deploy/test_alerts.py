"""Alerts and dashboards as files: generated, known to promtool, and each alert with a section of the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy import __main__ as written
from deploy import alerts, dashboards
from edge_extproc.telemetry import catalog

ROOT = Path(__file__).parents[2]

NAMES = {entry.name for entry in catalog.entries()}
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")
EXPRESSIONS = [alert.expr for alert in alerts.ALERTS] + [
    query for board in dashboards.DASHBOARDS for panel in board.panels for query, _ in panel.queries
]


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return found


@pytest.mark.parametrize("path", written.files(), ids=str)
def test_a_file_is_what_the_code_says(path: Path) -> None:
    assert (written.HERE / path).read_text() == written.files()[path], "python -m deploy"


def test_every_name_in_every_expression_is_a_metric_of_ours() -> None:
    used = {name for text in EXPRESSIONS for name in re.findall(r"\b(?:edge|process)_[a-z_]+", text)}

    assert {name for name in used if name not in NAMES and SUFFIX.sub("", name) not in NAMES} == set()


def test_there_are_enough_and_each_name_once() -> None:
    assert len({alert.name for alert in alerts.ALERTS}) == len(alerts.ALERTS) >= 12


def test_every_alert_has_a_section_in_the_runbook_and_the_other_way_round() -> None:
    text = (ROOT / alerts.RUNBOOK).read_text()

    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == [alert.name for alert in alerts.ALERTS]
    for section in text.split("\n## ")[1:]:
        assert all(f"**{word}**" in section for word in ("Means", "Look at", "Do")), section[:40]


def test_promtool_takes_the_rules() -> None:
    path = written.HERE / "prometheus" / "rules.yml"
    run = subprocess.run([promtool(), "check", "rules", str(path)], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr


def test_each_alert_fires_where_it_must_and_nowhere_else(tmp_path: Path) -> None:
    tests = []
    for alert in alerts.ALERTS:
        rule, test = tmp_path / f"{alert.name}.rules.yml", tmp_path / f"{alert.name}.yml"
        rule.write_text(yaml.safe_dump(alerts.rules([alert])))
        test.write_text(yaml.safe_dump(alerts.promtool_tests(alert, str(rule))))
        tests.append(str(test))
    run = subprocess.run([promtool(), "test", "rules", *tests], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
