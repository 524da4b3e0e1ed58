"""What chat completions and the Responses API read alike: sums over a prompt, functions, and the choice of a tool."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .model_output import IMAGE_TOKENS, TOOL_TOKENS, Choice, Prompt, Tool
from .reading import Fields

# Words of hidden reasoning for each effort.
EFFORT = {"none": 0, "minimal": 0, "low": 5, "medium": 10, "high": 20, "xhigh": 30, "max": 40}

_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(slots=True)
class Sums:
    """The sums over the messages or items of a prompt."""

    words: int = 0
    images: int = 0
    documents: int = 0
    system: int = 0
    last_text: str = ""
    results: list[str] = field(default_factory=list)
    open_calls: set[str] = field(default_factory=set)
    count: int = 0

    def prompt(self, tools: int) -> Prompt:
        """The prompt without its settings. `tools`: how many there are."""
        return Prompt(
            text=self.last_text,
            results=tuple(self.results),
            messages=self.count,
            images=self.images,
            documents=self.documents,
            system=self.system,
            tokens=self.words + IMAGE_TOKENS * (self.images + self.documents) + TOOL_TOKENS * tools,
        )


def read_image_url(holder: Fields, name: str) -> None:
    if not holder.text(name).startswith(("https://", "http://", "data:image/")):
        raise holder.refuse(name, "this is not a URL or a data URL of an image", "invalid_image_url")


def read_function(function: Fields) -> Tool:
    name = function.text("name")
    if not _FUNCTION_NAME.fullmatch(name):
        raise function.refuse("name", "letters, digits, _ and - only, 64 at most", "invalid_value")
    parameters = function.maybe_nested("parameters")
    schema = {"type": "object", **(parameters.values if parameters else {})}
    if schema["type"] != "object":
        raise function.refuse("parameters", "the parameters must be an object", "invalid_function_parameters")
    return Tool(name, schema)


def read_mode(holder: Fields, name: str, tools: tuple[Tool, ...]) -> Choice:
    """The mode of a tool choice."""
    match holder.one_of(name, "auto", "none", "required"):
        case "required" if not tools:
            raise holder.refuse(name, "only allowed with tools", "invalid_value")
        case "required":
            return "required"
        case "none":
            return "none"
        case _:
            return "auto"


def named_tools(holder: Fields, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """The tools with the name in `holder`, of which there must be one."""
    name = holder.text("name")
    found = tuple(tool for tool in tools if tool.name == name)
    if not found:
        raise holder.refuse("name", f"there is no tool {name!r}", "invalid_value")
    return found
