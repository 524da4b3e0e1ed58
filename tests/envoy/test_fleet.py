"""Agents that come, go, die, hang and change while callers ask: which calls fail, and why (docs/fleet.md).

A call fails only if it was open on a process that was killed. Nobody's provider is asked twice for one call."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import anthropic
import fleet as fleets
import gateway as gateways
import openai
import pytest
import thoroughness
from fleet import CHAT, Fleet, held_calls, left_out, until, was_open_on_a_lost_agent
from valkeys import Valkey

pytestmark = [pytest.mark.envoy, pytest.mark.fleet]

AGENTS = 2


@pytest.fixture(scope="module")
def started() -> Iterator[Fleet]:
    with Valkey() as store, fleets.PacedProvider().running() as provider:
        fleet = Fleet(provider, store.url)
        try:
            fleet.start(AGENTS + thoroughness.is_long())
            for _ in range(2):
                fleet.start_envoy()
            yield fleet
        finally:
            fleet.close()


@pytest.fixture
def fleet(started: Fleet) -> Fleet:
    started.provider.release.clear()
    started.until_known()
    return started


@pytest.fixture(autouse=True)
def each_call_is_charged_once(started: Fleet) -> Iterator[None]:
    """Of each test: no provider is asked twice for a call, and the ledger has one paid row for each call that a
    provider was asked for, except for what was not settled on a process that was killed."""
    yield
    asked = started.provider.asked
    assert set(asked.values()) <= {1}
    wanted = asked.total() - len(started.lost)
    gateways.until(lambda: wanted <= len(started.paid()), fleets.PATIENCE)
    rows = started.paid()
    assert len(rows) == len(set(rows))
    assert wanted <= len(rows) <= asked.total()


def in_thread(function, *arguments):
    return asyncio.to_thread(function, *arguments)


async def test_a_rolling_update_fails_nobody(fleet: Fleet) -> None:
    async with fleet.load() as load:
        for agent in list(fleet.agents.values()):
            await in_thread(fleet.start, 1)
            await in_thread(fleet.until_known)
            await in_thread(fleet.remove, agent)

    assert {} == load.reasons()


async def test_more_agents_and_fewer_fail_nobody(fleet: Fleet) -> None:
    async with fleet.load() as load:
        fresh = await in_thread(fleet.start, 1)
        await in_thread(fleet.until_known)
        # Envoy learns by DNS that it is gone; until then the agent is refused and another one taken.
        for agent in fresh:
            await in_thread(fleet.remove, agent)
        await in_thread(fleet.until_known)

    assert {} == load.reasons()


async def test_a_changed_configuration_is_taken_by_one_agent_after_the_other(fleet: Fleet) -> None:
    old = {agent.address: agent.path.read_text() for agent in fleet.agents.values()}
    fresh = "models:\n  fresh: [{provider: openai, model: gpt-5-mini}]\n"
    async with fleet.load() as load, fleet.client() as http:
        for agent in fleet.agents.values():
            await in_thread(agent.reload, old[agent.address].replace("models:\n", fresh, 1))
            # Until the last one has it, agents of both configurations serve.
            seen = len(load.outcomes)
            await until(lambda seen=seen: len(load.outcomes) >= seen + 12)
        assert "whole" == (await fleet.ask(http, CHAT, streamed=True, model="fresh")).why
        for agent in fleet.agents.values():
            await in_thread(agent.reload, old[agent.address])

    assert {} == load.reasons()


@dataclass
class SdkStream:
    """What a client library makes of a stream: the text, and what it raised."""

    text: str = ""
    raised: Exception | None = None

    async def of_openai(self, url: str, name: str) -> None:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=gateways.KEY, max_retries=0) as client:
            asked = [{"role": "user", "content": name}]
            stream = await client.chat.completions.create(model="claude-sonnet-4-5", messages=asked, stream=True)
            async for part in stream:
                self.text += "".join(choice.delta.content or "" for choice in part.choices)

    async def of_anthropic(self, url: str, name: str) -> None:
        async with anthropic.AsyncAnthropic(base_url=url, api_key=gateways.KEY, max_retries=0) as client:
            asked = [{"role": "user", "content": name}]
            async with client.messages.stream(model="gpt-5-mini", messages=asked, max_tokens=20) as stream:
                async for text in stream.text_stream:
                    self.text += text

    async def run(self, url: str, name: str, *, is_openai: bool) -> None:
        try:
            await (self.of_openai if is_openai else self.of_anthropic)(url, name)
        except Exception as error:  # noqa: BLE001 - whatever a client raises is what is asked here
            self.raised = error


async def test_an_agent_that_is_lost_takes_only_what_was_open_on_it(fleet: Fleet) -> None:
    sdk = {f"call-held-sdk-{n}": SdkStream() for n in range(12)}
    async with held_calls(fleet) as calls, asyncio.TaskGroup() as running:
        for n, (name, stream) in enumerate(sdk.items()):
            running.create_task(stream.run(fleet.url(), name, is_openai=n % 2 == 0))
        await until(lambda: all(stream.text for stream in sdk.values()))
        lost = fleet.agents[fleet.envoys[0].open_streams().most_common(1)[0][0]]
        async with fleet.load() as load:
            ended = len(load.outcomes)
            await in_thread(lost.lose)
            # An agent settles a call after its last bytes: of the last call of each caller, it may not have done so.
            unsettled = load.outcomes[max(0, ended - fleets.CALLERS) :]
            await until(lambda: any(call.done() for call in calls))
        fleet.provider.release.set()

    outcomes = [*(call.result() for call in calls), *load.outcomes]
    failed = [each for each in outcomes if each.why != "whole"]
    # The others are whole.
    assert 0 < sum(call.result().why != "whole" for call in calls) < len(calls)
    assert [] == [(each.why, each.status, each.path) for each in failed if not was_open_on_a_lost_agent(each)]
    # At most once: of a call whose body the agent was reading, the provider knows nothing.
    assert [] == [(times, each.why, each.path) for each in failed if (times := fleet.provider.asked[each.call]) > 1]
    # A client library raises; it never takes what came for a whole reply.
    broken = {name for name, stream in sdk.items() if stream.raised is not None}
    assert broken
    assert all(stream.text == "Hi there" for name, stream in sdk.items() if name not in broken)
    fleet.lost |= broken | {each.call for each in (*failed, *unsettled)}

    # It comes back where it was. What its workers have settled is in the ledger then.
    async with fleet.load() as load:
        await in_thread(lost.start)
        await in_thread(fleet.until_known)
    assert {} == load.reasons()


async def test_an_agent_that_hangs_gets_no_new_calls_once_envoy_sees_it(fleet: Fleet) -> None:
    hung = next(iter(fleet.agents.values()))
    async with fleet.load() as before:
        hung.signal(signal.SIGSTOP)
        try:
            await until(lambda: all(left_out(fleet, hung.address, n) for n in range(len(fleet.envoys))))
            async with fleet.load() as after:
                pass
            assert {} == after.reasons()
        finally:
            hung.signal(signal.SIGCONT)

    # Until then, it takes its share: a call waits for limits.message_timeout, and may be sent again.
    assert set(before.reasons()) <= {"504 policy_unavailable", "RemoteProtocolError"}, before.failed
    assert all(each.status == 200 for each in before.failed if each.why == "RemoteProtocolError")
    unasked = [each for each in before.failed if each.status != 200]
    assert all(fleet.provider.asked[each.call] <= 1 for each in unasked)


async def test_an_agent_that_stops_ends_its_open_calls_first(fleet: Fleet) -> None:
    """The drain of an agent: it begins no calls, and what is open on it is whole."""
    (leaving,) = await in_thread(fleet.start, 1)
    await in_thread(fleet.until_known)
    async with held_calls(fleet) as calls:
        assert fleet.envoys[0].open_streams()[leaving.address]
        stopped = asyncio.create_task(in_thread(fleet.remove, leaving))
        async with fleet.load() as load:
            pass
        assert not stopped.done()
        fleet.provider.release.set()
    await stopped

    assert {"whole"} == {call.result().why for call in calls}
    assert {} == load.reasons()


async def test_envoy_is_restarted_hot(fleet: Fleet) -> None:
    envoy = await in_thread(fleet.start_envoy)
    try:
        async with held_calls(fleet, envoy=len(fleet.envoys) - 1) as calls, fleet.load() as load:
            await in_thread(envoy.restart)
            # The process before answers no new calls now.
            seen = len(load.outcomes)
            await until(lambda: len(load.outcomes) >= seen + 24)
            fleet.provider.release.set()
    finally:
        fleet.envoys.remove(envoy)
        await in_thread(envoy.close)

    assert {"whole"} == {call.result().why for call in calls}
    assert {} == load.reasons()
