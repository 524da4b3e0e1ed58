"""The usage that a reply reports, in the shapes that OpenAI, its likes, Cohere and Voyage give it."""

from __future__ import annotations

from collections.abc import Mapping

from ...dialects.openai_chat import read_usage
from ...model.content import NO_EXTRAS, Json
from ...model.usage import Usage

Object = Mapping[str, Json]


def usage_of(reply: Json) -> Usage | None:
    """None where the reply tells no tokens: images, seconds of sound and searches are counted in other units."""
    if not isinstance(reply, dict):
        return None
    told = reply.get("usage")
    if isinstance(told, dict):
        return _tokens(told)
    billed = _object(_object(reply, "meta"), "billed_units")  # Cohere
    return _tokens(billed) if billed else None


def _tokens(told: Object) -> Usage | None:
    if "prompt_tokens" in told or "completion_tokens" in told:
        return read_usage(told)
    if "input_tokens" in told or "output_tokens" in told:  # images, transcriptions
        asked = _object(told, "input_tokens_details") or _object(told, "input_token_details")
        answered = _object(told, "output_tokens_details") or _object(told, "output_token_details")
        prompt, completion = _count(told, "input_tokens"), _count(told, "output_tokens")
        audio = min(_count(asked, "audio_tokens"), prompt)
        cached = min(_count(asked, "cached_tokens"), prompt - audio)
        spoken = min(_count(answered, "audio_tokens"), completion)
        return Usage(
            input=prompt - audio - cached,
            cache_read=cached,
            input_audio=audio,
            output=completion - spoken,
            output_audio=spoken,
        )
    if "total_tokens" in told:  # Voyage
        return Usage(input=_count(told, "total_tokens"))
    return None


def _object(value: Object, key: str) -> Object:
    found = value.get(key)
    return found if isinstance(found, dict) else NO_EXTRAS


def _count(told: Object, key: str) -> int:
    value = told.get(key)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0
