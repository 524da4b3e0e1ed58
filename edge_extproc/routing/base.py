"""The ports of routing: models by name, and the strategy that orders their candidates.

A strategy file exports PLUGIN; it knows the call and the candidates, not who called nor how they will be reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Protocol

from ..model.call import Call
from ..model.plan import Candidate, Plan


class Strategy(Protocol):
    def order(self, call: Call, candidates: Sequence[Candidate]) -> Plan:
        """All of `candidates`, which is not empty, best first."""
        ...


class ModelTable:
    """Model names of config (exact, or globs with * and ?) to their candidates; an exact name wins, then the longest
    glob. A candidate whose model is empty is asked for the name that the caller gave."""

    def __init__(self, rows: Mapping[str, Sequence[Candidate]]) -> None:
        self._exact = {name: tuple(found) for name, found in rows.items() if not is_glob(name)}
        globs = [(name, tuple(found)) for name, found in rows.items() if is_glob(name)]
        self._globs = sorted(globs, key=lambda row: (-len(row[0]), row[0]))

    @property
    def names(self) -> tuple[str, ...]:
        """The models that can be listed: a glob has no name of its own."""
        return tuple(sorted(self._exact))

    def candidates(self, model: str) -> tuple[Candidate, ...]:
        """Empty where no row fits."""
        return tuple(replace(c, model=c.model or model) for c in self._row(model))

    def label(self, model: str) -> str | None:
        """The name under which a model may stand in a metric: the row that it fits, so that labels stay few."""
        if model in self._exact:
            return model
        return next((glob for glob, _ in self._globs if fnmatchcase(model, glob)), None)

    def _row(self, model: str) -> tuple[Candidate, ...]:
        exact = self._exact.get(model)
        if exact is not None:
            return exact
        return next((found for glob, found in self._globs if fnmatchcase(model, glob)), ())


def is_glob(name: str) -> bool:
    return "*" in name or "?" in name


def allows(patterns: Sequence[str], model: str) -> bool:
    """Whether one of the names or globs fits."""
    return any(fnmatchcase(model, pattern) for pattern in patterns)
