"""What a release does, as far as it can be judged without a registry: its rights, the digests that it writes, the
versions that it compares, and the Dockerfile that it builds."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import pin
from edge_extproc import __version__

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
RELEASE: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
OWN = "ghcr.io/example/edge-extproc@sha256:" + "b" * 64
# What each job may do beyond reading the repository. The others may only read.
RIGHTS = {
    "distributions": {"id-token", "attestations"},
    "image": {"packages", "id-token", "attestations"},
    "chart": {"packages"},
    "pypi": {"id-token"},
    "pages": {"pages", "id-token"},
    "release": {"contents"},
}


def test_each_job_of_a_release_has_only_the_rights_that_it_needs() -> None:
    jobs = RELEASE["jobs"]
    written = {
        name: {right for right, level in job.get("permissions", {}).items() if level == "write"}
        for name, job in jobs.items()
    }

    assert {"contents": "read"} == RELEASE["permissions"]
    assert {name: RIGHTS.get(name, set()) for name in jobs} == written


def test_nothing_is_published_before_the_tests_and_the_versions_agree() -> None:
    jobs = RELEASE["jobs"]

    def before(name: str) -> set[str]:
        direct = set(jobs[name].get("needs", ()))
        return direct | {other for each in direct for other in before(each)}

    assert all({"test", "version"} <= before(name) for name in RIGHTS)
    assert "./.github/workflows/ci.yml" == jobs["test"]["uses"]


def test_a_commands_variables_are_not_of_the_text_of_an_event() -> None:
    """An expression within a command is text that a shell reads."""
    commands = [step["run"] for job in RELEASE["jobs"].values() for step in job.get("steps", ()) if "run" in step]

    assert commands
    assert not [command for command in commands if "${{" in command]


# --- digests


def digest(image: str) -> str:
    return "sha256:" + f"{sum(image.encode()):064x}"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for path in pin.paths(ROOT):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return tmp_path


def images(tree: Path) -> list[str]:
    """Of the Dockerfile, the compose file, the manifests and the chart's values, those of others."""
    found = re.findall(r"^FROM (\S+)", (tree / "Dockerfile").read_text(), re.MULTILINE)
    compose = yaml.safe_load((tree / "docker-compose.yml").read_text())
    found += [service["image"] for service in compose["services"].values()]
    for path in sorted((tree / "deploy" / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            pod = document.get("spec", {}).get("template", {}).get("spec", {})
            found += [each["image"] for each in (*pod.get("initContainers", ()), *pod.get("containers", ()))]
    values = yaml.safe_load((tree / pin.VALUES).read_text())
    chart = [values["envoy"]["image"], values["valkey"]["image"], values["postgresql"]["image"]]
    found += [f"{each['repository']}:{each['tag']}" + f"@{each['digest']}" * bool(each["digest"]) for each in chart]
    return [each for each in found if each != "edge-extproc"]


def test_a_release_pins_each_image_of_others(tree: Path) -> None:
    before = images(tree)
    asked: list[str] = []
    pin.main(tree, lambda image: asked.append(image) or digest(image), None)  # type: ignore[func-returns-value]
    once = {path: path.read_text() for path in pin.paths(tree)}
    pin.main(tree, digest, None)

    assert set(before) == set(asked)
    assert [f"{each}@{digest(each)}" for each in before] == images(tree)
    assert once == {path: path.read_text() for path in pin.paths(tree)}
    schema = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*schema, tree / "docker-compose.yml"], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout


def test_a_release_installs_its_own_image_by_its_digest(tree: Path) -> None:
    pin.main(tree, digest, OWN)
    image = yaml.safe_load((tree / pin.VALUES).read_text())["image"]

    assert OWN == f"{image['repository']}@{image['digest']}"
    assert "" == image["tag"]


@pytest.mark.parametrize("answer", ["", "latest", "sha256:12"])
def test_an_answer_that_is_no_digest_is_written_nowhere(tree: Path, answer: str) -> None:
    with pytest.raises(SystemExit, match="is not a digest"):
        pin.main(tree, lambda _: answer, None)


# --- the image


def test_the_image_has_two_stages_and_runs_without_root_and_pip() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    last = stages[-1]

    assert 2 == len(stages)
    assert re.search(r"^USER (?!0)\d+:\d+$", last, re.MULTILINE)
    assert "pip" not in last
    assert "venv --without-pip /opt/edge" in stages[0]
    assert ["COPY --from=build /opt/edge /opt/edge"] == re.findall(r"^COPY.*", last, re.MULTILINE)


def test_the_image_is_trimmed_before_it_is_copied() -> None:
    first, last = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    commands = re.findall(r"^RUN (?:.*\\\n)*.*", first, re.MULTILINE)

    # `strip` is a program of the larger base, which is no part of the image.
    assert first.startswith("python:3.12 AS build")
    assert last.startswith("python:3.12-slim")
    assert "trim.py $WITHOUT" in commands[-1]
    assert "strip --strip-unneeded" in commands[-1]


def test_docker_gets_what_the_dockerfile_copies() -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.*)", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    ]

    assert copied
    assert [] == [word for word in copied if not any(fnmatch.fnmatch(word, each) for each in sent)]
    assert [] == [word for word in copied if not (ROOT / word).exists()]


@pytest.mark.parametrize(("most", "code"), [(900, 0), (899, 1)])
def test_the_layers_of_each_machine_are_added(tmp_path: Path, most: int, code: int) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    machines = {"sha256:a": [500, 300], "sha256:b": [500, 400]}
    index = [{"digest": name, "platform": {"architecture": "amd64"}} for name in machines]
    index.append({"digest": "sha256:attestation", "platform": {"architecture": "unknown"}})
    (tmp_path / "of-index").write_text(json.dumps({"manifests": index}))
    for name, layers in machines.items():
        (tmp_path / f"of-{name}").write_text(json.dumps({"layers": [{"size": size} for size in layers]}))
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\nfor last; do :; done\ncat "{tmp_path}/of-${{last#*@}}"\n')
    docker.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [ROOT / "deploy" / "image-size.sh", "name@index", str(most)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    assert code == done.returncode, done.stderr
    assert "sha256:b: 900 bytes" in done.stdout


def test_an_image_that_cannot_be_inspected_has_no_size_that_suffices(tmp_path: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [ROOT / "deploy" / "image-size.sh", "name@index", "900"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert "name@index: has no image for any machine, or cannot be inspected\n" == done.stderr


# --- versions


@pytest.mark.parametrize(("tag", "code"), [(f"v{__version__}", 0), ("v99.0.0", 1)])
def test_a_tag_is_the_version_of_package_and_chart(tag: str, code: int) -> None:
    script = ROOT / "deploy" / "release-version.sh"
    done = subprocess.run([script, tag], capture_output=True, text=True, check=False)

    assert code == done.returncode, done.stderr
    assert ("set 99.0.0" in done.stderr) == bool(code)
