"""The layout of the package, as docs/contributing/architecture.md describes it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

import pytest
from every_dialect import EVERY_NAME

from edge_extproc import registry
from edge_extproc.model.wire_names import WireNames

PACKAGE = Path(__file__).resolve().parents[2] / "edge_extproc"
MOST_LINES = 600
MOST_LOOSE_FILES = 5
# One package a wire format, all alike.
DIALECT_FILES = {
    "__init__",
    "content",
    "errors",
    "fields",
    "history",
    "reply",
    "request_in",
    "request_out",
    "stream_in",
    "stream_out",
    "summary",
}
DIALECTS = sorted(path.name for path in (PACKAGE / "dialects").iterdir() if (path / "__init__.py").exists())


# Names of ours that a format has, too: of features, and of prices.
OUR_OWN = {"code_execution", "input_audio", "input_image", "web_search"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "pb" not in path.parts)


def test_a_file_is_read_in_one_sitting() -> None:
    too_long = {}
    for path in modules():
        lines = len(path.read_text("utf-8").splitlines())
        if lines > MOST_LINES:
            too_long[str(path.relative_to(PACKAGE))] = lines

    assert too_long == {}


def test_the_top_level_shows_the_rooms() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_LOOSE_FILES


@pytest.mark.parametrize("dialect", DIALECTS)
def test_all_dialects_have_the_same_files(dialect: str) -> None:
    """What models take has a file only where a format's models differ; Claude's are in claude.py, for two formats.
    Tools have one where the caller executes some that are no functions, stored conversations where callers refer to
    them, and Bedrock has Anthropic's format at a path of its own. OpenAI's chats have an older spelling of tools, and
    chunks with fields of unexpected types; some of its hosts send arguments twice. OpenAI's Responses and Gemini have
    WebSockets. Gemini streams calls in pieces of their arguments."""
    optional = {
        "chunk_shapes",
        "client_tools",
        "functions",
        "invoke",
        "live_messages",
        "models",
        "partial_calls",
        "resent_arguments",
        "socket_events",
        "stored",
        "stored_api",
        "stored_stream",
        "tools",
        "tool_items",
    }

    assert {path.stem for path in (PACKAGE / "dialects" / dialect).glob("*.py")} - optional == DIALECT_FILES


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_request_is_written_in_its_own_dialect(dialect: str) -> None:
    """It is spliced. A writer that knows its own name has a second task."""
    tree = ast.parse((PACKAGE / "dialects" / dialect / "request_out.py").read_text("utf-8"))

    assert "NAME" not in {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_there_are_five_dialects() -> None:
    assert len(DIALECTS) == 5


def test_no_public_class_name_means_two_things() -> None:
    """The rehearsal provider is the other side of the wire, and has names of its own."""
    homes = defaultdict(list)
    for path in modules():
        if "rehearsal" in path.parts:
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path.relative_to(PACKAGE)))

    # A part of every dialect has the same name in each.
    alike = {"ReplyReader", "ReplyWriter", "RequestWriter", "Generation"}
    assert {name: where for name, where in homes.items() if len(where) > 1 and name not in alike} == {}


def test_every_room_says_what_it_is_for() -> None:
    silent = [path for path in modules() if ast.get_docstring(ast.parse(path.read_text("utf-8"))) is None]

    assert silent == []


@pytest.mark.parametrize("room", ["accounting", "auth", "cache", "exchange", "limits", "routing"])
def test_no_stage_knows_a_field_of_a_format(room: str) -> None:
    """Dialects say what their fields are called (`WireNames`). Names of one word mean something elsewhere, too."""
    wire = {
        name
        for field in fields(WireNames)
        for name in getattr(EVERY_NAME, field.name)
        if re.search("[_A-Z-]", name) and name not in OUR_OWN
    }
    known = {
        str(path.relative_to(PACKAGE)): wire & {each.value for each in ast.walk(tree) if isinstance(each, ast.Constant)}
        for path in (PACKAGE / room).rglob("*.py")
        for tree in [ast.parse(path.read_text("utf-8"))]
    }

    assert {} == {path: names for path, names in known.items() if names}


@pytest.mark.parametrize("room", ["dialects", "operations", "providers", "providers.credentials", "routing"])
def test_the_plugins_of_a_room_are_the_modules_that_define_one(room: str) -> None:
    """No list says which modules are plugins, nor which are not."""
    package = importlib.import_module(f"edge_extproc.{room}")
    names = [found.name for found in pkgutil.iter_modules(package.__path__)]
    defining = [name for name in names if hasattr(importlib.import_module(f"{package.__name__}.{name}"), "PLUGIN")]

    assert tuple(sorted(defining)) == registry.names(room)
    assert set(names) > set(defining)


def test_configuration_and_wiring_know_no_plugin_by_name() -> None:
    """What a provider, a format or a credential says of itself is an attribute of its plugin."""
    rooms = ("providers", "providers.credentials", "dialects")
    plugins = {name for room in rooms for name in registry.names(room)}
    plugins |= {host for name in registry.names("providers") for host in registry.load("providers", name).hosts}
    named = {
        f"{path.relative_to(PACKAGE)}: {node.value}"
        for room in ("config", "worker", "gateway", "auth", "limits", "proxy")
        for path in (PACKAGE / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in plugins
    }

    assert set() == named
