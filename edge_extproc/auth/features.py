"""Detects the features that a call uses beyond plain text, in any wire format, for policies that restrict features.

Every member of every object is inspected, including duplicate keys, because keys can be written with escapes and
features can be nested anywhere. In doubt, a feature counts as used.
"""

from __future__ import annotations

import json
from typing import Any, Literal, TypeAlias, get_args

Feature: TypeAlias = Literal["tools", "images", "audio", "files", "web_search", "code_execution", "mcp"]
FEATURES: tuple[Feature, ...] = get_args(Feature)

# Keys that show a feature anywhere in the body, unless their value is empty.
_BY_KEY: dict[str, Feature] = {
    "tools": "tools",
    "functions": "tools",
    "toolConfig": "tools",
    "tool_config": "tools",
    "functionDeclarations": "tools",
    "function_declarations": "tools",
    "image_url": "images",
    "input_audio": "audio",
    "audio": "audio",
    "speechConfig": "audio",
    "speech_config": "audio",
    "file_id": "files",
    "file_ids": "files",
    "file_url": "files",
    "file_data": "files",
    "fileData": "files",
    "web_search_options": "web_search",
    "googleSearch": "web_search",
    "google_search": "web_search",
    "googleSearchRetrieval": "web_search",
    "google_search_retrieval": "web_search",
    "urlContext": "web_search",
    "url_context": "web_search",
    "codeExecution": "code_execution",
    "code_execution": "code_execution",
    "mcp_servers": "mcp",
    "server_url": "mcp",
}
# Prefixes of the values of `type`.
_BY_TYPE: tuple[tuple[str, Feature], ...] = (
    ("image", "images"),
    ("input_image", "images"),
    ("input_audio", "audio"),
    ("audio", "audio"),
    ("file", "files"),
    ("input_file", "files"),
    ("document", "files"),
    ("web_search", "web_search"),
    ("web_fetch", "web_search"),
    ("code_interpreter", "code_execution"),
    ("code_execution", "code_execution"),
    ("bash", "code_execution"),
    ("computer", "code_execution"),
    ("local_shell", "code_execution"),
    ("shell", "code_execution"),
    ("mcp", "mcp"),
)
_BY_MEDIA_TYPE: dict[str, Feature] = {"image": "images", "audio": "audio"}
_MODALITIES = frozenset({"modalities", "responseModalities", "response_modalities"})
_MEDIA_KEYS = frozenset({"mimeType", "mime_type", "media_type"})
# Keys of content blocks (Bedrock and others), whose key is their type.
_BLOCKS: dict[str, Feature] = {"image": "images", "document": "files", "video": "files", "toolSpec": "tools"}
_EMPTY: tuple[object, ...] = (None, False, "", [])


class _Object:
    """The placeholder of an inspected object."""


_OBJECT = _Object()


def features_of(raw: bytes) -> frozenset[Feature]:
    """The features of a JSON body. A body that cannot be decoded counts as using all features."""
    found: set[Feature] = set()

    def look(members: list[tuple[str, Any]]) -> _Object:
        for key, value in members:
            _look(key, value, found)
        return _OBJECT

    try:
        json.loads(raw, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return frozenset(FEATURES)
    return frozenset(found)


def _look(key: str, value: Any, found: set[Feature]) -> None:
    feature = _BY_KEY.get(key)
    if feature is not None and value not in _EMPTY:
        found.add(feature)
    feature = _BLOCKS.get(key)
    if feature is not None and value is _OBJECT:
        found.add(feature)
    if isinstance(value, str):
        if key == "type":
            found.update(feature for start, feature in _BY_TYPE if value.startswith(start))
        elif key in _MEDIA_KEYS:
            found.add(_BY_MEDIA_TYPE.get(value.partition("/")[0].lower(), "files"))
    elif key in _MODALITIES and isinstance(value, list):
        found.update(_BY_MEDIA_TYPE[m] for m in map(_lower, value) if m in _BY_MEDIA_TYPE)


def _lower(value: object) -> str:
    return value.lower() if isinstance(value, str) else ""
