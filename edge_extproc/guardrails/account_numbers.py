"""Which texts are account numbers: IBANs (ISO 13616) and addresses of cryptocurrencies. Each has check digits."""

from __future__ import annotations

import hashlib
from typing import Final

# The length in each country, by the registry of ISO 13616.
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
_BASE58: Final = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32: Final = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def iban_length(country: bytes) -> int:
    """The characters of an IBAN of the country. 0: it has none."""
    return _IBAN_LENGTHS.get(country.decode(), 0)


def is_iban(compact: bytes) -> bool:
    """Whether the check digits are correct. `compact`: without separators, of the right length."""
    number = "".join(str(int(chr(code), 36)) for code in compact[4:] + compact[:4])
    return int(number) % 97 == 1


def is_base58_address(text: bytes) -> bool:
    """Of Bitcoin and others: 25 bytes, of which the last four are the hash of the others."""
    number = 0
    for code in text:
        number = number * 58 + _BASE58.index(code)
    if number >= 1 << 200:
        return False
    raw = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


def is_bech32_address(text: bytes) -> bool:
    """Of Bitcoin (BIP 173 and BIP 350): the checksum of six characters is correct."""
    prefix, _, body = text.lower().rpartition(b"1")
    values = [code >> 5 for code in prefix] + [0] + [code & 31 for code in prefix]
    values += [_BECH32.index(code) for code in body]
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_BECH32_GENERATOR):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum in (1, 0x2BC830A3)
