"""The circuit breaker: its states, and its table that workers share."""

import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.errors import StartError
from edge_extproc.model.plan import NO_HOST, AttemptResult, Candidate
from edge_extproc.routing.breaker import (
    CLOSED,
    BreakerSettings,
    Circuit,
    Circuits,
    LocalCircuitTable,
    after,
    claim_probe,
    state,
)
from edge_extproc.routing.shared import SharedCircuitTable

RULES = BreakerSettings(failures=3, open_for=30.0)
A, B, C = (Candidate(name, "m") for name in "abc")


class Time:
    now = 100.0

    def __call__(self):
        return self.now


class Stage:
    def __init__(self, slots=None):
        self.time = Time()
        self.opened = []
        self.slots = slots or LocalCircuitTable()
        self.circuits = Circuits(self.slots, RULES, self.time, self.opened.append)

    def fail(self, times, candidate=A, *, probe=False):
        for _ in range(times):
            self.circuits.record(AttemptResult(candidate, "failed"), probe=probe)

    def ask_for_rest(self, seconds, candidate=A, *, probe=False):
        self.circuits.record(AttemptResult(candidate, "failed", 429, retry_after=seconds), probe=probe)

    def succeed(self, candidate=A, *, probe=False):
        self.circuits.record(AttemptResult(candidate, "ok"), probe=probe)


@pytest.fixture(params=["own", "shared"])
def stage(request, tmp_path):
    if request.param == "own":
        yield Stage()
        return
    slots = SharedCircuitTable(tmp_path / "circuits")
    yield Stage(slots)
    slots.close()


def test_so_many_failures_in_a_row_open_it(stage):
    stage.fail(2)
    assert (A, B) == stage.circuits.admit((A, B)).admitted
    stage.fail(1)
    found = stage.circuits.admit((A, B))

    assert ((B,), ((A, 30.0),)) == (found.admitted, found.refused)
    assert [A] == stage.opened


def test_a_success_between_failures_begins_the_count_anew(stage):
    stage.fail(2)
    stage.succeed()
    stage.fail(2)

    assert (A,) == stage.circuits.admit((A,)).admitted


def test_a_provider_that_has_no_address_is_left_alone_at_once(stage):
    stage.circuits.record(AttemptResult(A, "failed", 503, NO_HOST), probe=False)

    assert () == stage.circuits.admit((A,)).admitted


def test_what_nobody_can_tell_counts_for_nothing(stage):
    stage.fail(2)
    stage.circuits.record(AttemptResult(A, "unknown"), probe=False)
    stage.fail(1)

    assert () == stage.circuits.admit((A,)).admitted


def test_after_its_time_exactly_one_call_is_sent_to_see(stage):
    stage.fail(3)
    stage.time.now += 29.9
    assert () == stage.circuits.admit((A,)).admitted
    stage.time.now += 0.2
    found = [stage.circuits.admit((A,)) for _ in range(5)]

    assert [((A,), (A,))] + [((), ())] * 4 == [(each.admitted, each.probes) for each in found]
    assert 0 < found[1].refused[0][1] <= 30


def test_the_probes_success_closes_it_for_all(stage):
    stage.fail(3)
    stage.time.now += 31
    stage.circuits.admit((A,))
    stage.succeed(probe=True)

    assert [((A,), ())] * 2 == [(f.admitted, f.probes) for f in (stage.circuits.admit((A,)) for _ in range(2))]


def test_the_probes_failure_opens_it_again_at_once(stage):
    stage.fail(3)
    stage.time.now += 31
    stage.circuits.admit((A,))
    stage.fail(1, probe=True)
    assert ((A, 30.0),) == stage.circuits.admit((A,)).refused
    stage.time.now += 31

    assert (A,) == stage.circuits.admit((A,)).probes
    assert [A, A] == stage.opened


def test_a_probe_that_was_not_tried_or_of_which_nothing_is_known_lets_another_one_go(stage):
    stage.fail(3)
    stage.time.now += 31
    stage.circuits.admit((A,))
    stage.circuits.release(A)

    assert (A,) == stage.circuits.admit((A,)).probes


def test_a_probe_of_which_nothing_is_heard_is_given_up(stage):
    stage.fail(3)
    stage.time.now += 31
    stage.circuits.admit((A,))
    stage.time.now += 30.1

    assert (A,) == stage.circuits.admit((A,)).probes


def test_calls_that_began_before_it_opened_change_nothing(stage):
    stage.fail(3)
    stage.time.now += 10
    stage.succeed()
    stage.fail(5)

    assert ((A, 20.0),) == stage.circuits.admit((A,)).refused
    assert [A] == stage.opened


def test_each_provider_and_model_has_its_own(stage):
    stage.fail(3)
    others = (Candidate("a", "other"), B)

    assert others == stage.circuits.admit(others).admitted


# --- a provider that says for how long to leave it alone


def test_who_wants_to_rest_is_left_alone_for_that_long_where_there_is_another(stage):
    stage.ask_for_rest(120)
    found = stage.circuits.admit((A, B))
    assert ((B,), ((A, 120.0),), 0.0) == (found.admitted, found.refused, found.rest)
    stage.time.now += 120

    assert (A, B) == stage.circuits.admit((A, B)).admitted
    assert [] == stage.opened


def test_who_wants_to_rest_is_asked_all_the_same_where_there_is_no_other(stage):
    stage.ask_for_rest(120)
    stage.ask_for_rest(60, B)
    alone, both = stage.circuits.admit((A,)), stage.circuits.admit((A, B))

    assert (((A,), (), 120.0), ((A, B), (), 60.0)) == tuple((f.admitted, f.refused, f.rest) for f in (alone, both))


def test_one_at_rest_takes_the_place_of_one_whose_circuit_is_open(stage):
    stage.ask_for_rest(120)
    stage.fail(3, B)
    found = stage.circuits.admit((A, B))

    assert ((A,), ((B, 30.0),), 120.0) == (found.admitted, found.refused, found.rest)


def test_no_rest_is_longer_than_config_allows(stage):
    stage.ask_for_rest(86_400.0)

    assert ((A, 600.0),) == stage.circuits.admit((A, B)).refused


def test_the_longest_rest_of_those_asked_for_counts_and_a_success_that_began_before_ends_none(stage):
    stage.ask_for_rest(120)
    stage.ask_for_rest(5)
    stage.succeed()

    assert ((A, 120.0),) == stage.circuits.admit((A, B)).refused


def test_after_a_rest_a_success_leaves_nothing_behind(stage):
    stage.ask_for_rest(120)
    stage.time.now += 121
    assert stage.circuits.admit((A, B)).doubtful
    stage.succeed()

    assert stage.slots.all_closed()
    assert not stage.circuits.admit((A, B)).doubtful


def test_a_circuit_that_is_half_open_sends_nobody_to_see_before_its_rest_is_over(stage):
    stage.fail(2)
    stage.ask_for_rest(120)
    stage.time.now += 40
    assert ((A, 80.0),) == stage.circuits.admit((A, B)).refused
    alone = [stage.circuits.admit((A,)) for _ in range(2)]

    assert [((A,), (A,)), ((), ())] == [(each.admitted, each.probes) for each in alone]


@given(
    st.lists(st.tuples(st.sampled_from(["ok", "failed", "unknown"]), st.booleans(), st.floats(0, 40)), max_size=40),
)
def test_whatever_happens_a_circuit_is_in_one_of_its_states(steps):
    now, circuit = 1.0, CLOSED
    for verdict, probe, later in steps:
        now += later
        circuit = (claim_probe(circuit, rules=RULES, now=now) or circuit) if probe else circuit
        circuit = after(circuit, verdict, probe=probe, rules=RULES, now=now)
        assert circuit.failures < RULES.failures
        assert not (circuit.open_until and circuit.failures)
        assert ("closed" == state(circuit, now)) == (not circuit.open_until)
        assert circuit.open_until <= now + RULES.open_for


# --- the shared table


def test_another_process_sees_what_one_learned(tmp_path):
    path = tmp_path / "circuits"
    mine, other = Stage(SharedCircuitTable(path)), Stage(SharedCircuitTable(path))
    mine.fail(3)
    mine.ask_for_rest(120, B)

    assert () == other.circuits.admit((A,)).admitted
    assert ((B, 120.0),) == other.circuits.admit((B, C)).refused
    assert 0o600 == path.stat().st_mode & 0o777


def _count(path, times):
    slots = SharedCircuitTable(path)
    for _ in range(times):
        slots.change("a/m", lambda circuit: Circuit(circuit.failures + 1, circuit.open_until))
    slots.close()


def test_no_failure_is_lost_when_processes_write_at_once(tmp_path):
    path = tmp_path / "circuits"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_count, args=(path, 500)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert 0 == writer.exitcode

    assert 1500 == SharedCircuitTable(path).read("a/m").failures


def test_made_up_names_do_not_push_out_an_open_circuit(tmp_path):
    slots = SharedCircuitTable(tmp_path / "circuits")
    slots.change("a/m", lambda _: Circuit(0, 1000.0))
    for n in range(60_000):
        slots.change(f"made-up/{n}", lambda _: Circuit(1))

    assert Circuit(0, 1000.0) == slots.read("a/m")


def test_a_closed_circuit_takes_no_room(tmp_path):
    path = tmp_path / "circuits"
    slots = SharedCircuitTable(path)
    slots.change("a/m", lambda _: Circuit(1))
    slots.change("a/m", lambda _: CLOSED)
    slots.close()

    assert not any(path.read_bytes())


def test_a_place_where_no_file_can_be_is_told(tmp_path):
    with pytest.raises(StartError, match=r"cannot share circuits in .*; set agent\.sockets"):
        SharedCircuitTable(tmp_path / "nowhere" / "circuits")
    assert os.listdir(tmp_path) == []


def test_the_shared_table_has_its_blocks_before_the_disk_is_full(tmp_path):
    path = tmp_path / "circuits"
    path.touch()
    SharedCircuitTable(path).close()

    assert path.stat().st_blocks * 512 >= path.stat().st_size > 0


# --- tenants


FIVE = BreakerSettings(failures=5, open_for=30.0)
BAD, GOOD = "hostile", "good"


class Tenants:
    """Calls of several tenants at one candidate."""

    def __init__(self, rules=FIVE):
        self.time = Time()
        self.opened = []
        self.circuits = Circuits(LocalCircuitTable(), rules, self.time, self.opened.append)

    def may(self, tenant):
        return bool(self.circuits.admit((A,), tenant).admitted)

    def call(self, tenant, verdict="failed", **more):
        """One call, if the circuits let it through."""
        decision = self.circuits.admit((A,), tenant)
        if decision.admitted:
            self.circuits.record(AttemptResult(A, verdict, **more), tenant, probe=A in decision.probes)
        return bool(decision.admitted)


def test_a_tenant_whose_calls_all_fail_is_stopped_alone():
    stage = Tenants()
    sent = [stage.call(BAD) for _ in range(50)]

    assert (5, False, True) == (sum(sent), stage.may(BAD), stage.may(GOOD))
    assert [A] == stage.opened


def test_failures_of_several_tenants_in_a_row_stop_all_of_them():
    stage = Tenants()
    for tenant in ("a", "b", "c"):
        stage.call(tenant)
        stage.call(tenant)

    assert not any(stage.may(tenant) for tenant in ("a", "b", "c", "d"))
    assert [A] == stage.opened


def test_one_failure_of_another_tenant_does_not_open_what_a_hostile_one_has_prepared():
    stage = Tenants()
    for _ in range(50):
        stage.call(BAD)
    stage.call(GOOD)
    stage.call(GOOD)

    assert stage.may(GOOD)
    assert stage.may("a third")


def test_with_one_failure_as_the_limit_it_still_takes_two_tenants():
    stage = Tenants(BreakerSettings(failures=1, open_for=30.0))
    stage.call(BAD)
    assert (False, True) == (stage.may(BAD), stage.may(GOOD))
    stage.call("another")

    assert not stage.may(GOOD)


def _out_of_order(stage):
    for tenant in ("a", "b", "c"):
        stage.call(tenant)
        stage.call(tenant)
    stage.time.now += 31


def test_a_failed_probe_of_one_tenant_leaves_the_decision_to_another():
    stage = Tenants()
    _out_of_order(stage)
    assert (True, False) == (stage.call(BAD), stage.may(BAD))
    assert stage.call(GOOD, "ok")

    assert all(stage.may(tenant) for tenant in (GOOD, "a", "b", "c"))


def test_two_tenants_whose_probes_fail_open_it_again_for_all():
    stage = Tenants()
    _out_of_order(stage)
    assert [True, True, False] == [stage.call(tenant) for tenant in ("a", "b", "c")]
    assert [A, A, A] == stage.opened


def test_a_provider_without_an_address_is_left_alone_by_all_tenants_at_once():
    stage = Tenants()
    stage.call(BAD, reason=NO_HOST)

    assert not stage.may(GOOD)


def test_a_probe_is_given_back_where_the_other_circuit_refuses_it():
    stage = Tenants()
    _out_of_order(stage)
    for _ in range(5):
        stage.circuits.record(AttemptResult(A, "failed"), "late", probe=False)
    stage.time.now += 31
    first = stage.circuits.admit((A,), "late")
    second = stage.circuits.admit((A,), "late")
    stage.circuits.release(A, "late")

    assert ((A,), ()) == (first.probes, second.admitted)
    assert (A,) == stage.circuits.admit((A,), GOOD).probes


@given(
    st.sampled_from([1, 2, 3, 5, 8]),
    st.lists(
        st.tuples(
            st.sampled_from([BAD, GOOD]),
            st.sampled_from(["failed", "failed", "failed", "ok", "unknown"]),
            st.floats(0, 40),
        ),
        max_size=60,
    ),
)
def test_no_tenant_is_stopped_for_what_another_one_does(failures, steps):
    stage = Tenants(BreakerSettings(failures=failures, open_for=30.0))
    for tenant, verdict, later in steps:
        stage.time.now += later
        stage.call(tenant, "ok" if tenant == GOOD else verdict)
        assert stage.may(GOOD)
