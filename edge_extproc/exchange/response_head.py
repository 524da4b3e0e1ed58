"""The first phases of a response: its headers, and the candidate that answered."""

from __future__ import annotations

from collections.abc import Mapping

from ..dialects.base import Dialect
from ..model.call import Call
from ..model.envoy_names import ANSWERED_BY
from ..model.frozen_dataclass import frozen_dataclass
from ..model.plan import Candidate, Plan
from .envoy_faults import VIA_UPSTREAM
from .events import Headers, ResponseHeaders
from .headers import firsts, status_of
from .parsed_call import ParsedCall

# AWS sends the id of a reply in this header.
_ID_HEADER = "x-amzn-requestid"


@frozen_dataclass
class ResponseHead:
    status: int
    headers: Headers
    values: Mapping[str, str]
    """The first value of each header."""
    details: str
    """Envoy's response code details: who made the response."""
    attempts: int
    """Envoy's count; 0 if it is missing."""
    provider: str | None
    """The provider of the endpoint that Envoy chose, if Envoy reports it."""

    @classmethod
    def of(cls, event: ResponseHeaders) -> ResponseHead:
        values, attributes = firsts(event.headers), event.attributes
        attempts, provider = attributes.get("upstream.request_attempt_count"), attributes.get(ANSWERED_BY)
        return cls(
            status_of(values.get(":status")),
            event.headers,
            values,
            str(attributes.get("response.code_details", VIA_UPSTREAM)),
            int(attempts) if isinstance(attempts, (int, float)) else 0,
            provider if isinstance(provider, str) else None,
        )

    def candidate(self, plan: Plan, *, by_endpoint: bool) -> Candidate:
        """The candidate that answered. With `by_endpoint` the number of attempts does not determine it: a hedged call
        uses two at a time, and a chain of clusters skips a provider without an address."""
        return plan.candidate(self.attempts, self.provider if by_endpoint or plan.hedged else None)


@frozen_dataclass
class Answered:
    head: ResponseHead
    candidate: Candidate
    dialect: Dialect
    """The dialect of the response."""
    parsed: ParsedCall
    caller_dialect: Dialect
    dropped: tuple[str, ...]
    """The fields that the request of this candidate lacks; empty for an error response."""
    began_at: int
    """Unix time of the response headers, for a reply whose format holds no time."""

    @property
    def call(self) -> Call:
        return self.parsed.call

    @property
    def id_and_model(self) -> tuple[str | None, str | None]:
        """The id and model for a reply whose format has neither."""
        return self.head.values.get(_ID_HEADER) or None, self.candidate.model
