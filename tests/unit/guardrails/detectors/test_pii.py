"""The detector of personal data: each kind, what is nearly one, and what other numbers look like one."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

from edge_extproc.errors import ConfigError
from edge_extproc.guardrails.detectors.pii import PLUGIN, PiiOptions
from edge_extproc.guardrails.normalised_text import TextView
from edge_extproc.guardrails.personal_data import PersonalDataSearch

EVERYTHING = PLUGIN.build(PiiOptions(regions=("US", "GB", "DE")))


def found(text: str, detector=EVERYTHING) -> list[tuple[str, str]]:
    return [(each.label, text[each.start : each.end]) for each in detector.find(text, "user")]


VALUES = [
    ("email", "jane.doe+x@mail.example.co.uk"),
    ("email", "o'neil_99%a@example.museum"),
    ("email", "jürgen@exämple.de"),
    ("email", "почта@пример.рф"),
    ("phone", "+1 (415) 555-2671"),
    ("phone", "+49 30 901820"),
    ("phone", "+442079460958"),
    ("phone", "0049 30 901820"),
    ("phone", "(415) 555-2671"),
    ("phone", "415.555.2671"),
    ("phone", "020 7946 0958"),
    ("phone", "030 901820"),
    ("card", "4111111111111111"),
    ("card", "4111 1111 1111 1111"),
    ("card", "5500-0000-0000-0004"),
    ("card", "378282246310005"),
    ("card", "3782 822463 10005"),
    ("card", "30569309025904"),
    ("card", "6011000990139424"),
    ("card", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    ("card", "2221000000000009"),
    ("ssn", "123-45-6789"),
    ("ssn", "123 45 6789"),
    ("ssn", "899-99-9999"),
    ("iban", "DE89370400440532013000"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB29 NWBK 6016 1331 9268 19"),
    ("iban", "NO93 8601 1117 947"),
    ("iban", "MT84 MALT 0110 0001 2345 MTLC AST0 01S"),
    ("ip", "203.0.113.7"),
    ("ip", "2001:db8::7"),
    ("ip", "2001:0db8:0000:0000:0000:ff00:0042:8329"),
    ("ip", "::ffff:203.0.113.7"),
    ("crypto_address", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"),
    ("crypto_address", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
    ("crypto_address", "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4"),
    ("crypto_address", "0x52908400098527886E0F7030069857D2E4169EE7"),
]


@pytest.mark.parametrize(("label", "value"), VALUES, ids=[value for _, value in VALUES])
def test_a_value_of_each_kind_is_found_whatever_is_around_it(label: str, value: str) -> None:
    around = (
        "{}",
        "It is {}.",
        "a ({}), b",
        '{{"x": "{}"}}',
        "\n{}\n",
        "\\n{}\\n",
        "<{}>",
        "x={};",
        "“{}”",
        "值：{}。",
    )
    for pattern in around:
        text = pattern.format(value)

        assert [(label, value)] == found(text), text


@pytest.mark.parametrize(
    ("label", "text", "value"),
    [
        ("phone", "phone: 4155552671", "4155552671"),
        ("phone", "Mobile number is 02079460958.", "02079460958"),
        ("ssn", "SSN: 123456789", "123456789"),
        ("ssn", "social security number 123456789", "123456789"),
    ],
)
def test_digits_alone_are_found_behind_the_word_for_them(label: str, text: str, value: str) -> None:
    assert [(label, value)] == found(text)
    assert [] == found(f"order {value}")


@pytest.mark.parametrize(
    "text",
    [
        # E-mail addresses
        "user@localhost",
        "@app.route",
        "\\n@app.route",
        "lodash@4.17.21",
        "logo@2x.png",
        "git@github.com:a/b.git",
        "a @ b.de",
        "x@y",
        "@",
        "a@",
        "a@b@c",
        "@types/node",
        "mail@.de",
        "node@18.1.0",
        # Telephone numbers
        "+1 555",
        "+999 123 4567 890",
        "2026-11-30",
        "30.11.2026 12:00",
        "1732900000",
        "12:30:45",
        "1,234,567,890",
        "(1) (2) (3)",
        "555-0199",
        "+12",
        "10 20 30 40",
        "123 456",
        # Cards
        "4111111111111112",
        "4111 1111 1111 1112",
        "1234567890123456",
        "0.4111111111111111",
        "x4111111111111111",
        "4111111111111111x",
        "41111111111111111111111",
        "4111-1111-1111-1111-1",
        "8111111111111111",
        "4 11 111 1111 111111",
        # Social security numbers
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "123-00-4567",
        "123-45-0000",
        "1123-45-6789",
        "123-45-67890",
        "123456789",
        "a123-45-6789",
        "12-345-6789",
        "123-45-6789-1",
        # IBANs
        "DE89370400440532013001",
        "DE8937040044053201300",
        "DE893704004405320130001",
        "XX89370400440532013000",
        "de89370400440532013000",
        # Addresses
        "10.1.2.3",
        "192.168.0.1",
        "172.16.5.4",
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.0",
        "8.8.8.8",
        "1.2.3",
        "1.2.3.4.5",
        "203.0.113.256",
        "v203.0.113.7",
        "version 2.1.233.223",
        "::1",
        "::",
        "std::vector",
        "a::b",
        "12:30",
        "fe80::1",
        "fd00::1",
        "cc_version=2.1.233.223",
        # Cryptocurrencies
        "1BoatSLRHtKNngkdXEeobR76b53LETtpyU",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
        "0x0000000000000000000000000000000000000000",
        "0x52908400098527886E0F7030069857D2E4169EE",
        "0x52908400098527886E0F7030069857D2E4169EE7F",
        # Others
        "550e8400-e29b-41d4-a716-446655440000",
        "41111111-1111-1111-1111-111111111111",
        "d41d8cd98f00b204e9800998ecf8427e",
        "3.14159265358979323846",
        "call_4111111111111111",
        "req_011CSHoEeqs5C35K2UUqR7Fy",
    ],
)
def test_what_only_looks_like_a_value_is_none(text: str) -> None:
    detector = PLUGIN.build(PiiOptions())

    assert [] == found(text, detector)
    assert [] == found(f"It is {text}", detector)


@pytest.mark.parametrize(
    "text",
    [
        "4111–1111–1111–1111",
        "4111\u00a01111\u00a01111\u00a01111",
        "٤١١١ ١١١١ ١١١١ ١١١١",
        "４１１１１１１１１１１１１１１１",
        "4111\u200b1111\u200b1111\u200b1111",
        base64.b64encode(b"card 4111111111111111").decode(),
        "%34111111111111111",
        b"4111111111111111".hex(),
        base64.b64encode(base64.b64encode(b"card 4111111111111111")).decode(),
        "&#52;111111111111111",
    ],
)
def test_a_value_in_another_form_is_found(text: str) -> None:
    assert ["card"] == [label for label, _ in found(text)]
    assert [] == found(text, PLUGIN.build(PiiOptions(decode=False)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AB12 CDEF 4111 1111 1111 1111", ["card"]),
        ("AB12 4111 1111 1111 1111", ["card"]),
        ("AB12CDEF4111 4111111111111111", ["card"]),
        ("DE89 3704 0044 0532 0130 00 4111 1111 1111 1111", ["iban", "card"]),
        ("4111 1111 1111 1111 DE89 3704 0044 0532 0130 00", ["card", "iban"]),
        ("12:30:00 4111 1111 1111 1111", ["card"]),
        ("12:30:4111 1111 1111 1111", ["card"]),
        ("2026-11-30 12:30 +1 415 555 2671", ["phone"]),
        ("203.0.113.7 123-45-6789 203.0.113.8", ["ip", "ssn", "ip"]),
        ("10 20 4111111111111111 30", ["card"]),
        ("4111111111111111, 5500000000000004; 378282246310005", ["card", "card", "card"]),
        ("jane@example.com,joe@example.org <a@b.io>", ["email", "email", "email"]),
    ],
)
def test_values_beside_others_are_found(text: str, expected: list[str]) -> None:
    assert expected == [label for label, _ in found(text, PLUGIN.build(PiiOptions()))]


def test_in_a_text_with_very_many_numbers_each_one_is_verified() -> None:
    valid, invalid = "+1 415 555 2671\n", "+1 415 055 2671\n"

    detector = PLUGIN.build(PiiOptions())

    assert 0 == len(found(invalid * 10, detector))
    assert 400 == len(found(valid * 400 + invalid * 10, detector))


def test_only_the_chosen_kinds_are_found() -> None:
    text = "jane@example.com, 4111111111111111, 123-45-6789, +1 415 555 2671"

    for kind in ("email", "card", "ssn", "phone"):
        assert [kind] == [label for label, _ in found(text, PLUGIN.build(PiiOptions(kinds=(kind,))))]


def test_a_region_decides_which_national_numbers_are_valid() -> None:
    assert [] == found("030 901820", PLUGIN.build(PiiOptions(regions=("US",))))
    assert [] == found("(415) 555-2671", PLUGIN.build(PiiOptions(regions=())))
    assert ["phone"] == [label for label, _ in found("+49 30 901820", PLUGIN.build(PiiOptions(regions=())))]


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="'XX' is no region"):
        PLUGIN.build(PiiOptions(regions=("XX",)))
    with pytest.raises(ValueError, match="this list is empty"):
        PiiOptions(kinds=())
    with pytest.raises(ValueError, match="this is not one of"):
        PiiOptions(kinds=("name",))


def check(text: str, detector=EVERYTHING) -> None:
    findings = detector.find(text, "user")
    end = 0
    for each in findings:
        assert end <= each.start < each.end <= len(text)
        assert each.end - each.start <= detector.longest
        end = each.end


PARTS = st.one_of(
    st.text(st.characters(), max_size=12),
    st.sampled_from([value for _, value in VALUES]),
    st.sampled_from([base64.b64encode(value.encode()).decode() for _, value in VALUES]),
    st.text("0123456789 .-+()/:@", max_size=30),
    st.binary(max_size=30).map(lambda data: data.decode("utf-8", "surrogateescape")),
)


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(PARTS, max_size=8).map("".join))
def test_findings_are_in_order_and_within_any_text(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    "unit",
    ["+1 415 555 2671 ", "4 1 ", "41 10 ", "415 555 2671, ", "1.2.3.4 ", "4111 1111 1111 1112 ", "(", "1:2:", "+"],
)
def test_what_is_verified_grows_with_the_text_only(unit: str) -> None:
    """Each group of digits is tried once as a telephone number, at most."""
    counts = []
    for size in (2_000, 4_000, 8_000):
        tried: list[str] = []
        search = PersonalDataSearch(
            ("card", "ssn", "iban", "ip", "phone", "crypto_address"),
            lambda number, tried=tried: tried.append(number) or False,
        )
        list(search.search(TextView((unit * size)[:size], "original")))
        counts.append(len(tried))

    assert counts[2] <= 4 * max(counts[0], 4)
    assert counts[2] <= 8_000 // 5  # five characters have one number at most


@pytest.mark.parametrize("value", [value for _, value in VALUES])
def test_no_character_of_a_long_encoded_value_is_left(value: str) -> None:
    """A value of which each character has six is longer than the bound of some kinds."""
    text = "".join(f"\\u{ord(each):04x}" for each in value)
    covered = "".join(text[each.start : each.end] for each in EVERYTHING.find(text, "user"))

    assert text == covered


def test_random_digits_are_cards_as_often_as_their_check_digits_say() -> None:
    """Of random numbers of 16 digits, about one in ten has the right check digit, and half of those a brand."""
    pick = random.Random(7)
    texts = [str(pick.randrange(10**15, 10**16)) for _ in range(400)]

    assert sum(bool(found(text, PLUGIN.build(PiiOptions(kinds=("card",))))) for text in texts[:100]) < 10
