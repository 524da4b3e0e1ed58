"""The numbers that are valid here are those that the package accepts."""

from __future__ import annotations

import random

import phonenumbers
import pytest
from thoroughness import examples

from edge_extproc.guardrails.phone_numbers import PhoneNumbers

REGIONS = ("US", "DE")
OURS = PhoneNumbers(REGIONS)


def theirs(text: str) -> bool:
    is_international = text.startswith(("+", "00"))
    text = f"+{text[2:]}" if text.startswith("00") else text
    for region in (None,) if is_international else REGIONS:
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(text, region)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False


def numbers() -> list[str]:
    """Examples of each kind of number of each country, as they are and with other digits, and random ones."""
    chance, found = random.Random(1), []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in range(11):
            example = phonenumbers.example_number_for_type(region, kind)
            if example is None:
                continue
            found.append(phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.INTERNATIONAL))
            plain = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
            at = chance.randrange(2, len(plain))
            found += (f"00{plain[1:]}", f"{plain[:at]}{chance.randrange(10)}{plain[at + 1 :]}")
    for _ in range(examples(4000)):
        found.append(f"+{chance.randrange(10**7, 10**13)}")
        found.append(f"({chance.randrange(100, 999)}) {chance.randrange(100, 999)}-{chance.randrange(1000, 9999)}")
        found.append(f"0{chance.randrange(10, 999)} {chance.randrange(10**4, 10**8)}")
    return found


def test_nearly_all_verdicts_are_those_of_the_package() -> None:
    tried = numbers()
    other = [text for text in tried if OURS(text) != theirs(text)]

    assert sum(map(OURS, tried)) > 2000
    assert len(other) <= len(tried) // 1000, other


@pytest.mark.parametrize("text", ["+", "+0123456789", "+999123456789", "00", "", "+1", "12"])
def test_what_is_no_number(text: str) -> None:
    assert not OURS(text)


def test_numbers_of_no_country_are_valid() -> None:
    assert OURS("+800 1234 5678")
