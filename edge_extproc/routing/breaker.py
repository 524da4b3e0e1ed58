"""The circuit breaker of each candidate (a provider and a model): closed, open or half open.

    closed     calls pass; a number of failures in a row opens the circuit
    open       no call is sent, for a time
    half open  one call is sent as a probe: its success closes the circuit, its failure opens it again

A candidate also *rests* for the time of its last `Retry-After`. Calls then go to other candidates. If there are none,
the candidate is used nevertheless, so that callers get its own error: it may refuse only some of them.

A `Circuit` and the functions on it are pure; time is an argument. `Circuits` has one circuit for each candidate in a
`CircuitTable`, which belongs to this process or is shared by all workers of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

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


@dataclass(frozen=True, slots=True)
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
        self._clock = clock
        self._opened = opened

    def admit(self, candidates: Iterable[Candidate]) -> BreakerDecision:
        """A half-open candidate is admitted for one exchange only. A resting candidate is admitted only if there is no
        other."""
        if self._table.all_closed():
            return BreakerDecision(tuple(candidates), (), ())
        now = self._clock()
        circuits = [(candidate, self._table.read(circuit_name(candidate))) for candidate in candidates]
        awake = self._admitted([each for each in circuits if each[1].rest_until <= now], now)
        resting = [each for each in circuits if each[1].rest_until > now]
        if awake.admitted or not resting:
            refused = [(candidate, max(circuit.rest_until, circuit.open_until) - now) for candidate, circuit in resting]
            return replace(awake, refused=(*awake.refused, *refused))
        rested = self._admitted(resting, now)
        rest = min((c.rest_until for candidate, c in resting if candidate in rested.admitted), default=now) - now
        return replace(rested, refused=(*awake.refused, *rested.refused), rest=rest)

    def _admitted(self, circuits: Iterable[tuple[Candidate, Circuit]], now: float) -> BreakerDecision:
        """The decision by circuits, without regard to rests."""
        admitted: list[Candidate] = []
        probes: list[Candidate] = []
        refused: list[tuple[Candidate, float]] = []
        failures = 0
        for candidate, circuit in circuits:
            name = circuit_name(candidate)
            if not circuit.open_until:
                admitted.append(candidate)
                failures += circuit.failures
            elif now < circuit.open_until:
                refused.append((candidate, max(circuit.open_until, circuit.rest_until) - now))
            elif self._table.change(name, lambda circuit: claim_probe(circuit, rules=self._rules, now=now)):
                admitted.append(candidate)
                probes.append(candidate)
            else:
                refused.append((candidate, max(0.0, self._table.read(name).probe_until - now)))
        return BreakerDecision(tuple(admitted), tuple(probes), tuple(refused), doubtful=bool(probes or failures))

    def release(self, probe: Candidate) -> None:
        """The probe was not sent. Another exchange may send one."""
        self._settle(AttemptResult(probe, "unknown"), probe=True)

    def record(self, attempt: AttemptResult, *, probe: bool) -> None:
        # The common case: no write and no lock.
        if attempt.verdict != "failed" and not probe:
            if self._table.all_closed():
                return
            circuit_now = self._table.read(circuit_name(attempt.candidate))
            if circuit_now == self._after(circuit_now, attempt, probe=probe, now=self._clock()):
                return
        self._settle(attempt, probe=probe)

    def _after(self, circuit: Circuit, attempt: AttemptResult, *, probe: bool, now: float) -> Circuit:
        return after(
            circuit,
            attempt.verdict,
            probe=probe,
            rules=self._rules,
            now=now,
            certain=attempt.reason == NO_HOST,
            retry_after=attempt.retry_after,
        )

    def _settle(self, attempt: AttemptResult, *, probe: bool) -> None:
        now = self._clock()
        opened = False

        def change(circuit: Circuit) -> Circuit:
            nonlocal opened
            changed = self._after(circuit, attempt, probe=probe, now=now)
            opened = changed.open_until > circuit.open_until
            return changed

        self._table.change(circuit_name(attempt.candidate), change)
        if opened:
            self._opened(attempt.candidate)


def circuit_name(candidate: Candidate) -> str:
    return f"{candidate.provider}/{candidate.model}"
