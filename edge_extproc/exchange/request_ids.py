"""Request ids on the commands that make a response without Envoy's own filter for them (docs/adr/102)."""

from __future__ import annotations

from dataclasses import replace

from ..model.envoy_names import CALLERS_ID, NAMESPACE, PROVIDERS_ID, REQUEST_ID
from .commands import Continue, ImmediateResponse
from .phases import Received
from .response_head import ResponseHead


def with_request_id(command: Continue | ImmediateResponse, received: Received | None) -> Continue | ImmediateResponse:
    """The caller's own request id in Envoy's dynamic metadata, so that whatever responds has it."""
    if received is None or received.request_id is None or received.request_id != received.values.get(CALLERS_ID):
        return command
    metadata = dict(command.metadata or {})
    metadata[NAMESPACE] = {**metadata.get(NAMESPACE, {}), REQUEST_ID: received.request_id}
    return replace(command, metadata=metadata)


def with_ids_of_response(
    command: ImmediateResponse, received: Received | None, head: ResponseHead | None
) -> ImmediateResponse:
    """Envoy sends an immediate response to response headers past the filter that adds the ids to every other one."""
    ids = (
        (PROVIDERS_ID, head.values.get("x-request-id") if head is not None else None),
        ("x-request-id", received.request_id if received is not None else None),
    )
    others = tuple(pair for pair in command.headers if pair[0] != "x-request-id")
    return replace(command, headers=(*others, *((name, id) for name, id in ids if id)))
