"""Keeps encrypted reasoning from accounts that cannot decrypt it (docs/adr/198).

response body    the encrypted texts that it contains    → recorded with the account of the provider
request body     those that it contains                  → their accounts, for the request of each candidate
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..codecs.frame import Frame
from ..dialects.base import SealingDialect
from ..errors import BadRequest
from ..model.call import Call
from ..model.plan import Candidate, Fallback
from ..records.reasoning import ReasoningAccounts
from .commands import Command, Continue
from .events import ResponseBody
from .parsed_call import ParsedCall
from .phases import Identified
from .ports import Gateway
from .response import Receiving, ResponsePhase
from .response_head import Answered


async def reasoning_access(gateway: Gateway, identified: Identified, call: Call) -> ReasoningAccess | None:
    """None if all providers use one account, or if the caller's format has no encrypted reasoning."""
    accounts, dialect = gateway.reasoning, identified.caller_dialect
    if accounts is None or call.operation != "chat" or not isinstance(dialect, SealingDialect):
        return None
    tenant, (texts, essential) = identified.principal.tenant, dialect.sealed_in_request(call.raw)
    makers = await accounts.makers(tenant, texts) if texts else {}
    foreign: dict[str, frozenset[bytes]] = {}
    unable: set[str] = set()
    for provider in gateway.providers if makers else ():
        others = frozenset(text for text, account in makers.items() if account != accounts.account(provider))
        if others:
            foreign[provider] = others
        if not others.isdisjoint(essential):
            unable.add(provider)
    return ReasoningAccess(accounts, tenant, dialect, foreign, frozenset(unable))


class ReasoningAccess:
    """The encrypted reasoning of one exchange."""

    __slots__ = ("_accounts", "_dialect", "_foreign", "_new", "_seen", "_tenant", "_unable")

    def __init__(
        self,
        accounts: ReasoningAccounts,
        tenant: str,
        dialect: SealingDialect,
        foreign: dict[str, frozenset[bytes]],
        unable: frozenset[str],
    ) -> None:
        """`foreign`: for each provider, the encrypted texts of other accounts in the request. `unable`: the providers
        that cannot read an essential one."""
        self._accounts = accounts
        self._tenant = tenant
        self._dialect = dialect
        self._foreign = foreign
        self._unable = unable
        self._seen: set[bytes] = set()
        self._new: list[bytes] = []

    def annotate(self, parsed: ParsedCall) -> None:
        """Adds to the call what each provider cannot decrypt."""
        if self._foreign:
            parsed.call = replace(parsed.call, foreign_reasoning=self._foreign)

    def able(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """The candidates that can read the conversation. Raises BadRequest if there is none."""
        able = self._able(candidates)
        if candidates and not able:
            raise BadRequest(
                "this conversation was compacted by an account that no provider of this model uses now; "
                "send the items before the compaction",
                param="input",
            )
        return able

    def permitted(self, fallback: Fallback) -> Fallback:
        return Fallback(tuple(self._able(fallback.context_length)), tuple(self._able(fallback.content_filter)))

    def _able(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        if not self._unable:
            return candidates
        return tuple([each for each in candidates if each.provider not in self._unable])

    # --- the response

    def is_made(self, answered: Answered) -> bool:
        """Whether the reply may contain encrypted reasoning of its provider."""
        return answered.dialect.name == answered.caller_dialect.name

    def watch(self, frame: Frame) -> None:
        """Reads one event of a stream that is not only text."""
        self._note(frame.data)

    def _note(self, body: bytes) -> None:
        for text in self._dialect.sealed_in_reply(body):
            if text not in self._seen:
                self._seen.add(text)
                self._new.append(text)

    async def note(self, event: ResponseBody, command: Command, phase: ResponsePhase | None) -> None:
        """Records what a part of the response body contains, before the caller gets it."""
        if not isinstance(phase, Receiving) or not isinstance(command, Continue) or not self.is_made(phase.answered):
            return
        if phase.body.is_whole and event.end:
            self._note(phase.body.raw or (event.body if command.body is None else command.body))
        if self._new:
            texts, self._new = self._new, []
            await self._accounts.record(phase.answered.candidate.provider, self._tenant, texts)
