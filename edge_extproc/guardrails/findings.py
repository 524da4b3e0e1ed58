"""Applies the rules with a detector to the texts of a request.

It is pure, so it can run off the event loop. The rules are applied to the caller's text: one rule does not see the
placeholders of another one.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import cast

import msgspec

from ..model.frozen_dataclass import frozen_dataclass
from ..model.rule_hit import RuleHit
from .base import Detector, Finding, Masker, MediaDetector, Rule
from .body_texts import BodyText, BodyTexts, Replacement, TextPlace

# Keys and parameters are the same in most calls, so those without a finding are remembered.
_LONGEST_REMEMBERED, _MOST_REMEMBERED = 32, 4_096
_UNESCAPED = re.compile(rb"(?:[^\\]|\\u[0-9A-Fa-f]{4}|\\[^u])*+", re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:u.{4}|.)", re.DOTALL)
_TEXT = msgspec.json.Decoder(str)


@frozen_dataclass
class Blocked:
    """The rule that refuses a call."""

    rule: str
    label: str
    param: str | None
    """The part of the call with the first finding; None if it is unknown."""


@frozen_dataclass
class Rerouted:
    """The rule that gives a call to another model."""

    rule: str
    model: str


@dataclass(slots=True)
class Findings:
    """What the rules found in one request."""

    hits: list[RuleHit] = field(default_factory=list)
    blocked: Blocked | None = None
    route: Rerouted | None = None
    """Of the first rule that routes the call."""
    body: bytes = b""
    """The body with placeholders. It is the same object if nothing was masked."""

    def reroute(self, rule: Rule) -> None:
        if self.route is None and rule.route is not None:
            self.route = Rerouted(rule.name, rule.route)


class CleanTexts:
    """The short texts in which the detectors found nothing before."""

    __slots__ = ("_by_detector",)

    def __init__(self) -> None:
        self._by_detector: defaultdict[Detector, set[tuple[str, str]]] = defaultdict(set)

    def of(self, detector: Detector) -> set[tuple[str, str]]:
        clean = self._by_detector[detector]
        if len(clean) >= _MOST_REMEMBERED:
            clean.clear()
        return clean


class _Mark:
    """What one rule masks in a text."""

    __slots__ = ("label", "restore", "start", "stop")

    def __init__(self, start: int, stop: int, label: str, *, restore: bool) -> None:
        self.start, self.stop, self.label, self.restore = start, stop, label, restore


def apply_detectors(body: BodyTexts, rules: Sequence[Rule], masker: Masker, clean: CleanTexts) -> Findings:
    """The findings of all rules that have a detector."""
    result, marks = Findings(body=body.raw), _Marks()
    for rule in rules:
        if rule.detector is not None:
            _apply(body, rule, rule.detector, clean.of(rule.detector), result, marks)
    if result.blocked is None:
        result.body = body.written(marks.replacements(masker))
    return result


def _apply(
    body: BodyTexts,
    rule: Rule,
    detector: Detector,
    clean: set[tuple[str, str]],
    result: Findings,
    marks: _Marks,
) -> None:
    counts: dict[str, int] = {}
    first: BodyText | None = None
    param: str | None = None
    enforced = rule.mode == "enforce"
    for label, place in _media_found(body, rule, detector):
        param = param if counts else place.param
        counts[label] = counts.get(label, 0) + 1
    for text, findings in findings_in((*body.texts, *body.query) if body.query else body.texts, rule, detector, clean):
        if rule.action == "mask" and text.place.is_signed:
            continue  # its provider wrote it, and refuses a changed text
        if first is None:
            first, param = text, param if counts else text.place.param
        for finding in findings:
            counts[finding.label] = counts.get(finding.label, 0) + 1
        if enforced and rule.action == "mask" and text in body.query:
            result.blocked = result.blocked or Blocked(rule.name, findings[0].label, text.place.param)
        elif enforced and rule.action == "mask":
            marks.add(text, findings, restore=rule.restore)
    if not counts:
        return
    result.hits += [RuleHit(rule.name, label, rule.action, rule.mode, "request", n) for label, n in counts.items()]
    if not enforced:
        return
    if rule.action == "block" and result.blocked is None:
        result.blocked = Blocked(rule.name, next(iter(counts)), param)
    elif rule.action == "route":
        result.reroute(rule)


def _media_found(body: BodyTexts, rule: Rule, detector: Detector) -> Iterator[tuple[str, TextPlace]]:
    """The findings in pictures and documents."""
    if hasattr(detector, "find_media"):  # isinstance of a protocol is slow
        judge = cast("MediaDetector", detector)
        for media, place in body.placed_media():
            label = judge.find_media(media) if place.kind is None or place.kind in rule.kinds else None
            if label is not None:
                yield label, place


def findings_in(
    texts: Iterable[BodyText], rule: Rule, detector: Detector, clean: set[tuple[str, str]]
) -> Iterator[tuple[BodyText, Sequence[Finding]]]:
    """The texts with findings. A text that is JSON is searched as a whole, and then each text in it; a finding that the
    whole has is not repeated. The whole has the text with its escapes, and can have found a part of it only."""
    seen: dict[tuple[str, str], Sequence[Finding]] = {}
    pending: list[tuple[BodyText, Sequence[tuple[int, int]]]] = [(each, ()) for each in reversed(tuple(texts))]
    while pending:
        text, above = pending.pop()
        kind = text.place.kind
        if kind is not None and kind not in rule.kinds:
            continue
        key = (text.text, kind or "other")
        findings: Sequence[Finding] = ()
        if key not in clean:
            known = seen.get(key)
            findings = known if known is not None else detector.find(text.text, kind or "other")
            seen[key] = findings
            if not findings and len(text.text) <= _LONGEST_REMEMBERED and text.place.kind in (None, "other"):
                clean.add(key)
        new = [each for each in findings if not _is_within(above, each)] if above else findings
        if new:
            yield text, new
        if text.inner:
            spans = _in_bytes(text.text, findings)
            pending += [
                (inner, _within(text, inner, _overlapping(spans, inner.start, inner.stop)))
                for inner in reversed(text.inner)
            ]


def _in_bytes(text: str, findings: Sequence[Finding]) -> Sequence[tuple[int, int]]:
    """The findings' places in the text's bytes."""
    if text.isascii():
        return [(each.start, each.end) for each in findings]
    spans: list[tuple[int, int]] = []
    at = passed = 0
    for each in findings:
        passed += len(text[at : each.start].encode(errors="surrogatepass"))
        start, at = passed, each.end
        passed += len(text[each.start : at].encode(errors="surrogatepass"))
        spans.append((start, passed))
    return spans


def _overlapping(spans: Sequence[tuple[int, int]], start: int, stop: int) -> Sequence[tuple[int, int]]:
    """Those of the sorted spans, which do not overlap each other, that share something with this one."""
    first = bisect_right(spans, start, key=_END)
    return spans[first : bisect_left(spans, stop, lo=first, key=_START)]


_START, _END = itemgetter(0), itemgetter(1)


def _is_within(spans: Sequence[tuple[int, int]], finding: Finding) -> bool:
    return any(
        start <= finding.start and finding.end <= stop
        for start, stop in _overlapping(spans, finding.start, finding.end)
    )


def _within(text: BodyText, inner: BodyText, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """For each of the sorted spans, in bytes of a text: the part of an inner text, in characters, that it covers. It is
    empty if the span covers only quotes."""
    edge = 0 if inner.form == "number" else 1
    begin, end = inner.start + edge, inner.stop - edge
    parts = [(max(start, begin) - begin, min(stop, end) - begin) for start, stop in spans]
    if inner.form == "number":
        return [(0, len(inner.text))] * len(parts)
    if not inner.has_escapes and inner.text.isascii():
        return parts
    written, found = text.raw[begin:end], []
    at = passed = 0
    for start, stop in parts:
        first = _after(written, at, start)
        passed += _length(written[at:first])
        last = _after(written, first, stop)
        if last < stop and (escape := _ESCAPE.match(written, last)) is not None:
            last = escape.end()
        length = _length(written[first:last])
        found.append((passed, passed + length))
        at, passed = last, passed + length
    return found


def _after(written: bytes, at: int, most: int) -> int:
    """The last position up to `most` that is not within an escape."""
    whole = _UNESCAPED.match(written, at, most) if at < most else None
    return whole.end() if whole is not None else at


def _length(written: bytes) -> int:
    """How many characters a part of a JSON string has."""
    return len(_TEXT.decode(b'"' + written + b'"'))


_START_OF, _STOP_OF = attrgetter("start"), attrgetter("stop")


class _Marks:
    """All places that are masked."""

    def __init__(self) -> None:
        self._marks: defaultdict[BodyText, list[_Mark]] = defaultdict(list)

    def add(self, text: BodyText, findings: Sequence[Finding], *, restore: bool) -> None:
        if not text.inner:
            marks = self._marks[text]
            marks += [_Mark(each.start, each.end, each.label, restore=restore) for each in findings]
            return
        # The text is JSON and must stay JSON: only within its strings and numbers something is replaced.
        below: defaultdict[BodyText, list[tuple[tuple[int, int], str]]] = defaultdict(list)
        for span, finding in zip(_in_bytes(text.text, findings), findings, strict=True):
            first = bisect_right(text.inner, span[0] + 1, key=_STOP_OF)
            inner = text.inner[first : bisect_left(text.inner, span[1] - 1, lo=first, key=_START_OF)]
            for each in [each for each in inner if each.form != "key"] or inner:
                below[each].append((span, finding.label))
            if not inner:
                self._marks[text].append(_Mark(0, len(text.text), finding.label, restore=restore))
        for each, covered in below.items():
            parts = _within(text, each, [span for span, _ in covered])
            found = [
                Finding(*part, label) for part, (_, label) in zip(parts, covered, strict=True) if part[0] < part[1]
            ]
            self.add(each, found, restore=restore)

    def replacements(self, masker: Masker) -> dict[BodyText, list[Replacement]]:
        result: dict[BodyText, list[Replacement]] = {}
        for text, marks in self._marks.items():
            changes = []
            for mark in _merged(marks):
                value = text.text[mark.start : mark.stop]
                new = masker.placeholder(value, mark.label, restore=mark.restore)
                if text.inner:
                    new = f'"{new}"'
                changes.append(Replacement(mark.start, mark.stop, new))
            result[text] = changes
        return result


def _merged(marks: Sequence[_Mark]) -> list[_Mark]:
    """Places that overlap are one place, with the label of the longest one."""
    result: list[_Mark] = []
    longest = 0
    for mark in sorted(marks, key=lambda each: (each.start, -each.stop)):
        last = result[-1] if result else None
        if last is None or mark.start >= last.stop:
            result.append(_Mark(mark.start, mark.stop, mark.label, restore=mark.restore))
            longest = mark.stop - mark.start
            continue
        if mark.stop - mark.start > longest:
            longest, last.label = mark.stop - mark.start, mark.label
        last.stop, last.restore = max(last.stop, mark.stop), last.restore and mark.restore
    return result
