"""Heavy packages are extras: the extra `envoy` is enough for the defaults, and what needs more says so."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from main_installation import MAKE_UP, ROOT, absent_modules, environment, installed_with

from edge_extproc import registry
from edge_extproc.config import extras, load
from edge_extproc.errors import ConfigError

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

BASE = """
auth: {pepper: a-pepper-of-the-tests}
callers: [{tenant: dev, keys: [{id: dev, key: a-key-of-the-tests-alone}]}]
models: {"*": [{provider: one}]}
"""
PLAIN = "providers: {one: {kind: openai, api_key: sk-1}}\n"
BEDROCK = "providers: {{one: {{kind: bedrock, region: us-east-1, credential: {{{}}}}}}}\n"
NEEDING = {
    "store: {}\n" + PLAIN: ("store", "ledger"),
    "store: {database: 'postgresql://u:p@127.0.0.1/d'}\n" + PLAIN: ("store.database", "postgres"),
    "store: {}\nadmin: {tokens: [{id: a, role: admin, token: a-token-of-the-tests}]}\n" + PLAIN: (
        "admin.tokens",
        "admin",
    ),
    "telemetry: {otlp: {endpoint: 'http://127.0.0.1:4317'}}\n" + PLAIN: ("telemetry.otlp", "otel"),
    BEDROCK.format("kind: aws"): ("providers.one.credential", "aws"),
    "providers: {one: {kind: vertex, project: p, region: us-east5, credential: {kind: google}}}\n": (
        "providers.one.credential",
        "google",
    ),
    "providers: {one: {kind: azure, base_url: 'https://a.openai.azure.com', credential: {kind: azure}}}\n": (
        "providers.one.credential",
        "azure",
    ),
    PLAIN
    + "guardrails: {rules: [{name: pii, action: mask, service: {bedrock_guardrails: {guardrail: a, region: r}}}]}\n": (
        "the service of the rule pii",
        "aws",
    ),
    PLAIN + "guardrails: {rules: [{name: secrets, action: mask, detect: {credentials: {}}}]}\n": (
        "the detector of the rule secrets",
        "guardrails",
    ),
    PLAIN + "cache: {semantic: {}}\n": ("cache.semantic", "semantic"),
    PLAIN + "cache: {semantic: {store: {qdrant: {url: 'http://127.0.0.1:6333'}}}}\n": (
        "cache.semantic.store",
        "qdrant",
    ),
}
SEMANTIC = ("semantic", "qdrant")


def checked(text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    path = directory / "edge.yaml"
    path.write_text(text)
    command = [sys.executable, "-m", "edge_extproc", "check", str(path)]
    return subprocess.run(command, env=environment(directory), capture_output=True, text=True, check=False)


def test_the_defaults_need_no_extra(tmp_path: Path) -> None:
    for name in ("dev-key", "pepper"):
        (tmp_path / name).write_text("a-secret-of-the-tests-alone")
    done = checked(load.default_text({}, tmp_path, rehearsal_port=9), tmp_path)

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize(("text", "expected"), NEEDING.items(), ids=[name for _, name in NEEDING.values()])
def test_a_configuration_that_needs_an_extra_names_it(text: str, expected: tuple[str, str]) -> None:
    needed = list(extras.needed(load.parse(BASE + text, "edge.yaml")))

    assert expected in [(setting, extra.name) for setting, extra in needed]
    assert all(extra.is_installed() for _, extra in needed)


def test_keys_of_aws_need_no_library() -> None:
    text = BEDROCK.format("kind: aws, access_key_id: an-id, secret_access_key: a-secret")

    assert [] == list(extras.needed(load.parse(BASE + text, "edge.yaml")))


def test_only_telephone_numbers_need_the_library_of_personal_data() -> None:
    text = PLAIN + "guardrails: {rules: [{name: pii, action: mask, detect: {pii: {kinds: [email]}}}]}\n"

    assert [] == list(extras.needed(load.parse(BASE + text, "edge.yaml")))


@pytest.mark.parametrize("name", ["ledger", "otel", "google", "guardrails", "semantic"])
def test_check_refuses_what_is_not_installed(name: str, tmp_path: Path) -> None:
    text, setting = next((text, setting) for text, (setting, extra) in NEEDING.items() if extra == name)
    done = checked(BASE + text, tmp_path)

    told = f"edge-extproc: {setting} needs packages that are not installed: pip install 'edge-extproc[{name}]'\n"
    assert (1, told) == (done.returncode, done.stderr)


def test_a_report_without_the_ledgers_packages_names_the_extra(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text(BASE + "store: {}\n" + PLAIN)
    command = [sys.executable, "-m", "edge_extproc", "usage", "--config", str(path)]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=False)

    assert (1, True) == (done.returncode, "edge-extproc[ledger]" in done.stderr), done.stderr


def test_an_extra_whose_modules_are_missing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'somebodys-plugin\[fast\]'"):
        extras.Extra("fast", ("no_such_package.part",), "somebodys-plugin").require("providers.x")


def test_each_extra_is_declared_and_is_in_the_one_that_has_all() -> None:
    (everything,) = EXTRAS["all"]
    names = set(everything.partition("[")[2].rstrip("]").split(","))

    # The image has all but the semantic cache, which would double its size.
    assert {name for _, name in NEEDING.values()} == {*names, *SEMANTIC}
    assert {*EXTRAS} == {*names, *SEMANTIC, "all", "dev", "envoy", "types"}


def test_an_endpoint_for_vectors_needs_only_arithmetic() -> None:
    text = PLAIN + "cache: {semantic: {embedder: {openai: {base_url: 'http://127.0.0.1:9/v1', model: m}}}}\n"

    assert [("cache.semantic", "semantic")] == [
        (setting, extra.name) for setting, extra in extras.needed(load.parse(BASE + text, "edge.yaml"))
    ]


def test_the_page_has_each_extra() -> None:
    page = (ROOT / "docs" / "installation.md").read_text("utf-8")

    assert {*EXTRAS} - {"dev"} == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))


def test_the_pages_have_each_detector_that_needs_the_extra(tmp_path: Path) -> None:
    (tmp_path / "reply.json").write_text("{}")
    options = {
        "json_schema": "schema_file: reply.json",
        "media": "max_size: 1MiB",
        "size": "max_characters: 9",
        "urls": "deny: [a.example]",
        "words": "words: [a]",
    }
    names = registry.names("guardrails.detectors")
    rules = [f"{{name: {name}, detect: {{{name}: {{{options.get(name, '')}}}}}, action: flag}}" for name in names]
    path = tmp_path / "edge.yaml"
    path.write_text(f"{BASE}{PLAIN}guardrails: {{rules: [{', '.join(rules)}]}}\n")
    needing = {
        setting.rpartition(" ")[2] for setting, extra in extras.needed(load.load(path)) if extra.name == "guardrails"
    }
    page = (ROOT / "docs" / "installation.md").read_text("utf-8")
    (row,) = re.findall(r"^\| `guardrails` \| (.*?) \|", page, re.MULTILINE)
    details = (ROOT / "docs" / "guardrails-detectors.md").read_text("utf-8")
    (sentence,) = re.findall(r"([^.]*) need the extra\s+`guardrails`:", details)

    assert needing == set(re.findall(r"`(\w+)`", row)) - {"phone"} == set(re.findall(r"`(\w+)`", sentence)) - {"phone"}


def test_what_is_blocked_here_is_what_the_extras_bring() -> None:
    blocked = absent_modules()

    assert {"sqlalchemy", "alembic", "fastapi", "psycopg", "botocore", "google.auth", "azure.identity"} <= blocked
    assert {"sqlalchemy", "fastapi", "jinja2"} == {"sqlalchemy", "fastapi", "jinja2"} - absent_modules(MAKE_UP)
    assert "opentelemetry.sdk" in blocked
    assert not {"google.protobuf", "grpc", "redis", "cachetools", "httpx2"} & blocked


def test_make_up_installs_the_extras_that_are_blocked_as_such() -> None:
    lock = (ROOT / "requirements" / "up.lock").read_text()
    locked = set(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==", lock, re.MULTILINE))

    assert set() == installed_with(MAKE_UP) - locked
    assert {"sqlalchemy", "fastapi", "jinja2"} == {"sqlalchemy", "fastapi", "jinja2"} - installed_with(("envoy",))
