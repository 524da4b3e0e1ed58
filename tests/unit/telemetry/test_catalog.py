"""The documentation of metrics says what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_extproc.telemetry import catalog

DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
ENTRIES = catalog.entries()


def test_the_document_is_what_the_code_says() -> None:
    assert DOCS.read_text() == catalog.markdown(), "python -m edge_extproc.telemetry.catalog > docs/metrics.md"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_metric_follows_the_convention(entry: catalog.MetricEntry) -> None:
    assert entry.name.startswith(("edge_", "process_"))
    assert entry.text.endswith(".")
    assert entry.name.endswith("_total") == (entry.kind == "counter")
    assert not set(entry.labels) & {"le", "path", "request_id", "trace_id"}


def test_no_name_stands_twice() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES) >= 30
