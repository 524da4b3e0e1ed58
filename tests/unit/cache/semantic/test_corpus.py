"""The verifiers on the corpus: no hit for another meaning, also in the part that they were not made by."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from semantic_corpus import PARAPHRASE, Part, held_out, pairs, tuning

ROOT = Path(__file__).resolve().parents[4]
KINDS = {
    *("negation", "polarity", "number", "unit", "date", "entity", "order", "scope", "word", "code", "quotation"),
    *("language", PARAPHRASE),
}


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("semantic_tables", ROOT / "docs" / "semantic_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks for it
    spec.loader.exec_module(module)
    return module


def test_the_corpus_is_large_and_has_all_kinds() -> None:
    of_parts = [Counter(pair.kind for pair in pairs(part)) for part in ("tuning", "held_out")]

    assert all(sum(counts.values()) >= 1500 for counts in of_parts)
    assert [KINDS, KINDS] == [set(counts) for counts in of_parts]
    assert pairs("held_out") == pairs("held_out")


def test_the_parts_share_neither_templates_nor_words() -> None:
    def templates(part: ModuleType) -> set[str]:
        adversarial = {each for rows in part.ADVERSARIAL.values() for row in rows for each in row}
        return {each for group in part.PARAPHRASES for each in group} | adversarial

    def words(part: ModuleType) -> set[str]:
        return {word.lower() for values in part.WORDS.values() for word in values}

    def bare(template: str) -> str:
        return "".join(piece.partition("}")[2] or piece for piece in template.split("{"))

    assert set() == {*map(bare, templates(tuning))} & {*map(bare, templates(held_out))} - SHAPES
    assert set() == words(tuning) & words(held_out)


# The three commonest forms of a question have no words but those of their slots, which differ.
SHAPES = {"How do I  ?", "How do I   in ?", "Is it  to ?", "What is the  of ?"}


@pytest.mark.parametrize("part", ["tuning", "held_out"])
def test_no_question_of_another_meaning_is_a_hit(part: Part, tables: ModuleType) -> None:
    wrong = [each.pair for each in tables.decisions("static", part) if each.is_hit and not each.pair.means_the_same]

    assert [] == wrong


def test_a_threshold_alone_would_be_wrong_often(tables: ModuleType) -> None:
    """The reason for the verifiers: if this ever fails, the embedder decides by itself."""
    other = [each for each in tables.decisions("static", "held_out") if not each.pair.means_the_same]

    assert sum(each.similarity >= 0.9 for each in other) > len(other) / 3


def test_a_stated_share_of_paraphrases_hits(tables: ModuleType) -> None:
    same = [each for each in tables.decisions("static", "held_out") if each.pair.means_the_same]

    assert sum(each.is_hit for each in same) >= 0.4 * len(same)


def test_the_page_has_the_current_tables(tables: ModuleType) -> None:
    assert tables.PAGE.read_text("utf-8") == tables.page(), "run `make docs`"
