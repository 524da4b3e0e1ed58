"""What a stream holds for the detector of credentials: what can still become a finding, and no ordinary text."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import re2
from cells import each_cell
from example_values import example
from reply_guarding import KEY

from bench.evasions import FORMS as EVASIONS
from edge_extproc.guardrails.base import Rule, StreamDetector
from edge_extproc.guardrails.credential_formats import FORMATS, CredentialFormat
from edge_extproc.guardrails.detectors.credentials import PLUGIN, CredentialsOptions
from edge_extproc.guardrails.pattern_prefixes import beginnings_of
from edge_extproc.guardrails.reply_window import Held, JsonWindow, RuleWindow

EVERYTHING = PLUGIN.build(CredentialsOptions())
EVERY_RULE = Rule("secrets", frozenset({"reply"}), frozenset({"assistant"}), "mask", "enforce", EVERYTHING)


def passed(pieces: list[str], window: type[RuleWindow] = RuleWindow) -> tuple[str, int]:
    """The text for the caller, and the most characters that were held."""
    held, out, most = Held(), [], 0
    opened = window((EVERY_RULE,), "assistant", KEY.masker("acme"), Counter(), held)
    for piece in pieces:
        out += [segment.text for segment in opened.add(piece)]
        most = max(most, held.length)
    return "".join([*out, *(segment.text for segment in opened.end())]), most


def cut(text: str, seed: int) -> list[str]:
    """In pieces of one to nine characters."""
    chance, pieces, at = random.Random(seed), [], 0
    while at < len(text):
        size = chance.randint(1, 9)
        pieces.append(text[at : at + size])
        at += size
    return pieces


def value_of(each: CredentialFormat, word: str, *, longest: bool) -> str:
    return (example(each.before, 1) if each.before else "") + word + example(each.after, 1, longest=longest)


@each_cell("each", FORMATS, ids=[each.label for each in FORMATS], parts=4)
def test_each_beginning_of_a_value_is_open(each: CredentialFormat) -> None:
    pattern = re2.compile(beginnings_of(each.after).encode())
    for longest in (False, True):
        after = example(each.after, 1, longest=longest).encode()
        assert all(pattern.fullmatch(after[:end]) for end in range(len(after) + 1))
    assert pattern.fullmatch(b"\x01 something else") is None


@each_cell("each", FORMATS, ids=[each.label for each in FORMATS], parts=4)
def test_a_stream_masks_the_same_as_the_whole_text(each: CredentialFormat) -> None:
    for word in each.words:
        for longest in (False, True):
            text = f"Use this: {value_of(each, word, longest=longest)} and go on with a few words, please."
            whole, _ = passed([text])
            assert passed(cut(text, 1))[0] == whole
        assert passed(list(text))[0] == whole


TOKEN = "ghp" + "_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17"
FORMS = [each for each in EVASIONS if "c" in each.values]


@each_cell("form", FORMS, ids=[form.name for form in FORMS])
def test_a_stream_masks_an_evasion_as_the_whole_text_does(form) -> None:
    for value in (TOKEN, "AKIAQYLPMN5HFIQR7XYZ"):
        text = f"The value is {form.change(value)} \n and then some ordinary words follow."
        whole, _ = passed([text])
        assert passed(list(text))[0] == whole
        assert passed(cut(text, 2))[0] == whole


PROSE = """The request goes to the provider, which answers with a stream of tokens. A password is not a secret of the
service, and the token's bearer is asked again: the API key stays with the gateway (see the documentation at
https://example.com/docs/keys). We measured 3.5 ms for 4,096 bytes; an "azure" region costs $2 more, i.e. 20 %.
- first, install the package: `pip install edge`; then run it!
Ce n'est pas un problème : les clés restent chez vous. Это обычный текст без секретов.
これは普通のテキストです。鍵はありません。
"""


@pytest.mark.parametrize("window", [RuleWindow, JsonWindow])
def test_ordinary_text_is_hardly_held(window: type[RuleWindow]) -> None:
    text = PROSE if window is RuleWindow else '{"text": "' + PROSE.replace('"', "'").replace("\n", "\\n") + '"}'
    words = [word + " " for word in text.split(" ")]
    out, most = passed(words, window)

    assert out == "".join(words)
    assert EVERYTHING.longest > 4000
    assert most < 120  # a word, or a name such as azure with what may be a value after it


def test_a_begun_value_is_held_and_given_back_if_it_is_none() -> None:
    begun = "The word is ghp_abcdef, which is no token. -----BEGIN RSA PUBLIC KEY----- is none, too."
    out, most = passed(list(begun))

    assert out == begun
    assert most < 60


def test_a_file_of_rules_holds_what_its_patterns_may_need(tmp_path) -> None:
    (tmp_path / "rules.toml").write_text('[[rules]]\nid = "own"\nregex = "own [0-9]{8}"\nkeywords = ["own"]\n')
    from edge_extproc.config.surroundings import Surroundings

    options = CredentialsOptions.model_validate({"rules_file": "rules.toml"}, context=Surroundings({}, tmp_path))
    detector = PLUGIN.build(options)

    assert isinstance(detector, StreamDetector)
    assert detector.open_end("ordinary words") == detector.longest
