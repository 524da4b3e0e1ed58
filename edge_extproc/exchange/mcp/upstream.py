"""The request that a server gets: its path, its credential, and the headers of the caller that have a meaning there."""

from __future__ import annotations

from ...model.envoy_names import CLUSTER, ROUTE, mcp_route
from .. import headers as header_rules
from ..commands import Continue, Pairs
from ..mcp_settings import McpServer
from ..phases import Identified
from .mirrored import LAST_EVENT, METHOD, NAME, PARAMETER_PREFIX, SESSION, VERSION

_PROTOCOL = (VERSION, METHOD, NAME)


def upstream_request(
    identified: Identified,
    server: McpServer,
    *,
    session: str | None,
    body: bytes | None,
    length: int | None,
    resumed: str | None = None,
) -> Continue:
    """`session`: the server's own id of the session. `body`: None: unchanged. `length`: of the body; None: there is
    none. `resumed`: the server's own id of the last event that the caller has got."""
    received, principal = identified.received, identified.principal
    parameters = (name for name, _ in received.headers if name.startswith(PARAMETER_PREFIX))
    to_set, to_remove = header_rules.outgoing(
        received.headers,
        server.credentials,
        (),
        server.path,
        length,
        own=frozenset((*_PROTOCOL, *parameters)),
        # Without the caller's charset: the body was read as UTF-8, and some servers know UTF-7.
        content_type="application/json" if length is not None else None,
        # It has no meaning in the protocol. A server that knows it would take those of all tenants for one caller's.
        removed=tuple(name for name in received.values if name == "idempotency-key"),
    )
    more: Pairs = ((SESSION, session),) if session is not None else ()
    if resumed is not None:
        more = (*more, (LAST_EVENT, resumed))
    trace = received.trace.header if received.trace is not None else None
    if trace is not None:
        more = (*more, ("traceparent", trace))
    kept = {name for name, _ in more}
    return Continue(
        set_headers=(*to_set, *more, (ROUTE, mcp_route(server.name)), (CLUSTER, server.cluster)),
        remove_headers=tuple(name for name in to_remove if name not in kept),
        body=body,
        reroute=True,
        metadata={
            "edge": {
                "guard": False,
                "tenant": principal.tenant,
                "key": principal.key_id,
                "provider": server.name,
                "route": received.path,
                # Envoy's tracer writes its own header; the last filter before the server sets this one.
                **({"traceparent": trace} if trace is not None else {}),
            }
        },
    )
