"""Finds credentials: keys and tokens of services, private keys, passwords beside their names.

One search for the fixed words of all formats comes first; only where a word is, the pattern of its format is tried. So
a text without such words costs one pass.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import re2
from pydantic import AfterValidator

from ...config.extras import GUARDRAILS, Extra
from ...config.part import ConfigSection, Text
from ...config.paths import ReadableFile
from ...config.quantities import Boolean
from ...config.wrong import wrong
from ...model.frozen_dataclass import frozen_dataclass
from ..base import Finding, TextKind
from ..credential_formats import FORMATS, NOT_BY_DEFAULT, CredentialFormat
from ..entropy import entropy
from ..normalised_text import TextView
from ..open_texts import open_end
from ..pattern_prefixes import beginnings_of
from ..view_matches import ViewMatch, find_in_views

_LABELS = tuple(dict.fromkeys(each.label for each in FORMATS))
# A letter of an escape and its backslash before a value, one character behind it.
_CONTEXT = 3
# Characters before a value that decide: the pattern before a word, and the beginning of a view.
_CONTEXT_OF_STREAMS = 128
# A rule of a file can match any length. A stream holds this.
_LONGEST_OF_RULES = 512
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Values of documentation, of templates and of programs that read the value from elsewhere.
_PLACEHOLDER = re.compile(
    rb"(?i)your|example|sample|dummy|placeholder|redacted|change_?me|insert|replace|todo|x{4}|\*{3}|\.{3}|\$\{|\$\(|\{\{"
    rb"|1234567|abcdefg|process\.env|os\.environ|getenv|secrets?\.|config[.\[]|settings\.|<|>"
)
_USUAL_PASSWORDS = frozenset(
    b"password pass passwd pwd user secret token postgres mysql root admin test guest rabbit redis changeme".split()
)
# RE2, because an underscore can be a letter or a separator here.
_CODE = re2.compile(
    rb"[A-Za-z_]+[0-9]{0,2}(?:[._/][A-Za-z_]*[0-9]{0,2})*"  # names with a number at the end
    rb"|_?[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)+"  # constants, base64.b64decode
    rb"|[a-z]+[0-9]{0,2}(?:-[a-z]*[0-9]{0,2})*"
    rb"|[\\./~].*|[0-9.,:TZ/-]+"  # paths, times
)


def _labels(value: tuple[str, ...]) -> tuple[str, ...]:
    for each in value:
        if each not in _LABELS:
            raise wrong(f"{each!r} is no format", "see docs/guardrails-detectors.md for their names", show=False)
    return value


class CredentialsOptions(ConfigSection):
    """Keys and tokens of services, private keys, and passwords beside their names."""

    formats: Annotated[tuple[Text, ...], AfterValidator(_labels)] = ()
    """Only these formats, such as github_token. Default: all but private_key_header, which is the first line of a
    private key."""
    exclude: Annotated[tuple[Text, ...], AfterValidator(_labels)] = ()
    """Formats that are not searched for. A stream holds as many characters as the longest format needs: 4099 with
    private_key, 2403 with jwt, 547 with all others."""
    checksums: Boolean = False
    """true: a value whose checksum is wrong is no finding, such as a made-up token of GitHub in a documentation."""
    rules_file: ReadableFile | None = None
    """Further rules, in gitleaks' format (TOML). What is about paths and commits does not apply."""
    decode: Boolean = True
    """Whether to search in decoded text too: base64, hexadecimal digits, escapes, lookalikes, invisible characters."""


@frozen_dataclass
class _Search:
    """What is tried at a word."""

    format: CredentialFormat
    pattern: re2._Regexp
    """Of the value from the word on, or from `before` on."""
    value_group: int
    whole: bool
    """Whether no letter or digit may be before the word."""
    check: Callable[[bytes], bool] | None
    beginnings: re2._Regexp
    """Of what follows the word, as far as it is there."""
    length: int
    """Of the word."""

    def open_at(self, data: bytes, start: int) -> int | None:
        """Where a value may begin that is not complete, if one is at the word at `start`. None: there is none."""
        after = start + self.length
        if len(data) - after > self.format.most or self.beginnings.fullmatch(data[after:]) is None:
            return None
        return max(0, start - self.format.most_before)

    def value(self, data: bytes, start: int) -> tuple[int, int] | None:
        """Where the value is, if one is at the word at `start`."""
        each = self.format
        if self.whole and _is_inside(data, start):
            return None
        if not each.before:
            match = self.pattern.match(data, start, min(len(data), start + each.most))
        else:
            match = self.pattern.search(data, max(0, start - each.most_before), min(len(data), start + each.most))
            if match is None or not match.start() <= start < match.end() or _is_inside(data, match.start()):
                return None
        if match is None:
            return None
        first, last = match.span(self.value_group)
        if last < len(data) and _is_alnum(data[last]) and data[last - 1 : last].isalnum():
            return None
        value = data[first:last]
        if each.entropy and entropy(value) < each.entropy:
            return None
        return (first, last) if self.check is None or self.check(value) else None


def _is_alnum(code: int) -> bool:
    return 48 <= code <= 57 or 65 <= code <= 90 or 97 <= code <= 122


def _is_inside(data: bytes, start: int) -> bool:
    """Whether a word before it goes on there. The letter of an escape (`\\n`) is none."""
    return start > 0 and _is_alnum(data[start - 1]) and data[start - 2 : start - 1] != b"\\"


# --- checks of values


def _has_checksum(value: bytes) -> bool:
    """GitHub's and npm's: the last six characters are the CRC-32 of the others after the prefix, in base 62."""
    body = value[value.index(b"_") + 1 :]
    number = zlib.crc32(body[:-6])
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits.rjust(6, "0").encode() == body[-6:]


def _is_jwt(value: bytes) -> bool:
    """Whether the header is one (RFC 7515: it has `alg`)."""
    header = value[: value.index(b".")]
    try:
        document = json.loads(base64.urlsafe_b64decode(header + b"=" * (-len(header) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return False
    return isinstance(document, dict) and "alg" in document


def _is_no_placeholder(value: bytes) -> bool:
    return value.lower() not in _USUAL_PASSWORDS and value[:1] not in b"$%{*[(" and _PLACEHOLDER.search(value) is None


def _is_random(value: bytes) -> bool:
    """Whether it is neither a placeholder, nor a name or a path of a program. A random value has digits and letters."""
    if not any(48 <= each <= 57 for each in value) or not any(_is_alnum(each) and each > 57 for each in value):
        return False
    return _PLACEHOLDER.search(value) is None and _CODE.fullmatch(value) is None


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "jwt": _is_jwt,
    "userinfo": _is_no_placeholder,
    "named": _is_random,
    "crc32": _has_checksum,
}


class CredentialDetector:
    """The formats of `credential_formats`, and the rules of a file."""

    def __init__(self, options: CredentialsOptions) -> None:
        # The packages of the extra are imported only if a rule needs them.
        from ahocorasick_rs import BytesAhoCorasick, Implementation

        from ..gitleaks_rules import load_gitleaks_rules

        chosen = options.formats or tuple(label for label in _LABELS if label not in NOT_BY_DEFAULT)
        formats = [each for each in FORMATS if each.label in chosen and each.label not in options.exclude]
        by_word: dict[str, list[_Search]] = {}
        for each in formats:
            for word in each.words:
                by_word.setdefault(word, []).append(_search(each, word, checksums=options.checksums))
        self._searches = tuple(tuple(searches) for searches in by_word.values())
        self._words = BytesAhoCorasick([word.encode() for word in by_word], implementation=Implementation.DFA)
        self._rules = load_gitleaks_rules(options.rules_file) if options.rules_file is not None else None
        self._decode = options.decode
        self._beginnings = frozenset(word[:end].encode() for word in by_word for end in range(1, len(word)))
        self._longest_word = max(map(len, by_word), default=0)
        lengths = [each.most + each.most_before + _CONTEXT for each in formats]
        self._longest = max((*lengths, _LONGEST_OF_RULES if self._rules is not None or not lengths else 0))

    @property
    def longest(self) -> int:
        return self._longest

    @property
    def context(self) -> int:
        return _CONTEXT_OF_STREAMS

    def open_end(self, text: str) -> int:
        if self._rules is not None:  # their patterns can match anything
            return self._longest
        return min(self._longest, open_end(text, self._unfinished, decode=self._decode))

    def _unfinished(self, view: TextView) -> int:
        data = view.ascii
        place = end = len(data)
        for number, start, _ in self._words.find_matches_as_indexes(data, overlapping=True):
            if start >= place or end - start > self._longest:
                continue
            for search in self._searches[number]:
                begin = search.open_at(data, start)
                if begin is not None:
                    place = min(place, begin)
        for length in range(min(self._longest_word, end), 0, -1):
            if data[end - length :] in self._beginnings:
                return min(place, end - length)
        return place

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        del kind
        return find_in_views(text, self._search, self._longest, decode=self._decode)

    def _search(self, view: TextView) -> Iterator[ViewMatch]:
        data, done = view.ascii, 0
        for number, start, _ in self._words.find_matches_as_indexes(data, overlapping=True):
            if start < done:
                continue
            for search in self._searches[number]:
                value = search.value(data, start)
                if value is not None:
                    done = value[1]
                    yield *value, search.format.label
                    break
        if self._rules is not None:
            yield from self._rules.search(view)


@functools.cache  # a compilation takes longer than most searches, and each rule and each reload has the same formats
def _search(each: CredentialFormat, word: str, *, checksums: bool) -> _Search:
    pattern = re2.compile((each.before + re.escape(word) + each.after).encode())
    check = _CHECKS.get(each.check) if each.check != "crc32" or checksums else None
    whole = each.whole_word and not each.before and word[0].isalnum()
    beginnings = re2.compile(beginnings_of(each.after).encode())
    return _Search(each, pattern, min(1, pattern.groups), whole, check, beginnings, len(word))


class CredentialsPlugin:
    """The detector `credentials`."""

    options = CredentialsOptions

    def required_extra(self, options: CredentialsOptions) -> Extra | None:
        del options
        return GUARDRAILS

    def build(self, options: CredentialsOptions) -> CredentialDetector:
        GUARDRAILS.require("the detector credentials")
        return CredentialDetector(options)


PLUGIN = CredentialsPlugin()
