"""What a configuration may say of the store of conversations, and which store it becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_extproc.config.load import parse
from edge_extproc.config.schema import Config
from edge_extproc.conversations.memory import MemoryConversations
from edge_extproc.conversations.redis import RedisConversations
from edge_extproc.errors import ConfigError
from edge_extproc.worker.wiring.conversations import build_store

REST = """
auth: {pepper: "pepper-pepper-pepper"}
callers: [{tenant: dev, keys: [{id: dev, key: edge-0123456789abcdef0123456789}]}]
providers: {p: {kind: openai, api_key: secret}}
models: {m: [{provider: p}]}
"""
KEY = "key: {env: CONVERSATIONS_KEY}"
FOUR = "agent: {workers: 4}\n"


def read(section: str, more: str = "agent: {workers: 1}\n") -> Config:
    text = f"conversations: {section}\n{more}{REST}" if section else more + REST
    return parse(text, "f", environ={"CONVERSATIONS_KEY": "0123456789abcdef"}, base=Path("/nowhere"))


def test_nothing_is_stored_unless_it_is_configured() -> None:
    assert build_store(read("")) is None


def test_one_worker_stores_in_its_memory() -> None:
    assert isinstance(build_store(read("{}")), MemoryConversations)
    assert isinstance(build_store(read("{store: memory}")), MemoryConversations)


@pytest.mark.parametrize(
    ("section", "more", "url"),
    [
        (f"{{url: 'redis://c:6379/1', {KEY}}}", FOUR + "limiter: {url: 'redis://l:6379/0'}\n", "redis://c:6379/1"),
        (f"{{{KEY}}}", FOUR + "limiter: {url: 'redis://l:6379/0'}\n", "redis://l:6379/0"),
        (f"{{{KEY}}}", "agent: {workers: 1}\nlimiter: {url: 'redis://l:6379/0'}\n", "redis://l:6379/0"),
        (f"{{store: redis, {KEY}}}", FOUR + "limiter: {url: 'redis://l:6379/0'}\n", "redis://l:6379/0"),
    ],
)
def test_the_address_is_its_own_or_that_of_the_limits(section: str, more: str, url: str) -> None:
    config = read(section, more)

    assert url == config.conversations_url()
    assert isinstance(build_store(config), RedisConversations)


def test_several_workers_share_the_valkey_of_the_gateway() -> None:
    config = read(f"{{{KEY}}}", FOUR)

    assert f"unix://{config.own_store_socket()}" == config.conversations_url()
    assert isinstance(build_store(config), RedisConversations)


@pytest.mark.parametrize(
    ("section", "more", "message"),
    [
        ("{store: memory}", FOUR, "each of 4 workers would have a store of its own"),
        ("{store: redis}", FOUR, "there is no url"),
        ("{}", FOUR, "key is missing"),
        ("{url: 'redis://c:6379/0'}", "", "key is missing"),
        ("{url: 'redis://c:6379/0', store: memory}", "", "a url is given, but store is memory"),
        ("{url: 'http://c'}", "", "not an address of a Redis"),
        ("{key: short}", "", "less than 16 characters"),
        ("{previous_keys: [short]}", "", "less than 16 characters"),
    ],
)
def test_a_mistake_says_what_would_be_right(section: str, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read(section, more)

    assert "short" not in str(error.value).replace("shorter", "")
