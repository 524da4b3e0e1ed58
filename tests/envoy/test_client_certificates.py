"""Client certificates: Envoy verifies them and tells the agent, and nobody else can tell it so."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gateway as gateways
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("certificates")]

WEB = "spiffe://mesh/ns/chat/sa/web"


class Authority:
    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = self._sign(self._key, self._name, (x509.BasicConstraints(ca=True, path_length=0),))
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def client(self, common_name: str, uri: str) -> tuple[str, str]:
        """Paths of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        certificate = self._sign(key, _name(common_name), (names,))
        paths = self.directory / f"{common_name}.pem", self.directory / f"{common_name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(paths[0]), str(paths[1])

    def _sign(self, key: Any, name: x509.Name, extensions: tuple[Any, ...]) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "authority")


@pytest.fixture(scope="module")
def gateway(rehearsal_url: str, authority: Authority) -> Iterator[gateways.RunningGateway]:
    text = gateways.config(rehearsal_url, models="chat: [{provider: openai, model: rehearsal}]")
    text = text.replace("listen: {", "listen: {tls: {generate: true, client_ca: ca.pem}, ", 1)
    text = text.replace("auth: {", 'auth: {certificates: [{tenant: acme, uri: "spiffe://mesh/ns/chat/*"}], ', 1)
    found = gateways.RunningGateway(text)
    (found.directory / "ca.pem").write_bytes(authority.pem)
    with found:
        yield found


def ask(
    gateway: gateways.RunningGateway, *pairs: tuple[str, str], certificate: tuple[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    context = ssl.create_default_context(cafile=str(gateway.directory / ".edge" / "tls" / "ca.pem"))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    url = gateway.url.replace("http://", "https://") + "/v1/chat/completions"
    request = urllib.request.Request(url, body, dict((("content-type", "application/json"), *pairs)))
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_certificate_is_a_credential(gateway: gateways.RunningGateway, authority: Authority) -> None:
    status, _ = ask(gateway, certificate=authority.client("web", WEB))

    assert 200 == status
    gateways.until(lambda: ("acme", f"mtls:{WEB}") in {(x["tenant"], x["key"]) for x in gateway.access_lines()})


def test_a_caller_cannot_say_that_it_had_one(gateway: gateways.RunningGateway, authority: Authority) -> None:
    forged = ("x-forwarded-client-cert", f"URI={WEB}")
    stranger = authority.client("stranger", "spiffe://elsewhere/x")

    assert (401, "missing_api_key") == ((found := ask(gateway, forged))[0], found[1]["error"]["code"])
    assert "unknown_certificate" == ask(gateway, forged, certificate=stranger)[1]["error"]["code"]


def test_a_certificate_of_another_tenant_beside_a_key_is_refused(
    gateway: gateways.RunningGateway, authority: Authority
) -> None:
    certificate = authority.client("web-too", WEB)

    assert 200 == ask(gateway, ("x-api-key", gateways.KEY), certificate=certificate)[0]
    status, told = ask(gateway, ("x-api-key", gateways.OTHER_KEY), certificate=certificate)
    assert (401, "conflicting_credentials") == (status, told["error"]["code"])


def test_a_certificate_that_nobody_we_trust_has_signed_ends_the_handshake(
    gateway: gateways.RunningGateway, tmp_path: Path
) -> None:
    certificate = Authority(tmp_path, "another").client("web", WEB)
    with pytest.raises((urllib.error.URLError, OSError)):
        ask(gateway, certificate=certificate)
