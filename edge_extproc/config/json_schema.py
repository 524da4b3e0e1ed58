"""The JSON Schema of the configuration. Only it needs the descriptions of settings: the docstrings under them.

Reading them from the source takes a tenth of the start of a process, so pydantic does not do it at each start.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
from datetime import timedelta
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

from .quantities import write_duration
from .schema import Config


class _JsonSchema(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """As a user would write it."""
        return write_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        result = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        properties = result.get("properties", {})
        for name, text in descriptions(model).items():
            field = model.model_fields[name]
            written = properties.get(field.validation_alias or field.alias or name)
            if written is not None:
                written.setdefault("description", text)
        return result


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Field to the docstring under it."""
    result: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if not issubclass(each, BaseModel) or each is BaseModel:
            continue
        try:
            source = inspect.getsource(each)
        except OSError:  # a class that the program makes has no source
            continue
        (tree,) = ast.parse(textwrap.dedent(source)).body
        statements = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, text in itertools.pairwise(statements):
            match field, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str() as docstring)),
                ) if name in model.model_fields:
                    result[name] = inspect.cleandoc(docstring)
                case _:
                    pass
    return result


@cache
def _encoded() -> str:
    """JSON, and not the dicts, so that no caller can change what the next one gets."""
    return json.dumps(Config.model_json_schema(schema_generator=_JsonSchema))


def json_schema() -> dict[str, Any]:
    """The schema of the values after environment variables were replaced."""
    result: dict[str, Any] = json.loads(_encoded())
    # The loader adds the default place of the pepper, so a file may omit `auth`.
    result["required"].remove("auth")
    return result


def file_schema() -> dict[str, Any]:
    """The schema of a file: each value may also be a text with environment variables in it."""
    result = json_schema()
    definitions = result.pop("$defs")
    definitions = {name: _with_variables(each) for name, each in definitions.items()} | {_VARIABLE: _VARIABLE_SCHEMA}
    return {"$schema": DRAFT, **_with_variables(result), "$defs": definitions}


DRAFT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = "Variable"
_VARIABLE_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": r"\$\{[A-Za-z_]",
    "description": "The value of an environment variable: ${NAME} or ${NAME:-default}.",
}
# The keywords that say something about a value, and nothing about which values are valid.
_NOTES = frozenset({"title", "description", "default", "examples"})
# The keywords that a text with a variable in it may not fulfil.
_STRICT = frozenset({"enum", "const", "pattern"})


def _with_variables(schema: dict[str, Any]) -> dict[str, Any]:
    result = {name: _below(name, each) for name, each in schema.items()}
    if schema.get("type") not in ("integer", "number", "boolean") and not _STRICT & schema.keys():
        return result
    rules = {name: each for name, each in result.items() if name not in _NOTES}
    notes = {name: each for name, each in result.items() if name in _NOTES}
    return {**notes, "anyOf": [rules, {"$ref": f"#/$defs/{_VARIABLE}"}]}


def _below(keyword: str, value: Any) -> Any:
    match keyword, value:
        case "properties", dict():
            return {name: _with_variables(each) for name, each in value.items()}
        case (("items" | "additionalProperties"), dict()):
            return _with_variables(value)
        case "anyOf", list():
            return [_with_variables(each) for each in value]
        case _:
            return value
