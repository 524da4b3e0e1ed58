"""The names by which a body shows what bounds and policies must know, without reading it as a Chat.

Stages search a body of any caller for prompts that are elsewhere, for media and for features. A caller can write the
fields of one format into a body of another, and many hosts read them. So the stages search for the names of all
dialects: `WireNames.of_all` joins them once, when a gateway is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from .content import Nothing
from .frozen_dataclass import frozen_dataclass

_NONE: frozenset[str] = frozenset()
_NO_FEATURES: Mapping[str, str] = Nothing()


@frozen_dataclass
class WireNames:
    """What one dialect says of its names. All of them are names of fields, but where `types` says otherwise."""

    # --- the structure of a request
    messages: frozenset[str] = _NONE
    """Fields of a request that hold the list of its messages."""
    parts: frozenset[str] = _NONE
    """Fields of a message that hold the list of its parts."""
    tools: frozenset[str] = _NONE
    """Fields of a request that hold the list of its tools."""
    tool_objects: frozenset[str] = _NONE
    """Fields of a request with an object that has such a field."""
    functions: frozenset[str] = _NONE
    """Fields of a tool that hold a list of functions."""
    prefix: frozenset[str] = _NONE
    """Fields of a request that come before its messages in a prompt, as a provider caches it."""

    # --- the prompt
    content: frozenset[str] = _NONE
    """Fields of a request that hold messages or parts."""
    beside: frozenset[str] = _NONE
    """Fields of a request that are no part of the prompt."""
    elsewhere: frozenset[str] = _NONE
    """A part of the prompt is not in the body: an uploaded file, a stored conversation."""
    stored_prompts: frozenset[str] = _NONE
    """Fields of a request that name a stored prompt where their value is an object."""
    links: frozenset[str] = _NONE
    """Names whose string is a URL, and so elsewhere, unless it is a data URI."""
    pointers: frozenset[str] = _NONE
    """Within a blob: where the file is."""
    unbounded: frozenset[str] = _NONE
    """Values of which the length does not bound the tokens."""
    blobs: frozenset[str] = _NONE
    """Fields of a part that hold a file, or an object that does."""
    inline: frozenset[str] = _NONE
    """Within a blob: the bytes, as base64."""
    media_types: tuple[str, ...] = ()
    """The media type of bytes. The first that is there counts."""
    formats: tuple[str, ...] = ()
    """The same in short, `mp3` for `audio/mpeg`, where there is no media type."""
    images: frozenset[str] = _NONE
    """Fields of a part that are an image."""
    image_types: frozenset[str] = _NONE
    """Types of a part that is an image."""
    media: frozenset[str] = _NONE
    """Fields and types that show an image, a sound or a document."""
    tool_data: frozenset[str] = _NONE
    """Arguments and results of tools: an object in them is data, whatever its fields are called."""
    labels: frozenset[str] = _NONE
    """Fields of messages and parts that are not shown to the model as text."""
    seals: frozenset[str] = _NONE
    """Signatures of thinking: providers check them and do not bill them."""
    tool_settings: frozenset[str] = _NONE
    """Fields of a tool of the provider's own, within which `stored_in_tools` can be."""
    stored_in_tools: frozenset[str] = _NONE
    """Stored files that a tool brings into the prompt."""
    cache_marks: frozenset[str] = _NONE
    """The caller has the provider store a part of the prompt."""
    required_marks: frozenset[str] = _NONE
    """Those of them without which a provider of this format caches nothing."""

    # --- thinking
    settings: frozenset[str] = _NONE
    """Objects of a request that hold settings."""
    reasoning: frozenset[str] = _NONE
    """Objects, in a request or its settings, that ask for thinking."""
    reasoning_beside: Mapping[str, str] = _NO_FEATURES
    """The object with the amount of thinking, for each object that enables thinking."""
    reasoning_efforts: frozenset[str] = _NONE
    """Fields of a request that are an effort."""
    efforts: frozenset[str] = _NONE
    budgets: frozenset[str] = _NONE
    """Within `reasoning`: how hard, and how many tokens."""

    # --- what a host reads beside the call
    other_models: frozenset[str] = _NONE
    """Fields, of a request or of `router_settings` in it, that name further models which a host may use."""
    router_modes: frozenset[str] = _NONE
    """Fields of a request that have a host choose other models, which `other_models` must name."""
    router_settings: frozenset[str] = _NONE
    """Objects of a request with settings of a host that routes, and objects in them."""
    tiers: frozenset[str] = _NONE
    """Fields of a request whose value selects another price."""
    provider_tools: frozenset[str] = _NONE
    """Fields with which the provider itself adds to the prompt: a search, executed code, stored files."""
    provider_tool_types: frozenset[str] = _NONE
    """How the `type` of a tool begins with which the provider does."""

    summary_types: frozenset[str] = _NONE
    """How the `type` of a setting begins with which the provider calls the model once more, to shorten the prompt."""

    # --- features, by name: the values are those of auth/features.py
    feature_fields: Mapping[str, str] = _NO_FEATURES
    """A field that has a value, anywhere."""
    feature_types: Mapping[str, str] = _NO_FEATURES
    """How the `type` of a part or tool begins."""
    feature_blocks: Mapping[str, str] = _NO_FEATURES
    """A field with an object, in formats whose parts have no type."""
    feature_ids: Mapping[str, str] = _NO_FEATURES
    """The `id` of a plugin that has a feature."""
    feature_names: Mapping[str, str] = _NO_FEATURES
    """The `name` of a tool that has a feature, in formats whose tools have no type."""
    feature_suffixes: Mapping[str, str] = _NO_FEATURES
    """How the name of a model ends that has a feature."""
    modalities: frozenset[str] = _NONE
    """Lists of the kinds of output."""

    # --- the key of a cached reply
    headers: frozenset[str] = _NONE
    """Request headers, in lower case, that change the reply of a provider of this dialect. They are passed on to such a
    provider alone."""
    version_headers: frozenset[str] = _NONE
    """Those of them that every client sends, and that change nothing that a Chat holds."""
    delivery: frozenset[str] = _NONE
    """Fields of a request that say how the reply is delivered, not what it contains. The model is one: it is in a cache
    key by itself."""
    request_lines: frozenset[str] = _NONE
    """How a text of the prompt begins that differs with each request and that no model is meant to read."""
    stateful: frozenset[str] = _NONE
    """Fields of a request that read or change state at the provider."""

    # --- objects that the provider stores for its account
    owned: frozenset[str] = _NONE
    """Fields whose value is the id of such an object, a list of ids, or an object with an id."""
    owned_objects: frozenset[str] = _NONE
    """Fields whose value names such an object where it is an object with an id."""
    resources: frozenset[str] = _NONE
    """Fields whose value is the name of a resource, a list of names, or a URL with a name."""
    reference_types: frozenset[str] = _NONE
    """Types of items that refer to an earlier item by their id."""
    reference_lists: frozenset[str] = _NONE
    """Fields of a request with a list in which an object without a type and a role is such a reference."""
    stored_if: frozenset[str] = _NONE
    """The provider stores a reply if one of these fields of the request is true."""
    stored_unless: frozenset[str] = _NONE
    """The provider stores a reply unless one of these fields of the request is false."""

    @classmethod
    def of_all(cls, each: Iterable[WireNames]) -> WireNames:
        """The names of several dialects, joined."""
        every = tuple(each)
        return cls(**{name: _joined([getattr(names, name) for names in every]) for name in _FIELDS})


_FIELDS = tuple(each.name for each in fields(WireNames))


def _joined(values: Sequence[Any]) -> Any:
    """The values of one field, which are all of one type."""
    match values:
        case [frozenset(), *_]:
            return frozenset().union(*values)
        case [tuple(), *_]:
            return tuple(dict.fromkeys(each for value in values for each in value))
        case _:
            return {key: what for value in values for key, what in value.items()}
