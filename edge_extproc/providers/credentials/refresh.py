"""Stores a credential and renews it in the background.

One task renews it (`run`), so many requests cause one fetch. It is fetched before it expires. If a fetch fails, the
failure is reported, and the old credential is used until it expires. After that, the provider is `Unavailable` until a
fetch succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from ...errors import Unavailable
from ...telemetry.background import BACKGROUND
from .base import Fetch, FetchedCredential, RefreshedCredential

T = TypeVar("T")

# A credential is renewed in the last fifth of its life, and at most five minutes before it expires. Tokens of Google
# and Azure are valid for one hour, temporary keys of AWS for fifteen minutes to twelve hours.
LEAD = 0.2
MAX_LEAD = 300.0
# Seconds between failed fetches, doubled after each.
FIRST_PAUSE = 1.0
MAX_PAUSE = 60.0
# Seconds. A fetch normally takes some hundred milliseconds.
FETCH_TIMEOUT = 30.0
# It spreads the fetches of several workers.
JITTER = 0.1


class RefreshListener(Protocol):
    """Receives the result of each fetch. `error`: the name of the exception's class. None: it succeeded."""

    def __call__(self, provider: str, error: str | None, expires_at: float | None) -> None: ...


class CredentialRefresher(Generic[T]):
    """The credential of one provider. `name`: the provider's."""

    def __init__(
        self,
        name: str,
        fetch: Fetch[T],
        clock: Callable[[], float],
        report: RefreshListener,
        initial: FetchedCredential[T] | None = None,
        *,
        least_pause: float = FIRST_PAUSE,
    ) -> None:
        """`initial`: the credential that is known already. `least_pause`: the shortest time between two fetches,
        seconds."""
        self.name = name
        self._fetch = fetch
        self._clock = clock
        self._report = report
        self._credential = initial
        self._failures = 0
        self._least_pause = least_pause
        self._refresh_requested = asyncio.Event()
        """Set by a request without a valid credential, for example after the machine was suspended."""
        self.attempted = asyncio.Event()
        """Set after the first fetch, also if it failed."""

    def current(self) -> T:
        """The current value. Raises Unavailable."""
        credential = self._credential
        if credential is None:
            self._refresh_requested.set()
            raise Unavailable(f"there is no credential for provider {self.name!r} now")
        if credential.expires_at is not None and self._clock() >= credential.expires_at:
            self._refresh_requested.set()
            raise Unavailable(f"the credential for provider {self.name!r} has expired and could not be renewed")
        return credential.value

    async def run(self) -> None:
        """Renews the credential until the task is cancelled, or until a credential never expires."""
        pause = await self.renew()
        while pause is not None:
            await asyncio.sleep(min(pause, self._least_pause))
            self._refresh_requested.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._refresh_requested.wait(), max(pause - self._least_pause, 0))
            pause = await self.renew()

    async def renew(self) -> float | None:
        """Fetches once. Returns the seconds until the next fetch; None: never."""
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                credential = await self._fetch()
        except Exception as error:  # noqa: BLE001 - libraries raise many types here; each is a failed fetch
            self._failures += 1
            self._report(
                self.name, type(error).__name__, self._credential.expires_at if self._credential is not None else None
            )
            return self._after_failure()
        finally:
            self.attempted.set()
        if self._failures or self._credential is None or credential.value != self._credential.value:
            self._report(self.name, None, credential.expires_at)
        self._failures = 0
        self._credential = credential
        return self._until_next(credential)

    def _after_failure(self) -> float:
        return _spread(min(FIRST_PAUSE * 2 ** min(self._failures - 1, 16), MAX_PAUSE))

    def _until_next(self, credential: FetchedCredential[T]) -> float | None:
        now = self._clock()
        if credential.refresh_at is not None:
            return max(credential.refresh_at - now, 0.0)
        if credential.expires_at is None:
            return None
        remaining = credential.expires_at - now
        lead = min(remaining * LEAD, MAX_LEAD)
        # A credential that has expired already is fetched again, but not without a pause.
        return max(remaining - _spread(lead), FIRST_PAUSE)


def _spread(seconds: float) -> float:
    return seconds * (1 + random.uniform(0, JITTER))  # noqa: S311 - it protects no secret


class CredentialRefreshers:
    """The refreshers of all providers of one configuration."""

    def __init__(self, clock: Callable[[], float], report: RefreshListener) -> None:
        self._clock = clock
        self._report = report
        self._all: list[CredentialRefresher[Any]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, name: str, fetch: Fetch[T], initial: FetchedCredential[T] | None = None) -> Callable[[], T]:
        """Returns a function that returns the current value. It is renewed from `start` on."""
        refresher = CredentialRefresher(name, fetch, self._clock, self._report, initial)
        self._all.append(refresher)
        return refresher.current

    def of(self, name: str) -> RefreshedCredential:
        """The function with which a kind of credential adds a refresher for the provider `name`."""

        def add(fetch: Fetch[T]) -> Callable[[], T]:
            return self.add(name, fetch)

        return add

    async def start(self, patience: float) -> None:
        """Returns when each has been fetched or has failed once, and after `patience` seconds at the latest."""
        if not self._all:
            return
        # One task for each: a bug in one must not end the others.
        self._tasks = [BACKGROUND.start("credentials", refresher.run) for refresher in self._all]
        attempted = asyncio.gather(*(refresher.attempted.wait() for refresher in self._all))
        await asyncio.wait([attempted], timeout=patience)
        attempted.cancel()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
