"""PYTHONPATH=. python docs/guardrail_tables.py: writes the tables of docs/guardrails-detectors.md.

What is found of each form of a value (`bench.evasions`), and the formats of credentials with their services.
"""

from __future__ import annotations

from pathlib import Path

from bench import evasions
from edge_extproc.guardrails.credential_formats import FORMATS

PAGE = Path(__file__).resolve().parent / "guardrails-detectors.md"


def formats() -> str:
    by_service: dict[str, list[str]] = {}
    for each in FORMATS:
        by_service.setdefault(each.service or "any service", []).append(f"`{each.label}`")
    rows = [f"| {service} | {', '.join(labels)} |" for service, labels in sorted(by_service.items(), key=_by_name)]
    return "\n".join(("| service | formats |", "|---|---|", *rows))


def _by_name(row: tuple[str, list[str]]) -> tuple[bool, str]:
    return row[0] == "any service", row[0].lower()


def page() -> str:
    """The page with the current tables."""
    text = PAGE.read_text("utf-8")
    for name, table in (("evasions", evasions.table(evasions.results())), ("formats", formats())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
