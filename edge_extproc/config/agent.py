"""The section `agent`: the worker processes, and the addresses at which Envoy reaches them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from .part import Automatic, ConfigSection, IpAddress, Text, automatic, cores, frozen, one_of, thawed
from .paths import AnyPath, ReadableFile
from .quantities import Boolean, Count, Duration, Port
from .wrong import wrong


def _host(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", value):
            return value
        raise wrong("this is neither a host name nor an IP address", "write one, without a port") from None


class MutualTlsConfig(ConfigSection):
    """Mutual TLS between Envoy and the workers. Each side reads these paths on its own machine, so each has its own
    certificate there."""

    ca: ReadableFile
    """A PEM file with the authority that signed both certificates."""
    certificate: ReadableFile
    """A PEM file with the whole chain. An agent's supervisor is a client of its workers, with their certificate: if it
    has extended key usages, they are serverAuth and clientAuth."""
    private_key: ReadableFile
    """The key of the certificate, in PEM."""
    server_name: Text
    """The name in the workers' certificate."""


class TcpConfig(ConfigSection):
    """Workers that Envoy reaches over a network. A client that can connect to them can act as Envoy and receives the
    credentials of providers, so only Envoy may connect."""

    address: IpAddress = "0.0.0.0"  # noqa: S104 - other machines must be able to connect
    """The IP address to listen at."""
    port: Port = 9000
    """The port of worker 0. Worker N listens at port + N."""
    hosts: tuple[Annotated[Text, AfterValidator(_host)], ...] = ("127.0.0.1",)
    """The agents' hosts, for Envoy. Each address that a name resolves to is one agent with all its workers."""
    tls: MutualTlsConfig | None = None
    """Absent: connections are not encrypted."""
    allow_plaintext: Boolean = False
    """Allow a network address without tls. The network itself must encrypt, and must let only Envoy connect."""

    @model_validator(mode="after")
    def _guarded(self) -> TcpConfig:
        if not self.hosts:
            raise wrong("there are no hosts", "name one: [agents.example]", key="hosts")
        if self.tls is None and not self.allow_plaintext and not ipaddress.ip_address(self.address).is_loopback:
            raise wrong(
                "a client that can connect to this address receives the credentials of providers",
                "give tls, or write allow_plaintext: true if the network lets only Envoy in",
            )
        return self

    def port_of(self, worker: int) -> int:
        return self.port + worker


class ConsumerConfig(ConfigSection):
    """Streams of a proxy that this gateway does not configure (Envoy Gateway, kgateway, agentgateway). Credentials are
    written only for the provider to which the route is known to go."""

    provider: Text | None = None
    """Every route with the filter goes to this provider. Absent: an attribute shows the provider."""
    routes: Annotated[Mapping[Text, Text], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Names or globs of the proxy's clusters or routes, and their providers: {"httproute/llm/openai/*": openai}."""
    route_header: Boolean = False
    """A first filter, without the attributes xds.cluster_name and xds.route_name, sets the header x-edge-provider, by
    which the proxy selects the route. A second filter, with one of them, writes the request."""
    full_duplex: Boolean = False
    """The proxy does not send the modes of its filter, and uses FULL_DUPLEX_STREAMED for both bodies."""


class AgentConfig(ConfigSection):
    workers: Annotated[
        Count,
        automatic(min(4, max(1, cores() // 2))),
        WithJsonSchema(Automatic),
    ] = Field(default="auto", validate_default=True)
    """The number of worker processes. auto: half the cores, 1 to 4."""
    state_dir: AnyPath = Path(".edge")
    """The directory of the files that the gateway creates: keys, certificates, journals, sockets."""
    sockets: AnyPath | None = None
    """The directory of the workers' Unix sockets. Default: <state_dir>/run."""
    socket_access: Annotated[Literal["owner", "group"], one_of("owner", "group")] = "owner"
    """Who may open the workers' sockets. group: also the group of the sockets, which is the directory's group if the
    directory has the setgid bit (an emptyDir of Kubernetes with an fsGroup)."""
    consumer: ConsumerConfig = Field(default_factory=dict, validate_default=True)
    """Other proxies that use the workers for ext_proc."""
    tcp: TcpConfig | None = None
    """Absent: the workers listen on Unix sockets, for an Envoy on the same machine."""
    transport: Literal["http2", "grpcio"] = "http2"
    """The gRPC server. http2: the gateway's own. grpcio: the reference implementation, which costs several times as
    much for each message."""
    shutdown_grace: Duration = timedelta(seconds=10)
    """How long open requests may continue after a stop signal."""

    @property
    def socket_dir(self) -> Path:
        return self.sockets or self.state_dir / "run"

    @property
    def circuits_file(self) -> Path:
        """The file in which the workers share their circuit breakers."""
        return self.socket_dir / "circuits"

    def worker_sockets(self) -> list[str]:
        """One Unix socket a worker: Envoy balances over endpoints, the kernel does not over SO_REUSEPORT."""
        return [str(self.socket_dir / f"worker-{n}.sock") for n in range(self.workers)]

    def bridge_sockets(self) -> list[str]:
        """One Unix socket a worker, for sessions of the Responses API (`sockets.responses: requests`)."""
        return [str(self.socket_dir / f"bridge-{n}.sock") for n in range(self.workers)]

    def worker_addresses(self) -> list[str]:
        """Each worker's listen address, in gRPC's notation."""
        if self.tcp is None:
            return [f"unix:{path}" for path in self.worker_sockets()]
        return [_grpc_address(self.tcp.address, self.tcp.port_of(n)) for n in range(self.workers)]

    def envoys_addresses(self) -> list[str] | None:
        """Each worker's address as Envoy reaches it, in Envoy's notation. None: Envoy asks DNS for them."""
        if self.tcp is None:
            return self.worker_sockets()
        try:
            hosts = [str(ipaddress.ip_address(host)) for host in self.tcp.hosts]
        except ValueError:
            return None
        return [_grpc_address(host, self.tcp.port_of(n)) for host in hosts for n in range(self.workers)]

    def own_addresses(self) -> list[str]:
        """Each worker's address for a client on this machine, in gRPC's notation."""
        if self.tcp is None:
            return self.worker_addresses()
        address = ipaddress.ip_address(self.tcp.address)
        loopback = "127.0.0.1" if address.version == 4 else "::1"
        near = loopback if address.is_unspecified else self.tcp.address
        return [_grpc_address(near, self.tcp.port_of(n)) for n in range(self.workers)]


def _grpc_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
