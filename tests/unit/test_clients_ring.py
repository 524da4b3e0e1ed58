"""The ring of clients: its provider writes what each format allows, and its page is that of its last run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import anthropic_grammar
import chat_grammar
import gemini_grammar
import pytest
import responses_grammar
from clients import results
from clients.formats import Asked, Chat, Claude, Format, Gemini, Responses, Said
from clients.ring import PROVIDERS
from clients.scripted import Call, Cell, answer, stream
from clients.table import CLIENTS, version

ROOT = Path(__file__).resolve().parents[2]
REPLIES = {
    "text": Said("Héllo, 😀"),
    "calls": Said("", (("f", {"a": "é"}), ("g", {})), "thinking", 7),
    "custom call": Said("", (("f", {"input": "a\n"}),), custom=frozenset({"f"})),
}


def checked(form: Format, wire: bytes) -> None:
    match form:
        case Claude():
            anthropic_grammar.hold_to_the_grammar(anthropic_grammar.objects(wire))
        case Chat():
            chat_grammar.hold_to_the_grammar(wire)
        case Responses():
            responses_grammar.check(wire)
        case _:
            gemini_grammar.hold_to_the_grammar(wire)


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize(
    "form", [Claude(), Chat(shows_reasoning=True), Responses(), Gemini()], ids=lambda f: f.validator
)
def test_the_provider_of_the_ring_keeps_to_the_grammar_of_streams(form: Format, reply: str) -> None:
    checked(form, b"".join(stream(form, REPLIES[reply])))


CELL = Cell(turns=((Call("add", {"a": 1}, "3"),),), text="The end.")
TOOLS: dict[str, Any] = {"mcp__add": {}}


def test_the_model_calls_a_tool_by_the_end_of_its_name_and_then_says_the_text() -> None:
    first = answer(CELL, Asked(True, TOOLS, [], False), 1)
    last = answer(CELL, Asked(True, TOOLS, ["It is 3."], False), 2)

    assert (("mcp__add", {"a": 1}),) == first.calls
    assert ("The end.", ()) == (last.text, last.calls)


@pytest.mark.parametrize(
    ("tools", "results", "problem"),
    [(TOOLS, ["It is 4."], "without '3'"), ({"sub": {}}, [], "no tool add")],
)
def test_a_request_that_does_not_follow_the_script_is_told(
    tools: dict[str, Any], results: list[str], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        answer(CELL, Asked(True, tools, results, False), 1)


@pytest.mark.parametrize("has_schema", [True, False])
def test_a_value_is_text_where_there_is_a_schema_and_else_a_call(has_schema: bool) -> None:
    tools = {"final": {"properties": {"city": {}}}}
    said = answer(Cell(value={"city": "B"}), Asked(False, tools, [], has_schema), 1)

    assert ('{"city": "B"}', ()) == (said.text, said.calls) if has_schema else (("final", {"city": "B"}),) == said.calls


def test_the_page_shows_the_results() -> None:
    specified = importlib.util.spec_from_file_location("clients_page", ROOT / "docs" / "client_table.py")
    assert specified is not None
    assert specified.loader is not None
    module = importlib.util.module_from_spec(specified)
    specified.loader.exec_module(module)

    assert module.page() == module.PAGE.read_text("utf-8")


def test_a_cell_has_the_result_of_its_last_run(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("{}")
    results.write((results.Result("c", "1", "gpt", name, True) for name in ("tools", "plain", "stream")), path)
    results.write([results.Result("c", "1", "gemini", "plain", True)], path)

    results.write(
        [results.Result("c", "1", "gpt", "plain", False), results.Result("c", "1", "gemini", "plain", False)], path
    )

    assert {"c": {"version": "1", "passed": {"gpt": ["stream", "tools"]}}} == results.read(path)


def test_another_version_of_a_client_has_passed_nothing_yet(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("{}")
    results.write([results.Result("c", "1", "gpt", "plain", True)], path)

    results.write([results.Result("c", "2", "claude", "tools", True)], path)

    assert {"c": {"version": "2", "passed": {"claude": ["tools"]}}} == results.read(path)


def test_the_results_are_those_of_cells_and_of_locked_versions() -> None:
    expected = {
        (client.name, version(client), provider, scenario)
        for client in CLIENTS
        for provider in PROVIDERS
        for scenario in client.scenarios(provider)
    }
    found = {
        (name, of_client["version"], provider, scenario)
        for name, of_client in results.read().items()
        for provider, scenarios in of_client["passed"].items()
        for scenario in scenarios
    }

    assert set() == found - expected
