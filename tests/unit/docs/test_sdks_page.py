"""docs/sdks.md: each base URL leads to paths of the gateway, and a wrong one is answered with the right one."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edge_extproc.errors import NoSuchRoute
from edge_extproc.exchange.path_router import PathRouter
from edge_extproc.worker.wiring.gateway import build_dialects, build_formats

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "sdks.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if "http://gateway:10000" in line
][1:]
ROUTES = PathRouter(build_dialects(), build_formats(), ())


def base_path(row: list[str]) -> str:
    return urlsplit(row[2].strip("`")).path


def calls(row: list[str]) -> list[tuple[str, str]]:
    return [(method, path) for method, path in re.findall(r"`([A-Z]+) (/\S+)`", row[3])]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_call_of_an_sdk_is_below_its_base_url_and_has_a_route(row: list[str]) -> None:
    assert calls(row)
    for method, path in calls(row):
        assert path.startswith(base_path(row) + "/")
        ROUTES.match(method, path)


def answered(method: str, path: str) -> str | None:
    """The text of the 404. None: the path exists."""
    try:
        ROUTES.match(method, path)
    except NoSuchRoute as error:
        return error.message
    return None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_version_that_is_missing_or_given_twice_is_corrected(row: list[str]) -> None:
    for method, path in calls(row):
        for wrong in {path.removeprefix("/v1"), f"/v1{path}", f"/openai{path}"} - {path}:
            assert answered(method, wrong) is None or "did you mean '/" in str(answered(method, wrong)), wrong


def test_the_page_has_the_sdks_of_all_formats() -> None:
    assert len(ROWS) > 15
    assert {"OpenAI", "Anthropic", "Google", "AWS"} <= {row[0].split()[0].strip(":") for row in ROWS}
