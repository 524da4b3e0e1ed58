"""Clients of HTTP share the trust store of their environment."""

from __future__ import annotations

from pathlib import Path

import certificates
import httpx2 as httpx
import pytest


def test_clients_share_a_context_and_another_trust_store_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = httpx.create_ssl_context()
    with monkeypatch.context() as changed:
        changed.setenv("SSL_CERT_FILE", str(certificates.mutual(tmp_path, "localhost").ca))
        of_the_variable = httpx.create_ssl_context()

    assert system is httpx.create_ssl_context()
    assert 1 == len(of_the_variable.get_ca_certs())
    assert of_the_variable is not system
