"""Probabilities of the tokens of a reply, for formats that have them: OpenAI's entries and Gemini's candidates.

Both are among the fields that only one format has (`extras`) of a choice. OpenAI's chat format has two lists of
entries, of the text and of a refusal; Responses has one list at each text. Gemini has the chosen tokens, the most
probable ones beside them, and the average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..codecs.json_values import JsonObject, object_in, text_of
from ..model.content import Extras, Json


def entries_in(extras: Extras) -> list[JsonObject]:
    """The entries of OpenAI's format in the extras of a choice."""
    if not extras:
        return []
    own = object_in(extras, "logprobs")
    listed = [each for name in ("content", "refusal") for each in _objects(own.get(name))]
    if listed:
        return listed
    result = object_in(extras, "logprobsResult") or object_in(extras, "logprobs_result")
    chosen = _objects(result.get("chosenCandidates", result.get("chosen_candidates")))
    top = _objects(result.get("topCandidates", result.get("top_candidates")))
    return [
        {**_entry(token), "top_logprobs": [_entry(each) for each in _objects(top[at].get("candidates"))]}
        if at < len(top)
        else {**_entry(token), "top_logprobs": []}
        for at, token in enumerate(chosen)
    ]


def chat_logprobs(extras: Extras) -> JsonObject | None:
    """`logprobs` of a choice of OpenAI's chat format. None: the reply has no probabilities."""
    entries = entries_in(extras)
    return {"content": entries, "refusal": None} if entries else None


def gemini_logprobs(entries: Sequence[Mapping[str, Json]]) -> JsonObject:
    """`logprobsResult` of a candidate of Gemini."""
    return {
        "chosenCandidates": [_candidate(each) for each in entries],
        "topCandidates": [
            {"candidates": [_candidate(one) for one in _objects(each.get("top_logprobs"))]} for each in entries
        ],
    }


def average(entries: Sequence[Mapping[str, Json]]) -> float:
    """`avgLogprobs` of a candidate of Gemini."""
    return sum(_number(each.get("logprob")) for each in entries) / len(entries)


def _objects(value: Json) -> list[JsonObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _entry(candidate: Mapping[str, Json]) -> JsonObject:
    token = text_of(candidate.get("token")) or ""
    # Protobuf omits a 0, which is the logarithm of a certain token.
    logprob = _number(candidate.get("logProbability", candidate.get("log_probability")))
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "surrogatepass"))}


def _candidate(entry: Mapping[str, Json]) -> JsonObject:
    return {"token": text_of(entry.get("token")) or "", "logProbability": _number(entry.get("logprob"))}


def _number(value: Json) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0
