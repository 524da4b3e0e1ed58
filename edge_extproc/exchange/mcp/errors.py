"""Errors as callers of MCP get them: messages of JSON-RPC, with the id of the request where it is known.

The codes of the gateway's own decisions are their HTTP statuses: the specification asks for codes outside of JSON-RPC's
reserved range. `data.code` is the gateway's code.
"""

from __future__ import annotations

from math import ceil

from ...codecs.json_rpc import RpcId, error_message
from ...codecs.json_values import encode
from ...errors import CallerError
from ...model.content import Json
from ...model.fault import Fault, FaultKind
from ..commands import ImmediateResponse, Pairs

HEADER_MISMATCH = -32020


class HeaderMismatch(CallerError):
    """A header of the request says something else than its body."""

    code = "header_mismatch"


class NoSuchSession(CallerError):
    """Clients then begin a new session."""

    status = 404
    kind: FaultKind = "not_found"
    code = "session_not_found"


class NoSuchServer(CallerError):
    status = 404
    kind: FaultKind = "not_found"
    code = "mcp_server_not_found"


class MethodNotHere(CallerError):
    """The HTTP method is not for this endpoint. Clients then go on without a stream of notifications."""

    status = 405
    kind: FaultKind = "method"
    code = "method_not_allowed"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers = (("allow", "POST"),)


def fault_message(fault: Fault, id: RpcId | None, code: int | None = None) -> dict[str, Json]:
    """`code`: of JSON-RPC; None: the HTTP status."""
    data: dict[str, Json] = {"code": fault.code or fault.kind}
    if fault.retry_after is not None:
        data["retryAfter"] = ceil(fault.retry_after)
    return error_message(id, fault.status if code is None else code, fault.message, data)


def error_response(
    fault: Fault, id: RpcId | None, *, code: int | None = None, status: int | None = None, headers: Pairs = ()
) -> ImmediateResponse:
    """`status`: of HTTP, if it is another one than the fault's."""
    retry = (("retry-after", str(max(1, ceil(fault.retry_after)))),) if fault.retry_after is not None else ()
    named = {name for name, _ in headers}
    return ImmediateResponse(
        status or fault.status,
        (("content-type", "application/json"), *(pair for pair in retry if pair[0] not in named), *headers),
        encode(fault_message(fault, id, code)),
        f"edge_{fault.code or 'error'}",
    )
