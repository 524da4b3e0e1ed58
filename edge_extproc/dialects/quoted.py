"""Search results and documents made of blocks, which Anthropic and Bedrock have, as parts of any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..codecs.json_values import text_of
from ..model.content import NO_EXTRAS, CacheMark, Extras, Image, Json, Part, Text

_HEADINGS = ("title", "name", "source", "context")


def quoted(
    block: Mapping[str, Json], content: Sequence[Part], path: str, cache: CacheMark | None = None
) -> tuple[Part, ...]:
    """The parts that replace the search result or document `block`: what it says of itself, then its content. Without
    texts and images, there are none. The request for citations of its places is a field that they lose."""
    if not content or not all(isinstance(part, Text | Image) for part in content):
        return ()
    headings = [f"{name.capitalize()}: {text}" for name in _HEADINGS if (text := text_of(block.get(name)))]
    texts = ["\n".join(headings)] if headings else []
    citations = block.get("citations")
    asks = isinstance(citations, Mapping) and citations.get("enabled") is True
    extras: Extras = {"citations": citations} if asks else NO_EXTRAS
    parts: list[Part] = []
    for part in (*content, None):
        if isinstance(part, Text):
            texts.append(part.text)
            continue
        if texts:
            parts.append(Text("\n\n".join(texts), None, NO_EXTRAS, path))
            texts = []
        if part is not None:
            parts.append(part)
    first = parts[0]
    if extras and isinstance(first, Text | Image):
        parts[0] = replace(first, extras={**first.extras, **extras}, path=path)
    last = parts[-1]
    if cache is not None and isinstance(last, Text | Image):
        parts[-1] = replace(last, cache=cache)
    return tuple(parts)
