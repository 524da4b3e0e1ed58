"""istiod without Kubernetes, and Envoys that it configures.

tests/istio is a Go program with Istio's own code. It serves the configuration for manifests, over mutual TLS, and the
certificates that Istio's agent in each pod serves. The Envoys lack what Istio's build lacks. Istio's build has filters
of its own, for telemetry; istiod is told by variables and by an EnvoyFilter for these tests to leave them out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SOURCE = Path(__file__).parent / "istio"
BINARY = SOURCE / ".bin" / "istiod"
# Filters that only Istio's build has.
ENVIRONMENT = {
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "PILOT_ENABLE_AMBIENT": "true",
    "AMBIENT_ENABLE_BAGGAGE": "false",
    "AMBIENT_ENABLE_MULTI_NETWORK": "false",
}
Manifest = dict[str, Any]


def go() -> str:
    """Skips the tests if there is no Go, or if its modules cannot be had."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        pytest.skip("Go is not installed; istiod is built with it")
    return found


def build() -> None:
    compiler = go()
    loaded = subprocess.run([compiler, "mod", "download"], cwd=SOURCE, capture_output=True, text=True, check=False)
    if loaded.returncode:
        pytest.skip(f"the Go modules of Istio cannot be loaded: {loaded.stderr.strip().splitlines()[-1]}")
    built = subprocess.run(
        [compiler, "build", "-o", str(BINARY), "."], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr


def run(command: str, manifests: list[Manifest], directory: Path) -> Any:
    """What `validate` or `analyze` prints for manifests."""
    path = directory / f"{command}.yaml"
    path.write_text(yaml.safe_dump_all(manifests))
    done = subprocess.run([BINARY, command, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class MeshAuthority:
    """Issues certificates for workloads and servers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pem = directory / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a mesh for tests")])
        builder = self._builder(self._name, self._key.public_key())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        made = builder.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (directory / "ca-key.pem").write_bytes(_pem(self._key))

    def issue(self, name: x509.GeneralName) -> tuple[bytes, bytes]:
        """A certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([name])
        builder = self._builder(x509.Name([]), key.public_key())
        made = builder.add_extension(names, critical=True).sign(self._key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM), _pem(key)

    def of_workload(self, namespace: str, account: str) -> Path:
        """A file with the certificate and the key of a workload."""
        path = self.directory / f"{namespace}-{account}.pem"
        path.write_bytes(b"".join(self.issue(x509.UniformResourceIdentifier(_identity(namespace, account)))))
        return path

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )


def _identity(namespace: str, account: str) -> str:
    return f"spiffe://cluster.local/ns/{namespace}/sa/{account}"


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@contextmanager
def istiod(manifests: list[Manifest], directory: Path) -> Iterator[Mapping[str, int]]:
    """The ports of `xds` and `sds`. The directory has the authority."""
    path = directory / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(manifests))
    log_path = directory / "istiod.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [BINARY, "serve", str(directory), str(path)],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log_path.read_text()[-4000:]
        yield json.loads(line)
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def bootstrap(
    ports: Mapping[str, int],
    kind: str,
    namespace: str,
    account: str,
    labels: Mapping[str, str],
    *,
    ip: str,
    capture: bool = False,
) -> dict[str, Any]:
    """As Istio's agent writes it for the Envoy of a pod, `kind`: router, sidecar or waypoint. `capture`: connections
    come with the address that they were meant for. Otherwise each listener has its port."""
    metadata = {
        "NAMESPACE": namespace,
        "SERVICE_ACCOUNT": account,
        "LABELS": dict(labels),
        "CLUSTER_ID": "Kubernetes",
        # For proxies from 1.29.2 on, istiod names an object of filter state that only Istio's build has.
        "ISTIO_VERSION": "1.29.0",
        "INSTANCE_IPS": ip,
        "INTERCEPTION_MODE": "REDIRECT" if capture else "NONE",
    }
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": {
            "id": f"{kind}~{ip}~{account}.{namespace}~{namespace}.svc.cluster.local",
            "cluster": account,
            "metadata": metadata,
        },
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
                },
            }
        ],
        "layered_runtime": {
            "layers": [{"name": "global", "static_layer": {"re2.max_program_size.error_level": "32768"}}]
        },
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "set_node_on_first_message_only": True,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "static_resources": {
            "clusters": [
                {**cluster("xds-grpc", ports["xds"]), "transport_socket": mesh_tls()},
                cluster("sds-grpc", ports["sds"]),
            ]
        },
    }


def cluster(name: str, port: int, *, ip: str = "127.0.0.1") -> dict[str, Any]:
    """Of one HTTP/2 server."""
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    address = {"socket_address": {"address": ip, "port_value": port}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }


def mesh_tls() -> dict[str, Any]:
    """The certificate of this workload, and the authority of the mesh."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                # Not Envoy's default, and what a waypoint asks for.
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificate_sds_secret_configs": [_secret("default")],
                "validation_context_sds_secret_config": _secret("ROOTCA"),
            },
        },
    }


def _secret(name: str) -> dict[str, Any]:
    source = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
    }
    return {"name": name, "sds_config": {"resource_api_version": "V3", "api_config_source": source}}
