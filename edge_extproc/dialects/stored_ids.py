"""Reads the ids of stored objects in the replies of all formats: of the reply itself, and of what it has made.

Only the places where providers write ids are read, because other parts of a reply can contain text of the caller.
"""

from __future__ import annotations

from ..model.content import Json
from ..model.stored_objects import resource_name

MARKS = (b'"container', b'"file_id"', b'"image_generation_call"', b'"audio"')
"""Without one of them, a piece of a reply makes no object but the reply."""
ENDS = (b'"response.completed"', b'"response.incomplete"', b'"response.failed"')
"""Types of events with a complete reply."""


def ids_made(reply: Json, *, stored: bool = True) -> list[str]:
    """The ids that a reply makes or shows: of the object itself if it is `stored`, and of others that belong to it."""
    if not isinstance(reply, dict):
        return []
    found: list[Json] = []
    if stored:
        found += [reply.get("id"), _resource(reply.get("name"))]
    found += [reply.get("output_file_id"), reply.get("error_file_id"), _of(reply, "container", "id")]
    found += _list(reply.get("result_files"))
    found += [_of(reply, "file", "id"), _resource(_of(reply, "file", "name"))]
    found += [_resource(_of(reply, "response", "responsesFile"))]
    found += [_resource(_of(_object(reply.get("metadata")).get("output"), "responsesFile"))]
    for item in _list(reply.get("output")):
        is_image = _of(item, "type") == "image_generation_call"
        found += [_of(item, "id") if stored or is_image else None, _of(item, "container_id")]
    for block in (*_list(reply.get("content")), reply.get("content_block")):
        found += [_of(each, "file_id") for each in _list(_of(block, "content", "content"))]
    for each in (_object(reply.get("message")), _object(reply.get("delta"))):  # Anthropic's events
        found += [_of(each, "container", "id")]
    for choice in _list(reply.get("choices")):
        found += [_of(choice, "message", "audio", "id"), _of(choice, "delta", "audio", "id")]
    item = reply.get("item")  # an event of Responses
    if _of(item, "type") == "image_generation_call":
        found.append(_of(item, "id"))
    return [each for each in found if isinstance(each, str) and each]


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _of(value: Json, *path: str) -> Json:
    for name in path:
        value = _object(value).get(name)
    return value


def _resource(value: Json) -> Json:
    """A name of Google's resources. A name without a collection is one that the caller has chosen."""
    return resource_name(value) if isinstance(value, str) else None


def entry_id(entry: Json) -> str | None:
    """The id of one entry of a list of objects. None: it shows none."""
    id = _of(entry, "id")
    name = id if isinstance(id, str) else _resource(_of(entry, "name"))
    return name if isinstance(name, str) else None
