import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.accounting.estimate import tokens_of, tokens_of_length


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("The quick brown fox jumps over the lazy dog.", 8, 13),
        ("1234567890" * 10, 30, 90),
        ("快速的棕色狐狸跳过了懒狗", 6, 20),
        ('{"name": "value", "list": [1, 2, 3]}', 12, 26),
    ],
)
def test_an_estimate_is_near_what_a_tokenizer_counts(text, low, high):
    assert low <= tokens_of(text) <= high


@given(st.text())
def test_any_text_has_an_estimate_and_only_the_empty_one_is_zero(text):
    assert (tokens_of(text) > 0) == bool(text)


def test_a_length_alone_is_rounded_up():
    assert [0, 1, 1, 2] == [tokens_of_length(n) for n in (0, 1, 4, 5)]
