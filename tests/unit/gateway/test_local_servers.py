"""Which servers on this machine the built-in configuration uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from replaying import Replaying, replaying

from edge_extproc.config.default_models import LocalHost
from edge_extproc.gateway import banner, local_servers
from edge_extproc.gateway.config_source import ConfigSource, prepare, read_local

HOST = LocalHost("ollama", "openai_compatible", "http://127.0.0.1:11434/v1", "OLLAMA_HOST")
LISTED = b'{"object": "list", "data": [{"id": "llama3.2:latest", "object": "model"}, {"id": "nomic-embed-text"}]}'


@pytest.mark.parametrize(
    ("named", "url"),
    [
        (None, "http://127.0.0.1:11434/v1"),
        ("127.0.0.1:4000", "http://127.0.0.1:4000/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("[::]:4000", "http://[::1]:4000/v1"),
        ("http://localhost:4000", "http://localhost:4000/v1"),
        ("", None),
        ("https://ollama.example", None),
        ("gpu.example:11434", None),
        ("127.0.0.1:many", None),
    ],
)
def test_the_address_is_the_one_of_the_hosts_own_variable(named: str | None, url: str | None) -> None:
    """A server on another machine is never used without a configuration that names it."""
    assert url == local_servers.address(HOST, {} if named is None else {"OLLAMA_HOST": named})


def test_a_server_that_lists_models_is_found() -> None:
    with replaying() as server:
        server.answers(LISTED)
        (found,) = local_servers.find({"OLLAMA_HOST": server.url})

    assert ("ollama", f"{server.url}/v1") == (found.name, found.url)
    assert ("llama3.2:latest", "nomic-embed-text") == found.models
    assert ("llama3.2:latest", "nomic-embed-text") == (found.chat, found.embedding)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b'{"data": []}'),
        (200, b'{"data": [{"id": "a*"}, {"id": ""}]}'),
        (404, LISTED),
        (200, b"\xff"),
    ],
)
def test_another_server_on_its_port_is_left_alone(status: int, body: bytes) -> None:
    with replaying() as server:
        server.answers(body, status=status)
        assert () == local_servers.find({"OLLAMA_HOST": server.url})

    assert () == local_servers.find({"OLLAMA_HOST": server.url}), "nothing listens there now"


def test_without_a_key_it_takes_the_place_of_the_rehearsal(tmp_path: Path) -> None:
    with replaying() as server:
        origin = _prepared(tmp_path, server, {})
        beside = _prepared(tmp_path, server, {"OPENAI_API_KEY": "a key"})

    config = origin.read({})
    assert 0 == origin.rehearsal_port == beside.rehearsal_port
    assert ["ollama"] == list(config.providers)
    assert ["openai", "ollama"] == list(beside.read({"OPENAI_API_KEY": "a key"}).providers)
    arguments = origin.arguments()
    assert origin.local == read_local(arguments[arguments.index("--local") + 1])
    assert '"model": "chat"' in banner.text(config, origin, {})


def test_the_snippets_fit_a_server_that_has_only_embeddings(tmp_path: Path) -> None:
    with replaying() as server:
        origin = _prepared(tmp_path, server, {}, b'{"data": [{"id": "bge-m3"}]}')

    text = banner.text(origin.read({}), origin, {})
    assert '"model": "embedding"' in text
    assert "/v1/embeddings" in text
    assert "chat" not in text


def _prepared(directory: Path, server: Replaying, keys: dict[str, str], body: bytes = LISTED) -> ConfigSource:
    server.answers(body)
    return prepare(None, directory / "state", environ={"OLLAMA_HOST": server.url, **keys})
