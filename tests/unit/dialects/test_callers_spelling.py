"""Whatever a writer drops or refuses, it names by a path that leads somewhere in the caller's own body."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from asking import CHAT, CONVERSE, DIALECTS, GEMINI, MESSAGES, PATHS, RESPONSES
from callers_paths import leads_somewhere
from full_requests import APIS, FULL, PLAINER, requests_of
from recordings import body, is_of_today, recordings

from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Chat
from edge_extproc.model.host import HostProfile
from edge_extproc.providers.openai_compatible import row
from edge_extproc.registry import load

PAIRS = [(source, target) for source in DIALECTS for target in DIALECTS if source != target]
# Of each target one model that takes nearly all that can be asked, and those that take the least.
MODELS = {
    CHAT: ("gpt-5.2", "o1-mini", "some-model"),
    RESPONSES: ("gpt-5.2", "o1-mini"),
    MESSAGES: ("claude-opus-4-6", "claude-3-5-haiku", "claude-opus-5"),
    GEMINI: ("gemini-3-flash-preview", "gemini-2.0-flash", "gemini-2.5-pro"),
    CONVERSE: ("anthropic.claude-opus-4-6-v1", "amazon.nova-2-lite-v1:0", "meta.llama3-70b-instruct-v1:0"),
}
# Names that are no path, each with its reason.
NO_PATHS = {
    "system.x-anthropic-billing-header": "a line of the prompt that its client means as a header",
}


@cache
def recorded(source: str) -> tuple[dict[str, Any], ...]:
    """The bodies of the recorded calls that are JSON objects."""
    found = []
    for recording in recordings(*APIS[source]):
        if not is_of_today(recording["id"]):
            continue
        try:
            told = json.loads(body(recording["request"]))
        except ValueError:
            continue
        if isinstance(told, dict):
            found.append(told)
    return tuple(found)


def read(source: str, told: dict[str, Any]) -> Chat | None:
    """None where it is no call of its own format."""
    dialect = DIALECTS[source]
    try:
        return dialect.read_chat(dialect.read_call(json.dumps(told).encode(), "chat", (), PATHS[source]))
    except BadRequest:
        return None


def wrong_names(chat: Chat, told: dict[str, Any], target: str, model: str) -> set[str]:
    names = set(chat.needed)
    try:
        names |= set(DIALECTS[target].write_chat(chat, model).dropped)
    except BadRequest as refusal:
        param = refusal.param or "(no param)"
        # A field that is missing is nowhere; what it is missing in is.
        names.add(param.rpartition(".")[0] if " is missing: " in refusal.message else param)
    return {name for name in names if name not in NO_PATHS and not leads_somewhere(name, told)}


@pytest.mark.parametrize("source", DIALECTS)
def test_each_request_is_one_of_its_format(source: str) -> None:
    assert all(read(source, told) is not None for told in requests_of(source))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_most_of_what_a_format_can_say_is_written_or_named(source: str, target: str) -> None:
    chat = read(source, PLAINER[source])
    assert chat is not None
    for model in MODELS[target]:
        assert len(DIALECTS[target].write_chat(chat, model).dropped) > 2


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_name_is_a_path_in_the_callers_body(source: str, target: str) -> None:
    for told in requests_of(source):
        chat = read(source, told)
        assert chat is not None
        for model in MODELS[target]:
            assert set() == wrong_names(chat, told, target, model), json.dumps(told)[:2000]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_name_for_a_recorded_request_is_a_path_in_its_body(source: str, target: str) -> None:
    for told in recorded(source):
        chat = read(source, told)
        if chat is not None:
            assert set() == wrong_names(chat, told, target, MODELS[target][0]), json.dumps(told)[:2000]


COMPATIBLE = tuple(load("providers", "openai_compatible").hosts)
# A host that takes less than most.
STRICT = HostProfile(user_limit=64, developer_role=False)


@pytest.mark.parametrize("source", DIALECTS)
def test_every_name_on_the_raw_lane_is_a_path_in_the_callers_body(source: str) -> None:
    dialect = DIALECTS[source]
    for told in [*requests_of(source), *recorded(source)]:
        raw = json.dumps(told).encode()
        try:
            call = dialect.read_call(raw, "chat", (), PATHS[source])
        except BadRequest:
            continue
        for model in MODELS[source]:
            spliced = dialect.splice(call, model, STRICT)
            assert [] == [name for name in spliced.dropped if not leads_somewhere(name, told)]


def test_every_name_that_a_compatible_host_cannot_take_is_a_path_in_the_callers_body() -> None:
    named = set()
    for told in requests_of(CHAT):
        call = DIALECTS[CHAT].read_call(json.dumps(told).encode(), "chat", (), PATHS[CHAT])
        spliced = DIALECTS[CHAT].splice(call, "m", STRICT)
        for host in COMPATIBLE:
            lost = {*spliced.dropped, *row(host).quirks.adapt(spliced.body, system_only=True)[1]}
            assert [] == [name for name in lost if not leads_somewhere(name, told)]
            named |= lost

    assert {"user", "logit_bias"} <= named


@pytest.mark.parametrize("source", DIALECTS)
def test_a_dialects_spelling_is_that_of_its_chats(source: str) -> None:
    chat = read(source, FULL[source])
    assert chat is not None
    assert DIALECTS[source].spelling.members == chat.spelling.members
    assert DIALECTS[source].spelling.essential == chat.spelling.essential


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_an_essential_extra_is_said_or_refused_by_its_name(source: str, target: str) -> None:
    for name in DIALECTS[source].spelling.essential:
        told = {**FULL[source], name: {"type": "custom"}}
        chat = read(source, told)
        assert chat is not None
        with pytest.raises(BadRequest) as refused:
            DIALECTS[target].write_chat(chat, MODELS[target][0])
        assert refused.value.param is not None
        assert leads_somewhere(refused.value.param, told)
