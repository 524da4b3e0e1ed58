"""Placeholders for values that a provider must not get.

A placeholder is a label and a keyed hash of the tenant, the scope and the value, as `EMAIL_kdmqrtvhjnpb`. It is the
same in each turn of a conversation and in each worker, so nothing is stored between calls: the caller sends the clear
values with each turn. Only ASCII letters, digits and `_` occur, so a placeholder needs no escape in JSON, URLs, names,
ids and Markdown. The hash has no digits and no vowels, so no detector of numbers or words finds it (docs/adr/253).

The values are in the memory of one call, and in no log, repr or exception.
"""

from __future__ import annotations

import hmac
import re
from bisect import bisect_left
from collections.abc import Callable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..codecs.json_values import encode

_PURPOSE = b"edge-extproc placeholders"
_HASH_LENGTH = 12
_LETTERS = "bcdfghjkmnpqrstv"
_TO_LETTERS = str.maketrans("0123456789abcdef", _LETTERS)
_HASH = re.compile(rf"_([{_LETTERS}]{{{_HASH_LENGTH}}})")
_HASH_IN_BODY = re.compile(_HASH.pattern.encode())
_LONGEST_LABEL = 32
_NOT_OF_LABELS = re.compile(r"[^A-Z0-9]+")


class PlaceholderKey:
    """Makes the hashes. All workers have an equal one."""

    __slots__ = ("_key",)

    def __init__(self, secret: str) -> None:
        self._key = HKDF(SHA256(), 32, None, _PURPOSE).derive(secret.encode())

    def __repr__(self) -> str:
        return "PlaceholderKey(***)"

    def masker(self, tenant: str, scope: str = "", body: bytes = b"") -> CallMasker:
        """The masker of one call. `scope`: the conversation, or empty for one scope per tenant. `body`: all text that
        the caller sent. A placeholder that occurs in it does not become the placeholder of a value to restore."""
        return CallMasker(self._key, _joined(tenant, scope), body)


def _joined(*texts: str) -> bytes:
    """Different for different texts, whatever characters they contain."""
    return b"".join(b"%d:%b" % (len(raw), raw) for raw in (text.encode(errors="surrogatepass") for text in texts))


def _label(label: str) -> str:
    """A label as a part of a name."""
    name = _NOT_OF_LABELS.sub("_", label.upper()).strip("_")[:_LONGEST_LABEL].rstrip("_")
    return name if name[:1].isalpha() else f"VALUE_{name}".rstrip("_")


class CallMasker:
    """A Masker. It holds the values of one call."""

    __slots__ = ("_body", "_by_value", "_key", "_literals", "_owner", "restorer")

    def __init__(self, key: bytes, owner: bytes, body: bytes) -> None:
        self._key = key
        self._owner = owner
        self._body = body
        self._literals: frozenset[str] | None = None
        self._by_value: dict[tuple[str, bool], str] = {}
        self.restorer = CallRestorer()

    def __repr__(self) -> str:
        return f"CallMasker({len(self._by_value)} values)"

    def placeholder(self, value: str, label: str, *, restore: bool = True) -> str:
        """The placeholder of a value. With `restore`, the restorer replaces it."""
        found = self._by_value.get((value, restore))
        if found is None:
            found = self._by_value[value, restore] = self._hash(value, restore=restore)
        name = f"{_label(label)}_{found}"
        if restore:
            self.restorer.add(name, found, value)
        return name

    def _hash(self, value: str, *, restore: bool) -> str:
        """A hash of the text that the caller wrote is not used for a value to restore: the text would come back as the
        value. Nor is the hash of another value of this call."""
        number = 0
        while True:
            found = self._hash_of(value, number)
            other = self.restorer.value_of(found)
            if not restore or (found not in self._in_body() and other in (None, value)):
                return found
            number += 1

    def _hash_of(self, value: str, number: int) -> str:
        text = self._owner + _joined(value) + b"%d" % number
        return hmac.digest(self._key, text, "sha256").hex()[:_HASH_LENGTH].translate(_TO_LETTERS)

    def _in_body(self) -> frozenset[str]:
        if self._literals is None:
            self._literals = frozenset(found.decode() for found in _HASH_IN_BODY.findall(self._body))
            self._body = b""
        return self._literals


class CallRestorer:
    """A Restorer: the placeholders of one call and their values."""

    __slots__ = ("_begins", "_by_hash", "_names", "longest")

    def __init__(self) -> None:
        self.longest = 0
        """Characters of the longest placeholder; 0 if there is none."""
        self._by_hash: dict[str, tuple[str, tuple[str, ...]]] = {}
        """For each hash: the value, and its placeholders, the longest first."""
        self._names: list[str] | None = None
        """All placeholders in order. None: it must be made again."""
        self._begins: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"CallRestorer({len(self._by_hash)} values)"

    def add(self, name: str, found: str, value: str) -> None:
        names = self._by_hash.get(found, ("", ()))[1]
        if name not in names:
            self._by_hash[found] = value, tuple(sorted((*names, name), key=len, reverse=True))
            self.longest = max(self.longest, len(name))
            self._names = None

    def value_of(self, found: str) -> str | None:
        entry = self._by_hash.get(found)
        return entry[0] if entry is not None else None

    def restore(self, text: str) -> str:
        """The text with the values of this call's placeholders. Any other text stays."""
        return self._replaced(text, str)

    def restore_json(self, text: str) -> str:
        """The same for JSON text, in whose strings the placeholders are: the values are escaped."""
        return self._replaced(text, _escaped)

    def _replaced(self, text: str, form: Callable[[str], str]) -> str:
        if not self._by_hash or "_" not in text:
            return text
        parts: list[str] = []
        done = 0
        for match in _HASH.finditer(text):
            value, names = self._by_hash.get(match[1], ("", ()))
            for name in names:
                start = match.end() - len(name)
                if start >= done and text.startswith(name, start):
                    parts += (text[done:start], form(value))
                    done = match.end()
                    break
        if not parts:
            return text
        parts.append(text[done:])
        return "".join(parts)

    def open_end(self, text: str) -> int:
        """How many characters at the end may be the beginning of a placeholder; less than `longest`."""
        names = self._sorted_names()
        for start in range(max(0, len(text) - self.longest + 1), len(text)):
            if text[start] in self._begins:
                end = text[start:]
                place = bisect_left(names, end)
                if place < len(names) and len(names[place]) > len(end) and names[place].startswith(end):
                    return len(end)
        return 0

    def _sorted_names(self) -> list[str]:
        if self._names is None:
            self._names = sorted(name for _, names in self._by_hash.values() for name in names)
            self._begins = frozenset(name[0] for name in self._names)
        return self._names


def _escaped(value: str) -> str:
    """A text as in a JSON string, without the quotes."""
    return encode(value).decode()[1:-1]
