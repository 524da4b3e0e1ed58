"""Names and globs of models: `gpt-4o`, `claude-*`, `gpt-?`."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

ANY = "*"


def is_glob(name: str) -> bool:
    return "*" in name or "?" in name


def allows(patterns: Sequence[str], model: str) -> bool:
    """Whether `model` matches one of the names or globs."""
    return ANY in patterns or any(fnmatchcase(model, pattern) for pattern in patterns)


def intersection(some: tuple[str, ...] | None, others: tuple[str, ...]) -> tuple[str, ...]:
    """Patterns that match only models which both `some` and `others` match; None matches every model. Two globs that
    overlap have no exact intersection in this notation: it is left out, so the result may match fewer models, never
    more."""
    if some is None or ANY in some:
        return others
    pairs = ((some, others), (others, some))
    return tuple({p for mine, theirs in pairs for p in mine if p in theirs or (not is_glob(p) and allows(theirs, p))})
