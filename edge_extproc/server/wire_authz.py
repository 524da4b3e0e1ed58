"""Protobuf bytes to headers, and a decision to protobuf bytes, for ext_authz: what wire.py is for ext_proc."""

from __future__ import annotations

from typing import cast

from google.protobuf.message import DecodeError

from ..errors import PeerError
from ..exchange.commands import Reply
from ..exchange.events import Headers
from ..model.principal import Principal
from ..pb.auth_pb2 import CheckRequest, CheckResponse
from ..pb.core_pb2 import HeaderValueOption
from ..pb.type_pb2 import StatusCode

# google.rpc.Code
_OK, _UNAUTHENTICATED = 0, 16


def to_headers(message: bytes) -> Headers:
    """Of a CheckRequest, pseudo-headers included. Raises PeerError. Of a header that was sent more than once, Envoy
    makes one with commas, unless it is told to `encode_raw_headers`."""
    try:
        http = CheckRequest.FromString(message).attributes.request.http
    except DecodeError as exc:
        raise PeerError("this is not a CheckRequest") from exc
    raw = http.header_map.headers
    found = tuple((h.key, h.raw_value.decode("utf-8", "surrogateescape") or h.value) for h in raw)
    found = found or tuple(http.headers.items())
    names = {name for name, _ in found}
    own = ((":method", http.method), (":path", http.path))
    return (*(pair for pair in own if pair[0] not in names), *found)


def to_answer(decided: Principal | Reply) -> bytes:
    """The serialized CheckResponse."""
    response = CheckResponse()
    if isinstance(decided, Principal):
        response.status.code = _OK
        told = (("x-edge-tenant", decided.tenant), ("x-edge-key", decided.key_id))
        for name, value in told:
            # In the place of whatever a caller sent under that name.
            _option(response.ok_response.headers.add(), name, value)
            response.dynamic_metadata.fields[name.removeprefix("x-edge-")].string_value = value
        return response.SerializeToString()
    response.status.code = _UNAUTHENTICATED
    denied = response.denied_response
    denied.status.code = cast("StatusCode", decided.status)
    denied.body = decided.body.decode()
    for name, value in decided.headers:
        _option(denied.headers.add(), name, value)
    return response.SerializeToString()


def _option(option: HeaderValueOption, name: str, value: str) -> None:
    option.header.key, option.header.value = name, value
    option.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
