"""The circuit breaker of one provider and model: closed, open, half open.

    closed     calls pass; so many failures in a row open it
    open       nobody is sent there, until its time is over
    half open  one call is sent there to see: its success closes the circuit, its failure opens it again

Besides, a candidate rests for as long as its own `Retry-After` said. Then others are asked in its place; where there is
none, it is asked all the same, so that callers hear what it says itself: it may refuse only some of them.

A `Circuit` and the functions on it are pure, and time is an argument. `Circuits` keeps one for each candidate in
`CircuitTable`, which may be this process' own or shared with its siblings.
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
    """In a row."""
    open_for: float = 30.0
    """Seconds. A probe of which nothing is heard for as long is given up, so that another one may go."""
    longest_rest: float = 600.0
    """Seconds, whatever a provider asks for."""


@dataclass(frozen=True, slots=True)
class Circuit:
    failures: int = 0
    """In a row, while closed."""
    open_until: float = 0.0
    """0 where it is closed. Times are seconds of the system's monotonic clock."""
    probe_until: float = 0.0
    """Until when a probe is believed to be under way; 0 where there is none."""
    rest_until: float = 0.0
    """Until when its provider asked to be left alone; 0 where it did not. It may lie in the past."""


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
    """What a try makes of its circuit. `probe`: it was the one that was sent to see; `certain`: the next one would fail
    too; `retry_after`: for how many seconds its provider wants to be left alone."""
    # A success ends no rest: it may be that of a try which began before.
    rest_until = circuit.rest_until if circuit.rest_until > now else 0.0
    if retry_after is not None:
        rest_until = max(rest_until, now + min(retry_after, rules.longest_rest))
    circuit = replace(circuit, rest_until=rest_until)
    if circuit.open_until and not probe:
        return circuit  # it began before the circuit opened, and tells nothing of now
    match verdict:
        case "ok":
            return Circuit(rest_until=rest_until)
        case "failed" if certain or circuit.open_until or circuit.failures + 1 >= rules.failures:
            return Circuit(0, now + rules.open_for, rest_until=rest_until)
        case "failed":
            return replace(circuit, failures=circuit.failures + 1)
        case _:
            return replace(circuit, probe_until=0.0)


def claimed(circuit: Circuit, *, rules: BreakerSettings, now: float) -> Circuit | None:
    """The circuit with a probe under way; None where it may not have one now."""
    if state(circuit, now) != "half_open" or now < circuit.probe_until:
        return None
    return replace(circuit, probe_until=now + rules.open_for)


Change: TypeAlias = Callable[[Circuit], Circuit | None]
"""From what is there to what shall be; None leaves it."""


class CircuitTable(Protocol):
    """Circuits by name. One that nobody wrote to is closed."""

    def all_closed(self) -> bool:
        """Whether there is nothing to read: no circuit is open or has failures, and none rests."""
        ...

    def read(self, name: str) -> Circuit: ...

    def change(self, name: str, change: Change) -> bool:
        """Applies it with nobody else changing meanwhile, and tells whether it gave a circuit."""
        ...


class LocalCircuitTable:
    """Of this process alone."""

    def __init__(self) -> None:
        self._circuits: dict[str, Circuit] = {}

    def all_closed(self) -> bool:
        return not self._circuits

    def read(self, name: str) -> Circuit:
        return self._circuits.get(name, CLOSED)

    def change(self, name: str, change: Change) -> bool:
        made = change(self.read(name))
        if made == CLOSED:
            self._circuits.pop(name, None)
        elif made is not None:
            self._circuits[name] = made
        return made is not None


@dataclass(frozen=True, slots=True)
class BreakerDecision:
    """Which of some candidates may be asked now."""

    admitted: tuple[Candidate, ...]
    probes: tuple[Candidate, ...]
    """Of those, the ones for which this is the one probe: how it ended must be told."""
    refused: tuple[tuple[Candidate, float], ...]
    """The others, with the seconds until they may be asked again."""
    rest: float = 0.0
    """Seconds for which all of the admitted want to be left alone: there was nobody else."""
    doubtful: bool = False
    """One of the admitted has failed of late."""


Opened: TypeAlias = Callable[[Candidate], None]


class Circuits:
    """`opened` is told each time that a try opens the circuit of its candidate."""

    def __init__(self, slots: CircuitTable, rules: BreakerSettings, clock: Callable[[], float], opened: Opened) -> None:
        self._slots = slots
        self._rules = rules
        self._clock = clock
        self._opened = opened

    def admit(self, candidates: Iterable[Candidate]) -> BreakerDecision:
        """A candidate whose circuit is half open is admitted to one exchange alone, and one that rests if there is no
        other."""
        if self._slots.all_closed():
            return BreakerDecision(tuple(candidates), (), ())
        now = self._clock()
        found = [(candidate, self._slots.read(circuit_name(candidate))) for candidate in candidates]
        awake = self._admitted([each for each in found if each[1].rest_until <= now], now)
        resting = [each for each in found if each[1].rest_until > now]
        if awake.admitted or not resting:
            refused = [(candidate, max(circuit.rest_until, circuit.open_until) - now) for candidate, circuit in resting]
            return replace(awake, refused=(*awake.refused, *refused))
        asked = self._admitted(resting, now)
        rest = min((c.rest_until for candidate, c in resting if candidate in asked.admitted), default=now) - now
        return replace(asked, refused=(*awake.refused, *asked.refused), rest=rest)

    def _admitted(self, found: Iterable[tuple[Candidate, Circuit]], now: float) -> BreakerDecision:
        """By their circuits alone."""
        admitted: list[Candidate] = []
        probes: list[Candidate] = []
        refused: list[tuple[Candidate, float]] = []
        failures = 0
        for candidate, circuit in found:
            name = circuit_name(candidate)
            if not circuit.open_until:
                admitted.append(candidate)
                failures += circuit.failures
            elif now < circuit.open_until:
                refused.append((candidate, max(circuit.open_until, circuit.rest_until) - now))
            elif self._slots.change(name, lambda circuit: claimed(circuit, rules=self._rules, now=now)):
                admitted.append(candidate)
                probes.append(candidate)
            else:
                refused.append((candidate, max(0.0, self._slots.read(name).probe_until - now)))
        return BreakerDecision(tuple(admitted), tuple(probes), tuple(refused), doubtful=bool(probes or failures))

    def release(self, probe: Candidate) -> None:
        """It was not tried after all; another exchange may be the probe."""
        self._settle(AttemptResult(probe, "unknown"), probe=True)

    def record(self, tried: AttemptResult, *, probe: bool) -> None:
        # The common case writes nothing and takes no lock.
        if tried.verdict != "failed" and not probe:
            if self._slots.all_closed():
                return
            found = self._slots.read(circuit_name(tried.candidate))
            if found == self._after(found, tried, probe=probe, now=self._clock()):
                return
        self._settle(tried, probe=probe)

    def _after(self, circuit: Circuit, tried: AttemptResult, *, probe: bool, now: float) -> Circuit:
        return after(
            circuit,
            tried.verdict,
            probe=probe,
            rules=self._rules,
            now=now,
            certain=tried.reason == NO_HOST,
            retry_after=tried.retry_after,
        )

    def _settle(self, tried: AttemptResult, *, probe: bool) -> None:
        now = self._clock()
        opened = False

        def change(circuit: Circuit) -> Circuit:
            nonlocal opened
            made = self._after(circuit, tried, probe=probe, now=now)
            opened = made.open_until > circuit.open_until
            return made

        self._slots.change(circuit_name(tried.candidate), change)
        if opened:
            self._opened(tried.candidate)


def circuit_name(candidate: Candidate) -> str:
    return f"{candidate.provider}/{candidate.model}"
