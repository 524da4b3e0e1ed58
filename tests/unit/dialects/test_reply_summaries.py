"""`read_summary` agrees with `read_reply`: on the exchanges of every API, read as each format, and on damaged ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cells import each_cell
from crossings import APIS, is_other_operation
from crossings import DIALECTS as TRANSLATED
from recordings import body, of_today, recordings
from thoroughness import examples

from edge_extproc.dialects.base import Dialect
from edge_extproc.dialects.bedrock_converse import PLUGIN as CONVERSE
from edge_extproc.errors import UpstreamError
from edge_extproc.model.content import Json
from edge_extproc.model.reply_summary import ReplySummary, summary_of

DIALECTS: dict[str, Dialect] = {**TRANSLATED, CONVERSE.name: CONVERSE}
API_DIALECTS = {**APIS, "converse": CONVERSE.name, "converse_stream": CONVERSE.name}
EVERY = {r["id"]: r for r in recordings(*API_DIALECTS) if not is_other_operation(r)}
BODIES = {id: body(r["response"]) for id, r in EVERY.items()}
REPLIES: dict[str, list[bytes]] = {
    name: [
        BODIES[id]
        for id, r in EVERY.items()
        if API_DIALECTS[r["api"]] == name and r["response"]["status"] == 200 and not r["streaming"]
    ]
    for name in DIALECTS
}
"""By the dialect that they are in."""
MOST_UNUSUAL = 0.25
"""The part of the replies of one format that may have an unusual shape."""
DAMAGED, LONGEST = examples(60), 3000
"""Replies of each format that are damaged, and the greatest number of bytes of one."""
ODD: tuple[Json, ...] = (
    None,
    True,
    -1,
    10**20,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "error",
    "failed",
    "tool_use",
    "function_call",
    "\ud800",
    [],
    [None],
    [{}],
    {},
    {"type": "text"},
    {"type": 7},
    {"text": None},
)
"""Values in place of others. Some are words that a format reads."""


def in_full(dialect: Dialect, raw: bytes) -> ReplySummary | None:
    """What the whole reply says; None if it is refused."""
    try:
        return summary_of(dialect.read_reply(raw))
    except UpstreamError:
        return None


def agrees(dialect: Dialect, raw: bytes) -> bool:
    """Whether there is a summary, which is then the right one. A refused body has none."""
    summary = dialect.read_summary(raw)
    assert summary is None or summary == in_full(dialect, raw)
    return summary is not None


def places(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        yield (*path, key)
        yield from places(inner, (*path, key))


def damaged(reply: Any) -> Iterator[Any]:
    """The reply with each value replaced by each odd one, left out, or under the name in the other case."""
    for path in places(reply):
        for odd in ODD:
            changed = copy.deepcopy(reply)
            parent = inside(changed, path[:-1])
            parent[path[-1]] = odd
            yield changed
        changed = copy.deepcopy(reply)
        parent = inside(changed, path[:-1])
        value = parent.pop(path[-1])
        yield changed
        if isinstance(parent, dict):
            name = path[-1]
            parent["".join(f"_{c.lower()}" if c.isupper() else c for c in name)] = value
            yield changed


def inside(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def chosen(name: str) -> list[Any]:
    """Short replies of a format, each with other members than the rest."""
    found: dict[frozenset[tuple[Any, ...]], Any] = {}
    for raw in REPLIES[name]:
        if len(raw) < LONGEST and raw.lstrip()[:1] == b"{":
            reply = json.loads(raw)
            found.setdefault(frozenset(places(reply)), reply)
    by_size = [found[members] for members in sorted(found, key=len)]
    return by_size[:: max(1, len(by_size) // DAMAGED)][:DAMAGED]


@each_cell("id", of_today(EVERY), parts=2)
def test_a_body_has_the_summary_of_its_reply_or_none(id: str) -> None:
    """Of any body: a stream, an error, or a reply of another format."""
    for dialect in DIALECTS.values():
        agrees(dialect, BODIES[id])


@pytest.mark.parametrize("name", DIALECTS)
def test_most_replies_have_the_usual_shape(name: str) -> None:
    unusual = [raw for raw in REPLIES[name] if not agrees(DIALECTS[name], raw)]

    assert len(unusual) <= MOST_UNUSUAL * len(REPLIES[name]), f"{len(unusual)} of {len(REPLIES[name])}"


@pytest.mark.parametrize("name", DIALECTS)
def test_a_damaged_reply_has_the_summary_of_what_is_read_of_it_or_none(name: str) -> None:
    with_summary = 0
    for reply in chosen(name):
        for changed in damaged(reply):
            with_summary += agrees(DIALECTS[name], json.dumps(changed).encode())

    assert with_summary > 0


@pytest.mark.parametrize("name", DIALECTS)
def test_bytes_that_are_no_json_have_no_summary(name: str) -> None:
    dialect = DIALECTS[name]
    raw = next(raw for raw in REPLIES[name] if agrees(dialect, raw))
    whole = raw.rstrip()
    odd = b"\xff", b"\x01", b"1" * 5000, b"[" * 100_000 + b"]" * 100_000

    for broken in (b"", b"[]", b"null", b"\xff", whole[:-1], whole + b"}", whole + b"\n" + whole):
        assert not agrees(dialect, broken)
    for value in odd:
        quoted = value if value[:1] in b"1[" else b'"' + value + b'"'
        assert not agrees(dialect, whole[:-1] + b',"unread":' + quoted + b"}")


NESTED = {
    "anthropic_messages": {"type": "message", "content": [{"type": "tool_use", "id": "i", "name": "f", "input": "@"}]},
    "bedrock_converse": {
        "output": {"message": {"content": [{"toolUse": {"toolUseId": "i", "name": "f", "input": "@"}}]}}
    },
    "gemini_generate": {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": "@"}}]}}]},
}
"""Formats that hold the arguments of a call as JSON."""


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("depth", [1, 3, 10, 300])
def test_arguments_may_be_nested(name: str, depth: int) -> None:
    reply, arguments = json.dumps(NESTED[name]), '{"a":' * depth + "1" + "}" * depth

    assert agrees(DIALECTS[name], reply.replace('"@"', arguments).encode()) == (depth <= 3)
