"""The forms of values that were tried, and the tables of the documentation."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from bench import evasions

ROOT = Path(__file__).resolve().parents[3]


def test_the_documentation_has_what_is_found_of_each_form() -> None:
    """`make docs` writes it."""
    path = ROOT / "docs" / "guardrail_tables.py"
    spec = importlib.util.spec_from_file_location("guardrail_tables", path)
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)

    assert tables.PAGE.read_text("utf-8") == tables.page()


def test_more_than_two_hundred_forms_of_values_are_tried_and_most_are_found() -> None:
    rows = evasions.results()
    tried, found = sum(row.tried for row in rows), sum(row.found for row in rows)

    assert tried >= 200
    assert found / tried > 0.8
    assert all(
        row.found == row.tried for row in rows if row.form in {"as it is", "base64 of base64", "fullwidth letters"}
    )


def test_what_is_masked_is_not_found_again() -> None:
    """The value of each form that is found is covered as a whole: nothing of it is left to find."""
    detectors = evasions.detectors()
    left = []
    for form in evasions.FORMS:
        for kind, value in evasions.VALUES:
            if kind not in form.values or kind == "i":
                continue
            text = f"Please look at this:\n{form.change(value)}\nThanks."
            masked = text
            for each in reversed(detectors[kind].find(text, "tool_result")):
                masked = f"{masked[: each.start]}[masked]{masked[each.end :]}"
            if masked != text and detectors[kind].find(masked, "tool_result"):
                left.append((form.name, value, masked))

    assert [] == left
