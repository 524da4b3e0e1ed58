"""Rules for credentials in the format of gitleaks' configuration files (TOML).

A rule has a pattern, keywords without which it is not searched for, the least entropy of a value, and allowlists. What
is about paths and commits does not apply, because a call has neither. Patterns of Go are patterns of RE2.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import re2
from ahocorasick_rs import BytesAhoCorasick

from ..errors import ConfigError
from ..model.frozen_dataclass import frozen_dataclass
from .entropy import entropy
from .normalised_text import TextView
from .view_matches import ViewMatch

_MAX_LABEL = 64
# A rule only about names of files has no pattern.
_TARGETS = ("", "secret", "match", "line")


@frozen_dataclass
class _Allowlist:
    patterns: tuple[re2._Regexp, ...]
    stopwords: tuple[str, ...]
    target: str

    def has(self, secret: bytes, match: bytes, line: bytes) -> bool:
        subject = {"match": match, "line": line}.get(self.target, secret)
        if any(pattern.search(subject) is not None for pattern in self.patterns):
            return True
        lowered = secret.lower().decode()
        return any(word in lowered for word in self.stopwords)


@frozen_dataclass
class _GitleaksRule:
    label: str
    pattern: re2._Regexp
    group: int
    entropy: float
    allowlists: tuple[_Allowlist, ...]

    def search(self, data: bytes) -> Iterator[ViewMatch]:
        for match in self.pattern.finditer(data):
            start, end = self._secret(match)
            secret = data[start:end]
            if start == end or (self.entropy and entropy(secret) <= self.entropy):
                continue
            if self.allowlists:
                first = data.rfind(b"\n", 0, match.start()) + 1
                last = data.find(b"\n", match.end())
                line = data[max(first, start - 500) : min(last if last >= 0 else len(data), end + 500)]
                if any(allowlist.has(secret, match[0], line) for allowlist in self.allowlists):
                    continue
            yield start, end, self.label

    def _secret(self, match: re2._Match) -> tuple[int, int]:
        """The rule's group, or the first group with text, or the whole match."""
        groups = (self.group,) if self.group else range(1, self.pattern.groups + 1)
        for group in groups:
            if match.start(group) < match.end(group):
                span: tuple[int, int] = match.span(group)
                return span
        whole: tuple[int, int] = match.span()
        return whole


class GitleaksRules:
    """The rules of one file."""

    def __init__(self, rules: Sequence[tuple[_GitleaksRule, tuple[str, ...]]]) -> None:
        self._always = tuple(rule for rule, keywords in rules if not keywords)
        by_keyword: dict[str, list[_GitleaksRule]] = {}
        for rule, keywords in rules:
            for keyword in keywords:
                by_keyword.setdefault(keyword, []).append(rule)
        self._by_keyword = tuple(tuple(its) for its in by_keyword.values())
        self._keywords = BytesAhoCorasick([each.encode() for each in by_keyword])

    def search(self, view: TextView) -> Iterator[ViewMatch]:
        data = view.ascii
        chosen = dict.fromkeys(self._always)
        for number, _, _ in self._keywords.find_matches_as_indexes(data.lower(), overlapping=True):
            chosen.update(dict.fromkeys(self._by_keyword[number]))
        for rule in chosen:
            yield from rule.search(data)


def load_gitleaks_rules(path: Path) -> GitleaksRules:
    """Raises ConfigError, which names the file and the rule."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(
            f"{path}: the file cannot be read: {exc.strerror}; correct the path or its permissions"
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: this is not TOML: {exc}") from exc
    if document.get("extend"):
        raise ConfigError(f"{path}: extend is not supported; put all rules in this file")
    rules = _tables(document, "rules", str(path))
    if not rules:
        raise ConfigError(f"{path}: there are no rules; write [[rules]] with id, regex and keywords")
    shared = _allowlists(document, str(path))
    read = [_rule(rule, f"{path}: rule {rule.get('id', number)!r}", shared) for number, rule in enumerate(rules, 1)]
    return GitleaksRules([each for each in read if each is not None])


def _tables(table: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    value = table.get(key, [])
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ConfigError(f"{where}: {key} is not a table; write [[{key}]]")
    return value


def _rule(
    table: dict[str, Any], where: str, shared: tuple[_Allowlist, ...]
) -> tuple[_GitleaksRule, tuple[str, ...]] | None:
    pattern = table.get("regex")
    if pattern is None and "path" in table:
        return None
    group, least = table.get("secretGroup", 0), table.get("entropy", 0)
    if not isinstance(table.get("id"), str) or not table["id"]:
        raise ConfigError(f"{where}: it has no id; write one")
    if not isinstance(pattern, str) or not pattern:
        raise ConfigError(f"{where}: it has no regex; write one")
    if not isinstance(least, int | float) or not isinstance(group, int):
        raise ConfigError(f"{where}: entropy and secretGroup are numbers")
    compiled = _compiled(pattern, where)
    if not 0 <= group <= compiled.groups:
        raise ConfigError(f"{where}: secretGroup {group} does not exist; the pattern has {compiled.groups} groups")
    allowlists = _allowlists(table, where)
    rule = _GitleaksRule(table["id"][:_MAX_LABEL], compiled, group, float(least), (*allowlists, *shared))
    return rule, tuple(each.lower() for each in _texts(table, "keywords", where))


def _compiled(pattern: str, where: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as exc:
        reason = exc.args[0].decode(errors="replace") if exc.args and isinstance(exc.args[0], bytes) else str(exc)
        raise ConfigError(f"{where}: the pattern is not one of RE2: {reason}") from exc


def _texts(table: dict[str, Any], key: str, where: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{where}: {key} is not a list of texts")
    return [each for each in value if each]


def _allowlists(table: dict[str, Any], where: str) -> tuple[_Allowlist, ...]:
    """Of a rule, or of the whole file. Those that are only about paths and commits have nothing that applies. One whose
    conditions must all hold is left out if it is about a path or a commit, because these never hold."""
    read = []
    for each in (*_tables(table, "allowlist", where), *_tables(table, "allowlists", where)):
        target = each.get("regexTarget", "")
        if target not in _TARGETS:
            raise ConfigError(f"{where}: regexTarget {target!r} is unknown; write secret, match or line")
        patterns = tuple(_compiled(pattern, where) for pattern in _texts(each, "regexes", where))
        stopwords = tuple(word.lower() for word in _texts(each, "stopwords", where))
        if str(each.get("condition", "OR")).upper() in ("AND", "&&"):
            if each.get("paths") or each.get("commits"):
                continue
            if patterns and stopwords:
                raise ConfigError(
                    f"{where}: an allowlist with regexes and stopwords that must both match is not supported"
                )
        if patterns or stopwords:
            read.append(_Allowlist(patterns, stopwords, target))
    return tuple(read)
