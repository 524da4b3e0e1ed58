"""No sentence of pydantic reaches a user: each type of error that our models can raise has words of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core.core_schema import ErrorType

from edge_extproc.config.pydantic_errors import in_one_line, words
from edge_extproc.config.schema import Config
from edge_extproc.config.wrong import wrong
from edge_extproc.server import admin_api

# What a schema of ours is made of, by pydantic-core's name for it: the types of errors that it can raise.
RAISED = {
    "model": ("model_type",),
    "model-fields": ("missing", "extra_forbidden"),
    "str": ("string_type",),
    "int": ("int_type", "int_parsing", "int_from_float", "int_parsing_size"),
    "float": ("float_type", "float_parsing", "finite_number"),
    "bool": ("bool_type", "bool_parsing"),
    "decimal": ("decimal_type", "decimal_parsing"),
    "date": ("date_type", "date_parsing", "date_from_datetime_inexact", "date_from_datetime_parsing"),
    "datetime": ("datetime_type", "datetime_parsing", "datetime_from_date_parsing"),
    "list": ("list_type",),
    "tuple": ("tuple_type",),
    "set": ("set_type",),
    "frozenset": ("frozen_set_type",),
    "dict": ("dict_type",),
    "literal": ("literal_error",),
    "enum": ("enum",),
}
BOUNDS = {
    "gt": "greater_than",
    "ge": "greater_than_equal",
    "lt": "less_than",
    "le": "less_than_equal",
    "pattern": "string_pattern_mismatch",
}
LENGTHS = {"min_length": ("string_too_short", "too_short"), "max_length": ("string_too_long", "too_long")}
CONTEXT: dict[str, Any] = {
    name: name for name in ("gt", "ge", "lt", "le", "pattern", "min_length", "max_length", "expected")
}


def models() -> Iterator[type[BaseModel]]:
    yield Config
    for each in vars(admin_api).values():
        if isinstance(each, type) and issubclass(each, BaseModel) and each is not BaseModel:
            yield each


def kinds(schema: object) -> Iterator[str]:
    match schema:
        case dict():
            kind = schema.get("type")
            yield from RAISED.get(kind, ()) if isinstance(kind, str) else ()
            yield from (BOUNDS[bound] for bound in BOUNDS.keys() & schema.keys() if kind != "model-field")
            for bound in LENGTHS.keys() & schema.keys():
                yield LENGTHS[bound][0 if kind == "str" else 1]
            for each in schema.values():
                yield from kinds(each)
        case list() | tuple():
            for each in schema:
                yield from kinds(each)


@pytest.mark.parametrize("kind", sorted({kind for model in models() for kind in kinds(TypeAdapter(model).core_schema)}))
def test_every_kind_of_error_of_our_schemas_has_words(kind: str) -> None:
    assert kind in get_args(ErrorType)
    assert "this value is not allowed here" not in words(kind, CONTEXT)
    assert "; " in words(kind, CONTEXT)


def test_our_own_errors_keep_their_words() -> None:
    assert "a; b" == words("edge", dict(wrong("a", "b").context or {}))
    assert "told" == words("value_error", {"error": ValueError("told")})


def test_an_unknown_kind_is_told_without_the_librarys_words() -> None:
    assert "this value is not allowed here; see the documentation of this key" == words("url_scheme", {})


def test_what_was_sent_is_not_repeated() -> None:
    class Limits(BaseModel):
        dollars: int

    with pytest.raises(ValidationError) as found:
        Limits.model_validate({"dollars": "sk-secret"})

    assert "dollars: this is not a whole number; write one in digits" == in_one_line(found.value.errors())
