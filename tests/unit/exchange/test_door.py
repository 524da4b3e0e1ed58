"""Who may pass the door, where what is behind it is not ours."""

from __future__ import annotations

import json

import pytest
from player import KEY, Stage

from edge_extproc.exchange.commands import Reply
from edge_extproc.exchange.door import admit
from edge_extproc.model.principal import Principal


def asked(path: str, *more: tuple[str, str], method: str = "GET") -> tuple[tuple[str, str], ...]:
    return ((":method", method), (":path", path), *more)


@pytest.mark.parametrize("header", [("authorization", f"Bearer {KEY}"), ("x-api-key", KEY)])
def test_one_with_a_key_is_known(header: tuple[str, str]) -> None:
    found = admit(Stage().gateway, asked("/any/service", header))

    assert isinstance(found, Principal)
    assert ("acme", "acme-1") == (found.tenant, found.key_id)


@pytest.mark.parametrize(
    ("path", "where"), [("/any/service?x=1", ("error", "code")), ("/v1/messages", ("error", "type"))]
)
def test_one_without_is_answered_in_the_words_of_what_was_called(path: str, where: tuple[str, str]) -> None:
    reply = admit(Stage().gateway, asked(path))

    assert isinstance(reply, Reply)
    assert 401 == reply.status
    told = json.loads(reply.body)[where[0]][where[1]]
    assert told in {"missing_api_key", "authentication_error"}
    assert "edge_missing_api_key" == reply.details


def test_head_is_answered_without_a_body() -> None:
    reply = admit(Stage().gateway, asked("/", ("x-api-key", "wrong-key-of-nobody"), method="HEAD"))

    assert isinstance(reply, Reply)
    assert (401, b"") == (reply.status, reply.body)


def test_two_different_keys_are_refused() -> None:
    reply = admit(Stage().gateway, asked("/", ("authorization", f"Bearer {KEY}"), ("x-api-key", "another-key-of-mine")))

    assert isinstance(reply, Reply)
    assert "edge_conflicting_api_keys" == reply.details
