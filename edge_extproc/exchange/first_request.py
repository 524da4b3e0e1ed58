"""Builds Envoy's command for the first attempt: the provider's request, and the order of the candidates."""

from __future__ import annotations

from ..model.envoy_names import EXCHANGE, OWN_WORKER
from . import headers as header_rules
from . import idempotency
from .adapt import Adapted
from .commands import Continue
from .consumer_routes import ConsumerRoute
from .phases import Sent
from .ports import Gateway

_WORTH_KEEPING = 64 * 1024
"""The least size in bytes of an unchanged body that is not sent back to Envoy."""


def first_request(
    gateway: Gateway,
    exchange_id: str,
    worker: str | None,
    sent: Sent,
    adapted: Adapted,
    received_body: bytes,
    route: ConsumerRoute | None = None,
) -> Continue:
    """The command. `adapted` is the request for the first candidate of the plan. `worker` is the address of this
    worker. `received_body`: what Envoy has. `route`: the only route of the request, which is not selected again."""
    identified, call, plan, request = (
        sent.admitted.read.identified,
        sent.open.parsed.call,
        sent.open.plan,
        adapted.request,
    )
    received, principal = identified.received, identified.principal
    # Envoy keeps the body that it has.
    is_unchanged = len(received_body) >= _WORTH_KEEPING and request.body == received_body
    body = request.body if call.raw and not is_unchanged else None
    to_set, to_remove = header_rules.outgoing(
        received.headers,
        request.headers,
        request.defaults,
        request.path,
        len(request.body) if request.body else None,
        own=gateway.wire_names.headers if adapted.lane == "raw" else None,
        content_type=None if call.operation == "passed" else "application/json",
        removed=request.removed,
    )
    key = received.values.get(idempotency.HEADER)
    if key is not None:  # also for the attempts after this one, which keep it
        to_set = (*to_set, (idempotency.HEADER, idempotency.own_key(principal.tenant, key)))
    edge: dict[str, object] = {
        EXCHANGE: exchange_id,
        "guard": plan.guarded,
        "tenant": principal.tenant,
        "key": principal.key_id,
    }
    if worker is not None:
        edge[OWN_WORKER] = worker
    if received.trace is not None:
        to_set = (*to_set, ("traceparent", received.trace.header))
        # Envoy overwrites the header with its own span when it has a provider. A later filter restores ours from here.
        edge["traceparent"] = received.trace.header
    if route is not None:
        names = dict.fromkeys((*to_remove, *route.internal))
        edge = {"tenant": principal.tenant, "key": principal.key_id}
        return Continue(to_set, tuple(names), body, metadata={"edge": edge})
    return Continue(
        set_headers=(*to_set, *header_rules.orders(plan), *gateway.cluster_header(plan)),
        remove_headers=to_remove,
        body=body,
        reroute=True,
        metadata={"edge": edge},
        order=gateway.order(plan),
    )
