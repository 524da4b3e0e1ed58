"""Who may speak with a worker: whoever can open its Unix socket, or over TCP, whoever shows the right certificate."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
from grpc import aio

from ..config.agent import Agent
from ..errors import StartError


@dataclass(frozen=True, slots=True)
class MutualTls:
    """PEM texts. Both sides show a certificate and ask for one of the same authority."""

    ca: bytes
    certificate: bytes
    private_key: bytes = field(repr=False)
    server_name: str

    def of_server(self) -> grpc.ServerCredentials:
        pairs = [(self.private_key, self.certificate)]
        return grpc.ssl_server_credentials(pairs, root_certificates=self.ca, require_client_auth=True)

    def channel(self, address: str, options: tuple[tuple[str, int], ...]) -> aio.Channel:
        """To a worker of this machine, whatever name its certificate has."""
        credentials = grpc.ssl_channel_credentials(self.ca, self.private_key, self.certificate)
        return aio.secure_channel(
            address, credentials, options=(*options, ("grpc.ssl_target_name_override", self.server_name))
        )


def mutual_tls(agent: Agent) -> MutualTls | None:
    """None where the workers need none. Raises StartError where a file cannot be read."""
    wanted = agent.tcp.tls if agent.tcp is not None else None
    if wanted is None:
        return None
    try:
        return MutualTls(
            wanted.ca.read_bytes(), wanted.certificate.read_bytes(), wanted.private_key.read_bytes(), wanted.server_name
        )
    except OSError as error:
        raise StartError(f"agent.tcp.tls: {error.filename} cannot be read: {error.strerror}") from error
