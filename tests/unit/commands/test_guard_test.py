"""`guard test`: what the rules of a configuration would do to texts and calls, without showing what they find."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_extproc.cli import app
from edge_extproc.errors import exit_code

TOKEN = "tok-16c7e42f292c"
AWS = "aws-q3egrivz7w5p"
RULE: dict[str, Any] = {
    "name": "secrets",
    "detect": {"words": {"words": [TOKEN, AWS], "label": "secret"}},
    "action": "mask",
}


class Tried:
    """A configuration with rules, and the command on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._capsys = capsys
        self.code = 0
        monkeypatch.setenv("COLUMNS", "200")

    def rules(self, *rules: dict[str, Any]) -> Tried:
        config = {
            "auth": {"pepper": "a pepper of the tests, long enough"},
            "callers": [
                {"tenant": "acme", "keys": [{"id": "k1", "key": "edge-key-of-the-tests-1", "team": "developers"}]},
                {"tenant": "other", "keys": [{"id": "k2", "key": "edge-key-of-the-tests-2"}]},
            ],
            "providers": {"openai": {"kind": "openai", "api_key": "of-the-tests"}},
            "models": {"gpt-*": [{"provider": "openai"}], "private": [{"provider": "openai", "model": "m"}]},
            "guardrails": {"rules": list(rules)},
        }
        (self._folder / "edge.yaml").write_text(yaml.safe_dump(config))
        return self

    def file(self, content: str | dict[str, Any], name: str = "input") -> str:
        path = self._folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def run(self, *words: str) -> str:
        """The output. `code`: the exit code."""
        arguments = ("guard", "test", "--config", str(self._folder / "edge.yaml"), *words)
        try:
            self.code = exit_code(lambda: app(arguments, result_action="return_value"))
        except SystemExit as end:
            self.code = end.code if isinstance(end.code, int) else -1
        out, err = self._capsys.readouterr()
        return out + err

    def results(self, *words: str) -> list[dict[str, Any]]:
        read: list[dict[str, Any]] = json.loads(self.run(*words, "--format", "json"))
        return read


@pytest.fixture
def tried(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tried:
    return Tried(tmp_path, capsys, monkeypatch)


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5", "messages": [{"role": "user", "content": text} for text in texts], **more}


def test_a_finding_is_shown_with_its_label_alone(tried: Tried) -> None:
    tried.rules(RULE)
    text = tried.run(tried.file(chat("hello", f"the token {TOKEN} and {AWS}, again {TOKEN}")))

    assert TOKEN not in text
    assert AWS not in text
    assert "mask secrets: secret at messages[1].content: the token [secret] and [secret], again" in text
    assert 3 == text.count("secret at messages[1].content:")
    assert "=> changed" in text
    assert 4 == tried.code


def test_the_request_is_shown_as_the_provider_would_get_it(tried: Tried) -> None:
    (result,) = tried.rules(RULE).results(tried.file(chat(f"use {TOKEN}")), "--show-request")
    body = json.loads(result["request"])

    assert body["messages"][0]["content"].startswith("use ")
    assert TOKEN not in result["request"]
    assert {**chat("x"), "messages": body["messages"]} == body


def test_exit_codes_tell_the_gravest_outcome(tried: Tried) -> None:
    clean, dirty = tried.file(chat("hello"), "clean"), tried.file(chat(TOKEN), "dirty")

    tried.rules(RULE).run(clean)
    assert 0 == tried.code
    tried.run(clean, dirty)
    assert 4 == tried.code
    blocked = tried.rules({**RULE, "action": "block"}).run(clean, dirty)
    assert 3 == tried.code
    assert "=> refused: the rule 'secrets' of this gateway's guardrails blocks this call: secret" in blocked
    shadow = tried.rules({**RULE, "action": "block", "mode": "shadow"}).run(dirty)
    assert 4 == tried.code
    assert "block (shadow) secrets: secret" in shadow
    assert "=> passes, with findings" in shadow


def test_a_rule_that_routes_names_the_model(tried: Tried) -> None:
    (result,) = tried.rules({**RULE, "action": "route", "route_to": "private"}).results(tried.file(chat(TOKEN)))

    assert ("changed", "private") == (result["effect"], result["route"])


def test_the_rules_are_those_of_the_caller(tried: Tried) -> None:
    tried.rules({**RULE, "for": {"teams": ["developers"], "models": ["gpt-*"]}})
    file = tried.file(f"a text with {TOKEN}")

    assert ["nothing"] == [each["effect"] for each in tried.results(file)]
    assert ["changed"] == [each["effect"] for each in tried.results(file, "--key", "k1", "--model", "gpt-5")]
    assert ["nothing"] == [each["effect"] for each in tried.results(file, "--key", "k1", "--model", "private")]
    assert ["nothing"] == [each["effect"] for each in tried.results(file, "--tenant", "other", "--model", "gpt-5")]
    assert "--key k9: there is no key with this id; have k1, k2" in tried.run(file, "--key", "k9")
    assert 1 == tried.code
    assert "--tenant x: there is no such tenant; have acme, other" in tried.run(file, "--tenant", "x")


def test_a_text_can_have_one_kind(tried: Tried) -> None:
    tried.rules({**RULE, "kinds": ["tool_result"]})
    file = tried.file(TOKEN)

    assert ["changed", "changed", "nothing"] == [
        tried.results(file, *words)[0]["effect"] for words in ((), ("--kind", "tool_result"), ("--kind", "user"))
    ]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (chat(f"use {TOKEN}"), "messages[0].content"),
        ({"model": "gpt-5", "input": f"use {TOKEN}"}, "input"),
        (
            {
                "model": "gpt-5",
                "max_tokens": 9,
                "system": "x",
                "messages": [{"role": "user", "content": [{"type": "text", "text": f"use {TOKEN}"}]}],
            },
            "messages[0].content[0].text",
        ),
        ({"contents": [{"role": "user", "parts": [{"text": f"use {TOKEN}"}]}]}, "contents[0].parts[0].text"),
        ({"messages": [{"role": "user", "content": [{"text": f"use {TOKEN}"}]}]}, "messages[0].content[0].text"),
    ],
)
def test_a_call_of_each_format_is_read(tried: Tried, body: dict[str, Any], path: str) -> None:
    (result,) = tried.rules({**RULE, "kinds": ["user"]}).results(tried.file(body), "--model", "gpt-5")

    assert [("secrets", "mask", "enforce", "secret", path, "use [secret]")] == [
        tuple(each.values()) for each in result["findings"]
    ]
    assert "changed" == result["effect"]


def test_other_operations_are_read_by_their_path(tried: Tried) -> None:
    file = tried.file({"model": "gpt-5", "input": f"use {TOKEN}"})
    (result,) = tried.rules(RULE).results(file, "--path", "/v1/embeddings")

    assert "/v1/embeddings" == result["input"]
    assert "changed" == result["effect"]


def test_a_value_in_the_arguments_of_a_tool_call_is_not_shown(tried: Tried) -> None:
    arguments = json.dumps({"header": f"token {TOKEN}", "note": json.dumps({"again": TOKEN})})
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    body = chat("hi")
    body["messages"] += [{"role": "assistant", "tool_calls": [call]}]
    text = tried.rules(RULE).run(tried.file(body), "--show-request")

    assert TOKEN not in text
    assert "secret" in text


def test_mistakes_are_one_line(tried: Tried) -> None:
    tried.rules(RULE)

    assert "cannot read /no/such" in tried.run("/no/such")
    assert "no API at '/v9/x'" in tried.run(tried.file("{}"), "--path", "/v9/x")
    assert "give --path, or --text" in tried.run(tried.file("{}"))
    assert "the body must be a JSON object" in tried.run(tried.file("[]"), "--path", "/v1/chat/completions")
    assert 1 == tried.code
    tried.rules()
    assert "this configuration has no rule" in tried.run(tried.file("x"))


def test_without_a_file_stdin_is_read(tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    tried.rules(RULE)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TOKEN.encode())))
    assert ["changed"] == [each["effect"] for each in tried.results()]
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert "edge-extproc: no file is given" in tried.run()


# --- services


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """LiteLLM's API: it blocks texts with "bad" and replaces "ugly"."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["content-length"])))
            received.append(call)
            texts = [text.replace("ugly", "nice") for text in call["texts"]]
            answer: dict[str, Any] = {"action": "NONE"}
            if any("bad" in text for text in texts):
                answer = {"action": "BLOCKED", "blocked_reason": texts[0]}
            elif texts != call["texts"]:
                answer = {"action": "GUARDRAIL_INTERVENED", "texts": texts}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *arguments: object) -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", received
    server.shutdown()
    server.server_close()
    thread.join()


def test_services_are_asked_with_masked_texts(tried: Tried, webhook: tuple[str, list[dict[str, Any]]]) -> None:
    url, received = webhook
    service = {"name": "mine", "service": {"litellm_webhook": {"url": url}}, "action": "mask"}
    tried.rules(RULE, service)

    (masked,) = tried.results(tried.file(chat(f"an ugly {TOKEN}")), "--show-request")
    (blocked,) = tried.results(tried.file(chat("a bad word")))

    assert TOKEN not in json.dumps(received)
    assert "a nice" in masked["request"].replace("an nice", "a nice")
    assert ["mine"] == [each["rule"] for each in masked["services"]]
    assert ("refused", "the rule 'mine' of this gateway's guardrails blocks this call: blocked") == (
        blocked["effect"],
        blocked["error"],
    )
    assert 3 == tried.code


def test_without_a_verdict_the_rule_decides(tried: Tried) -> None:
    service = {"name": "mine", "service": {"litellm_webhook": {"url": "http://127.0.0.1:9"}}, "action": "block"}
    file = tried.file(chat("x"))

    (refused,) = tried.rules(service).results(file)
    assert "refused" == refused["effect"]
    assert "the guardrail 'mine' could not be applied: its service could not be reached" in refused["error"]
    assert 3 == tried.code
    (passed,) = tried.rules({**service, "fail": "open"}).results(file)
    assert "flagged" == passed["effect"]
    (skipped,) = tried.rules(service).results(file, "--offline")
    assert ("nothing", ["mine"]) == (skipped["effect"], skipped["services_not_asked"])


# --- replies


def test_services_judge_a_text_of_a_reply(tried: Tried, webhook: tuple[str, list[dict[str, Any]]]) -> None:
    url, received = webhook
    service = {"name": "mine", "service": {"litellm_webhook": {"url": url}}, "action": "mask", "on": ["reply"]}
    tried.rules(service)
    (masked,) = tried.results(tried.file("an ugly word"), "--reply", "--show-request")
    (refused,) = tried.results(tried.file("a bad word"), "--reply")
    (skipped,) = tried.results(tried.file("an ugly word"), "--reply", "--offline")

    assert ["an ugly word"] == received[0]["texts"]
    assert "response" == received[0]["input_type"]
    assert ("changed", "an nice word") == (masked["effect"], masked["request"])
    assert "refused" == refused["effect"]
    assert ("nothing", ["mine"]) == (skipped["effect"], skipped["services_not_asked"])


def test_a_reply_without_a_verdict_is_refused(tried: Tried) -> None:
    service = {"litellm_webhook": {"url": "http://127.0.0.1:1", "timeout": "1s"}}
    tried.rules({"name": "mine", "service": service, "action": "block", "on": ["reply"]})
    (result,) = tried.results(tried.file("a word"), "--reply")

    assert "refused" == result["effect"]
    assert "mine" in result["error"]


def test_a_text_of_a_reply_is_checked_by_the_rules_for_replies(tried: Tried) -> None:
    tried.rules(RULE, {**RULE, "name": "in-replies", "on": ["reply"], "action": "block"})
    (result,) = tried.results(tried.file(f"use {TOKEN}"), "--reply")

    assert ["in-replies"] == [each["rule"] for each in result["findings"]]
    assert "refused" == result["effect"]
    assert 3 == tried.code
