from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.rehearsal.model_output import Prompt, Tool, play

WEATHER = Tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
TIME = Tool("get_time", {"type": "object"})


def said(prompt: Prompt, tokens: int | None = None) -> str:
    return "".join(play(prompt, tokens).text)


def test_it_says_what_it_was_asked_and_what_it_saw() -> None:
    prompt = Prompt("hello there", messages=3, images=1, documents=2, system=4, tools=(TIME,))

    assert said(prompt) == (
        "You asked: hello there\n(I see 3 messages, 1 image, 2 documents, 4 system words and 1 tool.)"
    )


def test_nothing_asked_is_said_so() -> None:
    assert said(Prompt("")) == "You asked nothing.\n(I see 1 message.)"


def test_tool_results_are_answered_with_text() -> None:
    assert said(Prompt("", results=("sunny", "noon"), tools=(TIME,), messages=4)).startswith(
        "The tools answered: sunny; noon\n"
    )


def test_it_calls_the_tools_that_are_named() -> None:
    turn = play(Prompt("please call get_time and get_weather now", tools=(WEATHER, TIME)))

    assert [call.name for call in turn.calls] == ["get_time", "get_weather"]
    assert json.loads("".join(turn.calls[1].pieces)) == {"city": "city"}
    assert "".join(turn.text) == "I will call get_time and get_weather."
    assert turn.finish == "tools"


def test_it_calls_no_tool_that_is_not_offered() -> None:
    assert play(Prompt("call mother", tools=(TIME,))).calls == ()


def test_it_calls_no_tool_when_none_may_be_called() -> None:
    assert play(Prompt("call get_time", tools=(TIME,), choice="none")).calls == ()


def test_it_calls_one_tool_where_several_are_not_wanted() -> None:
    turn = play(Prompt("call get_time, get_weather", tools=(WEATHER, TIME), parallel=False))

    assert [call.name for call in turn.calls] == ["get_time"]


def test_who_must_call_something_calls_the_first_tool_without_a_word() -> None:
    turn = play(Prompt("hello", tools=(WEATHER, TIME), choice="required"))

    assert (turn.text, [call.name for call in turn.calls]) == ((), ["get_weather"])


def test_an_answer_of_so_many_words_has_so_many_tokens() -> None:
    turn = play(Prompt("call get_time", tools=(TIME,)), tokens=3)

    assert ("".join(turn.text), turn.tokens, turn.finish) == ("word1 word2 word3", 3, "stop")


def test_a_schema_is_answered_with_json() -> None:
    assert json.loads(said(Prompt("x", schema=WEATHER.schema))) == {"city": "city"}


def test_the_earliest_stop_sequence_ends_the_text() -> None:
    turn = play(Prompt("one two three", stop=("three", "two")))

    assert ("".join(turn.text), turn.finish, turn.stopped_by) == ("You asked: one ", "stop_sequence", "two")


def test_a_stop_sequence_before_a_call_means_no_call() -> None:
    turn = play(Prompt("call get_time", tools=(TIME,), stop=("call",)))

    assert (turn.calls, turn.finish) == ((), "stop_sequence")


def test_thought_comes_first_and_counts() -> None:
    turn = play(Prompt("hi", thinking=7))

    assert "".join(turn.thinking) == "Let me think about this. Let me"
    assert turn.tokens == 7 + len(turn.text)


@given(st.integers(1, 40))
def test_no_answer_is_longer_than_allowed(limit: int) -> None:
    prompt = Prompt("call get_weather and get_time", tools=(WEATHER, TIME), thinking=5)
    whole, cut = (
        play(prompt),
        play(Prompt("call get_weather and get_time", tools=(WEATHER, TIME), thinking=5, limit=limit)),
    )

    assert cut.tokens == min(limit, whole.tokens)
    assert cut.finish == ("length" if limit < whole.tokens else "tools")


@given(st.text(max_size=200))
def test_the_pieces_are_the_text(asked: str) -> None:
    text = said(Prompt(asked))

    assert text == (f"You asked: {asked}" if asked else "You asked nothing.") + "\n(I see 1 message.)"
    assert all(play(Prompt(asked)).text)
