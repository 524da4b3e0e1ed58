"""The agent's own section: its worker processes, and where Envoy finds them."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from .part import Automatic, ConfigSection, IpAddress, Text, automatic, cores, one_of
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
    """Worker and Envoy show each other a certificate of one authority. Each of them reads these paths on its own
    machine: what lies there is its own certificate."""

    ca: ReadableFile
    """A PEM file with the authority of both."""
    certificate: ReadableFile
    """A PEM file with the whole chain."""
    private_key: ReadableFile
    server_name: Text
    """The name in the workers' certificate."""


class TcpConfig(ConfigSection):
    """Workers that Envoy reaches over a network. Whoever can connect to them can act as Envoy and receives the
    credentials of providers, so only Envoy may."""

    address: IpAddress = "0.0.0.0"  # noqa: S104 - to be reached from other machines is its purpose
    port: Port = 9000
    """Of worker 0; worker N listens at port + N."""
    hosts: tuple[Annotated[Text, AfterValidator(_host)], ...] = ("127.0.0.1",)
    """The agents' hosts, for Envoy. Each address that a name resolves to is one agent with all of its workers."""
    tls: MutualTlsConfig | None = None
    allow_plaintext: Boolean = False
    """Without tls: something else encrypts, and lets only Envoy in."""

    @model_validator(mode="after")
    def _guarded(self) -> TcpConfig:
        if not self.hosts:
            raise wrong("there are no hosts", "name one: [agents.example]", key="hosts")
        if self.tls is None and not self.allow_plaintext and not ipaddress.ip_address(self.address).is_loopback:
            raise wrong(
                "whoever can connect to this address receives the credentials of providers",
                "give tls, or write allow_plaintext: true if the network lets only Envoy in",
            )
        return self

    def port_of(self, worker: int) -> int:
        return self.port + worker


class AgentConfig(ConfigSection):
    workers: Annotated[
        Count,
        automatic(min(4, max(1, cores() // 2))),
        WithJsonSchema(Automatic),
    ] = Field(default="auto", validate_default=True)
    """Processes. auto: half the cores, 1 to 4."""
    state_dir: AnyPath = Path(".edge")
    """Where the gateway keeps what it makes for itself: keys, certificates, sockets."""
    sockets: AnyPath | None = None
    """Where the workers' Unix sockets lie; <state_dir>/run where not given."""
    socket_access: Annotated[Literal["owner", "group"], one_of("owner", "group")] = "owner"
    """Who may open the workers' sockets. group: their owner's group too, which is the directory's where that hands its
    group on (an emptyDir of Kubernetes with an fsGroup)."""
    tcp: TcpConfig | None = None
    """Absent: the workers listen on Unix sockets, which Envoy on the same machine opens."""
    transport: Literal["http2", "grpcio"] = "http2"
    """What carries gRPC. grpcio: the reference implementation, at several times the cost of a message."""
    shutdown_grace: Duration = timedelta(seconds=10)
    """How long open requests may go on after a stop."""

    @property
    def socket_dir(self) -> Path:
        return self.sockets or self.state_dir / "run"

    @property
    def circuits_file(self) -> Path:
        """Where the workers share which providers are left alone."""
        return self.socket_dir / "circuits"

    def worker_sockets(self) -> list[str]:
        """One Unix socket a worker: Envoy balances over endpoints, the kernel does not over SO_REUSEPORT."""
        return [str(self.socket_dir / f"worker-{n}.sock") for n in range(self.workers)]

    def worker_addresses(self) -> list[str]:
        """Where each worker listens, as gRPC writes addresses."""
        if self.tcp is None:
            return [f"unix:{path}" for path in self.worker_sockets()]
        return [_grpc_address(self.tcp.address, self.tcp.port_of(n)) for n in range(self.workers)]

    def own_addresses(self) -> list[str]:
        """Where this machine itself reaches each worker."""
        if self.tcp is None:
            return self.worker_addresses()
        address = ipaddress.ip_address(self.tcp.address)
        loopback = "127.0.0.1" if address.version == 4 else "::1"
        near = loopback if address.is_unspecified else self.tcp.address
        return [_grpc_address(near, self.tcp.port_of(n)) for n in range(self.workers)]


def _grpc_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
