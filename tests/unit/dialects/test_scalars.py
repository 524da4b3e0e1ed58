"""A row of a format's table of scalars is all that reads, writes, spells and documents the setting."""

from __future__ import annotations

from dataclasses import fields, replace
from importlib import import_module
from typing import Any

import pytest

from edge_extproc.codecs.json_values import JsonObject, as_int, as_text
from edge_extproc.dialects.base import FieldSupport
from edge_extproc.dialects.dropping import DropList
from edge_extproc.dialects.scalars import Scalar, Scalars, left_out
from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Chat
from edge_extproc.model.spelling import Spelling
from edge_extproc.registry import load, names

SETTINGS = Scalars(
    "config",
    Scalar("max_output_tokens", "maxTokens", as_int),
    Scalar("service_tier", "tier", as_text, "others are dropped", {"default": "standard"}.get),
    Scalar("top_k", "topK", as_int, "the format has none", left_out),
)
CHAT = Chat("another", "m", ())
DIALECTS = {name: import_module(f"edge_extproc.dialects.{name}.fields") for name in names("dialects")}


def read(block: JsonObject) -> Chat:
    return replace(CHAT, **SETTINGS.read(block))


def write(chat: Chat) -> tuple[JsonObject, set[str]]:
    block: JsonObject = {}
    writer = DropList(replace(chat, spelling=Spelling({"top_k": "k"})))
    writer._write_scalars(SETTINGS, chat, block)
    return block, writer.dropped


def test_a_row_reads_its_field() -> None:
    assert read({"maxTokens": 7, "tier": "flex", "other": 1}) == replace(CHAT, max_output_tokens=7, service_tier="flex")


def test_a_null_and_an_absent_value_are_the_same() -> None:
    assert read({"maxTokens": None}) == read({}) == CHAT


def test_a_wrong_value_is_refused_by_its_path() -> None:
    with pytest.raises(BadRequest, match=r"config\.maxTokens must be a whole number") as refused:
        read({"maxTokens": "many"})
    assert refused.value.param == "config.maxTokens"


def test_a_row_writes_its_field() -> None:
    chat = replace(CHAT, max_output_tokens=0, service_tier="default")

    assert write(chat) == ({"maxTokens": 0, "tier": "standard"}, set())


def test_a_value_without_a_place_is_dropped_in_the_callers_words() -> None:
    assert write(replace(CHAT, service_tier="flex", top_k=5)) == ({}, {"service_tier", "k"})


def test_a_row_documents_its_field() -> None:
    assert SETTINGS.support == {
        "max_output_tokens": FieldSupport("mapped", "config.maxTokens"),
        "service_tier": FieldSupport("mapped", "config.tier; others are dropped"),
        "top_k": FieldSupport("dropped", "the format has none"),
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialects_rows_are_its_documentation_and_its_spelling(dialect: str) -> None:
    scalars: Any = DIALECTS[dialect].SCALARS
    known = {field.name for field in fields(Chat)}

    assert len(set(scalars.names)) == len(scalars.names) == len(scalars.paths)
    for field, path in scalars.paths.items():
        assert field in known
        assert DIALECTS[dialect].FIELDS[field] is scalars.support[field]
        assert load("dialects", dialect).spelling.field(field) == path
