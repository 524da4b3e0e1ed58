"""Any JSON object as an answer of a service gives a verdict or a failure, and never another error."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from services_kit import KINDS, SECRET, options_of, text_check
from thoroughness import examples

from edge_extproc import registry
from edge_extproc.guardrails.base import Service, ServiceTools, Verdict
from edge_extproc.guardrails.service_http import ServiceFailure

EMAIL = {"match": "a@b.example", "type": "EMAIL", "action": "ANONYMIZED"}
MATCH = {"executionState": "EXECUTION_SUCCESS", "matchState": "MATCH_FOUND"}
PLACE = {"start": 0, "end": 1, "text": "a", "detector_type": "pii/email", "message_id": 0}
ANSWERS: dict[str, Any] = {
    "litellm_webhook": {"action": "GUARDRAIL_INTERVENED", "texts": ["x"], "blocked_reason": "y", "images": None},
    "agentgateway_webhook": {"action": {"body": {"messages": [{"role": "user", "content": "x"}]}, "reason": "y"}},
    "openai_moderation": {"results": [{"flagged": True, "categories": {"hate": True}, "category_scores": {}}]},
    "lakera": {"flagged": True, "payload": [PLACE], "breakdown": [{"detector_type": "pii/email", "detected": True}]},
    "azure_content_safety": {
        "blocklistsMatch": [{"blocklistName": "words"}],
        "categoriesAnalysis": [{"category": "Hate", "severity": 4}],
        "userPromptAnalysis": {"attackDetected": True},
        "documentsAnalysis": [],
    },
    "bedrock_guardrails": {
        "action": "GUARDRAIL_INTERVENED",
        "outputs": [{"text": "x"}],
        "assessments": [{"sensitiveInformationPolicy": {"piiEntities": [EMAIL], "regexes": []}}],
    },
    "model_armor": {
        "sanitizationResult": {
            "filterMatchState": "MATCH_FOUND",
            "invocationResult": "SUCCESS",
            "filterResults": {"sdp": {"sdpFilterResult": {"deidentifyResult": {**MATCH, "data": {"text": "x"}}}}},
        }
    },
}
MORE: dict[str, Any] = {
    **KINDS,
    "lakera": {"mask": True},
    "azure_content_safety": {"api_key": SECRET, "checks": ["harm", "attack"], "blocklists": ["words"]},
    "model_armor": {"project": "p", "location": "eu", "template": "t", "mask": True},
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


class OneAnswer:
    """A client that gets the same answer to each request."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._answer

    async def close(self) -> None:
        """There is no connection."""


TOOLS = ServiceTools("rule", lambda secret: secret.reveal, lambda credential, service, region: lambda *request: ())
OPTIONS = {kind: options_of(kind, {"url": "http://localhost", **MORE[kind]}) for kind in ANSWERS}
SERVICES: dict[str, Any] = {
    kind: registry.load("guardrails.services", kind).build(options, TOOLS) for kind, options in OPTIONS.items()
}


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(below for step, inner in steps for below in paths_of(inner, (*path, step)))]


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, Any]:
    """A documented answer with one part of it replaced or removed."""
    kind = draw(st.sampled_from(sorted(ANSWERS)))
    answer = copy.deepcopy(ANSWERS[kind])
    path = draw(st.sampled_from(paths_of(answer)[1:]))
    at: Any = answer
    for step in path[:-1]:
        at = at[step]
    if draw(st.booleans()):
        del at[path[-1]]
    else:
        at[path[-1]] = draw(json_values)
    return kind, answer


def outcome_of(kind: str, answer: Any) -> Verdict | None:
    service: Service = type(SERVICES[kind])(OPTIONS[kind], OneAnswer(answer))
    try:
        return asyncio.run(service.check(text_check("abc")))
    except ServiceFailure:
        return None


def test_the_documented_answers_are_no_pass() -> None:
    for kind, answer in ANSWERS.items():
        verdict = outcome_of(kind, answer)
        assert verdict is not None, kind
        assert verdict.action in ("block", "mask")


@settings(max_examples=examples(2_000))
@given(answers())
def test_any_answer_gives_a_verdict_or_a_failure(answered: tuple[str, Any]) -> None:
    kind, answer = answered
    verdict = outcome_of(kind, answer)

    assert verdict is None or (verdict.action in ("pass", "block", "mask") and isinstance(verdict.label, str))
