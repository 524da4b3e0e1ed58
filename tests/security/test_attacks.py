"""One run of all attacks against one gateway on real Envoy. docs/security.md lists them with what was seen.

Each test compares its row with the page. WRITE_SECURITY=1 writes the page.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import ATTACKS, Attack, everything_at_once
from target import Target, attacked

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("attacks")]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
BEGIN = "| who | attack | seen |\n|---|---|---|\n"


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with attacked() as found:
        yield found


def row(attack: Attack, seen: str) -> str:
    return f"| {attack.who} | {attack.what} | {seen} |"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: f"{each.who}: {each.what}".replace("`", ""))
def test_the_gateway_holds_against(attack: Attack, target: Target) -> None:
    seen = row(attack, attack.run(target))
    if os.environ.get("WRITE_SECURITY"):
        write(attack, seen)

    assert seen in PAGE.read_text("utf-8").splitlines(), f"make attacks writes the page; seen: {seen}"


def test_after_all_attacks_nothing_is_broken_and_nothing_has_leaked(target: Target) -> None:
    held = list(everything_at_once(target))

    assert [] == [each for each in held if f"- {each}" not in PAGE.read_text("utf-8")]


def test_the_page_has_all_attacks_and_no_other_one() -> None:
    listed = [line.split(" | ")[:2] for line in PAGE.read_text("utf-8").partition(BEGIN)[2].splitlines()]

    assert [[f"| {attack.who}", attack.what] for attack in ATTACKS] == listed
    assert len(ATTACKS) == len({(attack.who, attack.what) for attack in ATTACKS}) > 50


def write(attack: Attack, seen: str) -> None:
    """Replaces the row of an attack, in the order of the list."""
    introduction, _, table = PAGE.read_text("utf-8").partition(BEGIN)
    rows = {tuple(line.split(" | ")[:2]): line for line in table.splitlines() if line.startswith("| ")}
    rows[f"| {attack.who}", attack.what] = seen
    ordered = [rows[key] for key in ((f"| {each.who}", each.what) for each in ATTACKS) if key in rows]
    PAGE.write_text(introduction + BEGIN + "\n".join(ordered) + "\n", "utf-8")
