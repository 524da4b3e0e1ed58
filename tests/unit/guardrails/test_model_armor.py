"""Google Model Armor against a scripted server with the bodies of its documentation."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_service import Received, scripted_service
from services_kit import options_of, service_of, text_check

from edge_extproc.config.credentials import UpstreamCredentialConfig
from edge_extproc.errors import PolicyUnavailable
from edge_extproc.guardrails.base import Checked, RequestSigner, ServiceTools, Verdict
from edge_extproc.guardrails.service_http import ServiceFailure
from edge_extproc.guardrails.services.model_armor import PLUGIN

TEMPLATE = "/v1/projects/my-project/locations/europe-west4/templates/t1"
GIVEN = {"project": "my-project", "location": "europe-west4", "template": "t1"}


def signer(credential: UpstreamCredentialConfig, service: str, region: str | None) -> RequestSigner:
    assert "google" == credential.kind

    def sign(method: str, host: str, path: str, body: bytes) -> tuple[tuple[str, str], ...]:
        return (("authorization", "Bearer token"),)

    return sign


TOOLS = ServiceTools("my rule", lambda secret: secret.reveal, signer)


async def verdict_of(answer: Any, checked: Checked, **more: Any) -> tuple[Verdict, list[Received]]:
    script = answer if callable(answer) else lambda request: answer
    async with scripted_service(script) as server:
        service = PLUGIN.build(options_of("model_armor", {**GIVEN, "url": server.url, **more}), TOOLS)
        try:
            return await service.check(checked), server.requests
        finally:
            await service.close()


def sanitized(invocation: str = "SUCCESS", state: str | None = None, **matches: Any) -> dict[str, Any]:
    """`matches`: the results of the filters that matched."""
    done = {"executionState": "EXECUTION_SUCCESS", "matchState": "NO_MATCH_FOUND"}
    results = {
        "csam": {"csamFilterFilterResult": done},
        "malicious_uris": {"maliciousUriFilterResult": done},
        "rai": {"raiFilterResult": {**done, "raiFilterTypeResults": {"hate_speech": {"matchState": "NO_MATCH_FOUND"}}}},
        "pi_and_jailbreak": {"piAndJailbreakFilterResult": done},
        "sdp": {"sdpFilterResult": {"inspectResult": done}},
    }
    return {
        "sanitizationResult": {
            "filterMatchState": state or ("MATCH_FOUND" if matches else "NO_MATCH_FOUND"),
            "invocationResult": invocation,
            "filterResults": {**results, **matches},
        }
    }


MATCH = {"executionState": "EXECUTION_SUCCESS", "matchState": "MATCH_FOUND"}
ATTACK = {"piAndJailbreakFilterResult": {**MATCH, "confidenceLevel": "HIGH"}}


def deidentified(text: str) -> dict[str, Any]:
    return {"sdpFilterResult": {"deidentifyResult": {**MATCH, "data": {"text": text}, "infoTypes": ["EMAIL_ADDRESS"]}}}


async def test_the_texts_of_a_request_are_a_prompt_and_those_of_a_reply_a_response() -> None:
    verdict, (request,) = await verdict_of(sanitized(), text_check("a", "b"))
    _, (of_reply,) = await verdict_of(sanitized(), text_check("c", reply=True))

    assert Verdict("pass") == verdict
    assert f"{TEMPLATE}:sanitizeUserPrompt" == request.path
    assert "Bearer token" == request.headers["authorization"]
    assert {"userPromptData": {"text": "a\nb"}} == request.json
    assert f"{TEMPLATE}:sanitizeModelResponse" == of_reply.path
    assert {"modelResponseData": {"text": "c"}} == of_reply.json


async def test_a_match_of_any_filter_blocks() -> None:
    nested = {"raiFilterResult": {**MATCH, "raiFilterTypeResults": {"dangerous": {"matchState": "MATCH_FOUND"}}}}
    check = text_check("x")

    assert Verdict("block", "pi_and_jailbreak") == (await verdict_of(sanitized(pi_and_jailbreak=ATTACK), check))[0]
    # As in an example of the documentation: the overall state does not show the match.
    assert Verdict("block", "rai") == (await verdict_of(sanitized(state="NO_MATCH_FOUND", rai=nested), check))[0]
    assert Verdict("block", "filter") == (await verdict_of(sanitized(state="MATCH_FOUND"), check))[0]
    assert (
        Verdict("block", "pi_and_jailbreak")
        == (await verdict_of(sanitized("PARTIAL", pi_and_jailbreak=ATTACK), check))[0]
    )
    assert Verdict("block", "sdp") == (await verdict_of(sanitized(sdp=deidentified("x")), check))[0]


async def test_a_text_without_personal_data_is_sent_instead() -> None:
    def script(request: Received) -> Any:
        text = request.json["userPromptData"]["text"]
        new = text.replace("ann@a.example", "[EMAIL]")
        return sanitized(sdp=deidentified(new)) if new != text else sanitized()

    verdict, requests = await verdict_of(script, text_check("a", " ", "I am ann@a.example."), mask=True)

    assert Verdict("mask", "sdp", ("a", " ", "I am [EMAIL].")) == verdict
    assert 2 == len(requests)


async def test_personal_data_beside_another_match_blocks() -> None:
    both = sanitized(sdp=deidentified("x"), pi_and_jailbreak=ATTACK)

    assert "block" == (await verdict_of(both, text_check("x"), mask=True))[0].action


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"sanitizationResult": {}},
        {"sanitizationResult": {"filterMatchState": "MAYBE"}},
        {"sanitizationResult": {"filterMatchState": "NO_MATCH_FOUND", "filterResults": 7}},
        sanitized("PARTIAL"),
        sanitized("FAILURE"),
        {"sanitizationResult": {"filterMatchState": "NO_MATCH_FOUND"}},
    ],
)
async def test_no_verdict_without_all_filters(answer: Any) -> None:
    with pytest.raises(ServiceFailure, match="not as documented"):
        await verdict_of(answer, text_check("x"))


async def test_a_masked_text_is_not_used_if_a_filter_was_skipped() -> None:
    with pytest.raises(ServiceFailure, match="not all filters"):
        await verdict_of(sanitized("PARTIAL", sdp=deidentified("x")), text_check("x"), mask=True)


async def test_without_a_token_nothing_is_sent() -> None:
    async with scripted_service(lambda request: sanitized()) as server:
        service = service_of("model_armor", **GIVEN, url=server.url)
        with pytest.raises(PolicyUnavailable, match="no valid credential") as caught:
            await service.check(text_check("x"))
        await service.close()

    assert "the guardrail 'my rule' could not be applied" in caught.value.message
    assert [] == server.requests
