"""docs/configuration.md and docs/config.schema.json: complete, up to date, and right about the files that there are."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from pydantic import BaseModel

from edge_extproc.config import document, load
from edge_extproc.config.json_schema import json_schema
from edge_extproc.config.schema import Config

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
_spec = importlib.util.spec_from_file_location("configuration_page", DOCS / "configuration.py")
assert _spec is not None
assert _spec.loader is not None
configuration = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(configuration)


class Unreplaced(dict[str, str]):
    """Variables whose values are their own references."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "${" + name + "}"


VARIABLES = Unreplaced()
EDITOR = jsonschema.Draft202012Validator(json.loads((DOCS / "config.schema.json").read_text("utf-8")))


def models(declared: Any, seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """The sections of a type, found without the schema."""
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        if declared not in seen:
            seen.add(declared)
            yield declared
            for field in declared.model_fields.values():
                yield from models(field.annotation, seen)
        return
    for argument in (*get_args(declared), getattr(declared, "__origin__", None)):
        if argument is not None and argument is not declared:
            yield from models(argument, seen)


def configurations() -> Iterator[tuple[str, dict[str, Any]]]:
    """The tracked configurations, and those on pages that are not only a part of one."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        text = (ROOT / name).read_text("utf-8") if name.endswith(("edge.yaml", ".md")) else ""
        if name.endswith("edge.yaml"):
            yield name, document.read(text, VARIABLES).values
        for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            with contextlib.suppress(document.UnreadableDocument):  # a collection of lines, not a document
                read = document.read(block, VARIABLES).values
                if isinstance(read, dict) and read.keys() <= Config.model_fields.keys():
                    yield name, read


def test_the_page_and_the_schema_are_up_to_date() -> None:
    assert configuration.page(json_schema()) == (DOCS / "configuration.md").read_text("utf-8"), "run make docs"
    assert configuration.schema_text() == (DOCS / "config.schema.json").read_text("utf-8"), "run make docs"


def test_no_key_is_missing_and_each_says_what_it_is_for() -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    tables = [
        set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) for section in re.split("^## ", page, flags=re.M)
    ]
    found = list(models(Config, set()))

    assert len(found) > 40
    assert [] == [each.__name__ for each in found if _written(each) not in tables]
    assert [] == re.findall(r"^\|.*\|\s*\|$", page, re.MULTILINE)


def _written(section: type[BaseModel]) -> set[str]:
    """The keys as a file has them: Python has a word of its own for some."""
    return {str(field.validation_alias or name) for name, field in section.model_fields.items()}


def test_each_link_to_a_section_leads_to_one() -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    anchors = {re.sub(r"[^\w-]", "", head.lower()) for head in re.findall(r"^## `(.+)`$", page, re.MULTILINE)}

    assert set() == set(re.findall(r"\[section\]\(#([^)]+)\)", page)) - anchors


def test_an_editor_finds_no_fault_in_the_configurations_that_there_are() -> None:
    found = list(configurations())
    faults = [
        f"{name}: {error.json_path}: {error.message}"
        for name, values in found
        for error in EDITOR.iter_errors(values)
        if error.validator != "required"
    ]

    assert len(found) > 30
    assert [] == faults


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"listen": {"port": "${PORT:-10000}"}, "timeouts": {"connect": "${T}"}}, None),
        ({"models": {"m": {"candidates": [], "affinity": True}}, "endpoints": {"/v1/files": "openai"}}, None),
        ({"listen": {"prot": 1}}, "$.listen"),
        ({"listen": {"port": "many"}}, "$.listen.port"),
        ({"timeouts": {"connect": 5}}, "$.timeouts.connect"),
        ({"telemetry": {"log": {"level": "loud"}}}, "$.telemetry.log.level"),
        ({"lissten": {}}, "$"),
    ],
)
def test_an_editor_shows_a_mistake_where_it_is(values: dict[str, Any], fault: str | None) -> None:
    faults = [error.json_path for error in EDITOR.iter_errors(values) if error.validator != "required"]

    assert ([fault] if fault is not None else []) == faults


def test_a_shipped_configuration_names_the_schema_in_its_first_line() -> None:
    for path in (ROOT / "envoy").rglob("edge.yaml"):
        first = path.read_text("utf-8").splitlines()[0]
        named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
        assert named is not None, path
        assert DOCS / "config.schema.json" == (path.parent / named[1]).resolve()


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(load.schema())
