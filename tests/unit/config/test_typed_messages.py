"""What is rendered without Envoy's types is what they would render, and a typo fails where they are compared."""

from __future__ import annotations

import ast
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from config_kit import ENVIRON, SECTIONS

from edge_extproc.envoy_config import envoy_types
from edge_extproc.envoy_config.descriptions import Description, Package, json_form, type_url
from edge_extproc.envoy_config.typed_messages import typed_messages
from edge_extproc.errors import ConfigError

# For the type checker, these names are envoy-data-plane's, which do not know the typos of this module.
core: Any = Package("envoy.config.core.v3")
cors: Any = Package("envoy.extensions.filters.http.cors.v3")


def test_the_packages_are_those_that_the_type_checker_reads() -> None:
    tree = ast.parse(Path(envoy_types.__file__).read_text())
    (checked,) = (each for each in tree.body if isinstance(each, ast.If))
    imported = {
        found.names[0].asname: f"{found.module}.{found.names[0].name}".removeprefix("envoy_data_plane.")
        for found in checked.body
        if isinstance(found, ast.ImportFrom)
    }
    used = {name: vars(each)["_name"] for name, each in vars(envoy_types).items() if isinstance(each, Package)}

    assert imported == used
    assert used.items() >= {("core", "envoy.config.core.v3")}


def test_a_description_becomes_the_json_form_of_protobuf() -> None:
    described = core.HealthCheck(
        timeout=timedelta(seconds=5),
        interval=timedelta(milliseconds=250),
        no_traffic_interval=timedelta(microseconds=1_000_001),
        unhealthy_threshold=0,
        reuse_connection=False,
        alt_port=None,
        grpc_health_check=core.HealthCheckGrpcHealthCheck(
            initial_metadata=[
                core.HeaderValueOption(
                    header=core.HeaderValue(key="a", value="b"),
                    append_action=core.HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT,
                )
            ]
        ),
        transport_socket_match_criteria=None,
        tls_options=core.HealthCheckTlsOptions(alpn_protocols=[]),
    )

    with typed_messages():
        found = envoy_types.fields(described)

    header = {"header": {"key": "a", "value": "b"}, "append_action": "ADD_IF_ABSENT"}
    assert found == {
        "timeout": "5s",
        "interval": "0.250s",
        "no_traffic_interval": "1.000001s",
        "unhealthy_threshold": 0,
        "reuse_connection": False,
        "grpc_health_check": {"initial_metadata": [header]},
        "tls_options": {},
    }


def test_members_of_an_enum_are_compared_by_identity() -> None:
    assert core.ApiVersion.V3 is core.ApiVersion.V3
    assert core.ApiVersion.V3 is not core.ApiVersion.V2


def test_a_field_has_no_value_of_another_kind() -> None:
    with pytest.raises(TypeError, match="no value of a field"):
        json_form(core.SocketAddress(address=Path("/")))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(core.SocketAddress(adress="::1"), id="field"),
        pytest.param(core.Address(socket_address=core.SocketAddress(port_valu=1)), id="field within"),
        pytest.param(core.Adress(), id="type"),
        pytest.param(Package("envoy.config.cores.v3").Address(), id="package"),
        pytest.param(core.HeaderValueOption(append_action=core.HeaderValueOptionHeaderAppendAction.ADD), id="enum"),
        pytest.param(core.SocketAddress(port_value="http"), id="kind of value"),
        pytest.param(core.SocketAddress(port_value=-1), id="value"),
        pytest.param(core.Pipe(path=core.Address()), id="message for text"),
        pytest.param(core.HeaderValue(key=timedelta(1)), id="time for text"),
        pytest.param(
            core.Address(socket_address=core.SocketAddress(address="a"), pipe=core.Pipe(path="/b")), id="two of one"
        ),
    ],
)
def test_a_typo_fails(message: Any) -> None:
    with typed_messages(), pytest.raises(ConfigError, match="is not a message of Envoy"):
        envoy_types.fields(message)


def test_a_typo_fails_after_equal_messages_without_one() -> None:
    with typed_messages():
        assert {"port_value": 1} == envoy_types.fields(core.SocketAddress(port_value=1))
        assert {"port_value": 2} == envoy_types.fields(core.SocketAddress(port_value=2))
        with pytest.raises(ConfigError, match="is not a message of Envoy"):
            envoy_types.fields(core.SocketAddress(port_value=-1))


def test_a_number_of_64_bits_may_be_a_number() -> None:
    with typed_messages():
        made = envoy_types.connections.DownstreamConnectionsConfig(max_active_downstream_connections=7)
        assert {"max_active_downstream_connections": 7} == envoy_types.fields(made)


def test_a_message_within_an_any_has_the_url_of_its_type() -> None:
    with typed_messages():
        found = envoy_types.typed(cors.Cors(), later=1)
        # A nested type: the name of its class joins two names, and its URL does not.
        with pytest.raises(ConfigError, match="type URL"):
            envoy_types.typed(core.HealthCheckGrpcHealthCheck())

    assert {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors", "later": 1} == found
    assert "type.googleapis.com/envoy.config.core.v3.Address" == type_url(core.Address())


def test_a_description_can_be_changed() -> None:
    message = core.Pipe(path="/a")
    message.path = "/b"

    assert isinstance(message, Description)
    assert {"path": "/b"} == json_form(message)


CODE = """
import contextlib, sys
from edge_extproc import cli
with contextlib.suppress(SystemExit):
    {run}
print("betterproto2" in sys.modules, "edge_extproc.envoy_config.bootstrap" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "run",
    [
        "cli.app(['check', 'edge.yaml'])",
        "cli.app(['render', '--config', 'edge.yaml'])",
        "cli.app(['render', '--config', 'edge.yaml', '--target', 'istio-sidecar', '--istio', '1.29'])",
        "from edge_extproc.config import load; from edge_extproc.gateway import launch; "
        "from edge_extproc.envoy_config import bootstrap; bootstrap.render(load.load('edge.yaml'))",
    ],
    ids=["check", "render", "render for Istio", "up"],
)
def test_no_command_loads_envoys_types(tmp_path: Path, run: str) -> None:
    (tmp_path / "edge.yaml").write_text("".join(SECTIONS.values()) + "agent: {workers: 1, sockets: s}\n")
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(run=run)],
        env=ENVIRON,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "False True" == done.stderr.splitlines()[-1], done.stderr
