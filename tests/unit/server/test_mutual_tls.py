"""The certificates of workers: a mistake in them is named at the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certificates
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_extproc.errors import StartError
from edge_extproc.server.transport import MutualTls

NAME = "agents.example.internal"
Usages = list[x509.ObjectIdentifier]
BOTH: Usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def issued(usages: Usages, days: int = 1, ca: bool = True) -> MutualTls:
    """With a new authority; `ca=False`: the file has another one."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority for tests")])
    begin = datetime.now(UTC) - timedelta(days=9)

    def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(begin)
        return made.not_valid_after(datetime.now(UTC) + timedelta(days=days))

    top = builder(issuer, (authority if ca else key).public_key())
    signed = top.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    leaf = builder(subject, key.public_key())
    leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    if usages:
        leaf = leaf.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return MutualTls(
        signed.sign(authority if ca else key, hashes.SHA256()).public_bytes(pem),
        leaf.sign(authority, hashes.SHA256()).public_bytes(pem),
        private,
        NAME,
    )


def other_key(tmp_path: Path) -> bytes:
    return certificates.mutual(tmp_path, NAME).private_key.read_bytes()


@pytest.mark.parametrize("usages", [[], BOTH])
def test_a_certificate_for_both_ends_is_good(usages: Usages) -> None:
    issued(usages).check()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            lambda _: issued([ExtendedKeyUsageOID.SERVER_AUTH]),
            "it needs the extended key usages serverAuth and clientAuth",
        ),
        (
            lambda _: issued([ExtendedKeyUsageOID.CLIENT_AUTH]),
            "it needs the extended key usages serverAuth and clientAuth",
        ),
        (lambda _: issued(BOTH, days=-1), "the certificate has expired"),
        (lambda _: issued(BOTH, ca=False), "the certificate is not of the authority"),
        (
            lambda _: replace(issued(BOTH), server_name="agents"),
            "server_name is 'agents', and the certificate has no such",
        ),
        (
            lambda path: replace(issued(BOTH), private_key=other_key(path)),
            "the files are not a certificate in PEM and its key",
        ),
        (lambda _: replace(issued(BOTH), certificate=b"nothing"), "the files are not a certificate in PEM and its key"),
        (lambda _: replace(issued(BOTH), ca=b"nothing"), "the files are not a certificate in PEM and its key"),
    ],
)
def test_a_mistake_is_named(wrong: Callable[[Path], MutualTls], told: str, tmp_path: Path) -> None:
    with pytest.raises(StartError) as raised:
        wrong(tmp_path).check()

    assert str(raised.value).startswith("agent.tcp.tls: ")
    assert told in str(raised.value)
