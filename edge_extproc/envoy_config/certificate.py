"""Creates the certificate for local use.

The generated certificate is a leaf below a generated authority; both are in <state_dir>/tls. A caller that trusts
`ca.pem` continues to trust a renewed leaf.
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .certificate_files import CertificateFiles, files

NAMES = ("localhost", "127.0.0.1", "::1")
"""The names of the generated certificate, in addition to the requested ones."""

_CA_LIFE = timedelta(days=3650)
# Apple's systems refuse server certificates that are valid for more than 825 days, also below a private authority.
_LIFE = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)
# Tolerance for different clocks.
_EARLY = timedelta(hours=1)


def ensure(state_dir: Path, *, names: Iterable[str] = NAMES, now: datetime | None = None) -> CertificateFiles:
    """The generated certificate for these names and addresses. It is created if it does not exist, has other names, or
    expires soon. Keys are readable for their owner only (0600)."""
    now = now or datetime.now(UTC)
    names_needed = frozenset(names)
    paths = files(state_dir)
    paths.certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca, ca_key = _authority(paths, now)
    leaf = _certificate_in(paths.certificate)
    fresh = (
        leaf is not None
        and leaf.issuer == ca.subject
        and _signed_by(leaf, ca)
        and leaf.not_valid_after_utc - _RENEW_BEFORE > now
        and _names_of(leaf) == names_needed
        and _key_in(paths.private_key) is not None
    )
    if not fresh:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _leaf(key, ca, ca_key, sorted(names_needed), now)
        _write(paths.private_key, _pem_of_key(key))
        _write(paths.certificate, _pem(leaf) + _pem(ca))
    return paths


# --- creating


def _authority(paths: CertificateFiles, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    ca, key = _certificate_in(paths.ca), _key_in(paths.ca_key)
    if (
        ca is not None
        and key is not None
        and ca.public_key() == key.public_key()
        and ca.not_valid_after_utc - _LIFE > now
    ):
        return ca, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge-extproc, this machine only")])
    ca = (
        _builder(name, name, key.public_key(), now, _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(paths.ca_key, _pem_of_key(key))
    _write(paths.ca, _pem(ca))
    return ca, key


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    names: list[str],
    now: datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge-extproc")])
    return (
        _builder(subject, ca.subject, key.public_key(), now, _LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + life)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# --- reading


def _certificate_in(path: Path) -> x509.Certificate | None:
    """The first certificate of the file, or None if it cannot be read."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _key_in(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _signed_by(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _names_of(leaf: x509.Certificate) -> frozenset[str]:
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = alternative.get_values_for_type(x509.IPAddress)
    return frozenset((*alternative.get_values_for_type(x509.DNSName), *map(str, addresses)))


# --- files


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    """Writes a file atomically; mkstemp creates it with mode 0600."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)
