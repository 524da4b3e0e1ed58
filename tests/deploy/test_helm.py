"""deploy/helm/edge-extproc, by helm itself: each mode renders, Kubernetes' schemas accept the documents, wrong values
are refused, and the documents agree with each other and with the configuration that they mount."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import helm_kit
import kubernetes_validate
import pytest
import yaml
from helm_kit import CHART, KUBERNETES, Document, documents, example, merged, one

from deploy import __main__ as written
from deploy import alerts
from edge_extproc.config import load
from edge_extproc.config.schema import Config
from edge_extproc.proxy.envoy_versions import proxy_name

MODES = ("frontdoor", "central", "sidecar")
# Resources of other projects: Kubernetes' schemas do not have them.
CUSTOM = {
    "ServiceMonitor": ("monitoring.coreos.com/v1", {"selector", "endpoints"}),
    "PrometheusRule": ("monitoring.coreos.com/v1", {"groups"}),
    "ExternalSecret": ("external-secrets.io/v1", {"secretStoreRef", "target", "data"}),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", {"parentRefs", "rules"}),
}
EVERYTHING: dict[str, Any] = {
    "autoscaling": {"enabled": True, "openRequests": 200},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True, "annotations": {"folder": "Edge"}},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["llm.example.com"]},
    "secrets": {
        "checksum": "7",
        "externalSecret": {
            "enabled": True,
            "secretStoreRef": {"name": "vault"},
            "data": {"OPENAI_API_KEY": {"key": "llm/openai", "property": "key"}},
        },
    },
    "postgresql": {"enabled": True, "storageClassName": "fast"},
    "migrationJob": {"enabled": True},
    "imagePullSecrets": [{"name": "registry"}],
    "priorityClassName": "high",
    "nodeSelector": {"pool": "llm"},
    "tolerations": [{"key": "llm", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podLabels": {"team": "platform"},
    "podAnnotations": {"note": "a"},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "extraVolumes": [{"name": "cert", "secret": {"secretName": "cert"}}],
    "extraVolumeMounts": [{"name": "cert", "mountPath": "/etc/cert", "readOnly": True}],
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "serviceAccount": {"annotations": {"role": "llm"}},
    "image": {"repository": "registry.example.com/edge", "digest": "sha256:" + "a" * 64},
}
NOTHING: dict[str, Any] = {
    "networkPolicy": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
    "serviceAccount": {"create": False},
    "secrets": {"existingSecret": ""},
    "valkey": {"enabled": False},
}
OTHERS: dict[str, Any] = {
    "fullnameOverride": "llm",
    "workers": 7,
    "ports": {"http": 18000, "admin": 18001},
    "drainSeconds": 40,
    "shutdownGraceSeconds": 90,
    "replicas": 9,
    "envoy": {"concurrency": 3, "logLevel": "info"},
    "networkPolicy": {"from": [{"podSelector": {}}], "adminFrom": []},
    "config": {"limiter": {"context_window": 1_000_000}},
}
MATRIX = {"as it is": {}, "everything": EVERYTHING, "nothing": NOTHING, "other numbers": OTHERS}


def config_of(found: list[Document]) -> tuple[Config, str]:
    (text,) = {each["data"]["edge.yaml"] for each in found if "edge.yaml" in each.get("data", {})}
    variables = set(re.findall(r"env: (\w+)", text))
    urls = {"REDIS_URL": "redis://redis:6379/0", "EDGE_DATABASE_URL": "postgresql://edge@host/edge"}
    environ = {name: urls.get(name, "a-secret-of-the-tests-alone") for name in variables}
    return load.parse(text, "edge.yaml", environ=environ), text


def central_without_files(values: Document) -> Document:
    """The certificates of mutual TLS are files that are not here."""
    tls = {"central": {"tls": {"existingSecret": ""}, "allowPlaintext": True}}
    return merged(values, tls) if values["mode"] == "central" else values


@pytest.fixture(scope="module", params=[(mode, name) for mode in MODES for name in MATRIX], ids="-".join)
def rendered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Document, list[Document]]:
    """Of each mode and each row of the matrix once. No test may change it."""
    mode, name = request.param
    values = central_without_files(merged(example(mode), MATRIX[name]))
    return values, documents(values, tmp_path_factory.mktemp("helm"))


@pytest.mark.parametrize("mode", MODES)
def test_helm_finds_nothing_to_say_about_it(mode: str) -> None:
    done = helm_kit.run_helm("lint", "--strict", "--values", CHART / "ci" / f"{mode}.yaml", CHART)

    assert 0 == done.returncode, done.stdout + done.stderr


def test_kubernetes_accepts_each_document(rendered: tuple[Document, list[Document]]) -> None:
    _, found = rendered
    for document in found:
        if document["kind"] in CUSTOM:
            version, fields = CUSTOM[document["kind"]]
            assert version == document["apiVersion"]
            assert fields <= document["spec"].keys()
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert sorted(set(names)) == sorted(names)


def test_the_gateway_accepts_its_configuration(rendered: tuple[Document, list[Document]]) -> None:
    values, found = rendered
    config, text = config_of(found)

    assert (values["mode"] == "central") == (config.agent.tcp is not None)
    assert ("127.0.0.1" if values["mode"] == "sidecar" else "0.0.0.0") == str(config.listen.address)
    assert "e+" not in text


def test_the_pod_agrees_with_its_configuration(rendered: tuple[Document, list[Document]]) -> None:
    values, found = rendered
    name = values.get("fullnameOverride") or "gate-edge-extproc"
    config, _ = config_of(found)
    if values["mode"] == "sidecar":
        assert {"ConfigMap"} >= {each["kind"] for each in found} - {
            *CUSTOM,
            "StatefulSet",
            "Service",
            "NetworkPolicy",
        }
        return
    deployment = one(found, "Deployment", name)["spec"]
    pod = deployment["template"]["spec"]
    containers = {each["name"]: each for each in (*pod["initContainers"], *pod["containers"])}
    ports = {port["name"]: port["containerPort"] for each in containers.values() for port in each.get("ports", ())}
    service = one(found, "Service", name)["spec"]

    assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
    assert service["selector"] == deployment["selector"]["matchLabels"]
    assert ports.pop("admin") == config.admin.port == one(found, "Service", f"{name}-admin")["spec"]["ports"][0]["port"]
    assert ports == {port["targetPort"]: port["port"] for port in service["ports"]}
    if config.agent.tcp is not None:
        assert list(ports.values()) == [config.agent.tcp.port_of(n) for n in range(config.agent.workers)]
        assert (f"{name}.llm.svc.cluster.local",) == config.agent.tcp.hosts
        assert "None" == service["clusterIP"]
    else:
        assert {"http": config.listen.port} == ports
        command = containers["envoy"]["command"]
        assert str(config.envoy.concurrency) == command[command.index("--concurrency") + 1]
        written_to = containers["render"]["args"][containers["render"]["args"].index("--output") + 1]
        assert written_to == command[command.index("--config-path") + 1]
        assert f"envoyproxy/envoy:v{proxy_name(config).removeprefix('Envoy ')}.0" == containers["envoy"]["image"]
    grace = config.agent.shutdown_grace.total_seconds()
    drains = {int(each["lifecycle"]["preStop"]["exec"]["command"][1]) for each in pod["containers"]}
    assert 1 == len(drains)
    assert drains.pop() + grace + 2 < pod["terminationGracePeriodSeconds"]
    mounts = {each["mountPath"]: each["name"] for each in containers["agent"]["volumeMounts"]}
    assert {str(config.agent.state_dir), str(config.agent.socket_dir), "/tmp", "/etc/edge"} <= mounts.keys()
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert {mount["name"] for each in containers.values() for mount in each["volumeMounts"]} <= volumes.keys()
    assert name == volumes["edge-config"]["configMap"]["name"] == one(found, "ConfigMap", name)["metadata"]["name"]
    assert not pod["automountServiceAccountToken"]
    assert "checksum/config" in deployment["template"]["metadata"]["annotations"]
    scales = values.get("autoscaling", {}).get("enabled", False)
    assert ("auto" if config.limiter.url is not None else 1) == config.limiter.replicas
    if scales:
        assert "replicas" not in deployment
        assert name == one(found, "HorizontalPodAutoscaler", name)["spec"]["scaleTargetRef"]["name"]
    else:
        assert values.get("replicas", 2) == deployment["replicas"]


def test_all_containers_run_without_rights(rendered: tuple[Document, list[Document]]) -> None:
    _, found = rendered
    for workload in (each for each in found if each["kind"] in ("Deployment", "StatefulSet", "Job")):
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert {"type": "RuntimeDefault"} == pod["securityContext"]["seccompProfile"]
        assert (10001 == pod["securityContext"]["runAsUser"]) == (workload["kind"] != "StatefulSet")
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            security = container["securityContext"]
            assert not security["allowPrivilegeEscalation"]
            assert security["readOnlyRootFilesystem"]
            assert ["ALL"] == security["capabilities"]["drop"]


def test_the_network_policy_admits_to_the_ports_of_the_mode(tmp_path: Path) -> None:
    front = one(documents(example("frontdoor"), tmp_path), "NetworkPolicy")["spec"]["ingress"]
    central = one(documents(example("central"), tmp_path), "NetworkPolicy")["spec"]["ingress"]
    nobody = merged(example("central"), {"networkPolicy": {"from": []}})
    alone = one(documents(nobody, tmp_path), "NetworkPolicy")["spec"]["ingress"]

    assert [({10000}, False), ({10001}, True)] == [_rule(each) for each in front]
    assert [({9000, 9001}, True), ({10001}, True)] == [_rule(each) for each in central]
    assert [({10001}, True)] == [_rule(each) for each in alone]


def _rule(rule: Document) -> tuple[set[int], bool]:
    return {port["port"] for port in rule["ports"]}, "from" in rule


def test_mutual_tls_of_a_central_service_is_mounted_where_the_configuration_reads_it(tmp_path: Path) -> None:
    found = documents(example("central"), tmp_path)
    tcp = yaml.safe_load(one(found, "ConfigMap")["data"]["edge.yaml"])["agent"]["tcp"]
    pod = one(found, "Deployment")["spec"]["template"]["spec"]
    mounts = {each["mountPath"]: each["name"] for each in pod["containers"][0]["volumeMounts"]}

    assert {"edge-tls"} == {mounts[str(Path(tcp["tls"][key]).parent)] for key in ("ca", "certificate", "private_key")}
    assert {"ca.crt", "tls.crt", "tls.key"} == {Path(tcp["tls"][key]).name for key in tcp["tls"] if "name" not in key}
    assert "edge-tls" in [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each]


def test_rules_and_dashboards_are_the_generated_ones(tmp_path: Path) -> None:
    found = documents(merged(example("frontdoor"), EVERYTHING), tmp_path)
    boards = {
        name: text
        for each in found
        if each["kind"] == "ConfigMap"
        for name, text in each["data"].items()
        if ".json" in name
    }

    assert alerts.rules() == one(found, "PrometheusRule")["spec"]
    # A block scalar of YAML ends with one line end.
    assert {f"edge-{path.name}": text for path, text in written.files().items() if path.parts[0] == "grafana"} == boards
    jobs = [each["relabelings"][0]["replacement"] for each in one(found, "ServiceMonitor")["spec"]["endpoints"]]
    prometheus = yaml.safe_load((written.HERE / "prometheus" / "prometheus.yml").read_text())
    assert [each["job_name"] for each in prometheus["scrape_configs"]] == jobs


def test_a_changed_configuration_or_secret_replaces_the_pods(tmp_path: Path) -> None:
    values = example("frontdoor")
    changes: list[Document] = [{}, {"config": {"prices": []}}, {"secrets": {"checksum": "2"}}]
    annotations = [
        one(documents(merged(values, change), tmp_path), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        for change in changes
    ]

    assert annotations[0]["checksum/config"] != annotations[1]["checksum/config"]
    assert "2" == annotations[2]["checksum/secret"]


@pytest.mark.parametrize("own", [True, False])
def test_a_migration_runs_before_the_pods_with_their_configuration(own: bool, tmp_path: Path) -> None:
    database = {"postgresql": {"enabled": True}} if own else {"config": {"store": {"database": {"env": "DATABASE"}}}}
    values = merged(example("frontdoor"), {**database, "migrationJob": {"enabled": True}})
    found = documents(values, tmp_path)
    job, config = (one(found, kind, "gate-edge-extproc-migration") for kind in ("Job", "ConfigMap"))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    agent = one(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]

    assert one(found, "ConfigMap")["data"] == config["data"]
    assert "gate-edge-extproc-migration" in [v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v]
    hooks = {each["metadata"]["annotations"]["helm.sh/hook"] for each in (job, config)}
    # A database of the chart is not there before the installation.
    assert {"pre-upgrade" if own else "pre-install,pre-upgrade"} == hooks
    assert "-1" == config["metadata"]["annotations"]["helm.sh/hook-weight"]
    assert ["migrate", "--config", "/etc/edge/edge.yaml"] == container["args"]
    assert [agent[key] for key in ("image", "envFrom", "volumeMounts")] == [
        container[key] for key in ("image", "envFrom", "volumeMounts")
    ]
    # No Service takes its pod for a gateway.
    labels = job["spec"]["template"]["metadata"]["labels"].items()
    assert not [s for s in found if s["kind"] == "Service" and s["spec"]["selector"].items() <= labels]
    policies = [each for each in found if each["kind"] == "NetworkPolicy" and "postgresql" in each["metadata"]["name"]]
    peers = [peer["podSelector"]["matchLabels"] for each in policies for peer in each["spec"]["ingress"][0]["from"]]
    assert own == any(peer.items() <= labels for peer in peers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "both"}, "mode"),
        ({"replicas": "two"}, "replicas"),
        ({"workers": 0}, "workers"),
        ({"replica": 2}, "replica"),
        ({"ports": {"http": 80}}, "http"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"envoy": {"logLevel": "loud"}}, "logLevel"),
        ({"secrets": {"existingSecret": "Not_A_Name"}}, "existingSecret"),
        ({"valkey": {"storage": "much"}}, "storage"),
        ({"config": {"agent": {"workers": 4}}}, "config.agent.workers is set by the chart"),
        ({"config": {"listen": {"port": 1}}}, "config.listen.port is set by the chart"),
        ({"config": {"limiter": {"url": "redis://other"}}}, "leave one of them out"),
        ({"config": None}, "config"),
        ({"postgresql": {"enabled": True}, "secrets": {"existingSecret": ""}}, "needs secrets.existingSecret"),
        ({"httpRoute": {"enabled": True}}, "parentRefs is missing"),
        ({"migrationJob": {"enabled": True}}, "migrationJob.enabled needs a database"),
        ({"mode": "central"}, "mode central needs central.tls.existingSecret"),
        ({"mode": "central", "central": {"tls": {"existingSecret": "a"}}}, "central.tls.serverName is missing"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(change: Document, message: str, tmp_path: Path) -> None:
    done = helm_kit.template(merged(example("frontdoor"), change), tmp_path)

    assert 0 != done.returncode
    assert message in done.stderr


def test_an_application_includes_the_sidecar(tmp_path: Path) -> None:
    """What NOTES.txt says, in a chart of an application. A probe of the kubelet does not reach loopback."""
    application = tmp_path / "application"
    (application / "templates").mkdir(parents=True)
    (application / "charts").mkdir()
    (application / "charts" / "edge-extproc").symlink_to(CHART)
    (application / "Chart.yaml").write_text("apiVersion: v2\nname: application\nversion: 1.0.0\n")
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    (pod,) = re.findall(r"^    spec:\n(.*?)\n\nThe application calls", notes, re.MULTILINE | re.DOTALL)
    pod = re.sub(r'\{\{ "(\{\{-|\}\})" \}\}', r"\1", pod)
    pod = re.sub(r"\{\{ add .*? 15 \}\}", "60", pod)
    (application / "templates" / "deployment.yaml").write_text(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\nspec:\n  selector: {matchLabels: {app: app}}\n"
        "  template:\n    metadata: {labels: {app: app}}\n    spec:\n" + pod
    )
    found = documents({"edge-extproc": example("sidecar")}, tmp_path, application)
    deployment = one(found, "Deployment", "app")
    kubernetes_validate.validate(deployment, KUBERNETES, strict=True)
    pod_spec = deployment["spec"]["template"]["spec"]

    assert ["agent", "envoy"] == [each["name"] for each in pod_spec["containers"]]
    assert "exec" in pod_spec["containers"][1]["readinessProbe"]
    (volume,) = [each for each in pod_spec["volumes"] if "configMap" in each]
    assert volume["configMap"]["name"] in [each["metadata"]["name"] for each in found if each["kind"] == "ConfigMap"]
