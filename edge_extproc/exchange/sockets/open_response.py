"""One response within a session, and its settlement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from ...accounting.estimate import tokens_of_length
from ...limits.base import MICRO
from ...model.call import Call
from ...model.content import Json
from ...model.fault import Fault
from ...model.plan import Candidate
from ...model.plausible import is_plausible
from ...model.settlement import Outcome, Settlement
from ...model.usage import Usage
from ..phases import Identified
from ..ports import Gateway

# Base64 characters of audio for a token of it: G.711 has the fewest. The model's audio has 20 tokens a second.
_SPOKEN_CHARACTERS = 533


@dataclass(slots=True)
class Extent:
    """Tokens that a session had been sent when a response began."""

    most: int = 0
    likely: int = 0


@dataclass(slots=True)
class OpenResponse:
    """A response that is not settled."""

    exchange_id: str
    candidate: Candidate
    call: Call
    estimate: Usage
    """The tokens that it is billed for if its usage never comes."""
    began: float
    started_at: float
    extent: Extent
    spent: float = 0.0
    """Seconds in the agent: of the session until it began, and in the end of the response."""
    event_id: str | None = None
    """The id of the caller's event."""
    is_apart: bool = False
    """It is no part of the conversation: its usage does not show the session's length."""
    is_sent: bool = False
    """The provider has it."""
    lane: str | None = None
    """Of several responses that run at one time."""
    id: str | None = None
    """The provider's id of it."""
    refused: Fault | None = None
    """The gateway has refused it, when it had begun. It has no reservation."""
    failed: Fault | None = None
    """The provider has sent an error within it, after which its end may still come."""
    first_token_at: float | None = None
    has_begun: bool = False
    """Its beginning has come, or a part of it."""
    is_over: bool = False
    """It has ended, and its usage may still come."""
    usage: Usage | None = None
    """Its usage until now."""
    response_bytes: int = 0
    text_characters: int = 0
    audio_characters: int = 0

    def received(self, kind: str, delta: Json, now: float) -> None:
        """A part of it. `kind`: the type of the event."""
        self.first_token_at = self.first_token_at or now
        if isinstance(delta, str):
            if kind.endswith("audio.delta"):
                self.audio_characters += len(delta)
            else:
                self.text_characters += len(delta)

    def estimated(self) -> Usage:
        """At least what was received of it."""
        spoken = self.audio_characters // _SPOKEN_CHARACTERS
        written = max(tokens_of_length(self.text_characters), self.estimate.output - spoken)
        return replace(self.estimate, output=written, output_audio=spoken)


def settlement_of(
    gateway: Gateway,
    identified: Identified,
    response: OpenResponse,
    outcome: Outcome,
    usage: Usage | None,
    *,
    fault: Fault | None,
    model: Json,
) -> Settlement:
    """`model`: the name of the model in the provider's response."""
    received, principal, sent = identified.received, identified.principal, response.is_sent
    if usage is not None and (usage.prompt_unknown or usage.completion_unknown or not is_plausible(usage)):
        usage = None
    # A provider charges for what it has read and generated, and not for an error in place of a response.
    unseen = usage is None and sent and outcome not in ("refused", "upstream_error")
    usage = response.estimated() if unseen else usage
    provider = gateway.providers[response.candidate.provider]
    cost: Decimal | None = None
    searched: Decimal | None = None
    if usage is not None:
        price_list, name = provider.price_list, response.candidate.model
        tiers = tuple(response.call.tiers.values())
        cost = gateway.prices.cost(price_list, name, usage, host=provider.name, tiers=tiers)
        if usage.searches and cost is not None:
            searched = gateway.prices.search_cost(price_list, name, usage.searches, host=provider.name)
    trace = received.trace or received.parent
    first = response.first_token_at
    settlement = Settlement(
        exchange_id=response.exchange_id,
        outcome=outcome,
        status=fault.status if fault is not None else 200,
        code=(fault.code or fault.kind) if fault is not None else None,
        kind=fault.kind if fault is not None else None,
        started_at=response.started_at,
        duration=gateway.clock.monotonic() - response.began,
        overhead=response.spent,
        time_to_first_token=first - response.began if first is not None else None,
        tenant=principal.tenant,
        team=principal.team,
        user=principal.user,
        key_id=principal.key_id,
        method=received.method,
        path=received.path,
        dialect=identified.caller_dialect.name,
        operation="chat",
        stream=True,
        model=gateway.models.label(response.call.model),
        provider=response.candidate.provider if sent else None,
        upstream_model=response.candidate.model if sent else None,
        lane="raw" if sent else None,
        attempts=1 if sent else 0,
        usage=usage,
        estimated=unseen,
        unseen=unseen,
        cost=cost,
        search_cost=searched,
        unpriced=usage is not None and cost is None,
        request_bytes=len(response.call.raw),
        response_bytes=response.response_bytes,
        request_id=received.request_id,
        trace_id=trace.trace_id if trace is not None else None,
        response_model=model if isinstance(model, str) else None,
        max_output_tokens=response.call.max_output_tokens,
        run=identified.runs[0] if identified.runs else None,
        run_parent=identified.runs[1] if len(identified.runs) > 1 else None,
    )
    held = gateway.limiter.held(settlement) if gateway.limiter is not None else None
    return settlement if held is None else replace(settlement, held=Decimal(held) / MICRO)
