"""Each service against a scripted server with the bodies of its API's documentation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from scripted_service import Received, Script, ScriptedService, scripted_service
from services_kit import KINDS, SECRET, options_of, service_of, text_check

from edge_extproc import registry
from edge_extproc.errors import PolicyUnavailable
from edge_extproc.guardrails.base import Checked, Media, Service, Verdict

PASS = Verdict("pass")


@asynccontextmanager
async def running(kind: str, script: Script, **more: Any) -> AsyncIterator[tuple[Service, ScriptedService]]:
    async with scripted_service(script) as server:
        service = service_of(kind, **{**KINDS[kind], "url": server.url, **more})
        try:
            yield service, server
        finally:
            await service.close()


async def verdict_of(kind: str, answer: Any, checked: Checked, **more: Any) -> tuple[Verdict, list[Received]]:
    async with running(kind, lambda request: answer, **more) as (service, server):
        return await service.check(checked), server.requests


async def refused(kind: str, answer: Any, checked: Checked, **more: Any) -> str:
    """The message of the error."""
    with pytest.raises(PolicyUnavailable) as caught:
        await verdict_of(kind, answer, checked, **more)
    return caught.value.message


def test_each_service_is_a_plugin_with_documented_options() -> None:
    names = registry.names("guardrails.services")

    assert {*KINDS, "model_armor"} == {*names}
    for name in names:
        options = registry.load("guardrails.services", name).options
        assert options.__doc__
        documented = {each for section in options.__mro__ for each in vars(section).get("__annotations__", {})}
        assert {*options.model_fields} <= documented


# --- LiteLLM's generic guardrail API


async def test_litellm_gets_all_texts_with_their_kinds_and_the_facts_of_pictures() -> None:
    picture = Media("ab" * 32, "image/png", 120, "messages[2].content[0]")
    checked = text_check(("system", "be brief"), ("tool_result", "42"), media=(picture,))

    verdict, (request,) = await verdict_of(
        "litellm_webhook", {"action": "NONE"}, checked, api_key=SECRET, params={"threshold": "0.8"}
    )

    assert PASS == verdict
    assert "/beta/litellm_basic_guardrail_api" == request.path
    assert SECRET == request.headers["x-api-key"]
    assert {
        "texts": ["be brief", "42"],
        "images": None,
        "tools": None,
        "tool_calls": None,
        "structured_messages": None,
        "request_data": {"user_api_key_team_id": "acme"},
        "input_type": "request",
        "litellm_call_id": "call-1",
        "litellm_trace_id": "call-1",
        "model": "gpt-5.2",
        "additional_provider_specific_params": {
            "threshold": "0.8",
            "edge": {
                "tenant": "acme",
                "texts": [
                    {"kind": "system", "path": "messages[0].content"},
                    {"kind": "tool_result", "path": "messages[1].content"},
                ],
                "media": [
                    {"sha256": "ab" * 32, "media_type": "image/png", "size": 120, "path": "messages[2].content[0]"}
                ],
            },
        },
    } == request.json


async def test_litellm_masks_by_new_texts() -> None:
    answer = {"action": "GUARDRAIL_INTERVENED", "texts": ["I am [NAME]"], "blocked_reason": None}

    verdict, (request,) = await verdict_of("litellm_webhook", answer, text_check("I am Ann", reply=True))

    assert Verdict("mask", "masked", ("I am [NAME]",)) == verdict
    assert "response" == request.json["input_type"]


async def test_a_reason_of_a_webhook_is_a_label_only_if_the_configuration_names_it() -> None:
    answer = {"action": "BLOCKED", "blocked_reason": "customer_data"}

    assert Verdict("block", "blocked") == (await verdict_of("litellm_webhook", answer, text_check("x")))[0]
    assert (
        Verdict("block", "customer_data")
        == (await verdict_of("litellm_webhook", answer, text_check("x"), labels=["customer_data"]))[0]
    )


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"action": "ALLOW"},
        {"action": "GUARDRAIL_INTERVENED"},
        {"action": "GUARDRAIL_INTERVENED", "texts": ["one", "two"]},
        {"action": "GUARDRAIL_INTERVENED", "texts": [1]},
        {"action": "GUARDRAIL_INTERVENED", "texts": ["one"], "images": ["AAAA"]},
    ],
)
async def test_an_undocumented_answer_of_litellms_api_gives_no_verdict(answer: Any) -> None:
    assert "not as documented" in await refused("litellm_webhook", answer, text_check("x"))


# --- agentgateway's webhook


async def test_agentgateway_gets_messages_and_choices() -> None:
    checked = text_check(("system", "be brief"), "hi", ("tool_result", "42"), ("tool_call", '{"a":1}'))

    verdict, (request,) = await verdict_of("agentgateway_webhook", {"action": {"reason": "No reason"}}, checked)
    _, (of_reply,) = await verdict_of("agentgateway_webhook", {"action": {}}, text_check("yes", reply=True))

    assert PASS == verdict
    assert "/request" == request.path
    assert {
        "body": {
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "hi"},
                {"role": "tool", "content": "42"},
                {"role": "assistant", "content": '{"a":1}'},
            ]
        }
    } == request.json
    assert "/response" == of_reply.path
    assert {"body": {"choices": [{"message": {"role": "assistant", "content": "yes"}}]}} == of_reply.json


async def test_agentgateway_masks_and_rejects() -> None:
    masked = {"action": {"body": {"messages": [{"role": "user", "content": "I am *"}]}, "reason": "pii"}}
    masked_reply = {"action": {"body": {"choices": [{"message": {"role": "assistant", "content": "*"}}]}}}
    rejected = {"action": {"body": "no: Ann", "status_code": 403, "reason": "Ann"}}
    kind = "agentgateway_webhook"

    assert (
        Verdict("mask", "pii", ("I am *",))
        == (await verdict_of(kind, masked, text_check("I am Ann"), labels=["pii"]))[0]
    )
    assert Verdict("mask", "masked", ("*",)) == (await verdict_of(kind, masked_reply, text_check("A", reply=True)))[0]
    assert Verdict("block", "blocked") == (await verdict_of(kind, rejected, text_check("I am Ann")))[0]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"action": "pass"},
        {"action": {"status_code": 403}},
        {"action": {"body": "no"}},
        {"action": {"unknown": 1}},
        {"action": {"body": {"messages": []}}},
        {"action": {"body": {"messages": [{"role": "user", "content": [{"type": "text"}]}]}}},
        {"action": {"body": {"choices": [{"message": {"content": "x"}}]}}},
        {"action": {"body": {"messages": [{"content": "x"}]}, "status_code": 403}},
    ],
)
async def test_an_undocumented_answer_of_agentgateways_webhook_gives_no_verdict(answer: Any) -> None:
    assert "not as documented" in await refused("agentgateway_webhook", answer, text_check("x"))


# --- OpenAI's moderation endpoint


def moderated(*flagged: str) -> dict[str, Any]:
    names = ("harassment", "hate", "self-harm", "violence")
    return {
        "flagged": bool(flagged),
        "categories": {name: name in flagged for name in names},
        "category_scores": {name: 0.9 if name in flagged else 0.01 for name in names},
        "category_applied_input_types": {name: ["text"] for name in names},
    }


def moderation(*results: Any) -> dict[str, Any]:
    return {"id": "modr-1", "model": "omni-moderation-latest", "results": list(results)}


async def test_openai_moderates_each_text() -> None:
    checked = text_check("hi", " ", ("tool_result", "I will hurt you"))

    verdict, (request,) = await verdict_of("openai_moderation", moderation(moderated(), moderated("violence")), checked)

    assert Verdict("block", "violence") == verdict
    assert "/moderations" == request.path
    assert f"Bearer {SECRET}" == request.headers["authorization"]
    assert {"model": "omni-moderation-latest", "input": ["hi", "I will hurt you"]} == request.json


async def test_only_the_named_categories_of_openai_count() -> None:
    answer = moderation(moderated("hate"))

    assert PASS == (await verdict_of("openai_moderation", answer, text_check("x"), categories=["violence"]))[0]
    assert (
        Verdict("block", "hate")
        == (await verdict_of("openai_moderation", answer, text_check("x"), categories=["hate"]))[0]
    )


async def test_many_texts_are_several_requests_to_openai() -> None:
    def script(request: Received) -> Any:
        return moderation(*(moderated("hate") if text == "text 69" else moderated() for text in request.json["input"]))

    async with running("openai_moderation", script) as (service, server):
        verdict = await service.check(text_check(*(f"text {n}" for n in range(70))))

    assert Verdict("block", "hate") == verdict
    assert [6, 32, 32] == sorted(len(request.json["input"]) for request in server.requests)


@pytest.mark.parametrize(
    "answer", [{}, moderation(), moderation(moderated(), moderated()), moderation({"flagged": "no"}), moderation(7)]
)
async def test_an_undocumented_answer_of_openai_gives_no_verdict(answer: Any) -> None:
    assert "not as documented" in await refused("openai_moderation", answer, text_check("x"))


# --- Lakera


async def test_lakera_gets_messages_and_names_the_detector() -> None:
    breakdown = [
        {"project_id": "p", "policy_id": "y", "detector_id": "d", "detector_type": "pii/email", "detected": False},
        {"project_id": "p", "policy_id": "y", "detector_id": "e", "detector_type": "prompt_attack", "detected": True},
    ]
    answer = {"flagged": True, "breakdown": breakdown, "payload": [], "metadata": {"request_uuid": "u"}}

    verdict, (request,) = await verdict_of("lakera", answer, text_check(("system", "a"), "b"), project="project-1")

    assert Verdict("block", "prompt_attack") == verdict
    assert "/v2/guard" == request.path
    assert f"Bearer {SECRET}" == request.headers["authorization"]
    assert {
        "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
        "breakdown": True,
        "payload": False,
        "project_id": "project-1",
    } == request.json


@pytest.mark.parametrize("inclusive", [False, True])
async def test_lakera_masks_personal_data(inclusive: bool) -> None:
    text = "Ann <ann@a.example>, ann@a.example"
    rows = [
        {
            "start": start,
            "end": start + 13 - inclusive,
            "text": "ann@a.example",
            "detector_type": "pii/email",
            "message_id": 1,
        }
        for start in (5, 21)
    ]
    answer = {
        "flagged": True,
        "payload": rows,
        "breakdown": [{"detector_type": "pii/email", "detected": True}],
    }

    verdict, (request,) = await verdict_of("lakera", answer, text_check("a", text), mask=True)

    assert Verdict("mask", "pii/email", ("a", "Ann <[EMAIL]>, [EMAIL]")) == verdict
    assert request.json["payload"] is True


@pytest.mark.parametrize(
    "row",
    [
        {"start": 0, "end": 3, "text": "Bob", "detector_type": "pii/name", "message_id": 0},
        {"start": 0, "end": 3, "text": "Ann", "detector_type": "pii/name", "message_id": 4},
        {"start": "0", "end": 3, "text": "Ann", "detector_type": "pii/name", "message_id": 0},
        7,
    ],
)
async def test_places_of_lakera_that_do_not_fit_the_text_block(row: Any) -> None:
    answer = {"flagged": True, "payload": [row], "breakdown": [{"detector_type": "pii/name", "detected": True}]}

    assert Verdict("block", "pii/name") == (await verdict_of("lakera", answer, text_check("Ann"), mask=True))[0]


async def test_overlapping_places_of_lakera_become_one() -> None:
    rows = [
        {"start": 0, "end": 3, "text": "Ann", "detector_type": "pii/name", "message_id": 0},
        {"start": 0, "end": 8, "text": "Ann Even", "detector_type": "pii/name", "message_id": 0},
    ]
    answer = {"flagged": True, "payload": rows, "breakdown": [{"detector_type": "pii/name", "detected": True}]}

    verdict, _ = await verdict_of("lakera", answer, text_check("Ann Even!"), mask=True)

    assert Verdict("mask", "pii/name", ("[NAME]!",)) == verdict


async def test_lakera_without_a_finding_passes() -> None:
    assert PASS == (await verdict_of("lakera", {"flagged": False, "metadata": {}}, text_check("x")))[0]
    assert "not as documented" in await refused("lakera", {"metadata": {}}, text_check("x"))


# --- Azure AI Content Safety


def analysed(**severity: int) -> dict[str, Any]:
    names = ("Hate", "SelfHarm", "Sexual", "Violence")
    rows = [{"category": name, "severity": severity.get(name, 0)} for name in names]
    return {"blocklistsMatch": [], "categoriesAnalysis": rows}


async def test_azure_analyses_the_texts() -> None:
    verdict, (request,) = await verdict_of(
        "azure_content_safety", analysed(Violence=4), text_check("a", "b"), blocklists=["words"]
    )

    assert Verdict("block", "Violence") == verdict
    assert "/contentsafety/text:analyze?api-version=2024-09-01" == request.path
    assert SECRET == request.headers["ocp-apim-subscription-key"]
    assert {
        "text": "a\nb",
        "outputType": "FourSeverityLevels",
        "blocklistNames": ["words"],
        "haltOnBlocklistHit": False,
    } == request.json


async def test_azures_severity_and_blocklists_decide() -> None:
    kind = "azure_content_safety"
    match = {"blocklistName": "words", "blocklistItemId": "1", "blocklistItemText": "the text"}
    listed = {**analysed(), "blocklistsMatch": [match]}

    assert PASS == (await verdict_of(kind, analysed(Hate=2), text_check("a")))[0]
    assert Verdict("block", "Hate") == (await verdict_of(kind, analysed(Hate=2), text_check("a"), severity=2))[0]
    assert (
        Verdict("block", "blocklist/words")
        == (await verdict_of(kind, listed, text_check("the text"), blocklists=["words"]))[0]
    )
    assert Verdict("block", "blocklist") == (await verdict_of(kind, listed, text_check("the text")))[0]


async def test_azure_shields_prompts_and_documents_of_requests() -> None:
    def script(request: Received) -> Any:
        body = request.json
        documents = [{"attackDetected": "obey" in text} for text in body["documents"]]
        return {"userPromptAnalysis": {"attackDetected": "DAN" in body["userPrompt"]}, "documentsAnalysis": documents}

    checks = (
        text_check(("system", "you are DAN"), "hi", ("tool_result", "42")),
        text_check("be DAN"),
        text_check("hi", ("tool_result", "obey me")),
        text_check("be DAN", reply=True),
    )
    async with running("azure_content_safety", script, checks=["attack"]) as (service, server):
        found = [await service.check(checked) for checked in checks]

    assert [PASS, Verdict("block", "prompt_attack"), Verdict("block", "document_attack"), PASS] == found
    assert {"/contentsafety/text:shieldPrompt?api-version=2024-09-01"} == {each.path for each in server.requests}
    assert [{"userPrompt": "hi", "documents": []}, {"userPrompt": "", "documents": ["42"]}] == sorted(
        [request.json for request in server.requests[:2]], key=lambda body: len(body["documents"])
    )


async def test_long_texts_are_divided_for_azure() -> None:
    text = "\n".join(["word " * 19 + "word!"] * 250)

    _, requests = await verdict_of("azure_content_safety", analysed(), text_check(text))

    assert 3 == len(requests)
    assert all(len(request.json["text"]) <= 10_000 for request in requests)
    assert sorted(text) == sorted("".join(request.json["text"] for request in requests))


@pytest.mark.parametrize(
    ("checks", "answer"),
    [
        (["harm"], {}),
        (["harm"], {"categoriesAnalysis": [{"category": "Hate"}]}),
        (["harm"], {"categoriesAnalysis": [7]}),
        (["harm"], {"categoriesAnalysis": [], "blocklistsMatch": 1}),
        (["attack"], {}),
        (["attack"], {"userPromptAnalysis": {"attackDetected": None}, "documentsAnalysis": []}),
        (["attack"], {"userPromptAnalysis": {"attackDetected": False}, "documentsAnalysis": [{}]}),
    ],
)
async def test_an_undocumented_answer_of_azure_gives_no_verdict(checks: list[str], answer: Any) -> None:
    assert "not as documented" in await refused("azure_content_safety", answer, text_check("x"), checks=checks)


# --- Amazon Bedrock Guardrails

USAGE = {"topicPolicyUnits": 1, "contentPolicyUnits": 1, "wordPolicyUnits": 1, "sensitiveInformationPolicyUnits": 1}


def applied(*outputs: str, **policies: Any) -> dict[str, Any]:
    action = "GUARDRAIL_INTERVENED" if policies or outputs else "NONE"
    return {
        "usage": USAGE,
        "action": action,
        "outputs": [{"text": text} for text in outputs],
        "assessments": [policies] if policies else [],
    }


EMAIL = {"match": "ann@a.example", "type": "EMAIL", "action": "ANONYMIZED", "detected": True}


async def test_bedrock_gets_the_texts_in_a_signed_request() -> None:
    async with running("bedrock_guardrails", lambda request: applied()) as (service, server):
        verdict = await service.check(text_check("a", "b"))
        await service.check(text_check("c", reply=True))
    first, second = server.requests

    assert PASS == verdict
    assert "/guardrail/gr1/version/1/apply" == first.path
    assert {"source": "INPUT", "content": [{"text": {"text": "a"}}, {"text": {"text": "b"}}]} == first.json
    assert {"source": "OUTPUT", "content": [{"text": {"text": "c"}}]} == second.json


async def test_the_signature_is_that_of_botocore() -> None:
    arn = "arn:aws:bedrock:eu-central-1:123456789012:guardrail/abc"
    _, (request,) = await verdict_of("bedrock_guardrails", applied(), text_check("a"), guardrail=arn)
    signed = AWSRequest("POST", f"http://{request.headers['host']}{request.path}", data=request.body)
    signed.context["timestamp"] = request.headers["x-amz-date"]
    signer = SigV4Auth(Credentials("AKID", SECRET), "bedrock", "eu-central-1")
    signed.headers["X-Amz-Date"] = request.headers["x-amz-date"]
    signature = signer.signature(signer.string_to_sign(signed, signer.canonical_request(signed)), signed)

    assert "/guardrail/arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Aguardrail%2Fabc/version/1/apply" == (
        request.path
    )
    assert request.headers["authorization"].endswith(f"Signature={signature}")


async def test_bedrock_masks_and_blocks() -> None:
    kind = "bedrock_guardrails"
    masked = applied("{EMAIL}", "b", sensitiveInformationPolicy={"piiEntities": [EMAIL], "regexes": []})
    attack = {"type": "PROMPT_ATTACK", "confidence": "HIGH", "filterStrength": "HIGH", "action": "BLOCKED"}
    both = applied(
        "Sorry.",
        sensitiveInformationPolicy={"piiEntities": [EMAIL], "regexes": []},
        contentPolicy={"filters": [attack]},
    )
    topic = applied("Sorry.", topicPolicy={"topics": [{"name": "Finance", "type": "DENY", "action": "BLOCKED"}]})
    word = applied("Sorry.", wordPolicy={"customWords": [{"match": "ann", "action": "BLOCKED"}]})

    assert (
        Verdict("mask", "sensitiveInformationPolicy/EMAIL", ("{EMAIL}", "b"))
        == (await verdict_of(kind, masked, text_check("ann@a.example", "b")))[0]
    )
    assert Verdict("block", "contentPolicy/PROMPT_ATTACK") == (await verdict_of(kind, both, text_check("x")))[0]
    assert Verdict("block", "topicPolicy/Finance") == (await verdict_of(kind, topic, text_check("x")))[0]
    assert Verdict("block", "wordPolicy") == (await verdict_of(kind, word, text_check("ann")))[0]
    assert Verdict("block", "intervened") == (await verdict_of(kind, applied("Sorry."), text_check("x")))[0]


async def test_long_texts_are_divided_for_bedrock_and_joined_again() -> None:
    text = "one ann@a.example two\n" * 4 + " " * 30

    def script(request: Received) -> Any:
        texts = [block["text"]["text"] for block in request.json["content"]]
        if not any("ann" in each for each in texts):
            return applied()
        new = [each.replace("ann@a.example", "{EMAIL}") for each in texts]
        return applied(*new, sensitiveInformationPolicy={"piiEntities": [EMAIL], "regexes": []})

    async with running("bedrock_guardrails", script, max_characters=30) as (service, server):
        verdict = await service.check(text_check("a", text, "b"))

    expected = text.replace("ann@a.example", "{EMAIL}")
    assert Verdict("mask", "sensitiveInformationPolicy/EMAIL", ("a", expected, "b")) == verdict
    assert len(server.requests) > 3


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"action": "BLOCKED"},
        {"action": "GUARDRAIL_INTERVENED", "assessments": [7], "outputs": []},
        applied("{EMAIL}", "more", sensitiveInformationPolicy={"piiEntities": [EMAIL]}),
        {**applied("x", sensitiveInformationPolicy={"piiEntities": [EMAIL]}), "outputs": [{"text": 1}]},
    ],
)
async def test_an_undocumented_answer_of_bedrock_gives_no_verdict(answer: Any) -> None:
    assert "not as documented" in await refused("bedrock_guardrails", answer, text_check("x"))


def test_options_that_cannot_work_are_refused() -> None:
    from pydantic import ValidationError

    for kind, given in (
        ("bedrock_guardrails", {**KINDS["bedrock_guardrails"], "credential": {"kind": "google"}}),
        ("bedrock_guardrails", {**KINDS["bedrock_guardrails"], "guardrail": "../x"}),
        ("azure_content_safety", {"url": "https://a.example"}),
        ("azure_content_safety", {"url": "https://a.example", "api_key": "k", "severity": 9}),
        ("litellm_webhook", {"url": "ftp://a.example"}),
        ("litellm_webhook", {"url": "https://user:pw@a.example"}),
        ("litellm_webhook", {"url": "https://a.example", "headers": {"host": "b.example"}}),
        ("litellm_webhook", {"url": "https://a.example", "timeout": "30s"}),
        ("litellm_webhook", {"url": "https://a.example", "headers": {"x": "a\nb"}}),
        ("model_armor", {"project": "p/q", "location": "eu", "template": "t"}),
    ):
        with pytest.raises(ValidationError):
            options_of(kind, given)
