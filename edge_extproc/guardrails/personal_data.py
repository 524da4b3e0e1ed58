"""Finds personal data in one view of a text: seven kinds, each of which is verified.

A small automaton finds where a number of any kind may begin; there the patterns of the kinds are tried, anchored and
bounded. A pattern with counted repetitions in the automaton itself would have thousands of states, which varied text
builds one after the other. E-mail addresses are found by their sign. What is before and behind a candidate is checked
here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, TypeAlias

import re2

from ..model.check_digits import is_assigned_ssn, is_card_number
from .account_numbers import iban_length, is_base58_address, is_bech32_address, is_iban
from .normalised_text import TextView
from .view_matches import ViewMatch

PersonalKind: TypeAlias = Literal["email", "phone", "card", "ssn", "iban", "ip", "crypto_address"]

LONGEST: Final[dict[PersonalKind, int]] = {
    "email": 320,
    "phone": 40,
    "card": 38,
    "ssn": 11,
    "iban": 50,
    "ip": 45,
    "crypto_address": 90,
}
"""The most characters of each kind, with separators."""

IsPhone: TypeAlias = Callable[[str], bool]
"""Whether a text is a valid telephone number."""

_Kind: TypeAlias = tuple[PersonalKind, "re.Pattern[bytes]", Callable[[bytes, int, int], int]]

_BACKSLASH = 92
# Of an IPv4 address such as 9.8.7.6.
_FEWEST_DIGITS = 4
_LONGEST_CARD = 19
# An IPv6 address such as ::ab has four characters.
_SHORTEST = 4
_MOST_GROUPS = 16
_SEPARATORS = (b" ", b"-", b".")
_HEX4 = "[0-9A-Fa-f]{1,4}"
_IPV4 = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
_UUID = re.compile(rb"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}")
# Where a value may be. Each is a few classes, so that the automaton has few states. A letter of an escape may be
# before it.
_CANDIDATE = re2.compile(
    rb"(?:\b|\\[nrt])(?:"
    rb"[0-9][0-9 ./()-]{5,}[0-9]"  # cards, social security numbers, telephone numbers, IPv4
    rb"|[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}"  # the beginning of an IBAN
    rb"|(?:0x|bc1|BC1|[13])[A-Za-z0-9]{25,}"
    rb"|[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]*)"
    rb"|::[0-9A-Fa-f][0-9A-Fa-f:.]*"
)
_NUMBER_SIGNS = b" ./()-"
_GROUP = re.compile(rb"[0-9]+")
_DECIMAL = re.compile(rb"[0-9]+\.[0-9]+")
_OF_NUMBERS: Final[frozenset[PersonalKind]] = frozenset({"card", "ssn", "ip", "phone"})
_OF_WORDS: Final[frozenset[PersonalKind]] = frozenset({"iban", "crypto_address", "ip"})
_PATTERNS: Final[dict[PersonalKind, str]] = {
    "iban": "[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}",
    "crypto_address": "0x[0-9A-Fa-f]{40}|bc1[02-9ac-hj-np-z]{11,71}|BC1[02-9AC-HJ-NP-Z]{11,71}"
    "|[13][1-9A-HJ-NP-Za-km-z]{25,34}",
    "card": "[2-6][0-9]{3}(?:[ -]?[0-9]){9,15}|[2-6](?: [0-9]){12,18}",
    "ssn": "[0-9]{3}-[0-9]{2}-[0-9]{4}|[0-9]{3} [0-9]{2} [0-9]{4}|[0-9]{9}",
    "ip": rf"(?:{_HEX4}:){{6}}{_IPV4}|(?:{_HEX4}(?::{_HEX4}){{0,5}})?::(?:{_HEX4}:){{0,5}}{_IPV4}"
    rf"|(?:{_HEX4}(?::{_HEX4}){{0,6}})?::(?:{_HEX4}(?::{_HEX4}){{0,6}})?|{_HEX4}(?::{_HEX4}){{7}}|{_IPV4}",
    # International, then national: with separators, or digits alone, for which the text must say what they are.
    "phone": r"(?:\+|00)[1-9](?:[ ./()-]{0,3}[0-9]){6,14}"
    r"|\([0-9]{2,5}\)[ ./-]?[0-9]{2,8}(?:[ ./-]{1,2}[0-9]{2,8}){0,3}|[0-9]{2,5}(?:[ ./-]{1,2}[0-9]{2,8}){1,4}"
    r"|[0-9]{7,13}",
}
# Digits alone are one of these only behind such words.
_PHONE_WORDS = re.compile(
    r"(?i)(?:phone|mobile|cell|call|tel|fax|whatsapp|sms|contact|handy|móvil|téléphone)\W{0,4}[\w ]{0,12}\W{0,4}$"
)
_SSN_WORDS = re.compile(r"(?i)(?:ssn|social[ _-]?security)\W{0,4}[\w ]{0,12}\W{0,4}$")
_VERSION_WORDS = re.compile(r"(?i)(?:version|ver|release|build|firmware)[\"']?[ :=]{0,3}[\"'v]?$")
_BEFORE = 32
CONTEXT: Final = _BEFORE + 2
"""Characters around a value that decide whether it is one."""

_LOCAL = re.compile(r"[\w.%+'-]{1,64}\Z")
_DOMAIN = re.compile(r"(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}")
# Ends of names of files and of names in programs, which look like the last part of a domain.
_NO_DOMAINS = frozenset(
    """
    png jpg jpeg gif svg webp ico css scss js mjs ts tsx jsx json yaml yml toml pyi rb go java class txt html xml lock
    wasm gz tgz dll exe service target socket timer setter getter deleter
    """.split()  # noqa: SIM905 - a list of strings is no easier to read
)
_NO_LOCALS = frozenset({"git", "hg"})
# Addresses of services that everybody may use. They identify nobody.
_PUBLIC_RESOLVERS = frozenset({"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9"})
_ISO_DATE = re.compile(
    rb"(?:19|20)[0-9]{2}[-./ ][0-9]{1,2}[-./ ][0-9]{1,2}|[0-9]{1,2}[-./ ][0-9]{1,2}[-./ ](?:19|20)[0-9]{2}"
)


def _is_alnum(data: bytes, at: int) -> bool:
    return 0 <= at < len(data) and data[at : at + 1].isalnum()


def _is_escape(data: bytes, at: int) -> bool:
    """Whether the letter there is that of an escape, as `\\n`."""
    return data[at : at + 1] in (b"n", b"r", b"t") and data[at - 1 : at] == b"\\"


class PersonalDataSearch:
    """`is_phone`: None if telephone numbers are not searched for."""

    def __init__(self, kinds: Sequence[PersonalKind], is_phone: IsPhone | None) -> None:
        self._has_email = "email" in kinds
        compiled = [(kind, re.compile(_PATTERNS[kind].encode()), _CHECKS[kind]) for kind in _PATTERNS if kind in kinds]
        self._of_numbers = [each for each in compiled if each[0] in _OF_NUMBERS]
        self._in_lists = [each for each in self._of_numbers if each[0] != "phone"]
        self._of_words = [each for each in compiled if each[0] in _OF_WORDS]
        self._is_phone = is_phone

    def search(self, view: TextView) -> Iterator[ViewMatch]:
        if self._has_email:
            yield from _emails(view)
        if (self._of_numbers or self._of_words) and len(view.text) >= _SHORTEST:
            yield from self._numbers(view)

    def _numbers(self, view: TextView) -> Iterator[ViewMatch]:
        data, done = view.ascii, 0
        is_phone = _Verification(view.text, self._is_phone) if self._is_phone is not None else None
        for match in _CANDIDATE.finditer(data):
            start, end = match.span()
            if data[start] == _BACKSLASH:
                start += 2
            if end <= done:
                continue
            candidate = data[start:end]
            digits = candidate.translate(None, _NUMBER_SIGNS)
            found = None
            if not digits.isdigit():
                if start >= done and (b":" not in candidate or _may_be_ipv6(candidate)):
                    found = self._at(data, start, self._of_words, None)
                is_over = b":" in candidate and not (
                    data[end : end + 1] in _SEPARATORS and data[end + 1 : end + 2].isdigit()
                )
                if found is None and is_over and b"." not in candidate:
                    # Nothing that begins in it goes on behind it.
                    continue
            elif len(digits) < _FEWEST_DIGITS or _DECIMAL.fullmatch(candidate) is not None:
                continue
            elif len(digits) > _LONGEST_CARD and start >= done:
                found = self._at(data, start, self._of_words, None)
            if found is not None:
                yield found
                done = found[1]
            for found in self._in_groups(data, max(start, done), end, is_phone):
                yield found
                done = found[1]

    def _in_groups(self, data: bytes, start: int, end: int, is_phone: _Verification | None) -> Iterator[ViewMatch]:
        """The values that begin with one of the groups of digits."""
        uuid = _UUID.match(data, start)
        done = start if uuid is None else uuid.end()
        groups = [match.start() for match in _GROUP.finditer(data, start, end)]
        # A long list of numbers has no telephone number, and each of its numbers could begin one.
        kinds = self._of_numbers if len(groups) <= _MOST_GROUPS else self._in_lists
        for at in groups:
            if at < done or (_is_alnum(data, at - 1) and not _is_escape(data, at - 1)):
                continue
            found = self._at(data, at, kinds, is_phone)
            if found is not None:
                yield found
                done = found[1]

    def _at(self, data: bytes, start: int, kinds: list[_Kind], is_phone: _Verification | None) -> ViewMatch | None:
        for kind, pattern, check in kinds:
            first = start
            if kind == "phone" and data[start - 1 : start] in (b"+", b"("):
                # The sign belongs to a telephone number only.
                first = start - 2 if data[start - 2 : start] == b"+(" else start - 1
            match = pattern.match(data, first)
            if match is None and first < start:
                first, match = start, pattern.match(data, start)
            if match is None:
                continue
            end = check(data, first, match.end())
            if end and (kind != "phone" or (is_phone is not None and is_phone(first, data[first:end]))):
                return first, end, kind
        return None


class _Verification:
    """Of the telephone numbers of one text."""

    def __init__(self, text: str, is_phone: IsPhone) -> None:
        self._text = text
        self._is_phone = is_phone

    def __call__(self, start: int, number: bytes) -> bool:
        if number.isdigit() and not number.startswith(b"00"):
            before = self._text[max(0, start - _BEFORE) : start]
            if _PHONE_WORDS.search(before) is None:
                return False
        return self._is_phone(number.decode())


def _may_be_ipv6(candidate: bytes) -> bool:
    """A time has colons too."""
    return b"::" in candidate or candidate.count(b":") >= 6


# --- e-mail addresses


def _emails(view: TextView) -> Iterator[ViewMatch]:
    text, data, at = view.text, view.ascii, -1
    done = 0
    while (at := data.find(b"@", at + 1)) >= 0:
        local = _LOCAL.search(text, max(done, at - 64), at)
        domain = _DOMAIN.match(text, at + 1, at + 255)
        if local is None or domain is None:
            continue
        start, end = local.start(), _end_of_domain(text, domain.end())
        if _is_escape(data, start):
            start += 1
        while start < at and text[start] in ".'-%":
            start += 1
        name, last = text[start:at].lower(), text[at + 1 : end].lower().rpartition(".")
        if not name or name in _NO_LOCALS or last[2] in _NO_DOMAINS or last[0].replace(".", "").isdigit():
            continue
        yield start, end, "email"
        done = end


def _end_of_domain(text: str, end: int) -> int:
    """A long last part belongs to it: what is left over would show the rest of an address."""
    while end < len(text) and text[end].isalpha():
        end += 1
    return end


# --- numbers. Each check takes the start and end of a candidate, and returns the end of the finding, or 0.


def _is_delimited(data: bytes, start: int, end: int) -> bool:
    """Whether the number is not a part of a longer one, of a decimal fraction, or of a name."""
    if data[start - 1 : start] in (b"_", b".", b"-") and _is_alnum(data, start - 2):
        return False
    after = data[end : end + 1]
    return not (after.isalnum() or after == b"_" or (after in (b".", b"-") and data[end + 1 : end + 2].isdigit()))


def _card(data: bytes, start: int, end: int) -> int:
    """The longest sequence of whole groups that is a card."""
    while end - start >= 13:
        if data[end - 1 : end].isdigit() and _is_delimited(data, start, end):
            text = data[start:end].replace(b"-", b" ")
            groups = text.split(b" ")
            if (
                all(len(group) >= 3 for group in groups) or all(len(group) == 1 for group in groups)
            ) and is_card_number(b"".join(groups)):
                return end
        end -= 1
    return 0


def _ssn(data: bytes, start: int, end: int) -> int:
    text = data[start:end]
    if not _is_delimited(data, start, end):
        return 0
    if text.isdigit() and _SSN_WORDS.search(data[max(0, start - _BEFORE) : start].decode()) is None:
        return 0
    digits = text.replace(b"-", b"").replace(b" ", b"")
    return end if is_assigned_ssn(digits[:3], digits[3:5], digits[5:]) else 0


def _iban(data: bytes, start: int, end: int) -> int:
    length, at, compact = iban_length(data[start : start + 2]), start, bytearray()
    while at < end and len(compact) < length:
        if data[at] not in b" -":
            compact.append(data[at])
        at += 1
    if not length or len(compact) != length or _is_alnum(data, at) or not is_iban(bytes(compact)):
        return 0
    return at


def _ip(data: bytes, start: int, end: int) -> int:
    text = data[start:end]
    is_version_6 = b":" in text
    if is_version_6 and (_is_alnum(data, end) or data[end : end + 1] == b":" or data[start - 1 : start] == b":"):
        return 0
    if not is_version_6 and not _is_delimited(data, start, end):
        return 0
    try:
        address = ipaddress.ip_address(text.decode())
    except ValueError:
        return 0
    if not any(code in b"0123456789" for code in text) or text.decode() in _PUBLIC_RESOLVERS:
        return 0
    if not is_version_6 and _VERSION_WORDS.search(data[max(0, start - _BEFORE) : start].decode()) is not None:
        return 0
    return end if _identifies(address) else 0


def _identifies(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether the address can be one person's. Addresses of documentation count, because they stand for others."""
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        private = any(address in network for network in _PRIVATE)
        return not private and address.packed[0] not in (0, 255) and address.packed[3] != 255
    if address.ipv4_mapped is not None:
        return _identifies(address.ipv4_mapped)
    return address not in _UNIQUE_LOCAL and address.packed[0] != 0


_PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_UNIQUE_LOCAL = ipaddress.IPv6Network("fc00::/7")


def _crypto_address(data: bytes, start: int, end: int) -> int:
    text = data[start:end]
    if _is_alnum(data, end):
        return 0
    if text.startswith(b"0x"):
        # A number of one digit again and again is no address of anybody.
        return end if len(set(text[2:])) > 6 else 0
    if text[:3].lower() == b"bc1":
        return end if is_bech32_address(text) else 0
    return end if is_base58_address(text) else 0


def _phone(data: bytes, start: int, end: int) -> int:
    digits = len(data[start:end].translate(None, _NUMBER_SIGNS + b"+"))
    # ITU E.164: at most 15 digits.
    if not 7 <= digits <= 15 or not _is_delimited(data, start, end) or _ISO_DATE.match(data, start, end) is not None:
        return 0
    return end


_CHECKS: Final[dict[PersonalKind, Callable[[bytes, int, int], int]]] = {
    "iban": _iban,
    "crypto_address": _crypto_address,
    "card": _card,
    "ssn": _ssn,
    "ip": _ip,
    "phone": _phone,
}
