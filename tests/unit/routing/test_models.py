from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.model.globs import allows
from edge_extproc.model.plan import Candidate
from edge_extproc.routing.base import ModelTable

TABLE = ModelTable(
    {
        "gpt-*": [Candidate("openai", "")],
        "gpt-4o-*": [Candidate("azure", "")],
        "gpt-4o": [Candidate("openai", "gpt-4o-2024-08-06"), Candidate("azure", "")],
    }
)


def test_an_exact_name_wins_over_every_glob():
    assert (Candidate("openai", "gpt-4o-2024-08-06"), Candidate("azure", "gpt-4o")) == TABLE.candidates("gpt-4o")


def test_the_longest_glob_wins():
    assert (Candidate("azure", "gpt-4o-mini"),) == TABLE.candidates("gpt-4o-mini")
    assert (Candidate("openai", "gpt-5"),) == TABLE.candidates("gpt-5")


def test_an_unknown_model_has_no_candidates_and_no_label():
    assert () == TABLE.candidates("llama")
    assert None is TABLE.label("llama")


@given(st.text(max_size=30))
def test_labels_are_never_more_than_the_rows_of_config(model):
    assert TABLE.label(model) in {"gpt-*", "gpt-4o-*", "gpt-4o", None}


def test_only_exact_names_can_be_listed():
    assert ("gpt-4o",) == TABLE.names


def test_a_caller_may_ask_for_what_one_of_its_patterns_fits():
    assert allows(("claude-*", "gpt-4o"), "gpt-4o")
    assert not allows(("claude-*",), "gpt-4o")
    assert not allows((), "gpt-4o")
