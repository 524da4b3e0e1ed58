"""Time-out, circuit breaker, stored verdicts, single flight and metrics, which are the same for all services."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits_kit import Now
from providers import until
from services_kit import text_check
from thoroughness import examples

from edge_extproc.config.surroundings import Surroundings
from edge_extproc.errors import PolicyUnavailable
from edge_extproc.guardrails.base import Checked, Media, Piece, Verdict
from edge_extproc.guardrails.service_calls import ServiceCalls
from edge_extproc.guardrails.service_circuit import ServiceCircuit
from edge_extproc.guardrails.service_http import ServiceFailure, together
from edge_extproc.guardrails.service_options import ServiceOptions
from edge_extproc.guardrails.service_texts import joined, portions
from edge_extproc.telemetry.guardrail_service_metrics import GuardrailServiceMetrics
from edge_extproc.telemetry.metrics import MetricRegistry

BLOCK = Verdict("block", "violence")
DOWN = ServiceFailure("connection", "could not be reached: ConnectError")


class ScriptedVerdicts:
    """A service that gives the verdicts of a test, or raises its errors."""

    def __init__(self, *script: Verdict | BaseException) -> None:
        self._script = list(script)
        self.checks: list[Checked] = []
        self.released = asyncio.Event()
        self.released.set()
        self.closed = False

    async def check(self, checked: Checked) -> Verdict:
        self.checks.append(checked)
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        await self.released.wait()
        if isinstance(step, BaseException):
            raise step
        return step

    async def close(self) -> None:
        self.closed = True


class Running:
    def __init__(self, *script: Verdict | BaseException, **options: Any) -> None:
        self.inner = ScriptedVerdicts(*script)
        self.clock = Now(1000.0)
        self.registry = MetricRegistry()
        around = Surroundings({}, Path("/"))
        given: ServiceOptions = ServiceOptions.model_validate(options, context=around)
        metrics = GuardrailServiceMetrics(self.registry)
        self.calls = ServiceCalls("my rule", "scripted", self.inner, given, metrics, self.clock)

    async def outcomes(self, *checks: Checked) -> list[str]:
        """The action of each check in turn, or the end of the error's message."""
        return [await self.outcome(each) for each in checks]

    async def outcome(self, checked: Checked) -> str:
        try:
            return (await self.calls.check(checked)).action
        except PolicyUnavailable as error:
            return error.message.rpartition("its service ")[2]

    def counts(self, name: str) -> dict[str, float]:
        """By the last label."""
        return {
            sample.labels[[*sample.labels][-1]]: sample.value
            for family in self.registry.collect()
            if family.name == f"edge_guardrail_service_{name}"
            for sample in family.samples
            if sample.labels["rule"] == "my rule" and sample.labels["service"] == "scripted"
        }


async def test_equal_texts_of_one_tenant_are_checked_once() -> None:
    it = Running(BLOCK)

    assert ["block", "block"] == await it.outcomes(text_check("a"), replace(text_check("a"), call_id="call-2"))
    assert 1 == len(it.inner.checks)
    assert {"cache": 1.0} == it.counts("spared")
    assert {"block": 2.0} == it.counts("checks")


@pytest.mark.parametrize(
    "other",
    [
        text_check("b"),
        text_check("a", tenant="other"),
        text_check("a", reply=True),
        text_check(("system", "a")),
        text_check("a", ""),
        replace(text_check("a"), model="other"),
        replace(text_check("a"), pieces=(Piece("a", "user", "elsewhere"),)),
        text_check("a", media=(Media("00", "image/png", 1, "x"),)),
    ],
)
async def test_what_differs_is_checked_again(other: Checked) -> None:
    it = Running(BLOCK)
    await it.outcomes(text_check("a"), other)

    assert 2 == len(it.inner.checks)


async def test_the_boundaries_between_texts_count() -> None:
    it = Running(BLOCK)
    one = replace(text_check("a"), pieces=(Piece("ab", "user", "p"), Piece("c", "user", "p")))
    await it.outcomes(one, replace(one, pieces=(Piece("a", "user", "p"), Piece("bc", "user", "p"))))

    assert 2 == len(it.inner.checks)


async def test_a_stored_verdict_expires_and_the_oldest_is_removed_first() -> None:
    it = Running(BLOCK, cache_for="60s", cache_entries=2)
    await it.outcomes(text_check("a"), text_check("b"), text_check("c"), text_check("b"))
    assert 3 == len(it.inner.checks)

    await it.outcomes(text_check("a"))
    assert 4 == len(it.inner.checks)

    it.clock.at += 60
    await it.outcomes(text_check("a"))
    assert 5 == len(it.inner.checks)


async def test_nothing_is_stored_if_the_configuration_says_so() -> None:
    it = Running(BLOCK, cache_for="0s")
    await it.outcomes(text_check("a"), text_check("a"))

    assert 2 == len(it.inner.checks)


async def test_masked_texts_are_stored_up_to_a_bound() -> None:
    big = "x" * (3 << 20)
    it = Running(Verdict("mask", "pii", (big,)), Verdict("mask", "pii", (big,)), Verdict("mask", "pii", (big * 2,)))

    await it.outcomes(text_check("a"), text_check("b"), text_check("b"), text_check("a"), text_check("a"))

    # The second removes the first; the third is too long to be stored.
    assert 4 == len(it.inner.checks)


async def test_a_failure_is_not_stored() -> None:
    it = Running(DOWN, BLOCK)

    assert [DOWN.text, "block"] == await it.outcomes(text_check("a"), text_check("a"))
    assert {"connection": 1.0} == it.counts("failures")
    assert {"failed": 1.0, "block": 1.0} == it.counts("checks")


async def test_equal_checks_at_the_same_time_are_one() -> None:
    it = Running(BLOCK)
    it.inner.released.clear()
    checks = [asyncio.create_task(it.outcome(text_check("a"))) for _ in range(3)]
    other = asyncio.create_task(it.outcome(text_check("a", tenant="other")))
    await until(lambda: it.counts("spared").get("flight") == 2 and len(it.inner.checks) == 2)
    it.inner.released.set()

    assert ["block"] * 4 == await asyncio.gather(*checks, other)
    assert ["acme", "other"] == [check.tenant for check in it.inner.checks]


async def test_a_caller_who_leaves_does_not_end_the_check_of_the_others() -> None:
    it = Running(BLOCK)
    it.inner.released.clear()
    first = asyncio.create_task(it.outcome(text_check("a")))
    await until(lambda: len(it.inner.checks) == 1)
    second = asyncio.create_task(it.outcome(text_check("a")))
    await until(lambda: it.counts("spared") == {"flight": 1.0})
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    it.inner.released.set()

    assert "block" == await second
    assert first.cancelled()


async def test_a_check_that_takes_too_long_is_ended() -> None:
    it = Running(BLOCK, timeout="20ms")
    it.inner.released.clear()

    assert "did not answer within 0.02 s" == await it.outcome(text_check("a"))
    assert {"timeout": 1.0} == it.counts("failures")


async def test_the_message_has_the_rule_and_the_cause() -> None:
    it = Running(DOWN)

    with pytest.raises(PolicyUnavailable) as caught:
        await it.calls.check(text_check("a secret"))

    assert (
        "the guardrail 'my rule' could not be applied: its service could not be reached: ConnectError"
        == caught.value.message
    )
    assert (503, "policy_unavailable") == (caught.value.fault().status, caught.value.fault().code)


async def test_a_plugin_from_outside_may_raise_policy_unavailable() -> None:
    it = Running(PolicyUnavailable("no quota"))

    assert "is unavailable: no quota" == await it.outcome(text_check("a"))
    assert {"other": 1.0} == it.counts("failures")


async def test_closing_ends_the_checks() -> None:
    it = Running(BLOCK)
    it.inner.released.clear()
    check = asyncio.create_task(it.outcome(text_check("a")))
    await until(lambda: len(it.inner.checks) == 1)
    await it.calls.close()

    assert "was closed during the check" == await check
    assert it.inner.closed


async def test_nothing_to_check_passes_without_a_request() -> None:
    it = Running(BLOCK)

    assert ["pass"] == await it.outcomes(text_check())
    assert [] == it.inner.checks


@pytest.mark.parametrize("texts", [None, (), ("one", "two")])
async def test_a_mask_without_one_text_for_each_gives_no_verdict(texts: tuple[str, ...] | None) -> None:
    it = Running(Verdict("mask", "pii", texts))

    assert "did not send one masked text for each text" == await it.outcome(text_check("a"))


async def test_labels_are_short_bounded_and_harmless() -> None:
    it = Running(Verdict("block", 'a "b"\n' + "c" * 100), Verdict("block", ""), BLOCK)

    assert "a_b_" + "c" * 60 == (await it.calls.check(text_check("a"))).label
    assert "other" == (await it.calls.check(text_check("b"))).label

    many = Running(*(Verdict("block", f"label {n}") for n in range(200)))
    labels = {(await many.calls.check(text_check(str(n)))).label for n in range(200)}

    assert 101 == len(labels)
    assert "other" in labels


# --- the circuit breaker


async def test_after_failures_in_a_row_nothing_is_sent_until_a_probe_succeeds() -> None:
    it = Running(DOWN, DOWN, DOWN, DOWN, BLOCK, failures=3, open_for="10s")
    stopped = "is not called for a short time, because it has failed several times in a row"
    texts = [text_check(str(n)) for n in range(9)]

    assert [DOWN.text] * 3 + [stopped] == await it.outcomes(*texts[:4])
    it.clock.at += 10
    assert [DOWN.text, stopped] == await it.outcomes(*texts[4:6])
    it.clock.at += 10
    assert ["block", "block"] == await it.outcomes(*texts[6:8])
    assert 6 == len(it.inner.checks)
    assert {"connection": 4.0, "circuit": 2.0} == it.counts("failures")
    assert {"scripted": 2.0} == it.counts("circuits_opened")


async def test_failures_of_one_tenant_do_not_stop_the_checks_of_others() -> None:
    it = Running(DOWN, DOWN, DOWN, DOWN, BLOCK, failures=3, open_for="10s")
    await it.outcomes(*(text_check(str(n)) for n in range(4)))

    assert DOWN.text == await it.outcome(text_check("a", tenant="other"))
    assert "block" == await it.outcome(text_check("b", tenant="other"))
    assert "is not called" in await it.outcome(text_check("c"))


async def test_a_text_that_is_not_sent_opens_no_circuit() -> None:
    it = Running(BLOCK, failures=1, max_text="2B")

    assert ["takes at most 2 bytes of text, and these are 3", "block"] == await it.outcomes(
        text_check("abc"), text_check("a")
    )


class Circuit:
    def __init__(self, failures: int = 5) -> None:
        self.clock = Now(0.0)
        self.opened = 0
        self.it = ServiceCircuit(failures, 10.0, self.clock, self._count)

    def _count(self) -> None:
        self.opened += 1

    def fail(self, *tenants: str) -> None:
        for tenant in tenants:
            self.it.failed(tenant)


def test_three_tenants_open_the_circuit_of_all() -> None:
    circuit = Circuit()
    circuit.fail("a", "a", "a", "b", "b", "b")
    assert circuit.it.admits("z")

    circuit.fail("c")
    assert not circuit.it.admits("z")


def test_a_success_of_anybody_closes_the_circuit_of_all() -> None:
    circuit = Circuit()
    circuit.fail("a", "a", "b", "b")
    circuit.it.succeeded("z")
    circuit.fail("c")

    assert circuit.it.admits("z")


def test_one_tenants_failed_probe_does_not_open_the_circuit_of_all_again() -> None:
    circuit = Circuit()
    circuit.fail("a", "a", "b", "b", "c")
    circuit.clock.at = 10.0
    assert [True, False] == [circuit.it.admits("a"), circuit.it.admits("b")]

    circuit.fail("a")
    assert [False, True, False] == [circuit.it.admits("a"), circuit.it.admits("b"), circuit.it.admits("z")]

    circuit.fail("b")
    circuit.clock.at = 19.0
    assert not circuit.it.admits("z")
    circuit.clock.at = 20.0
    assert circuit.it.admits("z")


def test_a_late_failure_does_not_prolong_the_pause() -> None:
    circuit = Circuit(2)
    circuit.fail("a", "a")
    circuit.clock.at = 5.0
    circuit.fail("a")
    circuit.clock.at = 10.0

    assert circuit.it.admits("a")
    assert 1 == circuit.opened


def test_a_probe_without_a_result_leaves_room_for_another() -> None:
    circuit = Circuit(1)
    circuit.fail("a")
    circuit.clock.at = 10.0
    assert [True, False] == [circuit.it.admits("a"), circuit.it.admits("a")]

    circuit.it.ended("a")
    assert circuit.it.admits("a")


# --- helpers of services


async def test_the_first_failure_of_several_requests_is_raised_and_ends_the_others() -> None:
    ended: list[str] = []

    async def wait() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waiting")
        return ""

    async def fail() -> str:
        raise DOWN

    with pytest.raises(ServiceFailure):
        await together([wait(), fail()])
    assert ["waiting"] == ended
    assert [] == await together([])


@settings(max_examples=examples(200))
@given(st.text(st.sampled_from("ab \n"), max_size=60), st.integers(1, 12))
def test_portions_give_the_text_again(text: str, longest: int) -> None:
    parts = portions(text, longest)

    assert text == "".join(parts)
    assert all(len(part) <= longest for part in parts)
    assert all(parts) or parts == [""]


@settings(max_examples=examples(200))
@given(st.lists(st.text(st.sampled_from("ab \n"), max_size=30), max_size=6), st.integers(1, 12))
def test_joined_texts_lose_no_letter(texts: list[str], longest: int) -> None:
    batches = joined(texts, longest)

    def letters(each: list[str]) -> str:
        return "".join(each).replace(" ", "").replace("\n", "")

    assert letters(texts) == letters(batches)
    assert all(0 < len(batch) <= longest for batch in batches)
