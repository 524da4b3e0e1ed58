"""Adds ids to commands.

The caller's request id is for responses that do not pass Envoy's own filter for it (docs/adr/102). The exchange's id is
for Envoy's report of its end (docs/adr/341).
"""

from __future__ import annotations

from dataclasses import replace

from ..model.envoy_names import CALLERS_ID, EXCHANGE, NAMESPACE, OWN_WORKER, PROVIDERS_ID, REQUEST_ID
from .commands import Command, Continue, ImmediateResponse
from .phases import Received
from .response_head import ResponseHead


def with_request_id(command: Continue | ImmediateResponse, received: Received | None) -> Continue | ImmediateResponse:
    """Sets the caller's request id in Envoy's dynamic metadata, for every later response."""
    if received is None or received.request_id is None or received.request_id != received.values.get(CALLERS_ID):
        return command
    metadata = dict(command.metadata or {})
    metadata[NAMESPACE] = {**metadata.get(NAMESPACE, {}), REQUEST_ID: received.request_id}
    return replace(command, metadata=metadata)


def with_exchange(command: Command, exchange: str, worker: str | None) -> Command:
    """Adds the exchange's id and its worker to the command that sends a request to its upstream."""
    if not isinstance(command, Continue) or not command.reroute:
        return command
    metadata = dict(command.metadata or {})
    own = {} if worker is None else {OWN_WORKER: worker}
    metadata[NAMESPACE] = {**metadata.get(NAMESPACE, {}), EXCHANGE: exchange, **own}
    return replace(command, metadata=metadata)


def with_ids_of_response(
    command: ImmediateResponse, received: Received | None, head: ResponseHead | None
) -> ImmediateResponse:
    """Adds the ids to an immediate response to response headers: Envoy sends it past the filter that adds them to
    others."""
    ids = (
        (PROVIDERS_ID, head.values.get("x-request-id") if head is not None else None),
        ("x-request-id", received.request_id if received is not None else None),
    )
    others = tuple(pair for pair in command.headers if pair[0] != "x-request-id")
    return replace(command, headers=(*others, *((name, id) for name, id in ids if id)))
