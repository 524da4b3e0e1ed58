"""The usage that a reply reports, in the shapes that OpenAI, its likes, Cohere and Voyage give it."""

from __future__ import annotations

from collections.abc import Mapping

from ...codecs.json_values import count_in, object_in
from ...dialects.openai_chat import read_usage
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
        return read_usage(told)
    if "input_tokens" in told or "output_tokens" in told:  # images, transcriptions
        asked = object_in(told, "input_tokens_details") or object_in(told, "input_token_details")
        answered = object_in(told, "output_tokens_details") or object_in(told, "output_token_details")
        prompt, completion = count_in(told, "input_tokens"), count_in(told, "output_tokens")
        audio = min(count_in(asked, "audio_tokens"), prompt)
        cached = min(count_in(asked, "cached_tokens"), prompt - audio)
        spoken = min(count_in(answered, "audio_tokens"), completion)
        return Usage(
            input=prompt - audio - cached,
            cache_read=cached,
            input_audio=audio,
            output=completion - spoken,
            output_audio=spoken,
        )
    if "total_tokens" in told:  # Voyage
        return Usage(input=count_in(told, "total_tokens"))
    return None
