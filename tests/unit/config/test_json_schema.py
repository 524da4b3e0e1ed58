"""The JSON Schema of the configuration says of each setting what its docstring says."""

from __future__ import annotations

import inspect

from edge_extproc.config import load
from edge_extproc.config.json_schema import descriptions, json_schema
from edge_extproc.config.part import ConfigSection
from edge_extproc.config.schema import Config


class Base(ConfigSection):
    first: int = 1
    """Of the base,
    in two lines."""
    plain: int = 1


class Section(Base):
    second: int = 2
    """Of the section."""


def test_a_setting_has_the_docstring_under_it_also_an_inherited_one() -> None:
    assert {"first": "Of the base,\nin two lines.", "second": "Of the section."} == descriptions(Section)


def test_the_schema_of_a_file_describes_its_settings() -> None:
    found = load.schema()
    said = {
        name: text
        for name, text in descriptions(Config).items()
        if text != found["properties"][name].get("description")
    }

    assert {} == said
    assert sum(len(each.get("properties", {})) for each in found["$defs"].values()) > 100
    described = [
        name
        for each in found["$defs"].values()
        for name, field in each.get("properties", {}).items()
        if "description" in field
    ]
    assert len(described) > 50


def test_what_a_caller_changes_in_a_schema_no_other_caller_gets() -> None:
    """It is made once a process."""
    first, expected = json_schema(), json_schema()
    first["properties"].clear()

    assert expected == json_schema()
    assert expected["properties"]


def test_a_process_does_not_read_its_own_source_to_start() -> None:
    assert not ConfigSection.model_config.get("use_attribute_docstrings")
    assert "Of the section." in inspect.getsource(Section)
    assert Section.model_fields["second"].description is None
