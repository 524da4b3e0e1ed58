"""The measurement of the admin pages runs, and asks for each page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from bench import pages
from edge_extproc.pages.app import PAGES


async def test_each_page_is_measured_with_each_filter(tmp_path: Path) -> None:
    url, last_day = f"sqlite:///{tmp_path}/pages.db", datetime.now(UTC).date()
    pages.fill(url, 200, is_flat=False, last_day=last_day)
    found = await pages.measure(url, last_day, 1)

    plain = {path for method, path in PAGES if method == "GET" and "{" not in path and not path.endswith(".csv")}
    assert plain <= found["each page"].keys()
    assert {f"/requests?{name}=rare" for name in pages.FILTERS if name != "status"} <= found["requests, rare"].keys()
    assert all(1 == len(runs) for paths in found.values() for runs in paths.values())


def test_the_rows_are_the_same_each_time_and_of_the_last_days() -> None:
    last_day = datetime(2027, 1, 30, tzinfo=UTC).date()
    first, second = (list(pages.rows(300, is_flat=False, last_day=last_day)) for _ in range(2))

    assert first == second
    days = {datetime.fromtimestamp(row.started_ms / 1000, UTC).date() for row in first}
    assert pages.DAYS == len(days)
    assert last_day == max(days)
