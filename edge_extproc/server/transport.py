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


@dataclass(frozen=True, slots=True)
class MutualTls:
    """The certificates for mutual TLS, as PEM. Both sides have a certificate of the same authority."""

    ca: bytes
    certificate: bytes
    private_key: bytes = field(repr=False)
    server_name: str

    def context(self) -> ssl.SSLContext:
        """The TLS context of a worker's HTTP/2 server."""
        return self._of(ssl.PROTOCOL_TLS_SERVER)

    def context_of_client(self) -> ssl.SSLContext:
        """The TLS context of a client of a worker. It compares the name in the worker's certificate with the name that
        the connection is given: `server_name`."""
        return self._of(ssl.PROTOCOL_TLS_CLIENT)

    def _of(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
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

    def check(self) -> None:
        """Makes a handshake in memory with the certificate at both ends, as the supervisor does with its workers.
        Raises StartError that names the mistake. Without it, the worker would never become ready."""
        try:
            _handshake(self.context(), self.context_of_client(), self.server_name)
        except ssl.SSLCertVerificationError as error:
            told = _MISTAKES.get(error.verify_code, "the certificate is not valid for a connection to a worker")
            raise StartError(f"agent.tcp.tls: {told.format(name=self.server_name)}") from error
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise StartError("agent.tcp.tls: the files are not a certificate in PEM and its key") from error

    def of_server(self) -> grpc.ServerCredentials:
        import grpc

        pairs = [(self.private_key, self.certificate)]
        return grpc.ssl_server_credentials(pairs, root_certificates=self.ca, require_client_auth=True)


_UNTRUSTED = "the certificate is not of the authority in `ca`, or the chain in `certificate` is not complete"
# By OpenSSL's codes of verification (X509_V_ERR_*).
_MISTAKES = {
    7: _UNTRUSTED,
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: _UNTRUSTED,
    19: _UNTRUSTED,
    20: _UNTRUSTED,
    21: _UNTRUSTED,
    26: (
        "the certificate may be used at one end only. The supervisor connects to its workers with it, so it needs the "
        "extended key usages serverAuth and clientAuth, or none"
    ),
    62: "server_name is {name!r}, and the certificate has no such DNS name (subjectAltName)",
}


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Raises ssl.SSLError of the end that refuses the other one."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    waiting = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while waiting:
        end = waiting.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(end)


def mutual_tls(agent: AgentConfig) -> MutualTls | None:
    """The configured certificates, or None if workers need none. Raises StartError if a file cannot be read, or if the
    certificates cannot be used."""
    settings = agent.tcp.tls if agent.tcp is not None else None
    if settings is None:
        return None
    try:
        found = MutualTls(
            settings.ca.read_bytes(),
            settings.certificate.read_bytes(),
            settings.private_key.read_bytes(),
            settings.server_name,
        )
    except OSError as error:
        raise StartError(f"agent.tcp.tls: {error.filename} cannot be read: {error.strerror}") from error
    found.check()
    return found
