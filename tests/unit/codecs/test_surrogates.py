"""Pairs of surrogates whose halves are in two pieces of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.codecs.surrogates import SplitPairs, well_formed

PLACE = (0, 0)


def joined(*pieces: str) -> str:
    pairs = SplitPairs()
    return "".join([*(pairs.joined(PLACE, piece) for piece in pieces), pairs.rest(PLACE)])


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a\ud83d", "\ude00b"], "a\U0001f600b"),
        (["\ud83d", "\ude00"], "\U0001f600"),
        (["\ud83d", "", "\ude00"], "\U0001f600"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["a\ud83d"], "a\ufffd"),
        (["\ude00a"], "\ufffda"),
        (["\ud83d\ud83d", "\ude00"], "\ufffd\U0001f600"),
    ],
)
def test_halves_become_their_character_or_are_replaced(pieces: list[str], expected: str) -> None:
    assert joined(*pieces) == expected


def test_places_do_not_mix() -> None:
    pairs = SplitPairs()

    assert pairs.joined((0, 0), "\ud83d") == ""
    assert pairs.joined((0, 1), "\ude00") == "\ufffd"
    assert pairs.joined((0, 0), "\ude00") == "\U0001f600"
    assert not pairs


@given(st.lists(st.text(st.characters(codec=None, exclude_categories=[])), max_size=6))
def test_portions_do_not_matter(pieces: list[str]) -> None:
    assert joined(*pieces) == well_formed("".join(pieces))
