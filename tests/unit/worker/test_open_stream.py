"""Which handler a new ext_proc stream gets, and what outlives a change of the configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from player import Stage, body, headers, talk, tried

from edge_extproc.errors import PeerError
from edge_extproc.exchange.attempt import AttemptExchange
from edge_extproc.exchange.commands import Continue, Replace
from edge_extproc.exchange.first_token import GuardExchange
from edge_extproc.exchange.mcp.exchange import McpExchange
from edge_extproc.exchange.router import RouterExchange
from edge_extproc.exchange.sockets.exchange import SocketExchange
from edge_extproc.model.envoy_names import ROLE
from edge_extproc.server.rpc import CallRefused, Status
from edge_extproc.worker.main import open_stream


def test_the_role_chooses_the_handler_and_a_router_counts_as_opened() -> None:
    stage = Stage()
    opened: list[str] = []
    choose = open_stream(lambda: stage.gateway, lambda: opened.append("router"))

    assert isinstance(choose({ROLE: "router"}, None), RouterExchange)
    assert isinstance(choose({ROLE: "upstream"}, None), AttemptExchange)
    assert isinstance(choose({ROLE: "guard"}, None), GuardExchange)
    assert isinstance(choose({ROLE: "socket"}, None), SocketExchange)
    assert isinstance(choose({ROLE: "mcp"}, None), McpExchange)
    assert ["router", "router", "router"] == opened
    with pytest.raises(PeerError, match="expected router, upstream, guard, socket or mcp"):
        choose({ROLE: "another"}, None)


def test_a_worker_that_stops_serves_attempts_and_begins_no_exchange() -> None:
    stage = Stage()
    opened: list[str] = []
    stopping = False
    choose = open_stream(lambda: stage.gateway, lambda: opened.append("router"), lambda: stopping)
    talk(
        choose({ROLE: "router"}, None),
        headers(),
        body({"model": "both", "messages": [{"role": "user", "content": "Hello"}]}),
    )

    stopping = True
    with pytest.raises(CallRefused) as refused:
        choose({ROLE: "router"}, None)
    assert Status.UNAVAILABLE is refused.value.status
    assert ["router"] == opened
    assert isinstance(talk(choose({ROLE: "upstream"}, None), tried(2))[0], Replace)


def test_an_exchange_tells_envoy_the_address_of_its_worker() -> None:
    stage = Stage()
    choose = open_stream(lambda: stage.gateway, lambda: None)
    question = body({"model": "both", "messages": [{"role": "user", "content": "Hello"}]})

    def told(local: str | None) -> object:
        sent = talk(choose({ROLE: "router"}, local), headers(), question)[-1]
        assert isinstance(sent, Continue | Replace)
        return (sent.metadata or {})["edge"].get("worker")

    assert ["/run/worker-1.sock", "10.0.0.7:9001", None] == [
        told(local) for local in ("/run/worker-1.sock", "10.0.0.7:9001", None)
    ]


def test_an_attempt_finds_its_exchange_after_the_configuration_has_changed() -> None:
    stage = Stage()
    current = [stage.gateway]
    choose = open_stream(lambda: current[0], lambda: None)
    talk(
        choose({ROLE: "router"}, None),
        headers(),
        body({"model": "both", "messages": [{"role": "user", "content": "Hello"}]}),
    )

    current[0] = replace(stage.gateway, providers={})
    command = talk(choose({ROLE: "upstream"}, None), tried(2))[0]

    assert isinstance(command, Replace)
