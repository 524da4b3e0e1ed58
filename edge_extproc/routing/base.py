"""The ports of routing: models by name, the strategy that orders their candidates, the planner that asks it.

A strategy knows the call, who asks and the candidates, not how they will be reached. A file of this room that is a
strategy exports PLUGIN, a `StrategyKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Protocol, TypeAlias

from ..model.call import Call
from ..model.noun import noun
from ..model.plan import AttemptResult, Candidate, Plan
from ..model.usage import Usage

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Names in lower case."""


@noun
class RoutingRequest:
    """One call, and what may bear on who serves it."""

    call: Call
    tenant: str
    key_id: str = ""
    headers: Headers = ()

    @property
    def prompt_estimate(self) -> int:
        """Tokens, roughly: bytes of the body by four."""
        return -(-len(self.call.raw) // 4)

    def header(self, name: str) -> str | None:
        for key, value in self.headers:  # a generator would cost more than it looks at
            if key == name:
                return value
        return None


class Strategy(Protocol):
    def order(self, wish: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """All of `candidates`, which is not empty, best first."""
        ...

    def record(self, tried: AttemptResult) -> None:
        """How a try ended, of a candidate that may be one of ours."""
        ...


Price: TypeAlias = Callable[[Candidate, Usage], Decimal | None]
"""US dollars, or None where a part of the usage has no known price."""


@noun
class StrategySettings:
    """What a strategy may use of the world around it."""

    price: Price
    chance: Callable[[], float]
    """From 0 to below 1, new each time."""
    clock: Callable[[], float]
    """Monotonic, in seconds."""
    exploration: float = 0.05
    """Of how many calls a strategy that learns sends one to another candidate than the best, to learn of it."""


class StrategyKind(Protocol):
    """What a file of this room exports as PLUGIN. Each model has a strategy of its own."""

    def build(self, settings: StrategySettings) -> Strategy: ...


class Planner(Protocol):
    def apply_rules(self, wish: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Whom a rule of config's names for this call; `candidates`, its model's own, where no rule does."""
        ...

    def plan(self, wish: RoutingRequest, candidates: Sequence[Candidate]) -> Plan:
        """Raises BadRequest where the caller asks for a strategy that there is not, and Unavailable where no candidate
        may be asked now. `candidates` is not empty, and what `apply_rules` gave or a part of that."""
        ...

    def billable_candidates(self, model: str, candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], int]:
        """Whoever may be asked, and bill: by a fallback, too. And how many of them at once."""
        ...

    def restrict(self, plan: Plan, candidates: tuple[Candidate, ...]) -> Plan:
        """The plan, of these of its candidates alone."""
        ...

    def record(self, model: str | None, plan: Plan, tried: Sequence[AttemptResult]) -> None:
        """How each try of a plan ended; `model` is a row's name. Once for each plan."""
        ...


class ModelTable:
    """Model names of config (exact, or globs with * and ?) to their candidates; an exact name wins, then the longest
    glob. A candidate whose model is empty is asked for the name that the caller gave."""

    def __init__(self, rows: Mapping[str, Sequence[Candidate]]) -> None:
        self._exact = {name: tuple(found) for name, found in rows.items() if not is_glob(name)}
        globs = [(name, tuple(found)) for name, found in rows.items() if is_glob(name)]
        self._globs = sorted(globs, key=lambda row: (-len(row[0]), row[0]))
        self._ready = {name: _asked(found, name) for name, found in self._exact.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The models that can be listed: a glob has no name of its own."""
        return tuple(sorted(self._exact))

    def candidates(self, model: str) -> tuple[Candidate, ...]:
        """Empty where no row fits."""
        ready = self._ready.get(model)
        return ready if ready is not None else _asked(self._row(model), model)

    def label(self, model: str) -> str | None:
        """The name under which a model may stand in a metric: the row that it fits, so that labels stay few."""
        if model in self._exact:
            return model
        return next((glob for glob, _ in self._globs if fnmatchcase(model, glob)), None)

    def _row(self, model: str) -> tuple[Candidate, ...]:
        return next((found for glob, found in self._globs if fnmatchcase(model, glob)), ())


def _asked(row: Sequence[Candidate], model: str) -> tuple[Candidate, ...]:
    return tuple(c if c.model else replace(c, model=model) for c in row)


@noun
class PassthroughEndpoint:
    """Where a path goes that is only passed on, and who may call it. Files, batches and the like belong to the
    provider's account, not to a caller of ours: whoever may call the path sees what all others put there."""

    path: str
    """This path and all below it."""
    provider: str
    tenants: tuple[str, ...] | None = None
    """None is all."""

    def admits(self, tenant: str) -> bool:
        return self.tenants is None or tenant in self.tenants


class PassthroughEndpoints:
    """Config's `endpoints`; the longest path wins."""

    def __init__(self, rows: Sequence[PassthroughEndpoint] = ()) -> None:
        self._rows = sorted(rows, key=lambda row: -len(row.path))

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(row.path for row in self._rows)

    def at(self, path: str) -> PassthroughEndpoint | None:
        """`path` is without its query."""
        return next((row for row in self._rows if path == row.path or path.startswith(row.path + "/")), None)


def is_glob(name: str) -> bool:
    return "*" in name or "?" in name


def allows(patterns: Sequence[str], model: str) -> bool:
    """Whether one of the names or globs fits."""
    return "*" in patterns or any(fnmatchcase(model, pattern) for pattern in patterns)
