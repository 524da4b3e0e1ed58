"""Takes what must not be written down out of any text: credentials, and what names a person.

Seven kinds: e-mail address, telephone number, US social security number, credit card (with its check digit), API keys
of the providers we know and of ours, bearer and JSON web tokens, IP addresses. One automaton of RE2's finds all
candidates in one pass, in time that grows with the length of the text alone; what looks like a card, an SSN or an
address must then be one.

What JSON or a URL has escaped (`%40`, `\\u0040`) is looked at as it was before.

It sees one text at a time and knows nothing of logs or traces.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import re2

MASK = "***"
"""What stands for a credential, which tells nothing of its kind."""

# The names under which a secret stands in JSON, in a query, in a header or in prose about one.
_NAMED = (
    r"(?i:secret|passw(?:or)?d|passphrase|pepper|api[-_]?key|access[-_]?token|refresh[-_]?token|id[-_]?token"
    r"|auth[-_]?token|security[-_]?token|session[-_]?token|authorization|private[-_]?key|access[-_]?key|signature"
    r"|set-cookie|cookie)"
)
# To its end, or where that was cut off, as far as it goes.
_PEM_NAME = r"[A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----"
_PEM = rf"-----BEGIN {_PEM_NAME}[^-]*(?:-----END {_PEM_NAME})?"
_HEX4 = r"[0-9A-Fa-f]{1,4}"
_IPV4 = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"

# RE2 has no look-around; a candidate that runs on, on either side, is refused by its check.
# In the order of trust: where two begin at one place, the first counts.
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("jwt", r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
    ("scheme", r"(?i:bearer|basic|token)(?:[ \t]+|%20|\+)[^\s,;\"'\\]{6,}"),
    # Whatever its shape: the keys of Azure, Mistral and Cohere have none of their own.
    (
        "named",
        _NAMED + rf"[A-Za-z0-9_-]{{0,24}}\\?[\"']?(?: ?= ?|: ?)\\?[\"']?(?:{_PEM}|[^\s,;&\"'\\<>{{}}\[\]()]{{4,}})",
    ),
    ("pem", _PEM),
    # In a query, where names are short.
    ("query", r"[?&](?i:key|token|sig|jwt|pwd)=[^\s&#\"'<>]{4,}"),
    (
        "key",
        r"sk[-_][A-Za-z0-9_-]{12,}"  # OpenAI, Anthropic (sk-ant-), OpenRouter (sk-or-), DeepSeek, Stripe (sk_live_)
        r"|edge-[A-Za-z0-9_-]{20,}"  # ours
        r"|(?:gsk_|hf_|xai-|pplx-|nvapi-|r8_|csk-|fw_|tgp_v1_|pk-lf-|lsv2_|jina_|tvly-|vck_|flp_|esecret_|pa-|wrtr_)"
        r"[A-Za-z0-9_-]{16,}"  # Groq, Hugging Face, xAI, Perplexity, NVIDIA, Replicate, Cerebras, Fireworks, …
        r"|(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|dapi)[A-Za-z0-9_-]{16,}"  # GitHub, GitLab, Slack, Databricks
        r"|[0-9a-f]{32}\.[A-Za-z0-9]{16}"  # Zhipu
        r"|AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_.-]{16,}|AQ\.[A-Za-z0-9_-]{30,}"  # Google
        r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"  # AWS, a key's id
        r"|(?:ABSK|bedrock-api-key-)[A-Za-z0-9+/=]{40,}",  # Amazon Bedrock
    ),
    ("userinfo", r"://[^\s/@:]{0,256}:[^\s/@]{1,256}@"),
    # Bytes above ASCII are letters of other alphabets.
    (
        "email",
        r"[A-Za-z0-9._%+\x80-\xff-]+@(?:[A-Za-z0-9\x80-\xff-]{1,63}\.){1,8}[A-Za-z\x80-\xff]{2,24}",
    ),
    (
        "ipv6",
        rf"(?:{_HEX4}:){{6}}{_IPV4}|(?:{_HEX4}(?::{_HEX4}){{0,5}})?::(?:{_HEX4}:){{0,5}}{_IPV4}"
        rf"|(?:{_HEX4}(?::{_HEX4}){{0,6}})?::(?:{_HEX4}(?::{_HEX4}){{0,6}})?|{_HEX4}(?::{_HEX4}){{7}}",
    ),
    ("ipv4", _IPV4),
    ("ssn", r"[0-9]{3}-[0-9]{2}-[0-9]{4}"),
    ("card", r"[2-6][0-9]{3}(?:[ -]?[0-9]){9,15}"),
    # International, or North American with its punctuation: a bare run of digits is a number of anything.
    (
        "phone",
        r"\+[1-9][0-9]{0,2}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9]{1,12}(?:[ ./-][0-9]{2,8}){0,5}"
        r"|00[1-9][0-9]{0,2}(?:[ -][0-9]{2,8}){2,5}"
        r"|(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}",
    ),
)
_ALL = "|".join(f"(?:{pattern})" for _, pattern in _PATTERNS)
_UUID = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
# Without groups: RE2 then needs its automaton alone. An id is found as a whole, so that nothing is found in it.
_FINDER = re2.compile(f"(?:{_UUID})|{_ALL}".encode())
# Nearly no text has any of these; asking for them alone takes a fraction of finding where they stand.
_GATE = re2.compile(_ALL.encode())
# Which kind it is, of the few bytes that were found.
_KIND = re2.compile("|".join(f"(?P<{name}>{p})" for name, p in (("uuid", _UUID), *_PATTERNS)).encode())
_KINDS = ("uuid", *(name for name, _ in _PATTERNS))

_DIGITS = frozenset(b"0123456789")
_ALNUM = _DIGITS | frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_WORD = _ALNUM | frozenset(b"_")
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


# What a URL or JSON writes for a character of ASCII.
_ESCAPE = rb"%[0-7][0-9A-Fa-f]|\\+u00[0-7][0-9A-Fa-f]|\\+/"
_ESCAPES = re.compile(_ESCAPE)
_HAS_ESCAPES = re2.compile(_ESCAPE)
# So often may one be within another: a URL in JSON in a query.
_DEEPEST = 3


def is_clean(text: str) -> bool:
    """Whether nothing in it even looks like a finding. UTF-8 can say all of it, where it is."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return False
    return _GATE.search(data) is None and not _is_escaped(data)


def redact(text: str) -> str:
    """The text with each finding replaced by its kind, or by asterisks if it is a credential. Bytes that are not UTF-8
    (surrogate escapes) become escapes."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return _redacted(text.encode("utf-8", "backslashreplace")).decode(errors="replace")
    if _GATE.search(data) is None and not _is_escaped(data):
        return text
    # Bytes are cut in the middle of a character only where an escape stood there.
    return _redacted(data).decode(errors="replace")


def _redacted(data: bytes) -> bytes:
    data = _without(data, _findings(data), range(len(data) + 1))
    if not _is_escaped(data) or _GATE.search(_meant(data)) is None:
        return data
    meant, places = _meant_and_where(data)
    return _without(data, _findings(meant), places)


def _is_escaped(data: bytes) -> bool:
    # Most texts have neither, which is told in no time.
    return (b"%" in data or b"\\" in data) and _HAS_ESCAPES.search(data) is not None


def _meant(data: bytes) -> bytes:
    """What escapes stand for."""
    for _ in range(_DEEPEST):
        data, count = _ESCAPES.subn(_byte, data)
        if not count:
            break
    return data


def _byte(escape: re.Match[bytes]) -> bytes:
    whole = escape[0]
    return b"/" if whole.endswith(b"/") else bytes((int(whole[-2:], 16),))


def _meant_and_where(data: bytes) -> tuple[bytes, Sequence[int]]:
    """The same, and where each byte of it (and its end) has stood: several times as slow."""
    places: Sequence[int] = range(len(data) + 1)
    for _ in range(_DEEPEST):
        if _ESCAPES.search(data) is None:
            break
        out, kept, done = bytearray(), list[int](), 0
        for found in _ESCAPES.finditer(data):
            start, end = found.span()
            out += data[done:start]
            kept += places[done:start]
            out += _byte(found)
            kept.append(places[start])
            done = end
        out += data[done:]
        kept += places[done:]
        data, places = bytes(out), kept
    return data, places


def _without(data: bytes, findings: Iterator[tuple[int, int, bytes]], places: Sequence[int]) -> bytes:
    """`places`: where in `data` each byte of what was searched stands."""
    out: list[bytes] = []
    done = 0
    for start, end, shown in findings:
        out += (data[done : places[start]], shown)
        done = places[end]
    out.append(data[done:])
    return b"".join(out)


def _findings(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Where each begins and ends, and what is shown for it."""
    at = 0
    while (found := _FINDER.search(data, at)) is not None:
        start, end = found.span()
        whole = data[start:end]
        kind = _KINDS[_KIND.match(whole).lastindex - 1]
        check, shown = _RULES[kind]
        end = check(data, start, end)
        if end:
            yield start, end, shown(data[start:end])
            at = end
        else:
            at = start + 1
            # Whatever begins within a number or a word of it is refused as well, for it runs on to its left.
            if kind in _AT_WORDS:
                while at < len(data) and data[at - 1] in _ALNUM and data[at] in _ALNUM:
                    at += 1


# --- is it what it looks like


def _begins(data: bytes, start: int, word: frozenset[int]) -> bool:
    return start == 0 or data[start - 1] not in word


def _ends(data: bytes, end: int, word: frozenset[int]) -> bool:
    return end == len(data) or data[end] not in word


# Each check is given where a candidate begins and ends, and gives where the finding ends, or 0 where there is none.


def _always(data: bytes, start: int, end: int) -> int:
    del data, start
    return end


def _is_scheme(data: bytes, start: int, end: int) -> int:
    """What follows "bearer" is a token; of "basic" and "token", which are words too, one that looks like it."""
    if not _begins(data, start, _WORD):
        return 0
    whole = data[start:end]
    return end if whole[:6].lower() == b"bearer" or _is_random(whole[len(_scheme(whole)) :]) else 0


def _scheme(found: bytes) -> bytes:
    """The word, and what separates it from the value."""
    word = len(found) - len(found.lstrip(_LETTERS))
    if found.startswith(b"%20", word):
        return found[: word + 3]
    rest = found[word:]
    return found[: word + max(1, len(rest) - len(rest.lstrip(b" \t")))]


def _is_named(data: bytes, start: int, end: int) -> int:
    """After an equals sign or within quotes anything is a value; after a colon and a space, prose may follow."""
    name, colon, value = data[start:end].partition(b":")
    if b"=" in name or not colon or not value.startswith(b" ") or value[1:2] in (b'"', b"'", b"\\"):
        return end
    return end if _is_random(value) or len(value) > _LONGEST_WORD else 0


def _is_random(value: bytes) -> bool:
    """No word of prose: it holds a digit, an equals sign, or a capital after its first letter."""
    return any(b in _DIGITS or b == 61 for b in value) or any(65 <= b <= 90 for b in value.strip()[1:])


def _is_key(data: bytes, start: int, end: int) -> int:
    """Names ("edge-extproc-worker-processes") are no keys: those hold a digit or a capital."""
    return end if _begins(data, start, _ALNUM) and _is_random(data[start:end]) else 0


def _is_number(data: bytes, start: int, end: int) -> int:
    return end if _begins(data, start, _WORD) and _ends(data, end, _WORD) else 0


def _is_phone(data: bytes, start: int, end: int) -> int:
    digits = sum(b in _DIGITS for b in data[start:end])
    # ITU E.164: at most 15; fewer than 8 are a number with a plus sign.
    return _is_number(data, start, end) if 8 <= digits <= 15 else 0


def _is_card(data: bytes, start: int, end: int) -> int:
    """The longest run of whole groups that has the length of its brand and its check digit."""
    if not _begins(data, start, _WORD):
        return 0
    while end - start >= _SHORTEST_CARD:
        if data[end - 1] in _DIGITS and _ends(data, end, _WORD):
            digits = bytes(b for b in data[start:end] if b in _DIGITS)
            if _is_of_a_brand(digits) and _has_check_digit(digits) and _is_grouped(data[start:end]):
                return end
        end -= 1
    return 0


def _is_of_a_brand(digits: bytes) -> bool:
    """ISO/IEC 7812 issuer ranges of the brands, and the lengths that each has."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == 52:  # Visa
        return length in (13, 16, 19)
    if two in (34, 37):  # American Express
        return length == 15
    if two in (30, 36, 38, 39):  # Diners Club
        return 14 <= length <= 19
    return length >= 16 and (35 == two or 50 <= two <= 69 or 2221 <= four <= 2720)


def _has_check_digit(digits: bytes) -> bool:
    """Luhn's (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, b in enumerate(reversed(digits)):
        worth = (b - 48) << (place & 1)
        total += worth - 9 if worth > 9 else worth
    return total % 10 == 0


def _is_grouped(text: bytes) -> bool:
    """In threes or longer: what is apart digit by digit is a list of numbers."""
    return all(len(group) >= 3 for group in text.replace(b"-", b" ").split())


def _is_ssn(data: bytes, start: int, end: int) -> int:
    area, group, serial = data[start:end].split(b"-")
    given = area not in (b"000", b"666") and area < b"900" and group != b"00" and serial != b"0000"
    return _is_number(data, start, end) if given else 0


def _is_address(data: bytes, start: int, end: int) -> int:
    word = _WORD | {58} if b":" in data[start:end] else _WORD
    if not (_begins(data, start, _WORD) and _ends(data, end, word)):
        return 0
    # A version may have more than four parts.
    if (end + 1 < len(data) and data[end] == 46 and data[end + 1] in _DIGITS) or not _begins(data, start, _DOT):
        return 0
    try:
        found = ipaddress.ip_address(data[start:end].decode())
    except ValueError:
        return 0
    # Of this machine: it tells of nobody. Without any digit it is a name of a language's: `a::b`.
    if found.is_loopback or found.is_unspecified or not any(b in _DIGITS for b in data[start:end]):
        return 0
    return end


def _mask(found: bytes) -> bytes:
    del found
    return MASK.encode()


def _mask_userinfo(found: bytes) -> bytes:
    del found
    return b"://***@"


def _mask_value(found: bytes) -> bytes:
    return _scheme(found) + MASK.encode()


def _mask_named(found: bytes) -> bytes:
    """The name, and what separates the value from it."""
    at = min(n for n in (found.find(b"="), found.find(b":")) if n >= 0) + 1
    while found[at : at + 1] in (b" ", b"\\", b'"', b"'"):
        at += 1
    return found[:at] + MASK.encode()


def _as(name: bytes) -> Callable[[bytes], bytes]:
    shown = b"[" + name + b"]"

    def show(found: bytes) -> bytes:
        del found
        return shown

    return show


_SHORTEST_CARD = 13
_LONGEST_WORD = 20
_DOT = frozenset(b".")
# A candidate of these is refused where a letter or a digit stands before it.
_AT_WORDS = frozenset({"card", "ssn", "ipv4", "phone"})

_Check: TypeAlias = Callable[[bytes, int, int], int]

_RULES: dict[str, tuple[_Check, Callable[[bytes], bytes]]] = {
    "uuid": (_always, bytes),
    "jwt": (_always, _mask),
    "scheme": (_is_scheme, _mask_value),
    "named": (_is_named, _mask_named),
    "pem": (_always, _mask),
    "query": (_always, _mask_named),
    "key": (_is_key, _mask),
    "userinfo": (_always, _mask_userinfo),
    "email": (_always, _as(b"email")),
    "ipv6": (_is_address, _as(b"ip")),
    "ipv4": (_is_address, _as(b"ip")),
    "ssn": (_is_ssn, _as(b"ssn")),
    "card": (_is_card, _as(b"card")),
    "phone": (_is_phone, _as(b"phone")),
}
