"""Reads the usage of a reply in the shapes of OpenAI, compatible hosts, Cohere and Voyage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...codecs.json_values import TokenCounts, object_in
from ...dialects.openai_chat.reply import read_usage
from ...dialects.openai_responses.reply import read_usage as read_usage_of_response
from ...model.content import Json
from ...model.usage import Usage

Object = Mapping[str, Json]


def usage_of(reply: Json) -> Usage | None:
    """None: the reply has no token counts. Images, seconds of audio and searches of documents have other units."""
    if not isinstance(reply, dict):
        return None
    usage = reply.get("usage")
    if isinstance(usage, dict):
        if reply.get("object") == "response" and ("input_tokens" in usage or "output_tokens" in usage):
            return read_usage_of_response(usage, reply.get("output"))
        return _tokens(usage, draws=_draws(reply))
    billed = object_in(object_in(reply, "meta"), "billed_units")  # Cohere
    return _tokens(billed) if billed else None


def _draws(reply: Object) -> bool:
    """Whether it is a reply of an image model, or the last event of its stream."""
    kind = reply.get("type")
    return isinstance(reply.get("data"), list) or (
        isinstance(kind, str) and kind.startswith(("image_generation.", "image_edit."))
    )


def _tokens(reported: Object, *, draws: bool = False) -> Usage | None:
    """`draws`: output tokens are those of images, unless their details tell."""
    if "prompt_tokens" in reported or "completion_tokens" in reported:
        usage = read_usage(reported)
        # Embeddings have no completion.
        return usage if "completion_tokens" in reported else replace(usage, completion_unknown=False)
    if "input_tokens" in reported or "output_tokens" in reported:  # images, transcriptions
        of_input = object_in(reported, "input_tokens_details") or object_in(reported, "input_token_details")
        of_output = object_in(reported, "output_tokens_details") or object_in(reported, "output_token_details")
        counts = TokenCounts()
        input_tokens, output_tokens = counts.of(reported.get("input_tokens")), counts.of(reported.get("output_tokens"))
        prompt, completion = input_tokens or 0, output_tokens or 0
        audio = min(counts.at(of_input, "audio_tokens"), prompt)
        cached = min(counts.at(of_input, "cached_tokens"), prompt - audio)
        # A cached token of an image is in `cache_read`.
        image = min(counts.at(of_input, "image_tokens"), prompt - audio - cached)
        output_audio = min(counts.at(of_output, "audio_tokens"), completion)
        drawn = completion - counts.at(of_output, "text_tokens") if draws else counts.at(of_output, "image_tokens")
        output_image = min(max(drawn, 0), completion - output_audio)
        return Usage(
            input=prompt - audio - cached - image,
            cache_read=cached,
            input_audio=audio,
            input_image=image,
            output=completion - output_audio - output_image,
            output_audio=output_audio,
            output_image=output_image,
            prompt_unknown=input_tokens is None,
            completion_unknown=output_tokens is None and "output_tokens" in reported,
            unreadable=counts.unreadable,
        )
    if "total_tokens" in reported:  # Voyage
        return prompt_usage(reported["total_tokens"])
    return None


def prompt_usage(value: Json) -> Usage:
    """The usage of an operation whose reply has only the tokens of its prompt."""
    counts = TokenCounts()
    count = counts.of(value)
    return Usage(input=count or 0, prompt_unknown=count is None, unreadable=counts.unreadable)
