"""Holds one credential and renews it off the path of requests.

One task renews (`run`), so that however many requests wait for a credential, it is fetched once. It is fetched ahead
of its end; where that fails, the old one stands until it ends and the failure is told, then the provider is
`Unavailable` until a fetch succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from ...errors import Unavailable
from ...telemetry.background import BACKGROUND
from .base import Fetch, HeldCredential, RefreshedCredential

T = TypeVar("T")

# Renewed in the last fifth of its life, but not more than five minutes ahead: Google's and Azure's tokens live an
# hour, temporary keys of AWS fifteen minutes to twelve hours, and each service gives a new one by then.
LEAD = 0.2
LONGEST_LEAD = 300.0
# Between two tries that failed: doubled each time.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
# A fetch is a call or two of some hundred milliseconds; a service that takes longer than this is not going to answer.
PATIENCE = 30.0
# Not all workers at once.
JITTER = 0.1


class RefreshListener(Protocol):
    """Hears how each fetch ended. `error` is the name of a class, or None where it went well."""

    def __call__(self, provider: str, error: str | None, expires_at: float | None) -> None: ...


class CredentialRefresher(Generic[T]):
    """`name` is the provider's."""

    def __init__(
        self,
        name: str,
        fetch: Fetch[T],
        clock: Callable[[], float],
        told: RefreshListener,
        held: HeldCredential[T] | None = None,
        *,
        least_pause: float = FIRST_PAUSE,
    ) -> None:
        """`held` is what holds already; `least_pause` the seconds between two fetches, whoever wants one."""
        self.name = name
        self._fetch = fetch
        self._clock = clock
        self._told = told
        self._held = held
        self._failures = 0
        self._least_pause = least_pause
        self._wanted = asyncio.Event()
        """A request found nothing that holds: a machine that slept, say, has not counted the time."""
        self.tried = asyncio.Event()
        """The first fetch is over, however it ended."""

    def current(self) -> T:
        """What holds now. Raises Unavailable."""
        held = self._held
        if held is None:
            self._wanted.set()
            raise Unavailable(f"there is no credential for provider {self.name!r} now")
        if held.expires_at is not None and self._clock() >= held.expires_at:
            self._wanted.set()
            raise Unavailable(f"the credential for provider {self.name!r} has ended and could not be renewed")
        return held.value

    async def run(self) -> None:
        """Until it is cancelled, or what it fetched needs no other fetch."""
        pause = await self.renew()
        while pause is not None:
            await asyncio.sleep(min(pause, self._least_pause))
            self._wanted.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), max(pause - self._least_pause, 0))
            pause = await self.renew()

    async def renew(self) -> float | None:
        """Fetches once. Seconds to the next fetch, or None for never."""
        try:
            async with asyncio.timeout(PATIENCE):
                held = await self._fetch()
        except Exception as error:  # noqa: BLE001 - a library or a network may raise anything, and all of it means: not now
            self._failures += 1
            self._told(self.name, type(error).__name__, self._held.expires_at if self._held is not None else None)
            return self._after_failure()
        finally:
            self.tried.set()
        if self._failures or self._held is None or held.value != self._held.value:
            self._told(self.name, None, held.expires_at)
        self._failures = 0
        self._held = held
        return self._until_next(held)

    def _after_failure(self) -> float:
        return _spread(min(FIRST_PAUSE * 2 ** min(self._failures - 1, 16), LONGEST_PAUSE))

    def _until_next(self, held: HeldCredential[T]) -> float | None:
        now = self._clock()
        if held.look_again_at is not None:
            return max(held.look_again_at - now, 0.0)
        if held.expires_at is None:
            return None
        left = held.expires_at - now
        lead = min(left * LEAD, LONGEST_LEAD)
        # Something that is at its end already is asked for again, but not without a pause.
        return max(left - _spread(lead), FIRST_PAUSE)


def _spread(seconds: float) -> float:
    return seconds * (1 + random.uniform(0, JITTER))  # noqa: S311 - it guards no secret


class CredentialRefreshers:
    """All that is renewed for the providers of one configuration."""

    def __init__(self, clock: Callable[[], float], told: RefreshListener) -> None:
        self._clock = clock
        self._told = told
        self._all: list[CredentialRefresher[Any]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self, name: str, fetch: Fetch[T], held: HeldCredential[T] | None = None) -> Callable[[], T]:
        """Gives what holds now; it is renewed from `start` on."""
        keeper = CredentialRefresher(name, fetch, self._clock, self._told, held)
        self._all.append(keeper)
        return keeper.current

    def of(self, name: str) -> RefreshedCredential:
        """What a kind of credential is given to hold its own."""

        def keep(fetch: Fetch[T]) -> Callable[[], T]:
            return self.keep(name, fetch)

        return keep

    async def start(self, patience: float) -> None:
        """Returns once each has tried, or after `patience` seconds: one that cannot must not hold up the rest."""
        if not self._all:
            return
        # Each by itself: a bug in one must not end the others.
        self._tasks = [BACKGROUND.start("credentials", keeper.run) for keeper in self._all]
        tried = asyncio.gather(*(keeper.tried.wait() for keeper in self._all))
        await asyncio.wait([tried], timeout=patience)
        tried.cancel()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
