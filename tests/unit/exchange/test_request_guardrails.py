"""The guardrails of a request, through the router: what the provider, the cache, the caller and the log see."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any

import pytest
from calls_with_secrets import CALLS, FORMATS_OF_CALLERS
from guarding import KINDS, SECRET, ScriptedService, guarded, placeholder, rule, scoped
from player import Stage, answered, body, headers, talk, whole

from edge_extproc.errors import PolicyUnavailable
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.guardrails.base import Verdict
from edge_extproc.guardrails.detectors.words import WordDetector, WordsOptions
from edge_extproc.guardrails.rules import RuleHolder
from edge_extproc.model.rule_hit import RuleHit

HELLO = {"model": "chat", "messages": [{"role": "user", "content": f"say {SECRET} twice: {SECRET}"}]}


def send(stage: Stage, call: Any, path: str = "/v1/chat/completions", *more: tuple[str, str], **how: Any) -> Any:
    exchange = stage.exchange()
    command = talk(exchange, headers(path, *more, **how), body(call))[-1]
    exchange.closed("done")
    assert stage.bugs == []
    return command


def hits(stage: Stage) -> list[tuple[str, str, str, int]]:
    return [(hit.rule, hit.action, hit.mode, hit.count) for hit in stage.settled[-1].guardrails]


def test_a_masked_text_never_reaches_the_provider_and_the_rest_keeps_its_bytes() -> None:
    stage = guarded(rule("mask"))
    raw = b'{ "model":"chat", "temperature": 1.0e0,\n "messages":[{"role":"user","content":"say \\u00e9 %s"}] }'

    command = send(stage, raw % SECRET.encode())

    assert isinstance(command, Continue)
    name = placeholder().encode()
    expected = raw.replace(b"\\u00e9 %s", "é ".encode() + name).replace(b'"chat"', b'"gpt-4o-mini"')
    assert command.body == expected
    assert hits(stage) == [("no-secrets", "mask", "enforce", 1)]


def test_a_call_without_findings_is_not_changed() -> None:
    raw = json.dumps({**HELLO, "messages": [{"role": "user", "content": "hello"}]}).encode()

    assert send(guarded(rule("mask")), raw).body == send(Stage(), raw).body


@pytest.mark.parametrize("place", sorted(CALLS))
@pytest.mark.parametrize("path", sorted(FORMATS_OF_CALLERS))
@pytest.mark.parametrize("model", ["chat", "claude", "gemini"])
def test_a_secret_is_masked_in_each_place_of_each_format(path: str, model: str, place: str) -> None:
    text = json.dumps(CALLS[place][path]).replace("SECRET", SECRET).replace("MODEL", model)
    stage = guarded(rule("mask"))

    command = send(stage, text.encode(), path.replace("MODEL", model))

    assert isinstance(command, Continue), command
    assert SECRET.encode() not in (command.body or b"")
    assert placeholder().encode() in command.body
    json.loads(command.body)


@pytest.mark.parametrize("place", sorted(CALLS))
@pytest.mark.parametrize("path", sorted(FORMATS_OF_CALLERS))
def test_the_kind_of_a_text_is_known_in_each_format(path: str, place: str) -> None:
    text = json.dumps(CALLS[place][path]).replace("SECRET", SECRET).replace("MODEL", "chat").encode()
    all_others = frozenset(KINDS) - {place}
    stage = guarded(rule("flag", "own", kinds=frozenset({place})), rule("flag", "others", kinds=all_others))

    send(stage, text, path.replace("MODEL", "chat"))

    assert hits(stage) == [("own", "flag", "enforce", 1)]


@pytest.mark.parametrize("path", sorted(FORMATS_OF_CALLERS))
def test_a_blocked_call_is_refused_in_the_callers_format(path: str) -> None:
    stage = guarded(rule("block"))
    call = json.loads(json.dumps(CALLS["user"][path]).replace("SECRET", SECRET).replace("MODEL", "chat"))

    command = send(stage, call, path.replace("MODEL", "chat"))

    assert isinstance(command, ImmediateResponse)
    assert command.status == 400
    error = json.loads(command.body)
    assert "no-secrets" in json.dumps(error)
    assert FORMATS_OF_CALLERS[path] in json.dumps(error)
    assert SECRET not in json.dumps(error)
    assert ("x-edge-guardrails", "no-secrets=block") in command.headers
    assert stage.settled[-1].outcome == "rejected"
    assert stage.settled[-1].code == "guardrail_blocked"
    assert (stage.settled[-1].tenant, stage.settled[-1].model) == ("acme", "chat")
    assert stage.settled[-1].guardrails == (RuleHit("no-secrets", "secret", "block", "enforce", "request", 1),)
    assert SECRET not in repr(stage.settled[-1])


def test_the_refusal_names_the_part() -> None:
    command = send(guarded(rule("block")), HELLO)

    assert json.loads(command.body)["error"]["param"] == "messages[0].content"


def test_flags_and_shadows_change_nothing_but_are_counted() -> None:
    stage = guarded(rule("flag", "seen"), rule("block", "tried", mode="shadow"))

    command = send(stage, HELLO)

    assert SECRET.encode() in command.body
    assert hits(stage) == [("seen", "flag", "enforce", 2), ("tried", "block", "shadow", 2)]


def test_another_model_gets_a_routed_call() -> None:
    stage = guarded(rule("route", route="claude"))

    command = send(stage, HELLO)

    assert json.loads(command.body)["model"] == "claude-haiku-4-5"
    assert stage.settled[-1].model == "claude"
    assert hits(stage) == [("no-secrets", "route", "enforce", 2)]


def test_a_routed_call_needs_the_callers_right_to_the_model() -> None:
    stage = guarded(rule("route", route="chat"))

    command = send(stage, {**HELLO, "model": "claude"}, key="edge-key-of-umbrella")

    assert command.status == 404


def test_a_path_with_one_provider_cannot_be_routed() -> None:
    stage = guarded(rule("route", route="claude"))

    command = send(stage, {"purpose": SECRET}, "/v1/files")

    assert command.status == 400
    assert "no-secrets" in command.body.decode()


def test_rules_apply_to_their_callers_and_models_only() -> None:
    def masks(*rules: Any, model: str = "chat") -> bool:
        return SECRET.encode() not in send(guarded(*rules), {**HELLO, "model": model}).body

    each = rule("mask")
    assert masks(scoped(each, tenants=("ac*",), keys=("acme-1",), models=("ch*",)))
    assert not masks(scoped(each, tenants=("umbrella",)))
    assert not masks(scoped(each, teams=("*",)))
    assert not masks(scoped(each, users=("*",)))
    assert not masks(scoped(each, roles=("*",)))
    assert not masks(scoped(each, models=("chat",)), model="claude")
    assert masks(scoped(each, RuleHolder("acme", "tenant", "acme")))
    assert masks(scoped(each, RuleHolder("acme", "key", "*")))
    assert not masks(scoped(each, RuleHolder("umbrella", "key", "*")))
    assert not masks(scoped(each, RuleHolder("acme", "team", "*")))
    assert not masks(rule("mask", directions=frozenset({"reply"})))


def test_rules_of_each_model_that_the_host_may_choose_apply() -> None:
    """The body can name further models for its host."""
    call = {**HELLO, "models": ["gpt-4o"]}
    command = send(guarded(scoped(rule("mask"), models=("gpt-*",))), call)

    assert isinstance(command, Continue), command
    assert SECRET.encode() not in command.body


def test_kinds_select_the_texts() -> None:
    call = {
        "model": "chat",
        "messages": [{"role": "system", "content": SECRET}, {"role": "user", "content": SECRET}],
    }
    command = send(guarded(rule("mask", kinds=frozenset({"user"}))), call)

    assert [each["content"] for each in json.loads(command.body)["messages"]] == [SECRET, placeholder()]


def test_each_tenant_has_its_own_placeholders() -> None:
    stage = guarded(rule("mask"))
    ours = send(stage, {**HELLO, "model": "claude"})
    theirs = send(stage, {**HELLO, "model": "claude"}, key="edge-key-of-umbrella")

    assert placeholder("acme").encode() in ours.body
    assert placeholder("umbrella").encode() in theirs.body
    assert placeholder("acme") != placeholder("umbrella")


def test_json_in_a_string_stays_json() -> None:
    arguments = json.dumps({"a": f'"{SECRET}" é', "n": 41111111111, SECRET: 1})
    call = {
        "model": "chat",
        "messages": [
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ],
    }
    numbers = rule("mask", "numbers", detector=_words(patterns={"number": r"4\d{10}"}))
    whole = rule("mask", "whole", detector=_words(patterns={"pair": r'"n": \d{2}'}))

    command = send(guarded(rule("mask"), numbers, whole), call)

    sent = json.loads(command.body)["messages"][1]["tool_calls"][0]["function"]["arguments"]
    values = json.loads(sent)
    assert values["a"] == f'"{placeholder()}" é'
    assert placeholder() in values
    assert values["n"].startswith("NUMBER_") or values["n"].startswith("PAIR_")


def _words(**options: Any) -> WordDetector:
    return WordDetector(WordsOptions(**options))


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v1/embeddings", {"model": "vectors", "input": [SECRET, "b"]}),
        ("/v1/completions", {"model": "chat", "prompt": f"x {SECRET}"}),
        ("/v1/messages/count_tokens", {"model": "claude", "messages": [{"role": "user", "content": SECRET}]}),
        ("/v1/images/generations", {"model": "chat", "prompt": SECRET}),
        ("/v1/moderations", {"model": "chat", "input": [{"type": "text", "text": SECRET}]}),
        ("/v1/messages/batches", {"requests": [{"params": {"messages": [{"role": "user", "content": SECRET}]}}]}),
    ],
)
def test_all_operations_are_checked(path: str, call: Any) -> None:
    """A rule for one kind applies to all texts of a body whose parts are unknown."""
    kinds = frozenset({"tool_result", "user"})
    command = send(guarded(rule("mask", kinds=kinds)), call, path, ("content-type", "application/json"))

    assert isinstance(command, Continue), command
    assert SECRET.encode() not in command.body
    assert placeholder().encode() in command.body


def test_the_fields_and_files_of_a_form_are_checked() -> None:
    form = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch %s\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s.jsonl"\r\n'
        b'Content-Type: application/jsonl\r\n\r\n{"a": "%s"}\n{"b": ["%s"]}\n\r\n--b--\r\n'
    ) % ((SECRET.encode(),) * 4)

    stage = guarded(rule("mask"))
    command = send(stage, form, "/v1/files", ("content-type", "multipart/form-data; boundary=b"))

    assert command.body == form.replace(SECRET.encode(), placeholder().encode())
    assert hits(stage) == [("no-secrets", "mask", "enforce", 4)]


@pytest.mark.parametrize(
    "where",
    [
        b"""name="file"; filename*=UTF-8''%s""",
        b'name="file"; filename=%s',
        b'name="file"; filename="a \\" %s"',
        b'name="%s"',
        b'name="file"\r\nx-note: %s',
        b'name="file"\r\nx-note: \xe9 %s',
    ],
)
def test_the_headers_of_a_form_are_checked(where: bytes) -> None:
    """Its parts, in each spelling of a file's name."""
    form = b"--b\r\ncontent-disposition: form-data; " + where % SECRET.encode() + b"\r\n\r\nx\r\n--b--\r\n"

    command = send(guarded(rule("mask")), form, "/v1/files", ("content-type", "multipart/form-data; boundary=b"))

    assert command.body == form.replace(SECRET.encode(), placeholder().encode())


@pytest.mark.parametrize("form", [b"%s\r\n--b\r\n%s--b--\r\n", b"--b\r\n%s--b--\r\n%s", b"--b\r\n--b\r\n%s--b--%s"])
def test_what_is_outside_of_a_forms_parts_is_checked(form: bytes) -> None:
    field = b"content-disposition: form-data; name=a\r\n\r\nx\r\n"
    parts = (SECRET.encode(), field) if form.startswith(b"%s") else (field, SECRET.encode())

    command = send(
        guarded(rule("mask")), form % parts, "/v1/files", ("content-type", "multipart/form-data; boundary=b")
    )

    assert command.body == (form % parts).replace(SECRET.encode(), placeholder().encode())


DOCUMENTS = {
    "/v1/chat/completions": lambda data, kind: {
        "type": "file",
        "file": {"filename": "a", "file_data": f"data:{kind};base64,{data}"},
    },
    "/v1/responses": lambda data, kind: {
        "type": "input_file",
        "filename": "a",
        "file_data": f"data:{kind};base64,{data}",
    },
    "/v1/messages": lambda data, kind: {
        "type": "document",
        "source": {"type": "base64", "media_type": kind, "data": data},
    },
    "/v1beta/models/gemini:generateContent": lambda data, kind: {"inlineData": {"mimeType": kind, "data": data}},
}


@pytest.mark.parametrize("kind", ["text/plain", "text/json", "application/pdf"])
@pytest.mark.parametrize("path", sorted(DOCUMENTS))
def test_a_text_in_base64_is_checked(path: str, kind: str) -> None:
    """Whatever the media type says: the provider reads the same text."""
    text = json.dumps({"k": f"é {SECRET}"})
    model = {"/v1/messages": "claude", "/v1/responses": "chat"}.get(path, "chat")

    def sent(encoded: str) -> bytes:
        part = DOCUMENTS[path](encoded, kind)
        if path.startswith("/v1beta"):
            call: Any = {"contents": [{"role": "user", "parts": [part]}]}
        else:
            messages = [{"role": "user", "content": [part]}]
            call = {"model": model, "max_tokens": 9, "input" if "responses" in path else "messages": messages}
        command = send(guarded(rule("mask", kinds=frozenset({"user"}))), call, path)
        assert isinstance(command, Continue), command
        return command.body or b""

    masked = b64encode(text.replace("\\u00e9", "é").replace(SECRET, placeholder()).encode())
    assert masked in sent(b64encode(text.encode()).decode())
    assert masked in sent(urlsafe_b64encode(text.encode()).decode().rstrip("="))


def test_a_text_in_place_of_base64_is_checked() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": f"it is {SECRET}"}
    call = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": [_document(source)]}]}

    assert SECRET.encode() not in send(guarded(rule("mask")), call, "/v1/messages").body


def _document(source: Any) -> Any:
    return {"type": "document", "source": source}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "thinking": "hm", "signature": SECRET},
        {"type": "thinking", "thinking": SECRET, "signature": SECRET},
        {"type": "redacted_thinking", "data": SECRET},
    ],
)
def test_what_no_provider_can_have_signed_is_checked(part: Any) -> None:
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": [part, {"type": "text", "text": "b"}]},
    ]
    call = {"model": "claude", "max_tokens": 9, "messages": [*turns, {"role": "user", "content": "two"}]}

    assert send(guarded(rule("block")), call, "/v1/messages").status == 400


# --- services


def test_a_service_gets_the_masked_texts_and_its_verdict_counts() -> None:
    service = ScriptedService(lambda checked: Verdict("block", "hate!"))
    stage = guarded(rule("mask"), rule("block", "moderation", service=service))

    command = send(stage, {**HELLO, "user": "u"})

    assert command.status == 400
    (asked,) = service.asked
    assert [(piece.kind, piece.path) for piece in asked.pieces] == [("user", "messages[0].content")]
    assert SECRET not in asked.pieces[0].text
    assert (asked.direction, asked.model, asked.tenant, asked.call_id) == ("request", "chat", "acme", "exchange-1")
    assert ("moderation", "hate_") in [(hit.rule, hit.label) for hit in stage.settled[-1].guardrails]


def test_a_service_may_mask() -> None:
    service = ScriptedService(
        lambda checked: Verdict("mask", "name", tuple(piece.text.upper() for piece in checked.pieces))
    )

    command = send(guarded(rule("mask", "names", service=service)), HELLO)

    assert json.loads(command.body)["messages"][0]["content"] == HELLO["messages"][0]["content"].upper()


def test_no_mask_of_a_service_undoes_that_of_another() -> None:
    def without(word: str) -> ScriptedService:
        def masked(checked: Any) -> Verdict:
            return Verdict("mask", "word", tuple(piece.text.replace(word, "*") for piece in checked.pieces))

        return ScriptedService(masked)

    call = {"model": "chat", "messages": [{"role": "user", "content": "one two three"}]}
    first, second = without("one"), without("two")
    stage = guarded(rule("mask", "first", service=first), rule("mask", "second", service=second))
    command = send(stage, call)

    assert json.loads(command.body)["messages"][0]["content"] == "* * three"
    assert [piece.text for piece in second.asked[0].pieces] == ["* two three"]
    assert hits(stage) == [("first", "mask", "enforce", 1), ("second", "mask", "enforce", 1)]


def test_a_service_that_masks_does_not_get_what_a_provider_has_signed() -> None:
    service = ScriptedService(lambda checked: Verdict("pass"))
    thinking = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk" * 12}
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": [thinking]}]
    call = {"model": "claude", "max_tokens": 9, "messages": [*turns, {"role": "user", "content": "two"}]}
    send(guarded(rule("mask", "names", service=service)), call, "/v1/messages")
    send(guarded(rule("block", "names", service=service)), call, "/v1/messages")

    assert [[piece.text for piece in each.pieces] for each in service.asked] == [["one", "two"], ["one", "hm", "two"]]


def test_a_service_may_only_mask_json_as_json() -> None:
    service = ScriptedService(lambda checked: Verdict("mask", "name", ("no json",) * len(checked.pieces)))
    call = {**HELLO, "messages": [{"role": "user", "content": '{"a": 1}'}]}

    assert send(guarded(rule("mask", "names", service=service)), call).status == 400


def _fails(checked: Any) -> Verdict:
    raise PolicyUnavailable("down")


def test_a_service_that_fails_closed_refuses_the_call() -> None:
    stage = guarded(rule("block", "moderation", service=ScriptedService(_fails)))

    command = send(stage, HELLO)

    assert command.status == 503
    assert "down" in command.body.decode(), "the cause"


@pytest.mark.parametrize("how", [{"fail": "open"}, {"mode": "shadow"}])
def test_a_service_that_fails_open_lets_the_call_pass(how: dict[str, Any]) -> None:
    stage = guarded(rule("block", "moderation", service=ScriptedService(_fails), **how))

    command = send(stage, HELLO)

    assert isinstance(command, Continue)
    assert [(hit.label, hit.action) for hit in stage.settled[-1].guardrails] == [("unavailable", "flag")]


def test_a_service_gets_the_facts_of_pictures() -> None:
    service = ScriptedService(lambda checked: Verdict("pass"))
    content = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64encode(content).decode()}"}}
    call = {**HELLO, "messages": [{"role": "user", "content": [picture]}]}

    send(guarded(rule("block", "moderation", service=service)), call)

    (media,) = service.asked[0].media
    assert (media.media_type, media.size) == ("image/png", 16)
    assert media.sha256 == hashlib.sha256(content).hexdigest()
    assert service.asked[0].pieces == ()


# --- the response


def test_the_caller_sees_which_rules_found_something() -> None:
    stage = guarded(rule("flag", "seen"), rule("mask", "masked"), rule("block", "tried", mode="shadow"))
    exchange = stage.exchange()
    *_, head = talk(exchange, headers(), body(HELLO), answered())

    assert ("x-edge-guardrails", "seen=flag, masked=mask") in head.set_headers


def test_signed_thinking_is_not_changed() -> None:
    """Its provider wrote it, and refuses another text with the signature."""
    thinking = {"type": "thinking", "thinking": f"about {SECRET}", "signature": "s" * 80}
    call = {
        "model": "claude",
        "max_tokens": 10,
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": [thinking, {"type": "text", "text": "hi"}]},
            {"role": "user", "content": "go on"},
        ],
    }
    stage = guarded(rule("mask"), rule("flag", "seen", kinds=frozenset({"thinking"})))
    sent = json.loads(send(stage, call, "/v1/messages").body)["messages"][1]["content"][0]

    assert sent["thinking"] == f"about {SECRET}"
    assert hits(stage) == [("seen", "flag", "enforce", 1)]


def test_a_gateway_without_rules_for_a_caller_does_nothing() -> None:
    stage = guarded(scoped(rule("mask"), tenants=("umbrella",)))

    assert SECRET.encode() in send(stage, HELLO).body


REPLY = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "CONTENT"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}


def reply(stage: Stage, content: str) -> dict[str, Any]:
    """The caller's reply to HELLO."""
    exchange = stage.exchange()
    raw = json.dumps(REPLY).replace("CONTENT", content).encode()
    *_, command = talk(exchange, headers(), body(HELLO), answered(), whole(raw))
    exchange.closed("done")
    assert stage.bugs == []
    got: dict[str, Any] = json.loads(command.body or raw)
    return got


def test_the_reply_has_the_values_again() -> None:
    got = reply(guarded(rule("mask")), f"you said {placeholder()}")

    assert got["choices"][0]["message"]["content"] == f"you said {SECRET}"


def test_a_rule_can_keep_the_placeholders() -> None:
    got = reply(guarded(rule("mask", restore=False)), f"you said {placeholder()}")

    assert got["choices"][0]["message"]["content"] == f"you said {placeholder()}"


def test_the_hits_of_the_reply_are_settled_with_those_of_the_request() -> None:
    stage = guarded(rule("flag", "both", directions=frozenset({"request", "reply"})))

    reply(stage, SECRET)

    directions = [(hit.rule, hit.direction, hit.count) for hit in stage.settled[-1].guardrails]
    assert directions == [("both", "request", 2), ("both", "reply", 1)]


@pytest.mark.parametrize("action", ["block", "mask"])
def test_the_query_of_a_path_is_checked(action: Any) -> None:
    """It goes to the provider as it is, so a rule that masks refuses it."""
    stage = guarded(rule(action))
    fine = talk(stage.exchange(), headers("/v1/files?purpose=batch&after=x", method="GET", end=True))[-1]
    refused = talk(stage.exchange(), headers(f"/v1/files?after=a%20{SECRET}", method="GET", end=True))[-1]
    named = talk(stage.exchange(), headers(f"/v1/files?{SECRET}=1", method="GET", end=True))[-1]

    assert isinstance(fine, Continue)
    for each in (refused, named):
        assert isinstance(each, ImmediateResponse)
        assert each.status == 400
        assert SECRET.encode() not in each.body


def test_a_service_gets_the_query_of_a_path() -> None:
    service = ScriptedService(lambda _: Verdict("block", "harm"))
    stage = guarded(rule("block", service=service))
    refused = talk(stage.exchange(), headers("/v1/files?after=some%20text", method="GET", end=True))[-1]

    assert isinstance(refused, ImmediateResponse)
    assert [piece.text for piece in service.asked[0].pieces] == ["after", "some text"]
