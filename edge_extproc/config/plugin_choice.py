"""A setting that names one plugin of a room and has the plugin's options: {words: {words: [falcon]}}.

Each plugin declares its options as a section of its own. Only the plugins that a configuration names are loaded.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from .. import registry
from .part import ConfigSection
from .wrong import wrong


class PluginChoice:
    """The base class of such settings."""

    room: ClassVar[str]
    noun: ClassVar[str]
    """What a plugin of the room is, for errors."""
    __slots__ = ("name", "options")

    def __init__(self, name: str, options: Any) -> None:
        self.name = name
        self.options = options
        """The section that the plugin declares."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (other.name, other.options) == (self.name, self.options)

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.options!r})"

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return registry.names(cls.room)

    @classmethod
    def section(cls, name: str) -> type[ConfigSection] | None:
        """The options of a plugin; None if there is no such plugin."""
        if name not in cls.names():
            return None
        options: type[ConfigSection] = registry.load(cls.room, name).options
        return options

    @classmethod
    def _read(cls, value: object, info: core_schema.ValidationInfo) -> Self:
        if isinstance(value, cls):
            return value
        have = ", ".join(cls.names()) or "none"
        if not isinstance(value, dict) or len(value) != 1:
            raise wrong(f"this is not one {cls.noun}; have {have}", "write one name and its options: {NAME: {…}}")
        ((name, options),) = value.items()
        if name not in cls.names():
            raise wrong(f"there is no such {cls.noun}; have {have}", "write one of them", key=name, show=False)
        # A ValidationError of another model keeps its paths.
        read = _holder(cls.room, name).model_validate({name: {} if options is None else options}, context=info.context)
        return cls(name, getattr(read, name))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: {value.name: value.options.model_dump()}
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # Only within another section it is a definition of its own.
        around = create_model("_", of=(_all_options(cls.__name__, cls.__doc__, cls.room), ...))
        section = handler(around.__pydantic_core_schema__)["properties"]["of"]
        return {"anyOf": [section]}  # a reference alone would be replaced by the section


@cache
def _all_options(title: str, text: str | None, room: str) -> type[ConfigSection]:
    """A section with the options of each plugin, for the JSON Schema."""
    sections = {name: registry.load(room, name).options for name in registry.names(room)}

    def finish(schema: dict[str, Any]) -> None:
        schema.pop("required", None)
        schema.update(minProperties=1, maxProperties=1)
        for name, section in sections.items():
            schema["properties"][name]["description"] = inspect.getdoc(section)

    fields: dict[str, Any] = {name: (section, ...) for name, section in sections.items()}
    made = create_model(title, __base__=ConfigSection, __doc__=text, **fields)
    made.model_config["json_schema_extra"] = finish
    return made


@cache
def _holder(room: str, name: str) -> type[ConfigSection]:
    """A section with this plugin's options under its name."""
    fields: dict[str, Any] = {name: (registry.load(room, name).options, ...)}
    return create_model(f"{room}.{name}", __base__=ConfigSection, **fields)
