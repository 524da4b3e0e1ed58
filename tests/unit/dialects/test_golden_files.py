"""A full request of each chat format, and what becomes of it in every other one."""

from __future__ import annotations

import json

import pytest
from golden_files import GOLDEN, MODELS, cases, crossed, expected

from edge_extproc.registry import load


@pytest.mark.parametrize(("source", "case", "target"), cases())
def test_a_full_request_crosses_as_its_golden_file_says(source: str, case: str, target: str) -> None:
    golden = json.loads(expected(source, case, target).read_bytes())

    assert golden == crossed(source, case, target)


@pytest.mark.parametrize("source", MODELS)
def test_every_format_has_a_full_request(source: str) -> None:
    assert (GOLDEN / source / "full.json").exists()
    assert source == load("dialects", source).name
