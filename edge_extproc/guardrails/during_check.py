"""Asks services about a request while the provider already works on it.

The exchange waits for the verdict before the first byte of the reply. A block that comes earlier ends the exchange at
once, so that the provider stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from ..errors import EdgeError, GuardrailBlocked, PolicyUnavailable
from ..model.rule_hit import RuleHit
from .base import VERDICT_SECONDS
from .findings import Findings


def raise_if_blocked(findings: Findings) -> None:
    """Raises GuardrailBlocked."""
    blocked = findings.blocked
    if blocked is not None:
        raise GuardrailBlocked(blocked.rule, blocked.label, param=blocked.param)


class DuringCheck:
    """The check of one request, which begins at once."""

    def __init__(
        self,
        check: Callable[[], Coroutine[Any, Any, Findings]],
        note: Callable[[Sequence[RuleHit]], None],
        *,
        holds: bool,
    ) -> None:
        """`check` asks the services. `note` takes what the rules did."""
        self.holds = holds
        """Whether the reply waits for the verdict. If not, the verdict is only noted."""
        self._note = note
        self._check = asyncio.create_task(self._checked(check()), name="guardrails during a call")
        self._check.add_done_callback(_read)
        self._watch: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the reply waits for a verdict that is not there yet."""
        return self.holds and not self._check.done()

    async def verdict(self) -> None:
        """Waits for it. Raises GuardrailBlocked, and PolicyUnavailable without the verdict of a service."""
        await asyncio.shield(self._check)

    async def allowed(self, take_time: Callable[[float], Awaitable[None]], forget: Callable[[], None] | None) -> None:
        """Waits for the verdict, if the reply does. `forget` is called if the call is refused."""
        if not self.holds:
            return
        await take_time(VERDICT_SECONDS)
        try:
            await self.verdict()
        except EdgeError:
            if forget is not None:
                forget()
            raise

    async def noted(self) -> None:
        """Waits until the hits of the rules are those of the call, whatever the verdict is."""
        await asyncio.wait((self._check,))

    def watch(self, refused: Callable[[EdgeError], Awaitable[None]]) -> None:
        """Calls the function as soon as the verdict refuses the request."""
        if self.holds:
            self._watch = asyncio.create_task(self._watching(refused), name="guardrails during a call: end")

    def close(self) -> None:
        """The exchange has ended."""
        for task in (self._check, self._watch):
            if task is not None:
                task.cancel()

    async def _checked(self, check: Coroutine[Any, Any, Findings]) -> None:
        findings = await check
        self._note(findings.hits)
        raise_if_blocked(findings)

    async def _watching(self, refused: Callable[[EdgeError], Awaitable[None]]) -> None:
        try:
            await self.verdict()
        except (GuardrailBlocked, PolicyUnavailable) as error:
            await refused(error)


def _read(check: asyncio.Task[None]) -> None:
    """Reading the exception tells asyncio that it is not lost, though nobody waits for it."""
    if not check.cancelled():
        check.exception()
