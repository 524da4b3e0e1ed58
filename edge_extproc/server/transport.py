"""Access to a worker: by permission on its Unix socket or, over TCP, by a client certificate."""

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
    """The certificates for mutual TLS, as PEM. Both sides have a certificate of the same authority."""

    ca: bytes
    certificate: bytes
    private_key: bytes = field(repr=False)
    server_name: str

    def context(self) -> ssl.SSLContext:
        """The TLS context of a worker's HTTP/2 server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(cadata=self.ca.decode("ascii"))
        # OpenSSL reads private keys only from files. This file is readable for its owner only and is removed at once.
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
        """A client channel to a worker of this machine. The name in the worker's certificate is not compared with the
        address."""
        import grpc
        from grpc import aio

        credentials = grpc.ssl_channel_credentials(self.ca, self.private_key, self.certificate)
        return aio.secure_channel(
            address, credentials, options=(*options, ("grpc.ssl_target_name_override", self.server_name))
        )


def mutual_tls(agent: AgentConfig) -> MutualTls | None:
    """The configured certificates, or None if workers need none. Raises StartError if a file cannot be read."""
    settings = agent.tcp.tls if agent.tcp is not None else None
    if settings is None:
        return None
    try:
        return MutualTls(
            settings.ca.read_bytes(),
            settings.certificate.read_bytes(),
            settings.private_key.read_bytes(),
            settings.server_name,
        )
    except OSError as error:
        raise StartError(f"agent.tcp.tls: {error.filename} cannot be read: {error.strerror}") from error
