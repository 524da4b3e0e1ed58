"""The ports of routing: the table of models, the `Strategy` that orders candidates, and the `Planner` that uses it.

A strategy knows the call, the caller and the candidates. It does not know how a candidate is reached. A file of this
package that is a strategy exports PLUGIN, a `StrategyKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Protocol, TypeAlias

from ..model.call import Call
from ..model.content import Nothing
from ..model.frozen_dataclass import frozen_dataclass
from ..model.globs import is_glob
from ..model.plan import AttemptResult, Candidate, Plan
from ..model.usage import Usage

Headers: TypeAlias = Mapping[str, str]
"""The first value of each header, by its name in lower case."""
_NO_HEADERS: Headers = Nothing()


@frozen_dataclass
class RoutingRequest:
    """One call, and what else may decide its route."""

    call: Call
    tenant: str
    key_id: str = ""
    headers: Headers = field(default=_NO_HEADERS)
    run_used: int = 0
    """The highest percentage of a cap of the call's run that is used."""

    @property
    def prompt_estimate(self) -> int:
        """Estimated tokens: the bytes of the body, divided by four."""
        return -(-len(self.call.raw) // 4)

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


class Strategy(Protocol):
    """Orders the candidates of a call. Each model has an instance of its own in each worker.

    A strategy that orders by numbers can have an attribute `scores` with the number of each of the `candidates` of the
    last `order`. The explanation of a request shows them."""

    def order(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """All of `candidates`, best first. `candidates` is not empty."""
        ...

    def record(self, attempt: AttemptResult) -> None:
        """Takes note of how an attempt ended. Its candidate may be one that this strategy has not seen."""
        ...


Price: TypeAlias = Callable[[Candidate, Usage], Decimal | None]
"""US dollars. None: a part of the usage has no known price."""


@frozen_dataclass
class StrategySettings:
    """What a strategy may use: prices, random numbers, time and its configuration."""

    price: Price
    chance: Callable[[], float]
    """A new random number in [0, 1) for each call."""
    clock: Callable[[], float]
    """Monotonic, in seconds."""
    exploration: float = 0.05
    """The share of calls that a strategy with statistics sends to another candidate than the best, to measure it."""


class StrategyKind(Protocol):
    """What a strategy's file exports as PLUGIN. `build` is called once for each model."""

    def build(self, settings: StrategySettings) -> Strategy: ...


class Planner(Protocol):
    """What the exchange uses: `apply_rules`, `plan`, and `record` at the end of the exchange."""

    def apply_rules(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """The candidates of the first routing rule that matches this call and has some. Otherwise `candidates`, those
        of the call's model."""
        ...

    def plan(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Plan:
        """The candidates in the order in which they are tried. `candidates` is not empty: the result of `apply_rules`,
        or a part of it. Raises BadRequest for an unknown strategy in the caller's header, and Unavailable if the
        circuits of all candidates are open."""
        ...

    def billable_candidates(self, model: str, candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], int]:
        """All candidates that may be tried and then cost money, including fallbacks; and how many of them at the same
        time (2 for hedged calls)."""
        ...

    def restrict(self, plan: Plan, candidates: tuple[Candidate, ...]) -> Plan:
        """The plan with only these of its candidates."""
        ...

    def record(self, model: str | None, plan: Plan, attempt: Sequence[AttemptResult], tenant: str) -> None:
        """Takes note of how each attempt of a plan ended. `model`: the row of the model table. `tenant`: the caller's.
        Call it once for each plan."""
        ...


class ModelTable:
    """The configured models: exact names and globs (* and ?), with their candidates. An exact name wins, then the
    longest glob. A candidate without a model gets the caller's model name."""

    def __init__(self, rows: Mapping[str, Sequence[Candidate]]) -> None:
        self._exact = {name: tuple(row_candidates) for name, row_candidates in rows.items() if not is_glob(name)}
        globs = [(name, tuple(row_candidates)) for name, row_candidates in rows.items() if is_glob(name)]
        self._globs = sorted(globs, key=lambda row: (-len(row[0]), row[0]))
        self._ready = {name: _with_model(row_candidates, name) for name, row_candidates in self._exact.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The models that can be listed: the exact names."""
        return tuple(sorted(self._exact))

    def candidates(self, model: str) -> tuple[Candidate, ...]:
        """Empty if no row matches."""
        ready = self._ready.get(model)
        return ready if ready is not None else _with_model(self._row(model), model)

    def label(self, model: str) -> str | None:
        """The row that matches a model. Metrics use it as a label, because there are few rows. None: no row matches."""
        if model in self._exact:
            return model
        return next((glob for glob, _ in self._globs if fnmatchcase(model, glob)), None)

    def _row(self, model: str) -> tuple[Candidate, ...]:
        return next((row_candidates for glob, row_candidates in self._globs if fnmatchcase(model, glob)), ())


def _with_model(row: Sequence[Candidate], model: str) -> tuple[Candidate, ...]:
    return tuple(c if c.model else replace(c, model=model) for c in row)


@frozen_dataclass
class PassthroughEndpoint:
    """The provider of a passthrough path, and the tenants that may call it."""

    path: str
    """This path and all paths below it."""
    provider: str
    tenants: tuple[str, ...] | None = None
    """None: all tenants."""
    shared: bool = False
    """The objects of the path belong to no tenant."""

    def admits(self, tenant: str) -> bool:
        return self.tenants is None or tenant in self.tenants


class PassthroughEndpoints:
    """The configuration's `endpoints`. The longest path wins."""

    def __init__(self, rows: Sequence[PassthroughEndpoint] = ()) -> None:
        self._rows = sorted(rows, key=lambda row: -len(row.path))

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(row.path for row in self._rows)

    def at(self, path: str) -> PassthroughEndpoint | None:
        """The endpoint of a path without its query."""
        return next((row for row in self._rows if path == row.path or path.startswith(row.path + "/")), None)
