"""Who uses the admin API: the identity of a request, and the tenants that it may see and change."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from ..store.managed import Actor
from ..store.running_query import RunningQuery, running_query
from .admin_errors import AdminRefused, Role

T = TypeVar("T")
# At one time. The oldest ends for one more.
_MOST_ADMINS = 1000


@dataclass(frozen=True, slots=True)
class AdminIdentity:
    id: str
    role: Role
    tenant: str | None

    @property
    def actor(self) -> Actor:
        return Actor(self.id, self.role)

    def scope(self, wanted: str | None) -> str | None:
        """The tenant to which a query is restricted. Raises AdminRefused for a tenant of others."""
        if self.tenant is None:
            return wanted
        if wanted not in (None, self.tenant):
            raise AdminRefused(403, "other_tenant", f"{self.id} may see tenant {self.tenant} alone")
        return self.tenant

    def must_manage(self, tenant: str) -> None:
        if self.tenant not in (None, tenant):
            raise AdminRefused(403, "other_tenant", f"{self.id} may change tenant {self.tenant} alone")


class FederatedAdmins:
    """The admins who have signed in with an identity provider. Each gets a random credential, which only this process
    knows. `now`: seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._by_digest: OrderedDict[bytes, tuple[float, AdminIdentity]] = OrderedDict()

    def begin(self, identity: AdminIdentity, seconds: float) -> str:
        """The credential, for so many seconds."""
        credential = secrets.token_urlsafe(32)
        self._by_digest[_digest(credential)] = (self._now() + seconds, identity)
        while len(self._by_digest) > _MOST_ADMINS:
            self._by_digest.popitem(last=False)
        return credential

    def find(self, credential: str) -> AdminIdentity | None:
        # A lookup by a digest does not show how much of a credential is right.
        digest = _digest(credential)
        found = self._by_digest.get(digest)
        if found is None:
            return None
        expires, identity = found
        if expires <= self._now():
            del self._by_digest[digest]
            return None
        return identity

    def end(self, credential: str) -> None:
        self._by_digest.pop(_digest(credential), None)


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()


def _admitted(request: Request) -> AdminIdentity:
    gate: Callable[[Request], AdminIdentity] = request.app.state.gate
    return gate(request)


Caller = Annotated[AdminIdentity, Depends(_admitted)]


class DatabaseThreads:
    """Threads that wait for the database. They are not those of the event loop: a database that does not answer would
    hold these, and the rest of the supervisor needs them. `seconds`: how long a call may wait. `niceness`: by how much
    the threads yield the processor to others."""

    def __init__(self, most: int, seconds: float, *, niceness: int = 0) -> None:
        self._threads = ThreadPoolExecutor(
            most, thread_name_prefix="admin-database", initializer=_yield_to_others, initargs=(niceness,)
        )
        self._stopping = ThreadPoolExecutor(1, thread_name_prefix="admin-database-stop")
        self._seconds = seconds

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Raises AdminRefused if the database does not answer in time. The thread still waits then."""
        return await self._run(contextvars.copy_context(), "; a change may still be made", function, *arguments)

    async def read(self, function: Callable[..., T], *arguments: object) -> T:
        """As `call`, for a function that changes nothing. When its time is over, or when its caller is cancelled, the
        query is stopped."""
        query, context = RunningQuery(), contextvars.copy_context()
        context.run(running_query.set, query)
        try:
            return await self._run(context, "", function, *arguments)
        except (asyncio.CancelledError, AdminRefused):
            self._stopping.submit(query.stop)
            raise

    async def _run(self, context: contextvars.Context, more: str, function: Callable[..., T], *arguments: object) -> T:
        calling = asyncio.get_running_loop().run_in_executor(self._threads, context.run, function, *arguments)
        try:
            done, _ = await asyncio.wait((calling,), timeout=self._seconds)
        finally:
            # Only one that has not begun: a thread cannot be stopped.
            calling.cancel()
        if not done:
            raise AdminRefused(503, "store_slow", f"the database has not answered for {self._seconds:g} s{more}")
        return calling.result()

    async def read_parts(self, parts: Iterator[str]) -> AsyncIterator[str]:
        """The parts of an iterator that reads, up to the first empty one."""
        while part := await self.read(next, parts, ""):
            yield part


def _yield_to_others(niceness: int) -> None:
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))


in_thread = DatabaseThreads(8, 20.0).call
"""Calls a function that changes the database, or waits for a small answer."""

_REPORTS = DatabaseThreads(4, 20.0, niceness=5)
read_in_thread = _REPORTS.read
"""Calls a function that reads the ledger. Few run at a time, and the workers come first: a report of many rows needs a
whole processor."""
read_parts = _REPORTS.read_parts
