"""The detector of sizes and scripts."""

from __future__ import annotations

import pytest

from edge_extproc.guardrails.base import Finding
from edge_extproc.guardrails.detectors.size import PLUGIN, SizeOptions


def find(text: str, **options) -> list[Finding]:
    return list(PLUGIN.build(SizeOptions(**options)).find(text, "user"))


def test_a_longer_text_is_found_at_its_first_character_too_many() -> None:
    assert [] == find("12345", max_characters=5)
    assert [Finding(5, 6, "too_long")] == find("123456", max_characters=5)


@pytest.mark.parametrize(
    ("text", "scripts", "expected"),
    [
        ("Hello, world! 123", ("latin",), None),
        ("Füße, naïve, čaj", ("latin",), None),
        ("Привет", ("latin",), (0, 6)),
        ("Hello, this text is about π and μ", ("latin",), None),
        ("Hi Привет мир", ("latin",), (3, 9)),
        ("Hello", ("cyrillic",), (0, 5)),
        ("日本語のテキスト", ("kana", "han"), None),
        ("日本語のテキスト", ("han",), (3, 8)),
        ("안녕하세요 hello", ("hangul", "latin"), None),
        ("12345 !?", ("han",), None),
        ("", ("han",), None),
    ],
)
def test_letters_of_other_scripts_are_found(text: str, scripts: tuple[str, ...], expected) -> None:
    found = find(text, scripts=scripts)

    assert ([Finding(*expected, "other_script")] if expected else []) == found


def test_a_share_of_other_letters_is_allowed() -> None:
    text = "abcdefgh жы"

    assert [] == find(text, scripts=("latin",), max_other_share=0.2)
    assert [Finding(9, 11, "other_script")] == find(text, scripts=("latin",), max_other_share=0.19)


def test_findings_do_not_overlap_and_are_at_most_as_long_as_the_bound() -> None:
    detector = PLUGIN.build(SizeOptions(max_characters=3, scripts=("latin",)))
    found = detector.find("ж" * 1000, "user")

    assert [(0, 256)] == [(each.start, each.end) for each in found]
    assert detector.longest == 256
    assert 5001 == PLUGIN.build(SizeOptions(max_characters=5000)).longest


def test_options_that_find_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="would find nothing"):
        SizeOptions()
    with pytest.raises(ValueError, match="this is not one of"):
        SizeOptions(scripts=("english",))
