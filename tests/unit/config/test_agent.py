"""Where workers listen, and where they are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_extproc.config.agent import AgentConfig
from edge_extproc.config.load import parse
from edge_extproc.errors import ConfigError

REST = """
auth: {pepper: "a pepper for tests alone"}
callers: [{tenant: dev, keys: [{id: dev, key: a-key-for-tests-alone}]}]
providers: {p: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: x}}
models: {}
"""


def agent(text: str) -> AgentConfig:
    return parse(f"agent: {{{text}}}\n{REST}", "f", environ={}, base=Path("/state")).agent


def mistake(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        agent(text)
    return str(error.value)


def test_without_tcp_each_worker_has_a_unix_socket() -> None:
    found = agent("workers: 2, sockets: /run/edge")

    assert ["unix:/run/edge/worker-0.sock", "unix:/run/edge/worker-1.sock"] == found.worker_addresses()
    assert found.worker_addresses() == found.own_addresses()


@pytest.mark.parametrize(
    ("address", "listens", "near"),
    [
        ("0.0.0.0", "0.0.0.0:9001", "127.0.0.1:9001"),
        ("'::'", "[::]:9001", "[::1]:9001"),
        ("10.1.2.3", "10.1.2.3:9001", "10.1.2.3:9001"),
    ],
)
def test_over_tcp_each_worker_has_a_port_and_this_machine_reaches_it_nearby(
    address: str, listens: str, near: str
) -> None:
    found = agent(f"workers: 2, tcp: {{address: {address}, port: 9000, allow_plaintext: true}}")

    assert (listens, near) == (found.worker_addresses()[1], found.own_addresses()[1])


def test_a_network_without_encryption_must_be_meant() -> None:
    assert (
        "agent.tcp: a client that can connect to this address receives the credentials of providers; "
        "give tls, or write allow_plaintext: true if the network lets only Envoy in" in mistake("tcp: {}")
    )
    assert agent("tcp: {address: 127.0.0.1}").tcp is not None


def test_a_host_is_a_name_or_an_address_and_there_is_one() -> None:
    assert "agent.tcp.hosts[0]: 'a:1': this is neither a host name nor an IP address" in mistake(
        "tcp: {address: 127.0.0.1, hosts: ['a:1']}"
    ).replace('"', "'")
    assert "agent.tcp.hosts: there are no hosts" in mistake("tcp: {address: 127.0.0.1, hosts: []}")


def test_the_last_workers_port_is_a_port() -> None:
    assert "agent.tcp.port: worker 1 would listen at 65536" in mistake(
        "workers: 2, tcp: {address: 127.0.0.1, port: 65535}"
    )


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    told = mistake(
        "tcp: {tls: {ca: /nowhere/ca.pem, certificate: /nowhere/c.pem, private_key: /k.pem, server_name: a}}"
    )

    assert "/nowhere/ca.pem" in told
    assert "there is no such file" in told
