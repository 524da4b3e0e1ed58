from __future__ import annotations

import pytest

from edge_extproc.rehearsal.script import ALIASES, OPTIONS, BadScript, Script, read_script


def test_a_plain_name_asks_for_a_good_answer() -> None:
    assert read_script("gpt-4o-mini") == Script()


def test_options_stand_in_parentheses_behind_any_name() -> None:
    assert read_script("gpt-4o(delay=200ms, status=503,cut=3)") == Script(delay=0.2, status=503, cut=3)


def test_a_flag_needs_no_value() -> None:
    assert read_script("rehearsal(refuse)").refuse
    assert not read_script("rehearsal(refuse=0)").refuse


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_means_something(alias: str) -> None:
    assert read_script(f"rehearsal-{alias}") != Script()


def test_any_error_status_is_an_alias() -> None:
    assert read_script("rehearsal-529").status == 529


def test_an_option_wins_over_the_alias() -> None:
    assert read_script("rehearsal-cut(cut=1)").cut == 1


def test_an_unknown_alias_is_just_a_name() -> None:
    assert read_script("rehearsal-large") == Script()


def test_a_name_with_odd_parentheses_is_just_a_name() -> None:
    assert read_script("a)b(c") == Script()


def test_a_header_says_the_same_and_wins() -> None:
    headers = [("x-rehearsal-retry-after", "7"), ("x-rehearsal-status", "429"), ("accept", "*/*")]

    assert read_script("rehearsal-503", headers) == Script(status=429, retry_after="7")


@pytest.mark.parametrize(("written", "seconds"), [("200ms", 0.2), ("1.5s", 1.5), ("2", 2.0)])
def test_durations_bear_a_unit_or_are_seconds(written: str, seconds: float) -> None:
    assert read_script(f"rehearsal(delay={written})").delay == seconds


@pytest.mark.parametrize(
    "options",
    [
        "delay=soon",
        "status=100",
        "status=302",
        "status=x",
        "cut=-1",
        "split=0",
        "body=pdf",
        "refuse=maybe",
        "content_type=",
        "retry_after=a\nb",
    ],
)
def test_a_value_that_cannot_be_is_named(options: str) -> None:
    with pytest.raises(BadScript, match=options.partition("=")[0]):
        read_script(f"rehearsal({options})")


def test_an_unknown_option_is_answered_with_those_that_exist() -> None:
    with pytest.raises(BadScript, match="explode") as caught:
        read_script("rehearsal(explode=1)")

    assert all(option in str(caught.value) for option in OPTIONS)


def test_a_healed_script_keeps_what_is_no_fault() -> None:
    assert read_script("rehearsal(tokens=3,cut=1,status=500,delay=1s,cached=2)").healed() == Script(tokens=3, cached=2)


def test_failing_without_a_fault_is_a_503() -> None:
    assert read_script("rehearsal(fail_first=1,tokens=4,key=a)").failing().status == 503
    assert read_script("rehearsal(fail_first=1,cut=0)").failing().status == 200
