"""The faults that callers get for Envoy's own responses.

`response.code_details` names the origin of a response. All values except "via_upstream" mean Envoy or this gateway,
with a body for operators. The keys are Envoy's response code details without their variable parts.
"""

from __future__ import annotations

from ..model.fault import Fault, FaultKind, kind_of

VIA_UPSTREAM = "via_upstream"

# Prefix of the details: status for the caller, kind, our code, message.
_FAULTS: tuple[tuple[str, int, FaultKind, str, str], ...] = (
    ("request_payload_too_large", 413, "too_large", "request_too_large", "the request body is over the limit"),
    ("request_payload_exceeded", 413, "too_large", "request_too_large", "the request body is over the limit"),
    ("response_payload_too_large", 502, "api", "response_too_large", "the provider's reply is over the limit"),
    ("upstream_per_try_timeout", 504, "timeout", "provider_timeout", "the provider did not answer in time"),
    ("upstream_response_timeout", 504, "timeout", "provider_timeout", "the provider did not answer in time"),
    ("response_timeout", 504, "timeout", "provider_timeout", "the provider did not answer in time"),
    ("stream_idle_timeout", 504, "timeout", "idle_timeout", "no data was sent for too long"),
    ("request_overall_timeout", 408, "timeout", "request_timeout", "the request did not arrive in time"),
    ("upstream_max_stream_duration", 504, "timeout", "provider_timeout", "the provider took too long"),
    ("no_healthy_upstream", 503, "overloaded", "no_provider", "no provider can be reached now"),
    ("cluster_not_found", 503, "overloaded", "no_provider", "no provider can be reached now"),
    (
        "local_rate_limited",
        429,
        "rate_limit",
        "rate_limit_exceeded",
        "too many requests come from this address; try again",
    ),
    ("overload", 503, "overloaded", "overloaded", "the gateway is overloaded"),
    (
        "upstream_reset",
        502,
        "api",
        "provider_unreachable",
        "the provider could not be reached, or closed the connection",
    ),
    ("edge_exchange_unknown", 503, "overloaded", "worker_lost", "the worker of this request is gone; send it again"),
)


CODES = frozenset(code for _, _, _, code, _ in _FAULTS) | {"gateway_error"}
"""All codes of this table."""


OF_THE_CALLER = frozenset({"request_too_large", "request_timeout", "rate_limit_exceeded"})
"""The codes with which Envoy refuses a request because of the caller."""


def fault_of(status: int, details: str) -> Fault:
    """The fault for a response that no provider sent."""
    for prefix, of_caller, kind, code, message in _FAULTS:
        if details.startswith(prefix):
            return Fault(of_caller, kind, message, code)
    # The details may contain names of hosts and clusters, which the caller must not see.
    return Fault(status, kind_of(status), "the gateway could not pass this request on", "gateway_error")
