"""Reads and writes single messages of JSON-RPC 2.0.

A message is passed on with its own bytes, and another parser may read them differently. So a message is refused if it
has two members of one name, or a member whose name differs from a known one only by case, in any object that decides
what the message does. Batches are refused: MCP has none since 2025-06-18.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec

from ..errors import BadRequest
from ..model.content import Json
from ..model.frozen_dataclass import frozen_dataclass
from . import json_faults
from .json_splice import members_of, splice
from .json_values import UNREADABLE, decode

RpcId: TypeAlias = str | int
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
MEMBERS = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
"""The members of a message."""
_LONGEST_ID = 256


@frozen_dataclass
class RpcMessage:
    kind: Literal["request", "notification", "response"]
    method: str = ""
    """"" for a response."""
    id: RpcId | None = None
    params: Mapping[str, Json] | None = None


class RpcFault(BadRequest):
    """`rpc_code`: of JSON-RPC. `id`: that of the request, if it could be read."""

    def __init__(self, rpc_code: int, message: str, id: RpcId | None = None) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code
        self.id = id


def read_message(raw: bytes, checked: Iterable[str] = ()) -> RpcMessage:
    """One message. `checked`: the members of `params` that are objects which decide what the message does. Raises
    RpcFault."""
    try:
        value = decode(raw)
    except UNREADABLE:
        raise RpcFault(PARSE_ERROR, f"the body {json_faults.describe(raw)}") from None
    if isinstance(value, list):
        raise RpcFault(INVALID_REQUEST, "batches are not supported; send each message as a request of its own")
    if not isinstance(value, dict):
        raise RpcFault(INVALID_REQUEST, "the body is not a JSON-RPC message")
    id = value.get("id")
    if isinstance(id, bool) or not isinstance(id, str | int) or (isinstance(id, str) and len(id) > _LONGEST_ID):
        if "id" in value:
            raise RpcFault(INVALID_REQUEST, f"id must be a text of up to {_LONGEST_ID} characters, or an integer")
        id = None
    try:
        _check_members(raw, value, checked)
    except ValueError as error:
        raise RpcFault(INVALID_REQUEST, f"the message cannot be read: {error}", id) from None
    if value.get("jsonrpc") != "2.0":
        raise RpcFault(INVALID_REQUEST, 'jsonrpc must be "2.0"', id)
    if "method" not in value:
        if id is None or ("result" in value) == ("error" in value):
            raise RpcFault(INVALID_REQUEST, "method is missing", id)
        return RpcMessage("response", id=id)
    method, params = value["method"], value.get("params")
    if not isinstance(method, str) or "result" in value or "error" in value:
        raise RpcFault(INVALID_REQUEST, "the message is neither a request nor a response", id)
    if params is not None and not isinstance(params, dict):
        raise RpcFault(INVALID_PARAMS, "params must be an object", id)
    return RpcMessage("notification" if id is None else "request", method, id, params)


def _check_members(raw: bytes, value: Mapping[str, Json], checked: Iterable[str]) -> None:
    """Raises ValueError."""
    members = _members(raw)
    if unknown := members.keys() - MEMBERS:
        raise ValueError(f"it has an unknown member {min(unknown)!r:.60}")
    if not isinstance(value.get("params"), dict):
        return
    params = _members(bytes(members["params"]))
    for name in checked:
        if name in params and bytes(params[name]).lstrip()[:1] == b"{":
            _members(bytes(params[name]))


def _members(raw: bytes) -> dict[str, msgspec.Raw]:
    """The members of an object. Raises ValueError if two have one name, by some parser."""
    splice(raw, {})  # refuses two members of one name
    members = members_of(raw)
    folded: dict[str, str] = {}
    for name in members:
        other = folded.setdefault(name.casefold(), name)
        if other != name or (name not in MEMBERS and name.casefold() in _DECIDING and name not in _DECIDING.values()):
            raise ValueError(f"the member {name!r:.60} differs from another one only by case")
    return members


_DECIDING = {
    name.casefold(): name
    for name in ("name", "uri", "arguments", "ref", "type", "_meta", "notifications", "resourceSubscriptions", "task")
}
"""The members that decide what a request does. Some parsers ignore the case of names."""


def error_message(id: RpcId | None, code: int, message: str, data: Mapping[str, Json] | None = None) -> dict[str, Json]:
    """An error response. Without an id, the request could not be read."""
    error: dict[str, Json] = {"code": code, "message": message}
    if data:
        error["data"] = dict(data)
    return {"jsonrpc": "2.0", "id": id, "error": error}
