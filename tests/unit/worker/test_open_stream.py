"""Which handler a new ext_proc stream gets, and what outlives a change of the configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from player import Stage, body, headers, talk, tried

from edge_extproc.errors import PeerError
from edge_extproc.exchange.attempt import AttemptExchange
from edge_extproc.exchange.commands import Replace
from edge_extproc.exchange.guard import GuardExchange
from edge_extproc.exchange.router import RouterExchange
from edge_extproc.model.envoy_names import ROLE
from edge_extproc.worker.main import open_stream


def test_the_role_chooses_the_handler_and_a_router_counts_as_opened() -> None:
    stage = Stage()
    opened: list[str] = []
    choose = open_stream(lambda: stage.gateway, lambda: opened.append("router"))

    assert isinstance(choose({ROLE: "router"}), RouterExchange)
    assert isinstance(choose({ROLE: "upstream"}), AttemptExchange)
    assert isinstance(choose({ROLE: "guard"}), GuardExchange)
    assert ["router"] == opened
    with pytest.raises(PeerError, match="expected router, upstream or guard"):
        choose({ROLE: "another"})


def test_an_attempt_finds_its_exchange_after_the_configuration_has_changed() -> None:
    stage = Stage()
    current = [stage.gateway]
    choose = open_stream(lambda: current[0], lambda: None)
    talk(
        choose({ROLE: "router"}), headers(), body({"model": "both", "messages": [{"role": "user", "content": "Hello"}]})
    )

    current[0] = replace(stage.gateway, providers={})
    command = talk(choose({ROLE: "upstream"}), tried(2))[0]

    assert isinstance(command, Replace)
