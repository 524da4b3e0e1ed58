"""The number of workers by which each divides a limit while the store is down (limits/worker_count.py).

A fleet is simulated: workers with clocks of their own, and a store that counts names by its clock, loses them, or is
down. Whenever the store goes down, the shares of all workers together are at most the whole limit."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

from edge_extproc.limits.worker_count import CountTiming, WorkerCount

TIMING = CountTiming()


class Clock:
    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def counted(*readings: tuple[float, int]) -> WorkerCount:
    clock = Clock()
    count = WorkerCount(TIMING, clock)
    for clock.at, number in readings:
        count.record(number)
    return count


@pytest.mark.parametrize(
    ("readings", "shares"),
    [
        ((), None),
        (((0, 3),), None),
        (((0, 3), (14, 3)), None),
        (((0, 3), (5, 3), (15, 3)), 3),
        # A larger number applies at once, a smaller one after `hold`.
        (((0, 3), (5, 3), (15, 7)), 7),
        (((0, 7), (30, 7), (31, 2), (60, 2), (89, 2)), 7),
        (((0, 7), (30, 7), (31, 2), (60, 2), (91, 2)), 2),
        # A store that was down: nothing was smaller meanwhile.
        (((0, 7), (30, 7), (75, 1)), 7),
        # So long that others may have forgotten this worker.
        (((0, 7), (30, 7), (76, 1)), None),
        (((0, 7), (30, 7), (76, 1), (91, 1)), 7),
        (((0, 7), (30, 7), (76, 1), (111, 1), (137, 1)), 1),
    ],
)
def test_a_number_grows_at_once_and_falls_late(readings: tuple[tuple[float, int], ...], shares: int | None) -> None:
    assert shares == counted(*readings).shares
    assert (readings[-1][1] if readings else 0) == counted(*readings).counted


@dataclass
class Worker:
    count: WorkerCount
    next: float
    name: int


@dataclass
class SimulatedFleet:
    """Time goes on in steps of a quarter of a second."""

    chance: random.Random
    clock: Clock = field(default_factory=Clock)
    names: dict[int, float] = field(default_factory=dict)
    """By name: when it expires."""
    workers: list[Worker] = field(default_factory=list)
    started: int = 0
    is_up: bool = True

    def begin(self, number: int) -> None:
        for _ in range(number):
            self.started += 1
            first = self.clock.at + self.chance.uniform(0, 1)
            self.workers.append(Worker(WorkerCount(TIMING, self.clock), first, self.started))

    def end(self, number: int, *, killed: bool) -> None:
        for worker in self.chance.sample(self.workers, min(number, len(self.workers))):
            self.workers.remove(worker)
            if not killed and self.is_up:
                self.names.pop(worker.name, None)

    def run(self, seconds: float) -> None:
        until = self.clock.at + seconds
        while self.clock.at < until:
            self.clock.at += 0.25
            for worker in self.workers:
                if worker.next > self.clock.at:
                    continue
                jitter = self.chance.uniform(1 - TIMING.jitter, 1 + TIMING.jitter)
                worker.next = self.clock.at + TIMING.interval * jitter
                if self.is_up:
                    self.names = {name: at for name, at in self.names.items() if at > self.clock.at}
                    self.names[worker.name] = self.clock.at + TIMING.expires
                    worker.count.record(len(self.names))

    def together(self) -> Fraction:
        """The part of a limit that all workers would admit without the store."""
        return sum((Fraction(1, each.count.shares) for each in self.workers if each.count.shares), Fraction())


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("begin", "end", "kill", "lose", "down")),
        st.integers(1, 6),
        st.one_of(st.floats(0, 20), st.floats(0, 150)),
    ),
    min_size=1,
    max_size=12,
)


@given(first=st.integers(1, 6), events=EVENTS, seed=st.integers(0, 1 << 32))
@settings(max_examples=examples(400))
def test_all_shares_together_are_never_more_than_the_limit(
    first: int, events: list[tuple[str, int, float]], seed: int
) -> None:
    fleet = SimulatedFleet(random.Random(seed))
    fleet.begin(first)
    lost_at = -1000.0
    for event, number, seconds in events:
        match event:
            case "begin":
                fleet.begin(number)
            case "end" | "kill":
                fleet.end(number, killed=event == "kill")
            case "lose" if fleet.clock.at - lost_at > TIMING.settled:
                # Flushed, replaced by an empty one, or by one whose clock is ahead.
                fleet.names.clear()
                lost_at = fleet.clock.at
            case "down":
                fleet.is_up = not fleet.is_up
        fleet.run(seconds)
        assert fleet.together() <= 1


def test_a_quiet_fleet_uses_the_whole_limit() -> None:
    fleet = SimulatedFleet(random.Random(7))
    fleet.begin(6)
    fleet.run(60)
    fleet.end(2, killed=True)
    before = fleet.together()
    fleet.run(TIMING.expires + TIMING.hold + 2 * TIMING.interval)

    assert (Fraction(4, 6), Fraction(1)) == (before, fleet.together())
