"""The circuit breaker of each candidate (a provider and a model): closed, open or half open.

    closed     calls pass; a number of failures in a row opens the circuit
    open       no call is sent, for a time
    half open  one call is sent as a probe: its success closes the circuit, its failure opens it again

Each tenant has a circuit of its own for each candidate, and all tenants share one more. The failures of one tenant open
its own circuit alone, because a tenant can send input on which a provider fails. The shared circuit opens if failures
in a row come from at least two tenants, so that the others need not find the same fault again (docs/adr/183).

A candidate also *rests* for the time of its last `Retry-After`. Calls then go to other candidates. If there are none,
the candidate is used nevertheless, so that callers get its own error: it may refuse only some of them.

A `Circuit` and the functions on it are pure; time is an argument. `Circuits` has one circuit for each candidate in a
`CircuitTable`, which belongs to this process or is shared by all workers of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

from ..model.frozen_dataclass import frozen_dataclass
from ..model.plan import NO_HOST, AttemptResult, Candidate

State: TypeAlias = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    failures: int = 5
    """Failures in a row that open a circuit."""
    open_for: float = 30.0
    """Seconds. After the same time, a probe without a result is given up, and another one may be sent."""
    longest_rest: float = 600.0
    """Seconds. A longer `Retry-After` is cut to this."""


@dataclass(frozen=True, slots=True)
class Circuit:
    failures: int = 0
    """Failures in a row, while closed."""
    open_until: float = 0.0
    """0: closed. All times are seconds of the system's monotonic clock."""
    probe_until: float = 0.0
    """Until when a probe counts as in progress. 0: there is none."""
    rest_until: float = 0.0
    """The end of the provider's last `Retry-After`. It may be in the past. 0: there was none."""


CLOSED = Circuit()


def state(circuit: Circuit, now: float) -> State:
    if not circuit.open_until:
        return "closed"
    return "open" if now < circuit.open_until else "half_open"


def after(
    circuit: Circuit,
    verdict: str,
    *,
    probe: bool,
    rules: BreakerSettings,
    now: float,
    certain: bool = False,
    retry_after: float | None = None,
) -> Circuit:
    """The circuit after an attempt. `probe`: the attempt was the probe. `certain`: the next attempt would fail too, so
    one failure opens the circuit. `retry_after`: the provider's `Retry-After`, seconds."""
    # A success does not end a rest, because the attempt may have begun before the rest.
    rest_until = circuit.rest_until if circuit.rest_until > now else 0.0
    if retry_after is not None:
        rest_until = max(rest_until, now + min(retry_after, rules.longest_rest))
    circuit = replace(circuit, rest_until=rest_until)
    if circuit.open_until and not probe:
        return circuit  # the attempt began before the circuit opened, so it says nothing about the present
    match verdict:
        case "ok":
            return Circuit(rest_until=rest_until)
        case "failed" if certain or circuit.open_until or circuit.failures + 1 >= rules.failures:
            return Circuit(0, now + rules.open_for, rest_until=rest_until)
        case "failed":
            return replace(circuit, failures=circuit.failures + 1)
        case _:
            return replace(circuit, probe_until=0.0)


_TENANTS = 2
"""How many tenants must see failures before the shared circuit opens."""


def share(rules: BreakerSettings) -> int:
    """How many failures in a row of one tenant count for the shared circuit: less than half of those that open it, but
    at least one. A tenant that always fails then leaves most of the usual number to the others."""
    return max(1, (rules.failures - 1) // 2)


def after_shared(
    circuit: Circuit,
    verdict: str,
    *,
    probe: bool,
    counts: bool,
    rules: BreakerSettings,
    now: float,
    certain: bool = False,
    retry_after: float | None = None,
) -> Circuit:
    """The shared circuit after an attempt of one tenant. `counts`: this tenant has not used up its share of the
    failures. One failed probe does not open it again: then a probe of another tenant decides."""
    if verdict == "failed" and not certain:
        if circuit.open_until and probe and circuit.failures + 1 < _TENANTS:
            verdict, circuit = "unknown", replace(circuit, failures=circuit.failures + 1)
        elif not circuit.open_until and not counts:
            verdict = "unknown"
    rules = replace(rules, failures=max(rules.failures, _TENANTS))
    return after(circuit, verdict, probe=probe, rules=rules, now=now, certain=certain, retry_after=retry_after)


def claim_probe(circuit: Circuit, *, rules: BreakerSettings, now: float) -> Circuit | None:
    """The circuit with a probe in progress. None: no probe may be sent now."""
    if state(circuit, now) != "half_open" or now < circuit.probe_until:
        return None
    return replace(circuit, probe_until=now + rules.open_for)


Change: TypeAlias = Callable[[Circuit], Circuit | None]
"""From the current circuit to the new one. None: no change."""


class CircuitTable(Protocol):
    """Circuits by name. A circuit that was never changed is closed."""

    def all_closed(self) -> bool:
        """Whether all circuits are in the initial state: none is open, has failures or rests."""
        ...

    def read(self, name: str) -> Circuit: ...

    def change(self, name: str, change: Change) -> bool:
        """Applies a change atomically. Returns whether it gave a new circuit."""
        ...


class LocalCircuitTable:
    """The circuits of one process."""

    def __init__(self) -> None:
        self._circuits: dict[str, Circuit] = {}

    def all_closed(self) -> bool:
        return not self._circuits

    def read(self, name: str) -> Circuit:
        return self._circuits.get(name, CLOSED)

    def change(self, name: str, change: Change) -> bool:
        changed = change(self.read(name))
        if changed == CLOSED:
            self._circuits.pop(name, None)
        elif changed is not None:
            self._circuits[name] = changed
        return changed is not None


@frozen_dataclass
class BreakerDecision:
    """Which candidates may be used now."""

    admitted: tuple[Candidate, ...]
    probes: tuple[Candidate, ...]
    """The admitted candidates for which this call is the probe: its result must be recorded, or the probe released."""
    refused: tuple[tuple[Candidate, float], ...]
    """The other candidates, with the seconds until they may be used again."""
    rest: float = 0.0
    """Seconds that all admitted candidates still rest. 0: they do not rest."""
    doubtful: bool = False
    """Whether one of the admitted candidates has failed recently."""


Opened: TypeAlias = Callable[[Candidate], None]


class Circuits:
    """The circuits of all candidates. `opened` is called each time that an attempt opens a circuit."""

    def __init__(self, table: CircuitTable, rules: BreakerSettings, clock: Callable[[], float], opened: Opened) -> None:
        self._table = table
        self._rules = rules
        self._share = share(rules)
        self._clock = clock
        self._opened = opened

    def admit(self, candidates: Iterable[Candidate], tenant: str = "") -> BreakerDecision:
        """The decision for a call of this tenant. A half-open candidate is admitted for one exchange only. A resting
        candidate is admitted only if there is no other."""
        if self._table.all_closed():
            return BreakerDecision(tuple(candidates), (), ())
        now, read = self._clock(), self._table.read
        circuits = [(each, (read(circuit_name(each)), read(circuit_name(each, tenant)))) for each in candidates]
        awake = self._admitted([each for each in circuits if _rest_until(each[1]) <= now], tenant, now)
        resting = [each for each in circuits if _rest_until(each[1]) > now]
        if awake.admitted or not resting:
            refused = [
                (each, max(*(circuit.open_until for circuit in circuit_pair), _rest_until(circuit_pair)) - now)
                for each, circuit_pair in resting
            ]
            return replace(awake, refused=(*awake.refused, *refused))
        rested = self._admitted(resting, tenant, now)
        rest = (
            min((_rest_until(circuit_pair) for each, circuit_pair in resting if each in rested.admitted), default=now)
            - now
        )
        return replace(rested, refused=(*awake.refused, *rested.refused), rest=rest)

    def _admitted(self, circuits: Iterable[tuple[Candidate, _Both]], tenant: str, now: float) -> BreakerDecision:
        """The decision by circuits, without regard to rests."""
        admitted: list[Candidate] = []
        probes: list[Candidate] = []
        refused: list[tuple[Candidate, float]] = []
        failures = 0
        for candidate, circuit_pair in circuits:
            open_until = max(circuit.open_until for circuit in circuit_pair)
            if not open_until:
                admitted.append(candidate)
                failures += circuit_pair[0].failures + circuit_pair[1].failures
            elif now < open_until:
                refused.append((candidate, max(open_until, _rest_until(circuit_pair)) - now))
            elif self._claim(candidate, circuit_pair, tenant, now):
                admitted.append(candidate)
                probes.append(candidate)
            else:
                names = (circuit_name(candidate), circuit_name(candidate, tenant))
                until = max(self._table.read(name).probe_until for name in names)
                refused.append((candidate, max(0.0, until - now)))
        return BreakerDecision(tuple(admitted), tuple(probes), tuple(refused), doubtful=bool(probes or failures))

    def _claim(self, candidate: Candidate, circuit_pair: _Both, tenant: str, now: float) -> bool:
        """Whether this exchange is the probe of each of the two circuits that is half open."""
        claimed: list[str] = []
        for circuit, name in zip(circuit_pair, (circuit_name(candidate), circuit_name(candidate, tenant)), strict=True):
            if not circuit.open_until:
                continue
            if not self._table.change(name, lambda circuit: claim_probe(circuit, rules=self._rules, now=now)):
                for each in claimed:
                    self._table.change(each, lambda circuit: replace(circuit, probe_until=0.0))
                return False
            claimed.append(name)
        return True

    def release(self, probe: Candidate, tenant: str = "") -> None:
        """The probe was not sent. Another exchange may send one."""
        self._settle(AttemptResult(probe, "unknown"), tenant, probe=True)

    def record(self, attempt: AttemptResult, tenant: str = "", *, probe: bool) -> None:
        # The common case: no write and no lock.
        if attempt.verdict != "failed" and not probe:
            if self._table.all_closed():
                return
            now = self._clock()
            shared = self._table.read(circuit_name(attempt.candidate))
            own = self._table.read(circuit_name(attempt.candidate, tenant))
            if shared == self._after_shared(shared, attempt, probe=probe, counts=False, now=now) and own == self._after(
                own, attempt, probe=probe, now=now
            ):
                return
        self._settle(attempt, tenant, probe=probe)

    def _after(
        self, circuit: Circuit, attempt: AttemptResult, *, probe: bool, now: float, certain: bool = False
    ) -> Circuit:
        return after(
            circuit,
            attempt.verdict,
            probe=probe,
            rules=self._rules,
            now=now,
            certain=certain or attempt.reason == NO_HOST,
        )

    def _after_shared(
        self, circuit: Circuit, attempt: AttemptResult, *, probe: bool, counts: bool, now: float
    ) -> Circuit:
        return after_shared(
            circuit,
            attempt.verdict,
            probe=probe,
            counts=counts,
            rules=self._rules,
            now=now,
            certain=attempt.reason == NO_HOST,
            retry_after=attempt.retry_after,
        )

    def _settle(self, attempt: AttemptResult, tenant: str, *, probe: bool) -> None:
        now = self._clock()
        shared_name, own_name = circuit_name(attempt.candidate), circuit_name(attempt.candidate, tenant)
        opened = counts = False
        # A tenant whose probe failed must not be the next probe too.
        certain = probe and self._table.read(shared_name).open_until > 0.0

        def change_own(circuit: Circuit) -> Circuit:
            nonlocal opened, counts
            counts = not circuit.open_until and circuit.failures < self._share
            changed = self._after(circuit, attempt, probe=probe, now=now, certain=certain)
            opened = changed.open_until > circuit.open_until
            return changed

        def change_shared(circuit: Circuit) -> Circuit:
            nonlocal opened
            changed = self._after_shared(circuit, attempt, probe=probe, counts=counts, now=now)
            opened = opened or changed.open_until > circuit.open_until
            return changed

        self._table.change(own_name, change_own)
        self._table.change(shared_name, change_shared)
        if opened:
            self._opened(attempt.candidate)


_Both: TypeAlias = tuple[Circuit, Circuit]
"""The shared circuit of a candidate, and that of one tenant."""


def _rest_until(circuit_pair: _Both) -> float:
    """The provider rests for all tenants alike."""
    return circuit_pair[0].rest_until


def circuit_name(candidate: Candidate, tenant: str | None = None) -> str:
    """The name of the circuit of one tenant; without a tenant, of the circuit that all share."""
    shared = f"{candidate.provider}/{candidate.model}"
    return shared if tenant is None else f"{shared}\n{tenant}"
