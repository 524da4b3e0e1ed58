"""Detects the features that a call uses beyond plain text, in any wire format, for policies that restrict features.

Every member of every object is inspected, including duplicate keys, because keys can be written with escapes and
features can be nested anywhere. In doubt, a feature counts as used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from ..model.wire_names import WireNames

Feature: TypeAlias = Literal["tools", "images", "audio", "files", "web_search", "code_execution", "mcp"]
FEATURES: tuple[Feature, ...] = get_args(Feature)

_BY_MEDIA_TYPE: Mapping[str, Feature] = MappingProxyType({"image": "images", "audio": "audio"})
_EMPTY: tuple[object, ...] = (None, False, "", [])


class _Object:
    """The placeholder of an inspected object."""


_OBJECT = _Object()


def features_of(raw: bytes, names: WireNames | None) -> frozenset[str]:
    """The features of a JSON body. `names`: those of all dialects. A body that cannot be decoded counts as using all
    features, and so does each body where the names are not known."""
    if names is None:
        return frozenset(FEATURES)
    features: set[str] = set()

    def look(members: list[tuple[str, Any]]) -> _Object:
        for key, value in members:
            _look(key, value, names, features)
        return _OBJECT

    try:
        json.loads(raw, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return frozenset(FEATURES)
    return frozenset(features)


def _look(key: str, value: Any, names: WireNames, features: set[str]) -> None:
    feature = names.feature_fields.get(key)
    if feature is not None and value not in _EMPTY:
        features.add(feature)
    feature = names.feature_blocks.get(key)
    if feature is not None and value is _OBJECT:
        features.add(feature)
    if isinstance(value, str):
        if key == "type":
            features.update(feature for start, feature in names.feature_types.items() if value.startswith(start))
        elif key in ("id", "name"):
            feature = (names.feature_ids if key == "id" else names.feature_names).get(value)
            features.update(() if feature is None else (feature,))
        elif key == "model":
            features.update(feature for end, feature in names.feature_suffixes.items() if value.endswith(end))
        elif key in names.media_types:
            features.add(_BY_MEDIA_TYPE.get(value.partition("/")[0].lower(), "files"))
    elif key in names.modalities and isinstance(value, list):
        features.update(_BY_MEDIA_TYPE[m] for m in map(_lower, value) if m in _BY_MEDIA_TYPE)


def _lower(value: object) -> str:
    return value.lower() if isinstance(value, str) else ""
