"""What the verifiers refuse, and what they let pass: single pairs beside the corpus."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semantic_kit import all_verifiers

from edge_extproc.cache.semantic.questions import Question

VERIFIERS = all_verifiers()


SOME_WORDS = (
    "is",
    "the",
    "cat",
    "of",
    "a",
    "dog's",
    "not",
    "5",
    "km",
    "in",
    "how",
    "do",
    "i",
    "what",
    "tell",
    "me",
    "B",
)


def refusing(one: str, other: str) -> set[str]:
    asked, known = Question(one), Question(other)
    return {name for name, verifier in VERIFIERS.items() if not verifier.agree(asked, known)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I delete a branch?", "How can I remove the branch?"),
        ("What is the capital of France?", "What is France's capital?"),
        ("What is the capital of France?", "Please tell me the capital of France."),
        ("What is the name of the king of Spain?", "What's Spain's king's name?"),
        ("What is it?", "what is it"),
        ("I can't log in", "I cannot log in."),
        ("Hello, how do I boil an egg?", "How do I boil an egg? Thanks"),
        ("Is five enough?", "Is 5 enough?"),
        ("Is 5 km far?", "Is 5 kilometers far?"),
        ("In SQL, how do I join?", "How do I join in SQL?"),
        ("What colour is it?", "What color is it?"),
        ("Was ist das?", "was ist das"),
        ("これは何ですか?", "これは何ですか"),
        ("How do I  split\na list?", "How do I split a list?"),
    ],
)
def test_the_same_in_other_words_passes(one: str, other: str) -> None:
    assert set() == refusing(one, other)


@pytest.mark.parametrize(
    ("one", "other", "by"),
    [
        ("What is 10²?", "What is 102?", "numbers"),
        ("What is 2*(3+4)?", "What is 2*3+4?", "words"),
        ("What is 5!", "What is 5?", "numbers"),
        ("Is .5 enough?", "Is 5 enough?", "numbers"),
        ("Is –5 cold?", "Is 5 cold?", "numbers"),
        ('Is 5" long?', "Is 5 long?", "words"),
        ("Is x = A true?", "Is x = a true?", "code"),
        ("Why does f(X) fail?", "Why does f(x) fail?", "code"),
        ("if a:\n  b\nc = 1", "if a:\n  b\n  c = 1", "code"),
        ("What does f'(x) mean?", "What does f(x) mean?", "words"),
        ("Is 100 Mb fast?", "Is 100 MB fast?", "units"),
        ("Is 5 m long?", "Is 5 meters long?", "words"),
        ("Are 5 pounds much?", "Are 5 lb much?", "units"),
        ("Is a ton heavy?", "Is a tonne heavy?", "units"),
        ("How do I say thanks in Welsh?", "How do I say please in Welsh?", "words"),
        (
            "What is the difference between delete and remove?",
            "What is the difference between erase and remove?",
            "words",
        ),
        ("How do I develop a film?", "How do I develop a movie?", "words"),
        ("How do I submit an app?", "How do I submit an application?", "words"),
        ("Tell me a joke", "What is a joke?", "words"),
        ("Do I need vitamin A pills?", "Do I need vitamin pills?", "words"),
        ("How do you work?", "How do I work?", "scope"),
        ("Who is the US president?", "Who is the UK president?", "entities"),
        ("Can Anna see Ben?", "Can Ben see Anna?", "entities"),
        ("Who was Louis XIV?", "Who was Louis XV?", "numbers"),
        ("Привет, как дела?", "Пока, как дела?", "words"),
        ("Is раураl safe?", "Is paypal safe?", "language"),
        ("How old is she?", "How old is he?", "scope"),
        ("Is it usual?", "Is it unusual?", "polarity"),
        ("How do I install it?", "How do I reinstall it?", "polarity"),
        ("What is the king of Spain's name?", "What is the king of the name of Spain?", "words"),
        ("What is today?", "What is tomorrow?", "dates"),
        ("Open until 10:30?", "Open until 10:45?", "dates"),
        ("Call me on May 3", "Call me on June 3", "dates"),
    ],
)
def test_another_meaning_is_refused(one: str, other: str, by: str) -> None:
    assert by in refusing(one, other)
    assert refusing(one, other) == refusing(other, one)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_compared_and_both_ways_alike(one: str, other: str) -> None:
    assert refusing(one, other) == refusing(other, one)


@given(st.text(max_size=60))
def test_a_text_agrees_with_itself(text: str) -> None:
    assert set() == refusing(text, text)


@given(st.lists(st.sampled_from(SOME_WORDS), max_size=9))
def test_the_canonical_form_keeps_all_words_that_it_does_not_know_how_to_write(words: list[str]) -> None:
    """Names and numbers are never lost."""
    canonical = Question(" ".join(words)).canonical

    for word in ("cat", "5", "km", "b", "not"):
        assert canonical.count(word) == sum(each.lower() == word for each in words)
