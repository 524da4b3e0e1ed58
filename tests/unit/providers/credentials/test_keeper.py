import asyncio
import contextlib

import pytest
from providers import until

from edge_extproc.errors import Unavailable
from edge_extproc.providers.credentials import refresh as rules
from edge_extproc.providers.credentials.api_key import HeaderKey, bearer
from edge_extproc.providers.credentials.base import FetchedCredential, UnsignedRequest
from edge_extproc.providers.credentials.refresh import CredentialRefresher, CredentialRefreshers

REQUEST = UnsignedRequest("POST", "host.example", "/v1/x")


class Service:
    """Gives out what a test has put there; an exception is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self):
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def heard():
    return []


@pytest.fixture
def make(clock, heard):
    return lambda *answers: CredentialRefresher("aws", Service(*answers), clock, lambda *told: heard.append(told))


def test_a_key_goes_into_its_header():
    assert (("authorization", "Bearer k"),) == bearer(lambda: "k").headers(REQUEST)
    assert (("api-key", "k"),) == HeaderKey("api-key", lambda: "k").headers(REQUEST)


def test_no_repr_shows_a_secret():
    assert "hush" not in repr(FetchedCredential("hush")) + repr(bearer(lambda: "hush")) + repr(
        HeaderKey("x", lambda: "hush")
    )


def test_nothing_is_held_before_the_first_fetch(make):
    with pytest.raises(Unavailable, match="no credential for provider 'aws'"):
        make().current()


async def test_what_was_fetched_is_renewed_ahead_of_its_end(make, clock, heard):
    keeper = make(FetchedCredential("first", 1000 + 3600), FetchedCredential("second", 1000 + 7200))
    pause = await keeper.renew()

    assert "first" == keeper.current()
    assert 3600 - 300 * (1 + rules.JITTER) <= pause <= 3600 - 300
    clock.now += pause
    await keeper.renew()
    assert "second" == keeper.current()
    assert [("aws", None, 4600.0), ("aws", None, 8200.0)] == heard


async def test_a_short_life_is_renewed_in_its_last_fifth(make):
    pause = await make(FetchedCredential("x", 1000 + 100)).renew()

    assert 78 <= pause <= 80


async def test_a_failed_renewal_keeps_the_old_one_until_its_end(make, clock, heard):
    keeper = make(
        FetchedCredential("first", 1060.0),
        OSError("secret words"),
        OSError("secret words"),
        FetchedCredential("second", 5000.0),
    )
    await keeper.renew()
    clock.now = 1050.0
    first, second = await keeper.renew(), await keeper.renew()

    assert "first" == keeper.current()
    assert [("aws", "OSError", 1060.0)] * 2 == heard[1:]
    assert rules.FIRST_PAUSE <= first < second <= rules.FIRST_PAUSE * 2 * (1 + rules.JITTER)
    clock.now = 1060.0
    with pytest.raises(Unavailable, match="has expired and could not be renewed"):
        keeper.current()
    await keeper.renew()
    assert "second" == keeper.current()
    assert ("aws", None, 5000.0) == heard[-1]


async def test_the_pause_between_failures_has_a_limit(make):
    keeper = make(*[OSError()] * 40)
    pauses = [await keeper.renew() for _ in range(40)]

    assert max(pauses) <= rules.MAX_PAUSE * (1 + rules.JITTER)


async def test_what_never_ends_is_fetched_once(make):
    keeper = make(FetchedCredential("x"))
    await asyncio.wait_for(keeper.run(), 5)

    assert "x" == keeper.current()


async def test_a_source_may_say_when_to_look_again_and_no_news_is_not_told(make, heard):
    keeper = make(
        FetchedCredential("x", None, 1002.0), FetchedCredential("x", None, 1002.0), FetchedCredential("y", None, 1002.0)
    )

    assert [2.0, 2.0, 2.0] == [await keeper.renew() for _ in range(3)]
    assert "y" == keeper.current()
    assert 2 == len(heard)


async def test_what_is_given_at_its_end_is_asked_for_again_after_a_pause(make):
    assert rules.FIRST_PAUSE == await make(FetchedCredential("x", 1000.0)).renew()


async def test_keepers_start_together_and_none_holds_up_the_start(clock, heard):
    never = asyncio.Event()

    async def hangs():
        await never.wait()

    async def gives():
        return FetchedCredential("x")

    keepers = CredentialRefreshers(clock, lambda *told: heard.append(told))
    slow = keepers.add("slow", hangs)
    good = keepers.of("good")(gives)
    await keepers.start(0.01)

    assert "x" == good()
    with pytest.raises(Unavailable, match="'slow'"):
        slow()
    await keepers.stop()
    assert [("good", None, None)] == heard
    await keepers.stop()


async def test_without_anything_to_renew_nothing_runs(clock):
    keepers = CredentialRefreshers(clock, lambda *told: None)
    await keepers.start(60)
    await keepers.stop()


async def test_what_holds_already_holds_before_the_first_fetch(clock):
    keepers = CredentialRefreshers(clock, lambda *told: None)

    assert "old" == keepers.add("p", Service(), FetchedCredential("old"))()


async def test_a_request_that_finds_nothing_has_it_fetched_before_its_time(clock):
    """As on a machine that slept: the pause is longer than what was held."""
    service = Service(FetchedCredential("first", clock.now + 60, clock.now + 1e6), FetchedCredential("second"))
    keeper = CredentialRefresher("aws", service, clock, lambda *told: None, least_pause=0.0)
    running = asyncio.create_task(keeper.run())
    await keeper.attempted.wait()
    clock.now += 100

    def is_renewed():
        with contextlib.suppress(Unavailable):
            return "second" == keeper.current()
        return False

    await until(is_renewed)
    await running


async def test_a_bug_in_one_does_not_end_the_others(clock):
    heard = []

    def told(provider, error, expires_at):
        heard.append(provider)
        if provider == "bad":
            raise RuntimeError("a bug")

    keepers = CredentialRefreshers(clock, told)
    keepers.add("bad", Service(FetchedCredential("x")))
    good = keepers.add("good", Service(FetchedCredential("x", None, clock.now), FetchedCredential("y")))
    await keepers.start(10)
    await until(lambda: good() == "y")
    await keepers.stop()

    assert ["bad", "good", "good"] == sorted(heard)
