"""Messages of JSON-RPC: what is read, and what another parser could read differently."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_extproc.codecs.json_rpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    RpcFault,
    RpcMessage,
    error_message,
    read_message,
)


def read(message: Any) -> RpcMessage:
    return read_message(message if isinstance(message, bytes) else json.dumps(message).encode(), ("_meta", "ref"))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"jsonrpc": "2.0", "id": 1, "method": "ping"}, RpcMessage("request", "ping", 1)),
        (
            {"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {"name": "add", "id": 1, "result": 2}},
            RpcMessage("request", "tools/call", "a", {"name": "add", "id": 1, "result": 2}),
        ),
        ({"jsonrpc": "2.0", "method": "n", "params": {}}, RpcMessage("notification", "n", None, {})),
        ({"jsonrpc": "2.0", "id": 0, "result": {}}, RpcMessage("response", id=0)),
        ({"jsonrpc": "2.0", "id": 3, "error": {"code": 1, "message": ""}}, RpcMessage("response", id=3)),
        (b' {"jsonrpc" : "2.0", "id": 1, "method": "ping", "params": null} ', RpcMessage("request", "ping", 1)),
    ],
)
def test_a_message_is_read(message: Any, expected: RpcMessage) -> None:
    assert expected == read(message)


CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":%s}'


@pytest.mark.parametrize(
    ("message", "code", "id"),
    [
        (b"", PARSE_ERROR, None),
        (b"{", PARSE_ERROR, None),
        (b"\xff", PARSE_ERROR, None),
        (b"[" * 100_000, PARSE_ERROR, None),
        ([], INVALID_REQUEST, None),
        ([{"jsonrpc": "2.0", "id": 7, "method": "ping"}], INVALID_REQUEST, None),
        ("ping", INVALID_REQUEST, None),
        ({"jsonrpc": "2.0", "id": None, "method": "ping"}, INVALID_REQUEST, None),
        ({"jsonrpc": "2.0", "id": True, "method": "ping"}, INVALID_REQUEST, None),
        ({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, INVALID_REQUEST, None),
        ({"jsonrpc": "2.0", "id": "x" * 300, "method": "ping"}, INVALID_REQUEST, None),
        ({"jsonrpc": "1.0", "id": 7, "method": "ping"}, INVALID_REQUEST, 7),
        ({"id": 7, "method": "ping"}, INVALID_REQUEST, 7),
        ({"jsonrpc": "2.0", "id": 7}, INVALID_REQUEST, 7),
        ({"jsonrpc": "2.0", "result": {}}, INVALID_REQUEST, None),
        ({"jsonrpc": "2.0", "id": 7, "result": {}, "error": {}}, INVALID_REQUEST, 7),
        ({"jsonrpc": "2.0", "id": 7, "method": 1}, INVALID_REQUEST, 7),
        ({"jsonrpc": "2.0", "id": 7, "method": "ping", "result": {}}, INVALID_REQUEST, 7),
        ({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": [1]}, INVALID_PARAMS, 7),
        ({"jsonrpc": "2.0", "id": 7, "method": "ping", "more": 1}, INVALID_REQUEST, 7),
        (b'{"jsonrpc":"2.0","id":7,"method":"a","method":"b"}', INVALID_REQUEST, 7),
        (b'{"jsonrpc":"2.0","id":7,"method":"a","METHOD":"b"}', INVALID_REQUEST, 7),
        (b'{"jsonrpc":"2.0","id":7,"method":"a","meth\\u006fd":"b"}', INVALID_REQUEST, 7),
        (CALL % b'{"name":"a","name":"b"}', INVALID_REQUEST, 7),
        (CALL % b'{"name":"a","NAME":"b"}', INVALID_REQUEST, 7),
        (CALL % b'{"Name":"b"}', INVALID_REQUEST, 7),
        # U+017F and U+212A fold to s and k.
        (CALL % '{"name":"a","argumentſ":{}}'.encode(), INVALID_REQUEST, 7),
        (CALL % '{"name":"a","tas\u212a":{}}'.encode(), INVALID_REQUEST, 7),
        (CALL % b'{"_meta":{"a":1,"a":2}}', INVALID_REQUEST, 7),
        (CALL % b'{"ref": {"type":"a","Type":"b"}}', INVALID_REQUEST, 7),
    ],
)
def test_a_message_is_refused(message: Any, code: int, id: int | None) -> None:
    with pytest.raises(RpcFault) as refused:
        read(message)

    assert (code, id) == (refused.value.rpc_code, refused.value.id)


@pytest.mark.parametrize(
    "params", [b'{"arguments":{"a":1,"A":2}}', b'{"ref":"text"}', b'{"_meta":null}', b'{"cursor":"a","Cursors":"b"}']
)
def test_members_that_decide_nothing_are_free(params: bytes) -> None:
    assert "tools/call" == read(CALL % params).method


def test_an_error_has_data_if_there_is_some() -> None:
    assert {"jsonrpc": "2.0", "id": 1, "error": {"code": 2, "message": "m"}} == error_message(1, 2, "m")
    assert {"code": 2, "message": "m", "data": {"a": 1}} == error_message(None, 2, "m", {"a": 1})["error"]
