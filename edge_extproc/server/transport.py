"""Who may speak with a worker: whoever can open its Unix socket, or over TCP, whoever shows the right certificate."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.agent import AgentConfig
from ..errors import StartError

if TYPE_CHECKING:
    import grpc
    from grpc import aio


@dataclass(frozen=True, slots=True)
class MutualTls:
    """PEM texts. Both sides show a certificate and ask for one of the same authority."""

    ca: bytes
    certificate: bytes
    private_key: bytes = field(repr=False)
    server_name: str

    def context(self) -> ssl.SSLContext:
        """Of a worker that speaks HTTP/2."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(cadata=self.ca.decode("ascii"))
        # OpenSSL reads a key from a file alone. This one is for our eyes only, and gone at once.
        with tempfile.TemporaryDirectory() as directory:
            pem = Path(directory) / "pair.pem"
            pem.touch(0o600)
            pem.write_bytes(self.private_key + b"\n" + self.certificate)
            context.load_cert_chain(pem)
        return context

    def of_server(self) -> grpc.ServerCredentials:
        import grpc

        pairs = [(self.private_key, self.certificate)]
        return grpc.ssl_server_credentials(pairs, root_certificates=self.ca, require_client_auth=True)

    def channel(self, address: str, options: tuple[tuple[str, int], ...]) -> aio.Channel:
        """To a worker of this machine, whatever name its certificate has."""
        import grpc
        from grpc import aio

        credentials = grpc.ssl_channel_credentials(self.ca, self.private_key, self.certificate)
        return aio.secure_channel(
            address, credentials, options=(*options, ("grpc.ssl_target_name_override", self.server_name))
        )


def mutual_tls(agent: AgentConfig) -> MutualTls | None:
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
