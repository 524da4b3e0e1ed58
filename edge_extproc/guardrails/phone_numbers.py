"""Verifies telephone numbers by the numbering plans of the package phonenumbers.

The package takes some 0.05 ms for a number, so a text of nothing but numbers would take seconds. Here, the patterns of
a country's plan are one regular expression, which takes some microseconds and decides the same (a test compares both).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import phonenumbers

_NOT_DIGITS = re.compile(r"[^0-9]+")
# Those of a PhoneMetadata that make a number valid.
_TYPES = (
    "fixed_line",
    "mobile",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "personal_number",
    "voip",
    "pager",
    "uan",
    "voicemail",
)


class _Plan:
    """The numbers of one country or region."""

    __slots__ = ("_general", "_lengths", "_prefix", "_types")

    def __init__(self, metadata: Any) -> None:
        general = metadata.general_desc
        self._lengths = frozenset(general.possible_length or ())
        self._general = re.compile(general.national_number_pattern or r"\A\Z.")
        patterns = (getattr(metadata, name) for name in _TYPES)
        found = [each.national_number_pattern for each in patterns if each is not None and each.national_number_pattern]
        self._types = re.compile("|".join(f"(?:{each})" for each in found) or r"\A\Z.")
        self._prefix = metadata.national_prefix or ""

    def has(self, digits: str) -> bool:
        """Whether a number without its country code is valid, with or without the prefix of calls within it."""
        return self._is_valid(digits) or (
            bool(self._prefix) and digits.startswith(self._prefix) and self._is_valid(digits[len(self._prefix) :])
        )

    def _is_valid(self, digits: str) -> bool:
        return (
            len(digits) in self._lengths
            and self._general.fullmatch(digits) is not None
            and self._types.fullmatch(digits) is not None
        )


@lru_cache(maxsize=512)
def _plan_of(region: str) -> _Plan | None:
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region, None)
    return _Plan(metadata) if metadata is not None else None


@lru_cache(maxsize=1024)
def _plans_of(code: int) -> tuple[_Plan, ...]:
    """Of a country code."""
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code, ())
    if regions == ("001",):  # of no country
        metadata = phonenumbers.PhoneMetadata.metadata_for_nongeo_region(code, None)
        return (_Plan(metadata),) if metadata is not None else ()
    return tuple(plan for region in regions if (plan := _plan_of(region)) is not None)


class PhoneNumbers:
    """`regions`: the countries whose numbers have no country code, as ISO 3166 codes."""

    def __init__(self, regions: Sequence[str]) -> None:
        codes = dict.fromkeys(map(phonenumbers.country_code_for_region, regions))
        self._plans = [plan for code in codes for plan in _plans_of(code)]
        """Several countries can share a code, and numbers without it: the USA and Canada."""

    def __call__(self, text: str) -> bool:
        """Whether it is a valid number. It begins with +, with 00, or is one within a country."""
        digits = _NOT_DIGITS.sub("", text)
        if text.startswith("+"):
            return _is_international(digits)
        if text.startswith("00"):
            return _is_international(digits[2:])
        return any(plan.has(digits) for plan in self._plans)


def _is_international(digits: str) -> bool:
    """Country codes have one to three digits, and none begins another one."""
    if digits.startswith("0"):
        return False
    for length in (1, 2, 3):
        plans = _plans_of(int(digits[:length] or "0"))
        if plans:
            return any(plan.has(digits[length:]) for plan in plans)
    return False
