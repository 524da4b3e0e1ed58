"""`prompt_cache_key`: the hosts of OpenAI's formats take 64 characters of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edge_extproc.dialects.base import Dialect
from edge_extproc.dialects.cache_keys import LONGEST
from edge_extproc.model.host import UNKNOWN_HOST, HostProfile
from edge_extproc.providers.openai import OPENAI_HOST
from edge_extproc.registry import load

CHAT, RESPONSES = "openai_chat", "openai_responses"
DIALECTS: dict[str, Dialect] = {name: load("dialects", name) for name in (CHAT, RESPONSES)}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "x"}]},
    RESPONSES: {"model": "m", "input": "x"},
}
PATHS = {CHAT: "/v1/chat/completions", RESPONSES: "/v1/responses"}
LANES = [(source, target) for source in BODIES for target in BODIES]


def sent(source: str, target: str, key: object, host: HostProfile = OPENAI_HOST) -> tuple[bytes, tuple[str, ...]]:
    raw = json.dumps({**BODIES[source], "prompt_cache_key": key}).encode()
    call = DIALECTS[source].read_call(raw, "chat", (), PATHS[source])
    if source == target:
        written = DIALECTS[source].splice(call, "m", host)
    else:
        written = DIALECTS[target].write_chat(DIALECTS[source].read_chat(call), "m", host)
    return written.body, written.dropped


@pytest.mark.parametrize("host", [OPENAI_HOST, UNKNOWN_HOST])
@pytest.mark.parametrize(("source", "target"), LANES)
@pytest.mark.parametrize("key", ["session:" + "k" * 57, "é" * 65, '"' * 65, "k" * 5000])
def test_a_long_key_becomes_a_hash_that_stays_the_same(source: str, target: str, key: str, host: HostProfile) -> None:
    body, dropped = sent(source, target, key, host)
    accepted = json.loads(body)["prompt_cache_key"]

    assert ("prompt_cache_key",) == dropped
    assert re.fullmatch("[0-9a-f]{64}", accepted)
    assert accepted == json.loads(sent(source, target, key)[0])["prompt_cache_key"]
    assert accepted != json.loads(sent(source, target, f"{key}k")[0])["prompt_cache_key"]


@pytest.mark.parametrize(("source", "target"), LANES)
def test_a_key_that_the_hosts_take_is_unchanged(source: str, target: str) -> None:
    for key in ("k" * LONGEST, "é" * LONGEST, ""):
        body, dropped = sent(source, target, key)
        assert (key, ()) == (json.loads(body)["prompt_cache_key"], dropped)


@pytest.mark.parametrize("source", BODIES)
def test_the_bytes_beside_a_long_key_are_unchanged(source: str) -> None:
    body, _ = sent(source, source, "k" * 65)
    hashed = json.loads(body)["prompt_cache_key"].encode()
    plain, _ = sent(source, source, "k" * 64)

    assert body.replace(b" ", b"") == plain.replace(b"k" * 64, hashed).replace(b" ", b"")
