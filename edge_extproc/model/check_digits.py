"""Which numbers can be cards or US social security numbers: by their ranges and check digits."""

from __future__ import annotations


def is_card_number(digits: bytes) -> bool:
    """Whether the digits are in an issuer range, have a valid length for it, and a correct check digit."""
    return _is_of_a_brand(digits) and _has_check_digit(digits)


def _is_of_a_brand(digits: bytes) -> bool:
    """Whether the digits are in an issuer range (ISO/IEC 7812) and have a valid length for it."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == 52:  # Visa
        return length in (13, 16, 19)
    if two in (34, 37):  # American Express
        return length == 15
    if two in (30, 36, 38, 39):  # Diners Club
        return 14 <= length <= 19
    return length >= 16 and (35 == two or 50 <= two <= 69 or 2221 <= four <= 2720)


def _has_check_digit(digits: bytes) -> bool:
    """Whether the Luhn check digit is correct (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, b in enumerate(reversed(digits)):
        worth = (b - 48) << (place & 1)
        total += worth - 9 if worth > 9 else worth
    return total % 10 == 0


def is_assigned_ssn(area: bytes, group: bytes, serial: bytes) -> bool:
    """Whether the Social Security Administration assigns such numbers."""
    return area not in (b"000", b"666") and area < b"900" and group != b"00" and serial != b"0000"
