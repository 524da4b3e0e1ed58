"""Our own certificate: made once, renewed in time, trusted by one file."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_extproc.envoy_config.certificate import ensure
from edge_extproc.envoy_config.certificate_files import CertificateFiles, files, first_file, system_trust_store
from edge_extproc.errors import ConfigError

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def contents(found: CertificateFiles) -> list[bytes]:
    return [path.read_bytes() for path in (found.certificate, found.private_key, found.ca, found.ca_key)]


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_authority_trusts_the_server_by_each_name(tmp_path: Path, name: str) -> None:
    found = ensure(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(found.certificate, found.private_key)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with server.wrap_socket(ours, server_side=True) as connection:
            connection.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=found.ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    with client.wrap_socket(theirs, server_hostname=name) as connection:
        received = connection.recv(5)
    thread.join()

    assert b"hello" == received


def test_it_is_made_once_and_its_keys_are_for_the_owner_alone(tmp_path: Path) -> None:
    found = ensure(tmp_path, now=NOW)
    before = contents(found)

    assert found == ensure(tmp_path, now=NOW + timedelta(days=300)) == files(tmp_path)
    assert before == contents(found)
    assert [0o600, 0o600] == [path.stat().st_mode & 0o777 for path in (found.private_key, found.ca_key)]
    assert 4 == len(list(found.ca.parent.iterdir()))


def test_it_is_renewed_before_it_expires_under_the_same_authority(tmp_path: Path) -> None:
    old = contents(ensure(tmp_path, now=NOW))
    new = contents(ensure(tmp_path, now=NOW + timedelta(days=340)))

    assert old[:2] != new[:2]
    assert old[2:] == new[2:]


def test_an_authority_at_its_end_is_made_anew(tmp_path: Path) -> None:
    old = contents(ensure(tmp_path, now=NOW))
    new = contents(ensure(tmp_path, now=NOW + timedelta(days=3600)))

    assert not set(old) & set(new)


def test_it_is_made_anew_for_other_names(tmp_path: Path) -> None:
    old = contents(ensure(tmp_path, now=NOW))
    new = contents(ensure(tmp_path, names=("edge.example", "10.0.0.1"), now=NOW))

    assert old[0] != new[0]
    assert old[2:] == new[2:]


def delete(path: Path) -> None:
    path.unlink()


def spoil(path: Path) -> None:
    path.write_text("-----BEGIN nothing\n")


@pytest.mark.parametrize("harm", [delete, spoil])
@pytest.mark.parametrize("which", ["certificate", "private_key", "ca", "ca_key"])
def test_a_file_that_is_lost_or_spoilt_is_made_anew(tmp_path: Path, harm: Callable[[Path], None], which: str) -> None:
    found = ensure(tmp_path)
    harm(getattr(found, which))

    found = ensure(tmp_path)

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(found.certificate, found.private_key)
    assert found.certificate.read_bytes().endswith(found.ca.read_bytes())


def test_a_leaf_of_another_authority_is_not_kept(tmp_path: Path) -> None:
    ours, theirs = ensure(tmp_path / "ours"), ensure(tmp_path / "theirs")
    ours.certificate.write_bytes(theirs.certificate.read_bytes())

    ensure(tmp_path / "ours")

    assert ours.certificate.read_bytes() != theirs.certificate.read_bytes()


def test_a_certificate_without_names_and_a_key_of_another_kind_are_not_kept(tmp_path: Path) -> None:
    found = ensure(tmp_path)
    found.certificate.write_bytes(found.ca.read_bytes())
    ensure(tmp_path)

    assert found.certificate.read_bytes() != found.ca.read_bytes()


def test_the_systems_trust_store_is_the_one_that_the_user_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ensure(tmp_path).ca
    monkeypatch.setenv("SSL_CERT_FILE", str(own))

    assert own == system_trust_store()


def test_a_system_without_one_is_told_what_to_do() -> None:
    with pytest.raises(ConfigError, match="install ca-certificates, set SSL_CERT_FILE"):
        first_file(["/nowhere", "/nor/here"])
