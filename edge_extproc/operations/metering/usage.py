"""The usage that a reply reports, in the shapes that OpenAI, its likes, Cohere and Voyage give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...codecs.json_values import TokenCounts, object_in
from ...dialects.openai_chat.reply import read_usage
from ...model.content import Json
from ...model.usage import Usage

Object = Mapping[str, Json]


def usage_of(reply: Json) -> Usage | None:
    """None where the reply tells no tokens: images, seconds of sound and searches are counted in other units."""
    if not isinstance(reply, dict):
        return None
    told = reply.get("usage")
    if isinstance(told, dict):
        return _tokens(told)
    billed = object_in(object_in(reply, "meta"), "billed_units")  # Cohere
    return _tokens(billed) if billed else None


def _tokens(told: Object) -> Usage | None:
    if "prompt_tokens" in told or "completion_tokens" in told:
        usage = read_usage(told)
        # An embedding has a prompt alone.
        return usage if "completion_tokens" in told else replace(usage, completion_unknown=False)
    if "input_tokens" in told or "output_tokens" in told:  # images, transcriptions
        asked = object_in(told, "input_tokens_details") or object_in(told, "input_token_details")
        answered = object_in(told, "output_tokens_details") or object_in(told, "output_token_details")
        counts = TokenCounts()
        told_prompt, told_completion = counts.of(told.get("input_tokens")), counts.of(told.get("output_tokens"))
        prompt, completion = told_prompt or 0, told_completion or 0
        audio = min(counts.at(asked, "audio_tokens"), prompt)
        cached = min(counts.at(asked, "cached_tokens"), prompt - audio)
        spoken = min(counts.at(answered, "audio_tokens"), completion)
        return Usage(
            input=prompt - audio - cached,
            cache_read=cached,
            input_audio=audio,
            output=completion - spoken,
            output_audio=spoken,
            prompt_unknown=told_prompt is None,
            completion_unknown=told_completion is None and "output_tokens" in told,
            unreadable=counts.unreadable,
        )
    if "total_tokens" in told:  # Voyage
        return prompt_usage(told["total_tokens"])
    return None


def prompt_usage(value: Json) -> Usage:
    """Of an operation whose reply states the tokens of its prompt and nothing else."""
    counts = TokenCounts()
    found = counts.of(value)
    return Usage(input=found or 0, prompt_unknown=found is None, unreadable=counts.unreadable)
