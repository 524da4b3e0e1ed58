"""docker-compose.yml and the workflows, as far as they can be judged without Docker: by their schemas, and by whether
their parts agree with each other and with the configuration that they mount."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from edge_extproc.config import load
from edge_extproc.config.schema import Config
from edge_extproc.proxy import envoy_versions

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "docker-compose.yml"
CONFIG = ROOT / "envoy" / "compose" / "edge.yaml"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())  # type: ignore[no-any-return]  # YAML


@pytest.fixture
def config(compose: dict[str, Any], tmp_path: Path) -> Config:
    """As it is read in the containers, with the secrets that are mounted there."""
    for name in compose["services"]["agent"]["secrets"]:
        (tmp_path / name).write_text("a-secret-of-the-tests")
    text = CONFIG.read_text().replace("/run/secrets", str(tmp_path))
    return load.parse(text, str(CONFIG), environ={})


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("compose-spec", "docker-compose.yml"),
        ("github-workflows", ".github/workflows/ci.yml"),
        ("github-workflows", ".github/workflows/newest.yml"),
        ("github-workflows", ".github/workflows/release.yml"),
    ],
)
def test_a_file_is_what_its_schema_says(schema: str, file: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(ROOT / file)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Path in the container to what is there."""
    return {path: source for source, path, *_ in (each.split(":") for each in service["volumes"])}


def test_envoy_reads_the_bootstrap_where_it_was_written_and_opens_the_workers_sockets(
    compose: dict[str, Any], config: Config
) -> None:
    services = compose["services"]
    written = services["render"]["command"][services["render"]["command"].index("--output") + 1]
    read = services["envoy"]["command"][services["envoy"]["command"].index("--config-path") + 1]

    assert written == read
    assert str(config.agent.socket_dir) == str(Path(read).parent)
    assert {"run"} == {mounts(services[name])["/run/edge"] for name in ("render", "agent", "envoy")}
    assert 1 == len({services[name]["user"] for name in ("render", "agent", "envoy")})
    assert "service_completed_successfully" == services["envoy"]["depends_on"]["render"]["condition"]
    assert "service_healthy" == services["envoy"]["depends_on"]["agent"]["condition"]


def test_what_is_published_is_what_the_configuration_listens_on(compose: dict[str, Any], config: Config) -> None:
    services = compose["services"]

    assert [f"127.0.0.1:{config.listen.port}:{config.listen.port}"] == services["envoy"]["ports"]
    assert [f"127.0.0.1:{config.admin.port}:{config.admin.port}"] == services["agent"]["ports"]
    assert {"0.0.0.0"} == {config.listen.address, config.admin.address}
    assert str(config.envoy.concurrency) == services["envoy"]["command"][-2]


def test_the_image_runs_as_the_user_of_the_compose_file(compose: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert f"USER {compose['services']['agent']['user']}" in dockerfile
    assert f"envoyproxy/envoy:v{envoy_versions.VERSIONS[-1]}.0" == compose["services"]["envoy"]["image"]


def test_secrets_are_mounted_and_written_nowhere(compose: dict[str, Any]) -> None:
    assert compose["secrets"].keys() == set(compose["services"]["agent"]["secrets"])
    assert all({"file"} == secret.keys() for secret in compose["secrets"].values())
    mounted = {f"/run/secrets/{name}" for name in compose["secrets"]}
    assert all(path in CONFIG.read_text() for path in mounted)


def refused_by_compose(compose: dict[str, Any]) -> list[str]:
    """Compose from 2.34 on copies a secret or config that is no file into the container: it refuses to where the
    container's file system is read-only (pkg/compose/secrets.go)."""
    refused = []
    for (name, service), kind in itertools.product(compose["services"].items(), ("secrets", "configs")):
        for each in service.get(kind, ()) if service.get("read_only") else ():
            source = each if isinstance(each, str) else each["source"]
            if not {"file", "external"} & compose[kind][source].keys():
                refused.append(f"{name}: {source}")
    return refused


def test_no_read_only_service_has_a_secret_that_is_no_file(compose: dict[str, Any]) -> None:
    assert [] == refused_by_compose(compose)
    assert any(service.get("read_only") and service.get("secrets") for service in compose["services"].values())


def test_a_secret_from_the_environment_of_a_read_only_service_is_seen() -> None:
    compose = yaml.safe_load("""
        services:
          a: {read_only: true, secrets: [one, {source: two, target: 2}], configs: [three]}
          b: {secrets: [one]}
        secrets: {one: {environment: ONE}, two: {file: ./two}}
        configs: {three: {content: x}}
    """)

    assert ["a: one", "a: three"] == refused_by_compose(compose)


def dangling(compose: dict[str, Any]) -> list[str]:
    """What `docker compose config` refuses although the schema accepts it: names that are not defined. And a condition
    that no health check can meet, which only `up` finds."""
    found = []
    for name, service in compose["services"].items():
        for kind in ("networks", "secrets", "configs"):
            wanted = [each if isinstance(each, str) else each["source"] for each in service.get(kind, ())]
            found += [f"{name}: {kind}: {each}" for each in wanted if each not in compose.get(kind, {})]
        sources = [each.split(":")[0] for each in service.get("volumes", ())]
        found += [f"{name}: volumes: {s}" for s in sources if s[0] not in "./" and s not in compose["volumes"]]
        for other, how in service.get("depends_on", {}).items():
            if other not in compose["services"]:
                found.append(f"{name}: depends_on: {other}")
            elif how["condition"] == "service_healthy" and "healthcheck" not in compose["services"][other]:
                found.append(f"{name}: depends_on: {other}: it has no health check")
    return found


def test_each_name_in_the_compose_file_is_defined(compose: dict[str, Any]) -> None:
    assert [] == dangling(compose)
    # `$` would begin a variable of Compose.
    assert "$" not in re.sub(r"(?m)#.*$", "", COMPOSE.read_text())


def test_a_name_that_is_not_defined_is_seen() -> None:
    compose = yaml.safe_load("""
        services:
          a: {networks: [n, m], secrets: [s], volumes: ["v:/v", "./here:/h"], depends_on: {b: {condition: service_healthy}, c: {condition: service_started}}}
          b: {}
        networks: {n: {}}
        volumes: {}
    """)  # noqa: E501

    assert [
        "a: networks: m",
        "a: secrets: s",
        "a: volumes: v",
        "a: depends_on: b: it has no health check",
        "a: depends_on: c",
    ] == dangling(compose)


def test_the_script_writes_the_secrets_that_are_mounted(compose: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "envoy" / "compose" / "secrets.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "envoy" / "compose" / "secrets.sh", script)

    def run(**environ: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": os.environ["PATH"], **environ}
        return subprocess.run([script], env=environ, capture_output=True, text=True, check=False)

    refused = run()
    first, before = run(OPENAI_API_KEY="sk-one"), written(compose, tmp_path)
    second, after = run(OPENAI_API_KEY="sk-two"), written(compose, tmp_path)

    assert "OPENAI_API_KEY: is not set; give the key" in refused.stderr
    assert [True, False, False] == [bool(each.returncode) for each in (refused, first, second)]
    assert ("sk-one", "sk-two") == (before.pop("openai_api_key"), after.pop("openai_api_key"))
    assert before == after
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in after.values())
    assert before["caller_key"] != before["pepper"]
    assert 0o700 == (tmp_path / ".edge" / "secrets").stat().st_mode & 0o777


def written(compose: dict[str, Any], directory: Path) -> dict[str, str]:
    """Each secret's value, where the compose file looks for it and the container's user can read it."""
    files = {name: directory / secret["file"] for name, secret in compose["secrets"].items()}
    assert {0o644} == {path.stat().st_mode & 0o777 for path in files.values()}
    return {name: path.read_text() for name, path in files.items()}


def test_a_stop_leaves_the_agent_the_time_that_it_gives_to_open_streams(
    compose: dict[str, Any], config: Config
) -> None:
    grace = float(compose["services"]["agent"]["stop_grace_period"].removesuffix("s"))

    assert grace > config.agent.shutdown_grace.total_seconds() + 2


def test_workers_count_in_the_valkey_beside_them(compose: dict[str, Any], config: Config) -> None:
    assert config.limiter.url is not None
    assert urlsplit(config.limiter.url.reveal()).hostname in compose["services"]
    assert "noeviction" in compose["services"]["valkey"]["command"]


def test_prometheus_scrapes_the_admin_port_and_grafana_asks_prometheus(compose: dict[str, Any], config: Config) -> None:
    watching = ROOT / "deploy"
    scraped = yaml.safe_load((watching / "prometheus" / "prometheus.yml").read_text())
    sources = yaml.safe_load((watching / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())
    boards = yaml.safe_load((watching / "grafana" / "provisioning" / "dashboards" / "edge.yml").read_text())
    seen = {name: mounts(compose["services"][name]) for name in ("prometheus", "grafana")}

    for job in scraped["scrape_configs"]:
        assert [f"agent:{config.admin.port}"] == job["static_configs"][0]["targets"]
    assert ["/metrics", "/metrics/envoy"] == [job.get("metrics_path", "/metrics") for job in scraped["scrape_configs"]]
    assert set(scraped["rule_files"]) <= seen["prometheus"].keys()
    assert {"prometheus", "jaeger"} == {urlsplit(each["url"]).hostname for each in sources["datasources"]}
    assert boards["providers"][0]["options"]["path"] in seen["grafana"]
    assert all((ROOT / source).exists() for found in seen.values() for source in found.values() if source[0] == ".")


def test_an_exemplar_leads_from_a_panel_to_its_trace(compose: dict[str, Any]) -> None:
    sources = yaml.safe_load(
        (ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )["datasources"]
    (metrics,) = (each for each in sources if each["type"] == "prometheus")
    (link,) = metrics["jsonData"]["exemplarTraceIdDestinations"]
    overview = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "overview.json").read_text())
    asking = {panel["title"] for panel in overview["panels"] if any(each["exemplar"] for each in panel["targets"])}

    assert "--enable-feature=exemplar-storage" in compose["services"]["prometheus"]["command"]
    assert "trace_id" == link["name"]
    assert link["datasourceUid"] in {each["uid"] for each in sources if each["type"] == "jaeger"}
    assert {"Replies that are not streamed", "The gateway's own time"} <= asking


def test_traces_go_to_the_jaeger_beside(compose: dict[str, Any], config: Config) -> None:
    assert config.telemetry.otlp is not None
    assert urlsplit(config.telemetry.otlp.endpoint).hostname in compose["services"]


def test_every_service_has_a_health_check_or_ends(compose: dict[str, Any]) -> None:
    running = {name: service for name, service in compose["services"].items() if service.get("restart") != "no"}

    assert {"agent", "envoy", "valkey", "prometheus", "grafana", "jaeger"} == running.keys()
    assert all("healthcheck" in service for service in running.values())


@pytest.mark.parametrize("name", ["ci", "newest", "release"])
def test_actions_are_pinned_to_a_commit(name: str) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    used = [step["uses"] for job in workflow["jobs"].values() for step in job.get("steps", ()) if "uses" in step]

    assert used
    assert all(len(action.partition("@")[2]) == 40 for action in used)
