"""The settlement of one HTTP request to an MCP server, and what a call of a tool costs.

A call has the price of its tool. It is charged if the server has answered with a result, also with one that says that
the tool failed, and with a result beside an error or under the status of one. It is free if nothing was sent, or if the
server has answered with an error. Without an answer, because the caller or the server left, it is charged, and marked
as estimated: the tool may have run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from ...limits.base import MICRO
from ...model.fault import Fault
from ...model.principal import Principal
from ...model.rule_hit import RuleHit
from ...model.settlement import Outcome, Settlement
from ...model.usage import Usage
from ..handler import Closing
from ..phases import Received
from ..ports import Gateway
from ..settling import send
from .methods import McpUse
from .replies import Answer

OPERATION = "mcp"
_SERVERS = 500
"""The first status of a server's failure."""


@dataclass(slots=True)
class McpRecord:
    """What is known of one request at its end."""

    received: Received | None = None
    principal: Principal | None = None
    server: str | None = None
    rpc_method: str | None = None
    use: McpUse | None = None
    """The tool, prompt or resource, also if the caller may not use it."""
    is_request: bool = False
    """Whether it is counted: notifications, replies and streams are not."""
    price: Decimal | None = None
    """Of the call; None: it is no call of a tool."""
    sent: bool = False
    """Whether the server got it."""
    status: int | None = None
    fault: Fault | None = None
    by_gateway: bool = False
    """Whether the gateway itself refused the request, before the server got it."""
    refused: bool = False
    """Whether the server has refused the request by its status, or could not be reached."""
    answer: Answer | None = None
    whole: bool = False
    """Whether the response has ended."""
    stream: bool = False
    request_bytes: int = 0
    response_bytes: int = 0
    runs: tuple[str, ...] = ()
    hits: tuple[RuleHit, ...] = ()
    overhead: float = 0.0
    """Seconds that the gateway itself worked on it."""


def settle(gateway: Gateway, exchange_id: str, record: McpRecord, times: tuple[float, float], why: Closing) -> None:
    """`times`: the beginning by the monotonic clock, and as Unix time."""
    settlement = _settlement(gateway, exchange_id, record, times, why)
    if record.is_request:
        held = gateway.limiter.held(settlement) if gateway.limiter is not None else None
        send(gateway, settlement if held is None else replace(settlement, held=Decimal(held) / MICRO))
        return
    for sink in gateway.sinks:
        try:
            sink(settlement)
        except Exception as bug:  # noqa: BLE001 - an exception of one sink must not stop the others
            gateway.report(bug)


def _settlement(
    gateway: Gateway, exchange_id: str, record: McpRecord, times: tuple[float, float], why: Closing
) -> Settlement:
    began, started_at = times
    received, principal, fault = record.received, record.principal, record.fault
    trace = received.trace if received is not None else None
    in_trace = trace or (received.parent if received is not None else None)
    outcome = _outcome(record, why)
    cost, estimated = _cost(record)
    return Settlement(
        exchange_id=exchange_id,
        outcome=outcome,
        status=record.status,
        code=(fault.code or fault.kind) if fault is not None else None,
        kind=fault.kind if fault is not None else None,
        started_at=started_at,
        duration=gateway.clock.monotonic() - began,
        overhead=record.overhead,
        tenant=principal.tenant if principal is not None else None,
        team=principal.team if principal is not None else None,
        user=principal.user if principal is not None else None,
        key_id=principal.key_id if principal is not None else None,
        method=received.method if received is not None else "",
        path=received.path if received is not None else "",
        dialect=OPERATION,
        operation=OPERATION,
        stream=record.stream,
        model=f"{record.server}/{record.use.name}" if record.use is not None and record.use.kind == "tools" else None,
        provider=record.server,
        lane="raw" if record.sent else None,
        attempts=1 if record.sent else 0,
        # No tokens. A settlement without usage would keep the whole reservation.
        usage=Usage() if cost is not None else None,
        estimated=estimated,
        cost=cost,
        request_bytes=record.request_bytes,
        response_bytes=record.response_bytes,
        request_id=received.request_id if received is not None else None,
        trace_id=in_trace.trace_id if in_trace is not None else None,
        trace=trace,
        run=record.runs[0] if record.runs else None,
        run_parent=record.runs[1] if len(record.runs) > 1 else None,
        guardrails=record.hits,
        rpc_method=record.rpc_method,
    )


def _cost(record: McpRecord) -> tuple[Decimal | None, bool]:
    """US dollars, and whether it is not known that the tool ran."""
    if record.price is None or not record.sent:
        return None, False
    if record.answer == "error" or (record.refused and record.answer is None):
        return None, False
    return record.price, record.answer is None


def _outcome(record: McpRecord, why: Closing) -> Outcome:
    if why == "error":
        return "gateway_error"
    if record.fault is not None:
        return "rejected" if record.by_gateway else "upstream_error"
    if record.refused and record.status is not None:
        return "refused" if record.status < _SERVERS else "upstream_error"
    if record.answer == "error":
        return "refused"
    if record.answer == "withheld":
        return "rejected"
    if record.whole or record.answer is not None:
        return "ok"
    if why == "broken":
        return "upstream_error"
    return "stopped" if why == "stopping" else "caller_left"
