"""The project's own set of exchanges: it is what its builders make, it is whole, and it holds to the wire formats."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path
from typing import Any

import botocore_oracle
import crossings
import exchange_set.__main__ as exchange_set
import pytest
from cells import each_cell
from exchange_report import Ran, lacking, readers, report
from recordings import OWN, SETS, SHARED, body, index_of, recordings, whole

ROWS = {row["id"]: row for row in index_of(OWN)}
# The hosts whose own formats these are. The others bend them, and are read leniently.
OWN_HOSTS = {
    crossings.CHAT: ("openai",),
    crossings.RESPONSES: ("openai",),
    crossings.MESSAGES: ("anthropic", "vertex"),
    crossings.GEMINI: ("gemini", "vertex"),
}
OF_A_DIALECT = {
    id: row
    for id, row in ROWS.items()
    if row["api"] in crossings.APIS and row["provider"] in OWN_HOSTS[crossings.APIS[row["api"]]]
}
GOOD = {id: row for id, row in OF_A_DIALECT.items() if row["status"] == 200 and not crossings.is_other_operation(row)}
# Blocks that only the beta half of Anthropic's SDK knows.
BETA = {"anthropic-messages-mcp", "anthropic-messages-mcp-stream"}
# Google's SDK names its fields in camel case.
SNAKE_CASE = {"gemini-generate_content-snake-case", "gemini-stream_generate_content-snake-case"}
MODEL_IN_PATH = ("vertex_raw_predict", "vertex_stream_raw_predict")
CONVERSE = {id: row for id, row in ROWS.items() if row["api"] in ("converse", "converse_stream")}


def ids(rows: dict[str, Any], *, streaming: bool) -> list[str]:
    return sorted(id for id, row in rows.items() if row["streaming"] is streaming and row["status"] == 200)


def test_the_files_are_what_the_builders_make() -> None:
    made = exchange_set.files()

    assert made.keys() == {path.name for path in OWN.iterdir()}
    differing = [name for name, content in made.items() if content != (OWN / name).read_bytes()]
    assert [] == differing, "run `python -m exchange_set` in tests/"


def test_the_builders_do_not_know_the_code_that_they_test() -> None:
    for path in (Path(exchange_set.__file__).parent).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("edge_extproc")], path


def test_the_set_covers_every_api_with_replies_streams_and_errors() -> None:
    kinds = Counter(
        (r["api"], "error" if r["status"] != 200 else "stream" if r["streaming"] else "reply") for r in ROWS.values()
    )

    assert len(ROWS) >= 300
    for api in ("chat_completions", "responses", "messages"):
        assert min(kinds[api, kind] for kind in ("reply", "stream", "error")) >= 8
    for reply, stream in (
        ("generate_content", "stream_generate_content"),
        ("converse", "converse_stream"),
        ("invoke_model", "invoke_model_stream"),
        ("vertex_raw_predict", "vertex_stream_raw_predict"),
        ("completions", "completions"),
    ):
        assert min(kinds[reply, "reply"], kinds[stream, "stream"]) >= 5
    for api in ("embeddings", "embed_content", "count_tokens"):
        assert kinds[api, "reply"] >= 3
        assert kinds[api, "error"] >= 1


def test_a_row_of_the_index_describes_its_exchange() -> None:
    for id, row in ROWS.items():
        exchange = whole(row)
        common = row.keys() & exchange.keys()

        assert {key: row[key] for key in common} == {key: exchange[key] for key in common}, id
        assert (row["status"], row["bytes"]) == (exchange["response"]["status"], len(body(exchange["response"]))), id


def test_what_the_own_set_does_not_have_is_an_error_and_no_skip() -> None:
    with pytest.raises(LookupError, match="no exchange of an_api"):
        recordings("an_api")
    with pytest.raises(LookupError, match="'status': 418"):
        recordings("messages", status=418)


# --- the wire formats, held by the SDKs


@each_cell("id", sorted(GOOD.keys() - BETA - SNAKE_CASE))
def test_an_sdk_could_have_sent_the_request(id: str) -> None:
    row = GOOD[id]
    asked = json.loads(body(whole(row)["request"]))
    if row["api"] in MODEL_IN_PATH:
        asked = {"model": row["model"], **{k: v for k, v in asked.items() if k != "anthropic_version"}}
    name = crossings.APIS[row["api"]]
    if name == crossings.GEMINI:
        asked = {k: v for k, v in asked.items() if k in crossings.gemini_grammar.REQUEST}
        crossings.gemini_grammar.check_request(asked)
    elif "model" in asked:  # a stored prompt may name it
        crossings.REQUESTS[name].validate_python(asked)


@each_cell("id", sorted(set(ids(GOOD, streaming=False)) - BETA))
def test_an_sdk_reads_the_reply(id: str) -> None:
    crossings.REPLIES[crossings.APIS[GOOD[id]["api"]]](body(whole(GOOD[id])["response"]))


@each_cell("id", sorted(set(ids(GOOD, streaming=True)) - BETA))
def test_a_stream_keeps_to_the_grammar_of_its_format(id: str) -> None:
    wire = body(whole(GOOD[id])["response"])

    assert crossings.STREAMS[crossings.APIS[GOOD[id]["api"]]](wire) != {}


@each_cell("id", sorted(CONVERSE))
def test_botocore_takes_the_exchange(id: str) -> None:
    row, exchange = CONVERSE[id], whole(CONVERSE[id])
    asked, wire = json.loads(body(exchange["request"])), body(exchange["response"])
    stream = row["api"] == "converse_stream"

    assert "" == botocore_oracle.converse_request_errors(asked, row["model"], stream=stream)
    if row["status"] == 200 and stream:
        assert "metadata" in botocore_oracle.parse_converse_stream(wire)[-1]
    elif row["status"] == 200:
        assert json.loads(wire)["stopReason"] == botocore_oracle.parse_converse(wire)["stopReason"]


# --- the report


def test_the_report_names_what_the_own_set_lacks() -> None:
    def row(api: str, streaming: bool, *features: str) -> dict[str, Any]:
        return {"api": api, "streaming": streaming, "features": features}

    recorded = [
        row("chat", True, "tools"),
        row("chat", True, "tools", "vision"),
        row("chat", False),
        row("audio", False),
    ]
    own = [row("chat", True, "vision"), row("chat", False, "tools")]

    assert {("audio", "-"): 1, ("chat/stream", "tools"): 2} == lacking(recorded, own)
    assert {} == lacking(own, own)


def test_the_own_set_shows_what_the_recordings_show() -> None:
    """Where there are no recordings the report says so."""
    if SHARED in SETS:
        assert {} == lacking(index_of(SHARED), index_of(OWN))
    else:
        assert ["no recordings" in line for line in report()] == [True]


def test_a_module_that_reads_exchanges_and_skips_all_of_its_tests_fails_the_run() -> None:
    one, two = "tests/unit/dialects/test_crossings.py", "tests/unit/dialects/test_errors.py"
    ran = Ran()
    ran.add(f"{one}::a", "setup", "skipped")
    ran.add(f"{two}::a", "setup", "skipped")
    ran.add(f"{two}::b", "call", "failed")
    ran.add("tests/unit/test_version.py::a", "setup", "skipped")

    assert {one, two} <= readers()
    assert "tests/unit/test_version.py" not in readers()
    assert [one] == ran.idle()
