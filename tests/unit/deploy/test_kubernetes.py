"""deploy/kubernetes, as far as it can be judged without a cluster: its parts agree with each other, with the
configuration that they mount, and with the tutorial."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_extproc.config import load
from edge_extproc.config.schema import Config
from edge_extproc.proxy.envoy_versions import proxy_name

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
TEXT = (FOLDER / "edge.yaml").read_text()
VARIABLES = set(re.findall(r"env: (\w+)", TEXT))
CONFIG: Config = load.parse(TEXT, "edge.yaml", environ=dict.fromkeys(VARIABLES, "a-secret-of-the-tests-alone"))
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
DOCUMENTS: list[dict[str, Any]] = [
    each for name in KUSTOMIZATION["resources"] for each in yaml.safe_load_all((FOLDER / name).read_text())
]


def document(kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in DOCUMENTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


POD: dict[str, Any] = document("Deployment", "edge")["spec"]["template"]["spec"]
CONTAINERS: dict[str, dict[str, Any]] = {each["name"]: each for each in (*POD["initContainers"], *POD["containers"])}


def mounts(name: str) -> dict[str, str]:
    """Path in the container to the volume."""
    return {each["mountPath"]: each["name"] for each in CONTAINERS[name]["volumeMounts"]}


def test_every_document_says_what_it_is() -> None:
    for each in DOCUMENTS:
        assert each["apiVersion"]
        assert each["kind"]
        assert each["metadata"]["name"]


def test_envoy_reads_what_was_rendered_and_opens_the_workers_sockets() -> None:
    rendered = CONTAINERS["render"]["args"]
    written = rendered[rendered.index("--output") + 1]
    command = CONTAINERS["envoy"]["command"]

    assert written == command[command.index("--config-path") + 1]
    assert str(CONFIG.agent.socket_dir) == str(Path(written).parent)
    assert 1 == len({mounts(name)[str(CONFIG.agent.socket_dir)] for name in CONTAINERS})
    assert f"envoyproxy/envoy:v{proxy_name(CONFIG).removeprefix('Envoy ')}.0" == CONTAINERS["envoy"]["image"]
    assert str(CONFIG.envoy.concurrency) == command[command.index("--concurrency") + 1]


def test_both_programs_run_as_one_user_without_rights() -> None:
    assert POD["securityContext"]["runAsNonRoot"]
    assert 10001 == POD["securityContext"]["runAsUser"]
    for container in (
        *CONTAINERS.values(),
        *document("StatefulSet", "edge-valkey")["spec"]["template"]["spec"]["containers"],
    ):
        security = container["securityContext"]
        assert "runAsUser" not in security
        assert not security["allowPrivilegeEscalation"]
        assert security["readOnlyRootFilesystem"]
        assert ["ALL"] == security["capabilities"]["drop"]


def test_all_that_is_written_is_a_volume() -> None:
    volumes = {each["name"] for each in POD["volumes"]}

    for name in CONTAINERS:
        assert set(mounts(name).values()) <= volumes
    assert {str(CONFIG.agent.state_dir), str(CONFIG.agent.socket_dir), "/tmp", "/etc/edge"} == {*mounts("agent")}
    for name in ("render", "agent"):
        assert "/etc/edge/edge.yaml" == CONTAINERS[name]["args"][CONTAINERS[name]["args"].index("--config") + 1]
    assert [{"name": "edge", "files": ["edge.yaml"]}] == KUSTOMIZATION["configMapGenerator"]


def test_ports_are_those_of_the_configuration() -> None:
    (service,) = document("Service", "edge")["spec"]["ports"]
    ports = {port["name"]: port["containerPort"] for each in CONTAINERS.values() for port in each.get("ports", ())}
    policy = document("NetworkPolicy", "edge")["spec"]["ingress"]

    assert {"http": CONFIG.listen.port, "admin": CONFIG.admin.port} == ports
    assert (CONFIG.listen.port, "http") == (service["port"], service["targetPort"])
    assert [[CONFIG.listen.port], [CONFIG.admin.port]] == [[port["port"] for port in rule["ports"]] for rule in policy]
    assert {"from"} == policy[1].keys() - {"ports"}


def test_open_requests_have_time_to_end() -> None:
    waits = {name: int(CONTAINERS[name]["lifecycle"]["preStop"]["exec"]["command"][1]) for name in ("agent", "envoy")}

    assert waits["agent"] >= waits["envoy"]
    assert waits["agent"] + CONFIG.agent.shutdown_grace.total_seconds() + 2 < POD["terminationGracePeriodSeconds"]


def test_all_pods_count_together() -> None:
    (port,) = document("Service", "edge-valkey")["spec"]["ports"]

    assert CONFIG.limiter.url is not None
    assert f"redis://edge-valkey:{port['port']}/0" == CONFIG.limiter.url.reveal()
    assert "auto" == CONFIG.limiter.replicas


@pytest.mark.parametrize(
    ("page", "secret", "file"),
    [
        ("kubernetes", "edge", FOLDER / "edge.yaml"),
        ("istio", "llm-edge", ROOT / "istio" / "gateway" / "edge.yaml"),
    ],
)
def test_the_tutorial_creates_the_secret_with_each_variable(page: str, secret: str, file: Path) -> None:
    text = (ROOT / "docs" / "tutorials" / f"{page}.md").read_text("utf-8").replace("\\\n", " ")
    (command,) = re.findall(rf"create secret generic {secret} (.*)", text)

    assert set(re.findall(r"env: (\w+)", file.read_text())) == set(re.findall(r"--from-literal=(\w+)=", command))
    assert [{"secretRef": {"name": "edge"}}] == CONTAINERS["agent"]["envFrom"] == CONTAINERS["render"]["envFrom"]


def test_the_kustomization_changes_only_what_the_manifests_have() -> None:
    """What kustomize would refuse or leave out without a word. It needs no kubectl."""
    names = [(each["kind"], each["metadata"]["name"]) for each in DOCUMENTS]
    pods = [each["spec"]["template"]["spec"] for each in DOCUMENTS if each["kind"] in ("Deployment", "StatefulSet")]
    images = {each["image"] for pod in pods for each in (*pod.get("initContainers", ()), *pod["containers"])}
    mounted = {
        volume["configMap"]["name"] for pod in pods for volume in pod.get("volumes", ()) if "configMap" in volume
    }
    replaced = {each["name"] for each in KUSTOMIZATION["images"]}

    assert {"namespace", "resources", "configMapGenerator", "images"} == KUSTOMIZATION.keys()
    assert sorted(set(names)) == sorted(names)
    assert not any("namespace" in each["metadata"] for each in DOCUMENTS)
    assert {each["name"] for each in KUSTOMIZATION["configMapGenerator"]} == mounted
    assert all((FOLDER / file).is_file() for each in KUSTOMIZATION["configMapGenerator"] for file in each["files"])
    assert {image for image in images if ":" not in image} == replaced


def test_kustomize_takes_it() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stderr
    made = [each for each in yaml.safe_load_all(done.stdout) if each["kind"] == "ConfigMap"]
    assert [TEXT] == [each["data"]["edge.yaml"] for each in made]


EXAMPLES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("istio/*/edge.yaml", "deploy/kubernetes/edge.yaml", "deploy/kustomize/*/edge.yaml")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("path", EXAMPLES)
def test_pods_that_share_limits_count_each_other(path: str) -> None:
    """A fixed number would have to be changed with the number of pods."""
    limiter = yaml.safe_load((ROOT / path).read_text()).get("limiter", {})

    assert ("auto" if "url" in limiter else None) == limiter.get("replicas")
