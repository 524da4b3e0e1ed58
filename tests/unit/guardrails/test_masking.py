"""Placeholders: equal in each turn and worker, restored across every cut, and silent about their values."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.guardrails.masking import CallMasker, PlaceholderKey

KEY = PlaceholderKey("a pepper for tests alone")
EMAIL = "bob@example.com"

values = st.text(min_size=1, max_size=20)


def masker(tenant: str = "acme", scope: str = "", body: bytes = b"") -> CallMasker:
    return KEY.masker(tenant, scope, body)


def test_a_placeholder_is_the_same_in_each_turn_and_each_worker() -> None:
    again = PlaceholderKey("a pepper for tests alone").masker("acme")
    again.placeholder("another value", "phone")

    assert masker().placeholder(EMAIL, "email") == again.placeholder(EMAIL, "email")


@pytest.mark.parametrize(
    "other",
    [
        PlaceholderKey("another pepper").masker("acme"),
        masker("umbrella"),
        masker(scope="conversation-1"),
        masker("acm", "e"),
    ],
    ids=["another secret", "another tenant", "a conversation", "names that join to the same text"],
)
def test_another_owner_has_another_placeholder(other: CallMasker) -> None:
    assert other.placeholder(EMAIL, "email") != masker("acme").placeholder(EMAIL, "email")


@given(values, st.text(max_size=60))
def test_a_placeholder_is_a_word_that_no_format_escapes(value: str, label: str) -> None:
    name = masker().placeholder(value, label)

    assert re.fullmatch(r"[A-Z][A-Z0-9_]*_[b-df-hj-kmnp-tv]{12}", name)
    assert len(name) <= 51


def test_a_label_is_readable() -> None:
    assert masker().placeholder(EMAIL, "work e-mail").startswith("WORK_E_MAIL_")
    assert masker().placeholder(EMAIL, "3des key").startswith("VALUE_3DES_KEY_")
    assert masker().placeholder(EMAIL, "").startswith("VALUE_")


@given(st.lists(st.tuples(values, st.sampled_from(["email", "work_email", "card"])), max_size=6), st.text(max_size=9))
def test_what_is_masked_is_restored(found: list[tuple[str, str]], between: str) -> None:
    call = masker()
    masked = between.join(call.placeholder(value, label) for value, label in found)

    assert call.restorer.restore(masked) == between.join(value for value, _ in found)


def test_a_placeholder_is_restored_within_any_other_text() -> None:
    call = masker()
    work, email = call.placeholder(EMAIL, "work_email"), call.placeholder(EMAIL, "email")

    assert call.restorer.restore(f"MY_{email}s, x{work}.{work}{email}") == f"MY_{EMAIL}s, x{EMAIL}.{EMAIL}{EMAIL}"


def test_an_invented_placeholder_stays() -> None:
    call = masker()
    name = call.placeholder(EMAIL, "email")
    invented = [name[:-1] + ("c" if name[-1] == "b" else "b"), name.lower(), name[1:], "EMAIL_bcdfghjkmnpq"]

    assert [call.restorer.restore(text) for text in invented] == invented
    assert masker("umbrella").restorer.restore(name) == name


def test_a_placeholder_that_the_caller_wrote_stays_as_it_is() -> None:
    own = masker().placeholder(EMAIL, "email")
    call = masker(body=json.dumps({"input": f"what is {own}? mail {EMAIL}"}).encode())
    name = call.placeholder(EMAIL, "email")

    assert name != own
    assert call.restorer.restore(f"{own} is unknown, {name} was mailed") == f"{own} is unknown, {EMAIL} was mailed"


def test_a_value_that_is_not_restored_keeps_its_placeholder() -> None:
    name = masker().placeholder(EMAIL, "email", restore=False)
    call = masker(body=name.encode())

    assert call.placeholder(EMAIL, "email", restore=False) == name
    assert call.restorer.restore(name) == name
    assert call.restorer.longest == 0


def test_the_longest_placeholder_bounds_the_open_end() -> None:
    call = masker()
    short, long = call.placeholder("1", "id"), call.placeholder(EMAIL, "work_email_address")
    restorer = call.restorer

    assert restorer.longest == len(long)
    for name in (short, long):
        for length in range(1, len(name)):
            assert restorer.open_end(f"see {name[:length]}") == length
        assert restorer.open_end(f"see {name}") == 0
    assert restorer.open_end("a text without one") == 0
    assert masker().restorer.open_end("EMAIL_") == 0


def test_in_json_text_a_value_is_escaped() -> None:
    call = masker()
    value = 'a "quoted"\nvalue \\ \ud800'
    text = json.dumps({"to": call.placeholder(value, "custom")})

    # Half a character has no form in UTF-8.
    assert json.loads(call.restorer.restore_json(text)) == {"to": value.replace("\ud800", "\ufffd")}


def test_nothing_shows_the_values() -> None:
    call = masker("secret tenant", "secret scope", b"secret body")
    call.placeholder("secret value", "email")

    assert repr(call) == str(call) == "CallMasker(1 values)"
    assert repr(call.restorer) == "CallRestorer(1 values)"
    assert repr(KEY) == "PlaceholderKey(***)"


class EqualHashes(CallMasker):
    """A masker in which the first hash of each value is the same: 48 bits do not collide in a test."""

    def _hash_of(self, value: str, number: int) -> str:
        return super()._hash_of(value if number else "", number)


def test_two_values_with_one_hash_have_two_placeholders() -> None:
    call = EqualHashes(b"a key", b"acme", b"")
    first, second = call.placeholder("one", "email"), call.placeholder("two", "email")

    assert first != second
    assert call.restorer.restore(f"{first} {second}") == "one two"
