"""The wheel and the sdist: what is in them, and a gateway that is installed from them in a clean environment.

The environment has the dependencies by a path file, so that no registry is asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import threading
import zipfile
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.util import cache_from_source
from pathlib import Path

import gateway as gateways
import httpx2 as httpx
import pytest
import thoroughness
from fault_player import OPENAI
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from two_levels import JSON, Provider, answer

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "edge_extproc"


@dataclass(frozen=True)
class Built:
    wheel: Path
    sdist: Path


def build(source: Path, directory: Path, *targets: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(directory)]
    done = subprocess.run(
        [*command, *(word for target in targets for word in ("-t", target))],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    pytest.importorskip("hatchling.build", reason="hatchling is not installed")
    directory = tmp_path_factory.mktemp("dist")
    build(ROOT, directory, "sdist", "wheel")
    (wheel,), (sdist,) = directory.glob("*.whl"), directory.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the dependencies and without the gateway."""
    directory = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    (site,) = directory.glob("lib/python*/site-packages")
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # The path file of an editable installation there is not read from here.
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in paths))
    return directory


def clean(environment: Path) -> dict[str, str]:
    """Variables without those that could lead to the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(environment)}


def install(environment: Path, distribution: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed", "--no-compile"]
    done = subprocess.run(
        [*pip, "install", "--quiet", *options, str(distribution)],
        cwd=environment,
        env=clean(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr


def run(environment: Path, *command: str) -> str:
    done = subprocess.run(
        [str(environment / "bin" / command[0]), *command[1:]],
        cwd=environment,
        env=clean(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def files_of_the_package() -> set[str]:
    """Whatever is not the product of a run."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_each_file_of_the_package(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
    own = {name for name in names if name.startswith("edge_extproc/")}

    assert files_of_the_package() == own
    # Other than code: types of the messages, the mark of a typed package, the template of migrations, and the pages.
    assert {
        "edge_extproc/py.typed",
        "edge_extproc/pb/ext_proc_pb2.pyi",
        "edge_extproc/store/migrations/script.py.mako",
        "edge_extproc/pages/templates/base.html",
        "edge_extproc/pages/static/live.js",
        "edge_extproc/pages/static/style.css",
    } <= own
    assert all(name.partition("/")[0].endswith(".dist-info") for name in names - own)
    assert 1 == sum(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_has_what_builds_the_wheel_and_nothing_else(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    build(source, tmp_path, "wheel")
    with zipfile.ZipFile(tmp_path / built.wheel.name) as again, zipfile.ZipFile(built.wheel) as wheel:
        contents = [{name: each.read(name) for name in each.namelist()} for each in (again, wheel)]

    others = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO", ".gitignore"}
    assert files_of_the_package() | others == names
    assert contents[0] == contents[1]


@thoroughness.long_only("its files are compared, and the wheel serves")
def test_the_gateway_of_the_sdist_says_its_version(built: Built, environment: Path) -> None:
    install(environment, built.sdist)

    assert built.wheel.name.split("-")[1] == run(environment, "edge-extproc", "--version").strip()


def test_the_pages_of_the_wheel_have_their_templates(built: Built, environment: Path) -> None:
    install(environment, built.wheel)
    script = (
        "from edge_extproc.pages.rendering import Renderer; import edge_extproc; r = Renderer(); "
        "print(edge_extproc.__file__, r.page('error.html', error_status=404, message='none').status_code)"
    )
    where, status = run(environment, "python", "-c", script).split()

    assert (True, "200") == (where.startswith(str(environment)), status)


@pytest.mark.envoy
def test_the_gateway_of_the_wheel_answers_a_call(built: Built, environment: Path) -> None:
    install(environment, built.wheel)
    where = run(environment, "python", "-c", "import edge_extproc; print(edge_extproc.__file__)")
    assert where.startswith(str(environment))

    with Provider(answer(200, OPENAI.reply, JSON)).in_thread(threading.Event()) as port:
        text = gateways.config(f"http://127.0.0.1:{port}")
        program = (str(environment / "bin" / "edge-extproc"),)
        with gateways.RunningGateway(text, program=program, environment={"PYTHONPATH": ""}) as gateway:
            headers = {"authorization": f"Bearer {gateways.KEY}"}
            body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
            with httpx.Client(base_url=gateway.url, headers=headers, timeout=gateways.PATIENCE) as http:
                reply = http.post("/v1/chat/completions", json=body)

    assert (200, "Hi there") == (reply.status_code, reply.json()["choices"][0]["message"]["content"])


# --- the image


MEGABYTE = 1_000_000
# All files of the packages, unpacked, trimmed, stripped, and without bytecode (2026-11: 120). The image must have less
# than 250 MB as it is pulled: the workflow of a release adds its layers.
LARGEST = 135 * MEGABYTE
# Without the drivers that the image can be without (2026-11: 79).
SMALL = 95 * MEGABYTE
TRIM = ROOT / "deploy" / "trim.py"


def locked(lock: str) -> set[str]:
    """The names of the packages that the image installs."""
    linux = {"python_version": "3.12", "python_full_version": "3.12.0", "platform_system": "Linux"}
    lines = (line.rstrip("\\ ") for line in (ROOT / "requirements" / lock).read_text().splitlines())
    wanted = [Requirement(line) for line in lines if line[:1].isalnum()]
    return {canonicalize_name(each.name) for each in wanted if each.marker is None or each.marker.evaluate(linux)}


def copied(site: Path) -> None:
    """The packages of the image's lock. Libraries are copies, because `strip` may write to a file, and all else are
    links. Bytecode that is there makes the test faster."""
    found = {canonicalize_name(each.metadata["Name"]): each for each in distributions()}
    names = locked("image.lock")
    assert set() == names - found.keys()
    for name in names:
        for file in found[name].files or ():
            path, target = Path(str(file.locate())), site / file
            if path.is_file() and path.suffix != ".pyc" and ".." not in file.parts:
                target.parent.mkdir(parents=True, exist_ok=True)
                if ".so" in path.suffixes:
                    shutil.copy(path, target)
                else:
                    target.hardlink_to(path)
                compiled = Path(cache_from_source(path)) if path.suffix == ".py" else path
                if compiled != path and compiled.is_file():
                    Path(cache_from_source(target)).parent.mkdir(exist_ok=True)
                    Path(cache_from_source(target)).hardlink_to(compiled)


def trim(environment: Path, *without: str) -> int:
    """Runs what the Dockerfile runs, and returns the bytes of the packages."""
    run(environment, "python", str(TRIM), *without)
    (site,) = environment.glob("lib/python*/site-packages")
    libraries = [str(path) for path in site.rglob("*.so") if path.is_file()]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)
    return sum(path.stat().st_size for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc")


EVERY_DRIVER = """
agent: {workers: 1}
auth: {pepper: a-pepper-of-the-tests-alone}
callers: [{tenant: a, keys: [{id: a-1, key: edge-a-key-of-the-tests}]}]
store: {database: "postgresql://u:p@127.0.0.1:1/x"}
telemetry: {otlp: {endpoint: "http://127.0.0.1:4317"}}
guardrails: {rules: [{name: a, detect: {pii: {}}, action: flag}]}
providers:
  bedrock: {kind: bedrock, region: eu-west-1, credential: {kind: aws}}
  vertex: {kind: vertex, project: p, region: us-east5, credential: {kind: google}}
  azure: {kind: azure, base_url: "https://x.openai.azure.com", credential: {kind: azure}}
models: {"*": [{provider: bedrock}]}
"""
# What botocore asks for credentials, and the drivers.
IMPORTED = """
import botocore.session
session = botocore.session.Session()
for name in ("sts", "sso", "sso-oidc", "signin"):
    session.create_client(name, region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
import azure.identity, google.auth, opentelemetry.instrumentation.grpc, psycopg
import ahocorasick_rs, jsonschema_rs, phonenumbers
assert phonenumbers.is_valid_number(phonenumbers.parse("+442083661177"))
"""


@thoroughness.long_only("the wheel is installed and serves")
def test_the_trimmed_packages_of_the_image_are_small_and_work(built: Built, tmp_path: Path) -> None:
    if shutil.which("strip") is None:
        pytest.skip("strip is not installed (binutils)")
    environment, config = tmp_path / "venv", tmp_path / "edge.yaml"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    copied(site)
    install(environment, built.wheel)
    config.write_text(EVERY_DRIVER)

    assert trim(environment) < LARGEST
    assert "valid" in run(environment, "edge-extproc", "check", str(config))
    run(environment, "python", "-c", IMPORTED)
    # What only builds the gateway is gone.
    assert [] == [each.name for each in site.iterdir() if re.match("hatchling|editables|pluggy", each.name)]

    # Without drivers, which a setting then misses.
    assert trim(environment, "aws", "azure", "google", "guardrails", "otel", "postgres") < SMALL
    command = [str(environment / "bin" / "edge-extproc"), "check", str(config)]
    refused = subprocess.run(command, env=clean(environment), capture_output=True, text=True, check=False)
    assert "pip install 'edge-extproc[postgres]'" in refused.stderr
    part = re.sub(r"(?m)^(store|telemetry|guardrails|  vertex|  azure).*\n", "", EVERY_DRIVER)
    config.write_text(
        part.replace("kind: bedrock, region: eu-west-1, credential: {kind: aws}", "kind: openai, api_key: k")
    )
    assert "valid" in run(environment, "edge-extproc", "check", str(config))


def test_an_extra_that_the_image_always_has_is_refused() -> None:
    done = subprocess.run([sys.executable, TRIM, "ledger"], capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert "ledger: the image can be without aws, azure, google, guardrails, otel, postgres" in done.stderr
