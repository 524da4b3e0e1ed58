"""Objects that a provider stores for its account: their paths, and the fields in which requests and replies name them.

Chat formats name theirs in `WireNames`. This module has those of the paths that are passed on, and what all have in
common.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from .frozen_dataclass import frozen_dataclass

COLLECTIONS = frozenset(
    {
        "assistants",
        "batches",
        "cachedContents",
        "chat/completions",
        "containers",
        "conversations",
        "corpora",
        "evals",
        "fileSearchStores",
        "files",
        "fine_tuning/jobs",
        "generatedFiles",
        "messages/batches",
        "prompts",
        "responses",
        "skills",
        "threads",
        "tunedModels",
        "uploads",
        "vector_stores",
        "videos",
    }
)
"""Paths below the API's root. The next segment is the id of an object."""

ACTIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "responses": frozenset({"compact", "input_tokens"}),
        "threads": frozenset({"runs"}),
        "videos": frozenset({"characters", "edits", "extensions"}),
    }
)
"""Segments that are no id."""

FIELDS = frozenset(
    {
        "assistant_id",
        "batch_id",
        "container_id",
        "conversation_id",
        "eval_id",
        "file_ids",
        "input_file_id",
        "prompt_id",
        "response_id",
        "skill_id",
        "thread_id",
        "training_file",
        "validation_file",
        "vector_store_id",
        "vector_store_ids",
        "video_id",
    }
)
"""Fields of requests to passed paths whose value is an id, a list of ids, or an object with an id."""

OWN_PREFIXES: Mapping[str, str] = MappingProxyType({"skill_id": "skill_"})
"""How ids begin in fields that can also name what a provider offers to all, such as the skill pptx."""

REFERENCE_LISTS = frozenset({"items"})
"""Fields with a list of items, in the requests that add items to a conversation."""

RESOURCE_FIELDS = frozenset({"fileName", "file_name"})
"""Fields whose value may be the name of a Google resource."""

OPAQUE = frozenset(
    {
        # Citations in the history: a provider does not read what they name.
        "annotations",
        "citations",
        "results",
        # Data of the caller.
        "input_schema",
        "json_schema",
        "labels",
        "metadata",
        "parameters",
        "parametersJsonSchema",
        "parameters_json_schema",
        "responseJsonSchema",
        "responseSchema",
        "response_json_schema",
        "response_schema",
        "schema",
    }
)
"""Fields in which no name means an object that the provider reads."""

NESTED_REQUESTS = frozenset({"body", "params", "request"})
"""Fields that hold a whole request: those of a batch."""

# `files/abc`, also as a part of a URL. A name in Vertex begins with its project and location.
_RESOURCE = re.compile(
    r"(?:^|/)(batches|cachedContents|corpora|fileSearchStores|files|generatedFiles|tunedModels)/([^/?#:\s]+)(?=$|[/?#:])"
)
_ROOT = re.compile(r"/v\d+[a-z0-9]*(?=/)")


def resource_name(value: str) -> str | None:
    """`files/abc` of a Google resource name or of a URL that contains one. None: it is neither."""
    match = _RESOURCE.search(value)
    return f"{match[1]}/{match[2]}" if match is not None else None


@frozen_dataclass
class ObjectPath:
    """What a passed path names."""

    id: str | None
    """As the provider's replies give it. None: the collection."""
    below: bool = False
    """A path below the object: its content, its parts, an action."""


def object_of(path: str, endpoint: str) -> ObjectPath:
    """The object of a path without its query. `endpoint`: the configured path at or above it, which is the collection
    if none is known here."""
    match = _ROOT.match(path)
    root = match[0] if match is not None else ""
    segments = path[len(root) :].strip("/").split("/")
    known = [n for n in range(len(segments), 0, -1) if "/".join(segments[:n]) in COLLECTIONS]
    length = known[0] if known else len(_ROOT.sub("", endpoint, count=1).strip("/").split("/"))
    collection, rest = "/".join(segments[:length]), segments[length:]
    if not rest or rest[0] in ACTIONS.get(collection, ()):
        return ObjectPath(None)
    if "alpha" not in root and "beta" not in root:
        return ObjectPath(rest[0], len(rest) > 1)
    # Google: a verb follows the name after a colon.
    name, verb, _ = rest[0].partition(":")
    return ObjectPath(f"{collection}/{name}", len(rest) > 1 or bool(verb))
