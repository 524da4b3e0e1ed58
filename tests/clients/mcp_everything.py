"""A server of the official MCP SDK with all that `@modelcontextprotocol/conformance` asks a server for.

Names and texts are those that the suite expects.

    python -m clients.mcp_everything PORT
"""

# ruff: noqa: N803, N815 - the suite has these names
from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_server import StoredEvents
from pydantic import BaseModel, Field

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}},
    },
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}


def text(value: str) -> types.TextContent:
    return types.TextContent(type="text", text=value)


def image() -> types.ImageContent:
    return types.ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, mime: str, value: str) -> types.EmbeddedResource:
    contents = types.TextResourceContents(uri=uri, mime_type=mime, text=value)
    return types.EmbeddedResource(type="resource", resource=contents)


class Response(BaseModel):
    response: str = Field(description="User's response")


class Defaults(BaseModel):
    name: str = Field(default="John Doe")
    age: int = Field(default=30)
    score: float = Field(default=95.5)
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = Field(default=True)


TITLED: list[Any] = [{"const": "value1", "title": "First"}, {"const": "value2", "title": "Second"}]


class Choices(BaseModel):
    untitledSingle: str = Field(json_schema_extra={"enum": ["option1", "option2", "option3"]})
    titledSingle: str = Field(json_schema_extra={"oneOf": TITLED})
    untitledMulti: list[str] = Field(json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2"]}})
    titledMulti: list[str] = Field(json_schema_extra={"items": {"anyOf": TITLED[:1]}})
    legacyEnum: str = Field(json_schema_extra={"enum": ["opt1", "opt2"], "enumNames": ["One", "Two"]})


def add_contents(server: MCPServer) -> None:
    @server.tool("test_simple_text", description="Text", structured_output=False)
    def simple_text() -> str:
        return "This is a simple text response for testing."

    @server.tool("test_image_content", description="An image", structured_output=False)
    def image_content() -> list[types.ImageContent]:
        return [image()]

    @server.tool("test_audio_content", description="Audio", structured_output=False)
    def audio_content() -> list[types.AudioContent]:
        return [types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")]

    @server.tool("test_embedded_resource", description="A resource", structured_output=False)
    def embedded_resource() -> list[types.EmbeddedResource]:
        return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]

    @server.tool("test_multiple_content_types", description="Several", structured_output=False)
    def multiple() -> list[Any]:
        data = '{"test":"data","value":123}'
        resource = embedded("test://mixed-content-resource", "application/json", data)
        return [text("Multiple content types test:"), image(), resource]

    @server.tool("test_error_handling", description="Fails", structured_output=False)
    def fail() -> str:
        raise RuntimeError("This tool intentionally returns an error for testing")

    @server.tool("json_schema_2020_12_tool", description="Has a schema of 2020-12", structured_output=False)
    def with_schema() -> str:
        return "ok"

    tool = server._tool_manager.get_tool("json_schema_2020_12_tool")
    assert tool is not None
    tool.parameters = SCHEMA


def add_dialogs(server: MCPServer) -> None:
    @server.tool("test_tool_with_logging", description="Logs", structured_output=False)
    async def logging(ctx: Context) -> str:
        for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(line)
            await asyncio.sleep(0.05)
        return "ok"

    @server.tool("test_tool_with_progress", description="Has progress", structured_output=False)
    async def progress(ctx: Context) -> str:
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"step {done}")
            await asyncio.sleep(0.05)
        return "ok"

    @server.tool("test_sampling", description="Asks the client's model", structured_output=False)
    async def sampling(prompt: str, ctx: Context) -> str:
        messages = [types.SamplingMessage(role="user", content=text(prompt))]
        result = await ctx.session.create_message(messages=messages, max_tokens=100)
        return f"LLM response: {getattr(result.content, 'text', 'none')}"

    @server.tool("test_elicitation", description="Asks the user", structured_output=False)
    async def elicitation(message: str, ctx: Context) -> str:
        result = await ctx.elicit(message=message, schema=Response)
        data = result.data.model_dump_json() if result.action == "accept" else "{}"
        return f"User response: action={result.action}, content={data}"

    @server.tool("test_elicitation_sep1034_defaults", description="Asks with defaults", structured_output=False)
    async def defaults(ctx: Context) -> str:
        return f"Elicitation completed: action={(await ctx.elicit(message='m', schema=Defaults)).action}"

    @server.tool("test_elicitation_sep1330_enums", description="Asks for choices", structured_output=False)
    async def choices(ctx: Context) -> str:
        return f"Elicitation completed: action={(await ctx.elicit(message='m', schema=Choices)).action}"

    @server.tool("test_reconnection", description="Ends its stream early", structured_output=False)
    async def reconnection(ctx: Context) -> str:
        await ctx.info("before")
        await ctx.close_sse_stream()
        await asyncio.sleep(0.2)
        await ctx.info("after")
        return "Reconnection test completed"


def add_others(server: MCPServer) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return b"\x89PNG"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.resource("test://watched-resource")
    def watched() -> str:
        return "Watched"

    @server.prompt("test_simple_prompt", description="Text")
    def simple() -> list[UserMessage]:
        return [UserMessage(text("This is a simple prompt for testing."))]

    @server.prompt("test_prompt_with_arguments", description="Has arguments")
    def arguments(arg1: str, arg2: str) -> list[UserMessage]:
        return [UserMessage(text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]

    @server.prompt("test_prompt_with_embedded_resource", description="Has a resource")
    def resource(resourceUri: str) -> list[UserMessage]:
        contents = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(contents), UserMessage(text("Please"))]

    @server.prompt("test_prompt_with_image", description="Has an image")
    def with_image() -> list[UserMessage]:
        return [UserMessage(image()), UserMessage(text("Please analyze"))]

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> types.Completion:
        del ref, argument, context
        return types.Completion(values=[], total=0, has_more=False)

    async def accept(ctx: Any, params: Any) -> types.EmptyResult:
        del ctx, params
        return types.EmptyResult()

    low = server._lowlevel_server
    low.add_request_handler("logging/setLevel", types.SetLevelRequestParams, accept)
    low.add_request_handler("resources/subscribe", types.SubscribeRequestParams, accept)
    low.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, accept)


def main(port: int) -> None:
    server = MCPServer("everything", log_level="ERROR")
    for add in (add_contents, add_dialogs, add_others):
        add(server)
    server.run("streamable-http", host="127.0.0.1", port=port, event_store=StoredEvents(), retry_interval=100)


if __name__ == "__main__":
    main(int(sys.argv[1]))
