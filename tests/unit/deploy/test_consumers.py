"""deploy/consumers: each manifest refuses without agents, sends what they need, lets no internal header out, and has
only fields that the other project has. The agents of its values listen where it looks for them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from edge_extproc.config import load

FOLDER = Path(__file__).parents[3] / "deploy" / "consumers"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))
FIELDS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "data" / "consumer_fields.yaml").read_text())
PLAIN = {"text": str, "number": int, "boolean": bool, "duration": str, "quantity": str}
# By docs/consumers.md, in any spelling. A first filter that only chooses a route has no response.
BACKENDS = ("Backend", "AgentgatewayBackend", "Service")
REQUEST = {"buffered", "fullduplexstreamed"}
RESPONSE = {"streamed", "buffered", "fullduplexstreamed"}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def filters(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for each in documents(name):
        match each["kind"]:
            case "EnvoyExtensionPolicy":
                found += each["spec"]["extProc"]
            case "GatewayExtension":
                found.append(each["spec"]["extProc"])
            case "AgentgatewayPolicy" if "traffic" in each["spec"]:
                found.append(each["spec"]["traffic"]["extProc"])
    return found


def ours(name: str) -> list[dict[str, Any]]:
    """The filters whose server is an agent, in order."""
    return [each for each in filters(name) if "picker" not in str(each)]


def mode(one: dict[str, Any], side: str) -> str:
    modes = one.get("processingMode") or one["processingOptions"]
    written = modes.get(f"{side}BodyMode") or modes.get(side, {}).get("body", "")
    return str(written).replace("_", "").lower()


@pytest.mark.parametrize("name", FILES)
def test_a_filter_is_closed_and_sends_the_bodies_that_agents_need(name: str) -> None:
    found = ours(name)

    assert found
    # agentgateway has no such field: it is closed.
    assert not [each for each in filters(name) if "processingMode" in each and each.get("failOpen") is not False]
    assert {mode(each, "request") for each in found} <= REQUEST
    assert mode(found[-1], "response") in RESPONSE


@pytest.mark.parametrize("name", FILES)
def test_a_route_to_a_provider_rewrites_the_host_and_removes_envoys_header(name: str) -> None:
    routes = [
        each for each in documents(name) if each["kind"] == "HTTPRoute" and "filters" in str(each["spec"]["rules"])
    ]
    backends = {each["metadata"]["name"] for each in documents(name) if each["kind"] in BACKENDS}

    assert routes
    for each in routes:
        (rule,) = each["spec"]["rules"]
        text = str(rule["filters"])
        assert "urlRewrite" in text
        # A header of Envoy's, which agentgateway is not.
        assert ("x-envoy-external-address" in text) == (name != "agentgateway.yaml")
        assert rule["backendRefs"][0]["name"] in backends


@pytest.mark.parametrize("name", FILES)
def test_the_page_names_the_manifest(name: str) -> None:
    page = (FOLDER.parents[1] / "docs" / "consumers.md").read_text()

    assert re.search(rf"deploy/consumers/{re.escape(name)}", page)


# --- fields of other projects


def unknown(given: Any, fields: Any, path: str) -> Iterator[str]:
    """What is no field, or no value of it."""
    match fields:
        case dict():
            names = {key.removesuffix("[]"): key for key in fields}
            for name, value in given.items():
                where = f"{path}.{name}"
                if name not in names:
                    yield where
                elif names[name].endswith("[]"):
                    for each in value:
                        yield from unknown(each, fields[names[name]], where)
                else:
                    yield from unknown(value, fields[name], where)
        case list() if given not in fields:
            yield f"{path}: {given!r}"
        case str() if type(given) is not PLAIN[fields]:
            yield f"{path}: {given!r} is no {fields}"


def fields_of(document: dict[str, Any]) -> list[str]:
    return [*unknown(document["spec"], FIELDS[f"{document['apiVersion']} {document['kind']}"], document["kind"])]


@pytest.mark.parametrize("name", FILES)
def test_each_field_is_one_of_the_other_project(name: str) -> None:
    found = [each for each in documents(name) if each["apiVersion"] != "v1"]

    assert found
    assert [] == [told for each in found for told in fields_of(each)]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"extProc": [{"failClosed": True}]}, "EnvoyExtensionPolicy.extProc.failClosed"),
        ({"extProc": [{"failOpen": "no"}]}, "EnvoyExtensionPolicy.extProc.failOpen: 'no' is no boolean"),
        (
            {"extProc": [{"processingMode": {"request": {"body": "BUFFERED"}}}]},
            "EnvoyExtensionPolicy.extProc.processingMode.request.body: 'BUFFERED'",
        ),
    ],
)
def test_a_field_that_does_not_exist_is_seen(spec: dict[str, Any], told: str) -> None:
    document = {"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyExtensionPolicy", "spec": spec}

    assert [told] == fields_of(document)


# --- the agents


@pytest.mark.parametrize("name", FILES)
def test_the_agents_of_its_values_are_those_that_it_names(name: str) -> None:
    values = yaml.safe_load((FOLDER / "values" / name).read_text())
    text = "\n".join(line for line in (FOLDER / name).read_text().splitlines() if not line.startswith("#"))

    assert "central" == values["mode"]
    assert "edge" == values["fullnameOverride"]
    if "edge.llm.svc.cluster.local" in text:
        ports = {int(port) for port in re.findall(r"edge\.llm\.svc\.cluster\.local, port: (\d+)", text)}
    else:
        ports = {int(port) for port in re.findall(r"backendRef: \{name: edge, port: (\d+)\}", text)}
    assert {9000 + n for n in range(values["workers"])} == ports
    assert f"sni: {values['central']['tls']['serverName']}" in text
    # Somebody may connect, and not everybody.
    assert values["networkPolicy"]["from"]


@pytest.mark.parametrize("name", FILES)
def test_the_configuration_of_its_values_is_good_and_knows_its_routes(name: str) -> None:
    config = yaml.safe_load((FOLDER / "values" / name).read_text())["config"]
    text = yaml.safe_dump(config)
    names = re.findall(r"env: (\w+)", text)
    parsed = load.parse(text, "edge.yaml", environ=dict.fromkeys(names, "a-secret-of-the-tests-alone"))
    consumer = parsed.agent.consumer

    assert consumer is not None
    routes = {each["metadata"]["name"] for each in documents(name) if each["kind"] == "HTTPRoute"} - {"unchosen"}
    stated = {consumer.provider} if consumer.provider else set((consumer.routes or {}).values())
    assert set(parsed.providers) == stated
    assert routes == stated
    # A filter that sends no attribute needs a statement; two filters need the header.
    sends = [bool(re.search("xds[.]", str(each))) for each in ours(name)]
    assert [consumer.provider is None] == sends[-1:]
    assert consumer.route_header == (len(sends) == 2)
    modes = {mode(each, side) for each in ours(name) for side in ("request", "response")}
    assert consumer.full_duplex == (modes == {"fullduplexstreamed"})


def test_the_certificates_are_of_one_authority_for_the_names_in_the_manifests(tmp_path: Path) -> None:
    subprocess.run([FOLDER / "certificates.sh", tmp_path], capture_output=True, check=True)
    first = (tmp_path / "ca.crt").read_bytes()
    subprocess.run([FOLDER / "certificates.sh", tmp_path], capture_output=True, check=True)
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())

    assert first == (tmp_path / "ca.crt").read_bytes()
    for name in ("agents", "proxy"):
        found = x509.load_pem_x509_certificate((tmp_path / f"{name}.crt").read_bytes())
        found.verify_directly_issued_by(authority)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [f"{name}.llm.internal"] == names.get_values_for_type(x509.DNSName)
        assert 0o600 == (tmp_path / f"{name}.key").stat().st_mode & 0o777
