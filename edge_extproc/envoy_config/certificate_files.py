"""The locations of certificates: of the generated one (certificate.py), and of the system's trust store."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError

# The locations of trust stores, in case Python's OpenSSL was built for another system.
_TRUST_STORES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, the BSDs
)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    certificate: Path
    """The certificate with its chain."""
    private_key: Path
    ca: Path
    """The authority that a caller must trust."""
    ca_key: Path


def files(state_dir: Path) -> CertificateFiles:
    """The paths of the generated certificate, whether it exists or not."""
    tls = state_dir / "tls"
    return CertificateFiles(tls / "cert.pem", tls / "key.pem", tls / "ca.pem", tls / "ca-key.pem")


def system_trust_store() -> Path:
    """A PEM file with the authorities that the system trusts. Raises ConfigError."""
    paths = ssl.get_default_verify_paths()
    # Python returns None for a file that does not exist.
    candidates = [path for path in (os.environ.get("SSL_CERT_FILE"), paths.cafile, *_TRUST_STORES) if path]
    with contextlib.suppress(ImportError):
        import certifi

        candidates.append(certifi.where())
    return first_file(candidates)


def first_file(candidates: Iterable[str]) -> Path:
    """The first existing trust store of these. Raises ConfigError."""
    for candidate in candidates:
        if Path(candidate).is_file():
            return Path(candidate)
    raise ConfigError(
        "no list of trusted certificate authorities was found on this system; "
        "install ca-certificates, set SSL_CERT_FILE, or give tls.ca of each provider"
    )
