"""Turns matches in the views of a text into findings in the text itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from .base import Finding
from .normalised_text import TextView, raw_view, views_of

ViewMatch: TypeAlias = tuple[int, int, str]
"""Start, end and label, in a view."""


def find_in_views(
    text: str, search: Callable[[TextView], Iterable[ViewMatch]], longest: int, *, decode: bool
) -> Sequence[Finding]:
    """The findings of `search` in each view, at their places in the text. `decode`: whether to search in all views, or
    only in the text as it is."""
    findings: list[Finding] = []
    for view in views_of(text) if decode else raw_view(text):
        for start, end, label in search(view):
            findings.append(Finding(*view.original(start, end), label))
    return tuple(_divided(_disjoint(findings), longest)) if findings else ()


def _disjoint(findings: list[Finding]) -> Iterator[Finding]:
    """In order, without overlaps: of findings that overlap, one has the characters of all, and the first one's
    label."""
    findings.sort(key=lambda each: (each.start, -each.end))
    current = findings[0]
    for each in findings[1:]:
        if each.start >= current.end:
            yield current
            current = each
        elif each.end > current.end:
            current = Finding(current.start, each.end, current.label)
    yield current


def _divided(findings: Iterable[Finding], longest: int) -> Iterator[Finding]:
    """An encoded value can have any number of characters. A finding with more than `longest` becomes several, so that
    all of its characters are masked."""
    for each in findings:
        for start in range(each.start, each.end, longest):
            yield Finding(start, min(start + longest, each.end), each.label)
