"""Sources on the web that a reply cites, for formats that show them: OpenAI's annotations and Gemini's grounding.

Each format has them among the fields that only it has (`extras`). Anthropic's format has no place for the sources of
another format: a citation there needs an index that Anthropic has encrypted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..codecs.json_values import object_in, text_of
from ..model.content import Extras, Json
from ..model.frozen_dataclass import frozen_dataclass


@frozen_dataclass
class Citation:
    url: str
    title: str


def citations_in(extras: Extras) -> tuple[Citation, ...]:
    """The sources in the extras of a text or of a choice, each once, in their order."""
    if not extras:
        return ()
    found = {citation.url: citation for value in _values(extras) if (citation := _citation(value)) is not None}
    return tuple(found.values())


_OF_TEXTS = ("citations", "annotations", "citationsContent")  # Anthropic, OpenAI, Bedrock


def without_citations(extras: Extras) -> tuple[dict[str, Json], dict[str, Json]]:
    """The extras of a text without its citations, and those alone."""
    cited = {name: extras[name] for name in _OF_TEXTS if isinstance(extras.get(name), list)}
    return {name: value for name, value in extras.items() if name not in cited}, cited


def _values(extras: Extras) -> Iterator[Mapping[str, Json]]:
    message = object_in(extras, "message")  # of OpenAI's chat format: the sources belong to all of its text
    for listed in (*map(extras.get, _OF_TEXTS), message.get("annotations")):
        yield from (each for each in listed if isinstance(each, dict)) if isinstance(listed, list) else ()
    chunks = object_in(extras, "groundingMetadata").get("groundingChunks")  # Gemini
    for each in chunks if isinstance(chunks, list) else ():
        if isinstance(each, dict):
            yield object_in(each, "web")


def _citation(value: Mapping[str, Json]) -> Citation | None:
    # OpenAI's chat format has one level more, and Bedrock two.
    inner = object_in(value, "url_citation") or object_in(object_in(value, "location"), "web") or value
    url = text_of(inner.get("url")) or text_of(inner.get("uri"))
    return Citation(url, text_of(inner.get("title")) or text_of(value.get("title")) or "") if url else None


def annotation(citation: Citation, start: int, end: int) -> dict[str, Json]:
    """An annotation of OpenAI Responses. The cited characters are from `start` up to `end`."""
    return {
        "type": "url_citation",
        "url": citation.url,
        "title": citation.title,
        "start_index": start,
        "end_index": end,
    }


def chat_annotation(citation: Citation, start: int, end: int) -> dict[str, Json]:
    """The same for OpenAI's chat format."""
    fields = annotation(citation, start, end)
    return {"type": fields.pop("type"), "url_citation": fields}


def grounding(citations: tuple[Citation, ...]) -> dict[str, Json]:
    """Gemini's `groundingMetadata`."""
    return {"groundingChunks": [{"web": {"uri": each.url, "title": each.title}} for each in citations]}
