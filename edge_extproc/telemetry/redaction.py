"""Removes credentials and personal data from a text, before the text is logged or exported.

It detects seven kinds: e-mail addresses, telephone numbers, US social security numbers, credit card numbers, API keys
of known providers and of this gateway, bearer and JSON web tokens, and IP addresses. One RE2 automaton finds all
candidates in one pass, in time linear in the length of the text. Candidates for cards, social security numbers and
addresses are then verified, for example by their check digit.

Escapes of JSON and URLs (`%40`, `\\u0040`) are decoded for the search.

The module knows nothing of logs or traces.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import re2

from ..model.check_digits import is_assigned_ssn, is_card_number

MASK = "***"
"""The replacement for a credential. It does not show the kind of credential."""

# Names of secrets in JSON, in queries, in headers or in prose.
_NAMED = (
    r"(?i:secret|passw(?:or)?d|passphrase|pepper|api[-_]?key|access[-_]?token|refresh[-_]?token|id[-_]?token"
    r"|auth[-_]?token|security[-_]?token|session[-_]?token|authorization|private[-_]?key|access[-_]?key|signature"
    r"|set-cookie|cookie)"
)
# A PEM key up to its end marker, or as far as it goes if the text was cut.
_PEM_NAME = r"[A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----"
_PEM = rf"-----BEGIN {_PEM_NAME}[^-]*(?:-----END {_PEM_NAME})?"
_HEX4 = r"[0-9A-Fa-f]{1,4}"
_IPV4 = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"

# RE2 has no look-around, so a check function rejects candidates that continue on either side.
# The order is by reliability: of two patterns that match at one position, the first is used.
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("jwt", r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
    ("scheme", r"(?i:bearer|basic|token)(?:[ \t]+|%20|\+)[^\s,;\"'\\]{6,}"),
    # A value of any form: the keys of Azure, Mistral and Cohere have no recognizable form.
    (
        "named",
        _NAMED + rf"[A-Za-z0-9_-]{{0,24}}\\?[\"']?(?: ?= ?|: ?)\\?[\"']?(?:{_PEM}|[^\s,;&\"'\\<>{{}}\[\]()]{{4,}})",
    ),
    ("pem", _PEM),
    # In a query, shorter names are used for secrets.
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
    # Bytes above ASCII belong to letters of other alphabets.
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
    # International, or North American with punctuation. Digits without punctuation can be any number.
    (
        "phone",
        r"\+[1-9][0-9]{0,2}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9]{1,12}(?:[ ./-][0-9]{2,8}){0,5}"
        r"|00[1-9][0-9]{0,2}(?:[ -][0-9]{2,8}){2,5}"
        r"|(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}",
    ),
)
_ALL = "|".join(f"(?:{pattern})" for _, pattern in _PATTERNS)
_UUID = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
# Without groups, because RE2 is then faster. A UUID is matched as a whole, so that no other pattern matches a part of
# it.
_FINDER = re2.compile(f"(?:{_UUID})|{_ALL}".encode())
# Most texts have no match. Testing for a match takes a fraction of the time of finding its position.
_GATE = re2.compile(_ALL.encode())
# Finds out which pattern has matched.
_KIND = re2.compile("|".join(f"(?P<{name}>{p})" for name, p in (("uuid", _UUID), *_PATTERNS)).encode())
_KINDS = ("uuid", *(name for name, _ in _PATTERNS))

_DIGITS = frozenset(b"0123456789")
_ALNUM = _DIGITS | frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_WORD = _ALNUM | frozenset(b"_")
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


# The escapes of ASCII characters in URLs and JSON.
_ESCAPE = rb"%[0-7][0-9A-Fa-f]|\\+u00[0-7][0-9A-Fa-f]|\\+/"
_ESCAPES = re.compile(_ESCAPE)
_HAS_ESCAPES = re2.compile(_ESCAPE)
# The maximum depth of nested escapes, as of a URL in JSON in a query.
_DEEPEST = 3


_RANDOM_ID = re.compile(rf"{_UUID}|[0-9a-f]{{32}}")


def is_random_id(text: str) -> bool:
    """Whether the whole text is a UUID or a trace id, in which `redact` finds nothing. A search of one is slow: RE2
    builds its automaton as it reads, and each new id needs other states."""
    return _RANDOM_ID.fullmatch(text) is not None


def is_clean(text: str) -> bool:
    """Whether the text has no candidate for redaction. A clean text can also be encoded as UTF-8."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return False
    return _GATE.search(data) is None and not _is_escaped(data)


def redact(text: str) -> str:
    """The text with each finding replaced: a credential by `***`, others by their kind, such as `[email]`. Surrogates,
    which stand for bytes that are not UTF-8, become escapes."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return _redacted(text.encode("utf-8", "backslashreplace")).decode(errors="replace")
    if _GATE.search(data) is None and not _is_escaped(data):
        return text
    # A character can be cut in the middle only if it was written as escapes.
    return _redacted(data).decode(errors="replace")


def _redacted(data: bytes) -> bytes:
    data = _without(data, _findings(data), range(len(data) + 1))
    if not _is_escaped(data) or _GATE.search(_decoded(data)) is None:
        return data
    decoded, places = _decoded_with_places(data)
    return _without(data, _findings(decoded), places)


def _is_escaped(data: bytes) -> bool:
    # Most texts have neither character, and this test is fast.
    return (b"%" in data or b"\\" in data) and _HAS_ESCAPES.search(data) is not None


def _decoded(data: bytes) -> bytes:
    """The data with its escapes decoded."""
    for _ in range(_DEEPEST):
        data, count = _ESCAPES.subn(_byte, data)
        if not count:
            break
    return data


def _byte(escape: re.Match[bytes]) -> bytes:
    text = escape[0]
    return b"/" if text.endswith(b"/") else bytes((int(text[-2:], 16),))


def _decoded_with_places(data: bytes) -> tuple[bytes, Sequence[int]]:
    """The data with its escapes decoded, and the original position of each byte and of the end. This takes several
    times as long as `_decoded`."""
    places: Sequence[int] = range(len(data) + 1)
    for _ in range(_DEEPEST):
        if _ESCAPES.search(data) is None:
            break
        out, positions, done = bytearray(), list[int](), 0
        for escape in _ESCAPES.finditer(data):
            start, end = escape.span()
            out += data[done:start]
            positions += places[done:start]
            out += _byte(escape)
            positions.append(places[start])
            done = end
        out += data[done:]
        positions += places[done:]
        data, places = bytes(out), positions
    return data, places


def _without(data: bytes, findings: Iterator[tuple[int, int, bytes]], places: Sequence[int]) -> bytes:
    """`data` with each finding replaced. `places`: the position in `data` of each byte of the searched text."""
    out: list[bytes] = []
    done = 0
    for start, end, replacement in findings:
        out += (data[done : places[start]], replacement)
        done = places[end]
    out.append(data[done:])
    return b"".join(out)


def _findings(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The start, end and replacement of each finding."""
    at = 0
    while (match := _FINDER.search(data, at)) is not None:
        start, end = match.span()
        text = data[start:end]
        kind = _KINDS[_KIND.match(text).lastindex - 1]
        check, replace = _RULES[kind]
        end = check(data, start, end)
        if end:
            yield start, end, replace(data[start:end])
            at = end
        else:
            at = start + 1
            # A candidate that begins inside of the same word or number would be rejected too: skip to its end.
            if kind in _AT_WORDS:
                while at < len(data) and data[at - 1] in _ALNUM and data[at] in _ALNUM:
                    at += 1


# --- verification of candidates


def _begins(data: bytes, start: int, word: frozenset[int]) -> bool:
    return start == 0 or data[start - 1] not in word


def _ends(data: bytes, end: int, word: frozenset[int]) -> bool:
    return end == len(data) or data[end] not in word


# A check takes the start and end of a candidate. It returns the end of the finding, or 0 if there is none.


def _always(data: bytes, start: int, end: int) -> int:
    del data, start
    return end


def _is_scheme(data: bytes, start: int, end: int) -> int:
    """After "bearer", any value is a token. After "basic" and "token", which are also ordinary words, the value must
    look random."""
    if not _begins(data, start, _WORD):
        return 0
    text = data[start:end]
    return end if text[:6].lower() == b"bearer" or _is_random(text[len(_scheme(text)) :]) else 0


def _scheme(finding: bytes) -> bytes:
    """The scheme word, and the separator before the value."""
    word = len(finding) - len(finding.lstrip(_LETTERS))
    if finding.startswith(b"%20", word):
        return finding[: word + 3]
    rest = finding[word:]
    return finding[: word + max(1, len(rest) - len(rest.lstrip(b" \t")))]


def _is_named(data: bytes, start: int, end: int) -> int:
    """After an equals sign or in quotes, any text is a value. After a colon and a space, prose can follow, so the value
    must look random or be long."""
    name, colon, value = data[start:end].partition(b":")
    if b"=" in name or not colon or not value.startswith(b" ") or value[1:2] in (b'"', b"'", b"\\"):
        return end
    return end if _is_random(value) or len(value) > _LONGEST_WORD else 0


def _is_random(value: bytes) -> bool:
    """Whether the value is not a word of prose: it has a digit, an equals sign, or a capital after its first letter."""
    return any(b in _DIGITS or b == 61 for b in value) or any(65 <= b <= 90 for b in value.strip()[1:])


def _is_key(data: bytes, start: int, end: int) -> int:
    """A key has a digit or a capital; names ("edge-extproc-worker-processes") do not."""
    return end if _begins(data, start, _ALNUM) and _is_random(data[start:end]) else 0


def _is_number(data: bytes, start: int, end: int) -> int:
    return end if _begins(data, start, _WORD) and _ends(data, end, _WORD) else 0


def _is_phone(data: bytes, start: int, end: int) -> int:
    digits = sum(b in _DIGITS for b in data[start:end])
    # ITU E.164: at most 15 digits. Fewer than 8 are more likely a number with a plus sign.
    return _is_number(data, start, end) if 8 <= digits <= 15 else 0


def _is_card(data: bytes, start: int, end: int) -> int:
    """The end of the longest sequence of whole groups with a valid length for its brand and a valid check digit."""
    if not _begins(data, start, _WORD):
        return 0
    while end - start >= _SHORTEST_CARD:
        if data[end - 1] in _DIGITS and _ends(data, end, _WORD):
            digits = bytes(b for b in data[start:end] if b in _DIGITS)
            if is_card_number(digits) and _is_grouped(data[start:end]):
                return end
        end -= 1
    return 0


def _is_grouped(text: bytes) -> bool:
    """Whether all groups have three or more digits. Shorter groups are a list of numbers."""
    return all(len(group) >= 3 for group in text.replace(b"-", b" ").split())


def _is_ssn(data: bytes, start: int, end: int) -> int:
    return _is_number(data, start, end) if is_assigned_ssn(*data[start:end].split(b"-")) else 0


def _is_address(data: bytes, start: int, end: int) -> int:
    word = _WORD | {58} if b":" in data[start:end] else _WORD
    if not (_begins(data, start, _WORD) and _ends(data, end, word)):
        return 0
    # A version number can have more than four parts.
    if (end + 1 < len(data) and data[end] == 46 and data[end + 1] in _DIGITS) or not _begins(data, start, _DOT):
        return 0
    try:
        address = ipaddress.ip_address(data[start:end].decode())
    except ValueError:
        return 0
    # Loopback addresses identify nobody. Without a digit it is a qualified name as in C++: `a::b`.
    if address.is_loopback or address.is_unspecified or not any(b in _DIGITS for b in data[start:end]):
        return 0
    return end


def _mask(finding: bytes) -> bytes:
    del finding
    return MASK.encode()


def _mask_userinfo(finding: bytes) -> bytes:
    del finding
    return b"://***@"


def _mask_value(finding: bytes) -> bytes:
    return _scheme(finding) + MASK.encode()


def _mask_named(finding: bytes) -> bytes:
    """Keeps the name and the separator, and masks the value."""
    at = min(n for n in (finding.find(b"="), finding.find(b":")) if n >= 0) + 1
    while finding[at : at + 1] in (b" ", b"\\", b'"', b"'"):
        at += 1
    return finding[:at] + MASK.encode()


def _as(name: bytes) -> Callable[[bytes], bytes]:
    replacement = b"[" + name + b"]"

    def replace(finding: bytes) -> bytes:
        del finding
        return replacement

    return replace


_SHORTEST_CARD = 13
_LONGEST_WORD = 20
_DOT = frozenset(b".")
# Kinds whose candidates are rejected if a letter or a digit precedes them.
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
