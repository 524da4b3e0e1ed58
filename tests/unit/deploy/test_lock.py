"""What `make up`, `make test`, CI and the image install: each dependency that pyproject.toml names, in its range, with
hashes, once for each Python and machine. No file names a registry."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
LOCKS = {
    "up": ("envoy", "admin", "ledger"),
    "dev": tuple(EXTRAS),
    "image": ("all", "otel", "aws", "azure", "google", "ledger", "postgres", "admin"),
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")

_ENTRY = re.compile(r"(?P<requirement>[^\s#][^\\\n]*?) \\\n(?P<hashes>(?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")


@dataclass(frozen=True)
class Locked:
    requirement: Requirement
    hashes: int


def read_lock(text: str) -> list[Locked]:
    """Every line is a comment or part of an entry with hashes. Raises ValueError that names the line which is not."""
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)
    if rest := _ENTRY.sub("", text).strip():
        raise ValueError(f"no pinned requirement with hashes: {rest.splitlines()[0]!r}")
    return [Locked(Requirement(each["requirement"]), each["hashes"].count("--hash=")) for each in _ENTRY.finditer(text)]


def locked(name: str) -> list[Locked]:
    return read_lock((ROOT / "requirements" / f"{name}.lock").read_text())


def places() -> Iterator[dict[str, str]]:
    for python, machine in itertools.product(PYTHONS, MACHINES):
        yield {
            "python_version": python,
            "python_full_version": f"{python}.9",
            "platform_machine": machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }


def applies(requirement: Requirement, place: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(place)


def missing(wanted: list[str], lock: list[Locked]) -> list[str]:
    """What is asked for directly, and is not in the lock exactly once and in its range, for some Python or machine."""
    lacking: set[str] = set()
    for text, place in itertools.product(wanted, places()):
        asked = Requirement(text)
        if canonicalize_name(asked.name) == PROJECT["project"]["name"] or not applies(asked, place):
            continue
        pins = [
            each.requirement
            for each in lock
            if canonicalize_name(each.requirement.name) == canonicalize_name(asked.name)
            and applies(each.requirement, place)
        ]
        versions = [str(pin.specifier).removeprefix("==") for pin in pins]
        if len(versions) != 1 or not asked.specifier.contains(versions[0], prereleases=True):
            lacking.add(f"{text} on Python {place['python_version']}, {place['platform_machine']}: has {versions}")
    return sorted(lacking)


@pytest.mark.parametrize("name", LOCKS)
def test_every_direct_dependency_is_locked_in_its_range(name: str) -> None:
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    wanted += itertools.chain.from_iterable(EXTRAS[extra] for extra in LOCKS[name])

    assert [] == missing(wanted, locked(name)), "run `make lock UPGRADE=`"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("orjson>=99", "orjson>=99 on Python 3.11, x86_64: has ['3."),
        ("no-such-package", "no-such-package on Python 3.11, x86_64: has []"),
    ],
)
def test_a_dependency_that_is_not_locked_is_seen(wanted: str, told: str) -> None:
    assert any(each.startswith(told) for each in missing([wanted], locked("up")))


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_is_pinned_and_has_hashes(name: str) -> None:
    entries = locked(name)

    assert len(entries) > len(PROJECT["project"]["dependencies"])
    assert all(re.fullmatch(r"==[^*,]+", str(each.requirement.specifier)) and each.hashes for each in entries)


@pytest.mark.parametrize(
    "text", ["orjson==3.11.0\n", "--index-url https://host/simple\n", "orjson @ https://host/orjson.whl\n"]
)
def test_what_is_no_pinned_requirement_with_hashes_is_seen(text: str) -> None:
    with pytest.raises(ValueError, match="no pinned requirement with hashes"):
        read_lock(text)


@pytest.mark.parametrize("name", [*LOCKS, "docs", "uv"])
def test_no_lock_names_a_registry(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text()

    assert "://" not in text
    assert not re.search(r"^ *-(?!-hash=)", text, re.MULTILINE)


def test_the_locks_agree() -> None:
    everything = {str(each.requirement) for each in locked("dev")}

    assert set() == {str(each.requirement) for name in ("up", "image") for each in locked(name)} - everything


def test_what_builds_the_project_is_locked_with_it() -> None:
    assert set(PROJECT["build-system"]["requires"]) <= set(PROJECT["dependency-groups"]["build"])
    assert [] == missing(PROJECT["dependency-groups"]["build"], locked("up"))


def test_the_image_installs_from_its_lock_alone() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    installs = [line for line in re.split(r"\n|&&", dockerfile) if re.search(r"\bpip\b.* install\b", line)]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert [True, False] == ["--require-hashes -r image.lock" in line for line in installs]
    assert "--no-deps --no-build-isolation ." in installs[1]
    assert "!requirements/image.lock" in ignored


def test_the_site_is_built_from_a_lock_of_its_own() -> None:
    assert [] == missing(PROJECT["dependency-groups"]["docs"], locked("docs"))
    assert all(each.hashes for each in locked("docs"))


def test_what_installs_the_locks_is_itself_locked() -> None:
    assert [] == missing(PROJECT["dependency-groups"]["installer"], locked("uv"))
    assert all(each.hashes for each in locked("uv"))
