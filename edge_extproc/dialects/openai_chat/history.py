"""Changes the caller's history on the raw lane, if the provider would refuse it."""

from __future__ import annotations

import re

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE, encode
from ...model.host import HostProfile
from ..history import array
from ..reading import why_no_call
from .content import FLAT_THOUGHT
from .fields import Object
from .models import LONGEST_CALL_ID, MISTRALS, call_id, is_thinking, with_reasoning

USER = re.compile(rb'"(?:user|safety_identifier)"\s*:')
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CALLS = re.compile(rb'"tool_calls"\s*:\s*\[\s*\{')
_ASSISTANT = re.compile(rb'"assistant"')
# The fields of a message that some hosts refuse: thinking and signatures of other providers, and calls.
OF_HISTORY = re.compile(
    rb'"(?:thinking_blocks|thought_signature|reasoning_content|reasoning_details|reasoning|images|tool_calls|tool_call_id)"'
)


def mended_history(raw: bytes, model: str, host: HostProfile) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The messages as this model and host accept them, and the names of what was removed or rewritten. Unchanged
    messages keep their bytes."""
    try:
        members = _members.decode(raw)
    except UNREADABLE:
        raise why_no_call(raw) from None
    changes: dict[str, json_splice.Change] = {}
    dropped: list[str] = []
    if host.user_limit is not None:
        for name in ("user", "safety_identifier"):
            user = msgspec.json.decode(members[name]) if name in members else None
            if isinstance(user, str) and len(user) > host.user_limit:
                changes[name] = None
                dropped.append(name)
    try:
        rows = _rows.decode(members["messages"])
    except (KeyError, *UNREADABLE):
        return changes, tuple(dropped)  # the host reports the error
    substituted = host.thoughts_required and _CALLS.search(raw) is not None and is_thinking(_thinking(members))
    changed = False
    messages: list[bytes] = []
    for number, row in enumerate(rows):
        looks = OF_HISTORY.search(row) or (substituted and _ASSISTANT.search(row))
        message = msgspec.json.decode(row) if looks else None
        lost: list[str] = []
        given = False
        if isinstance(message, dict):
            lost = mend(message, f"messages[{number}]", model, host)
            given = substituted and with_reasoning(message)
        messages.append(encode(message) if lost or given else bytes(row))
        changed = changed or bool(lost) or given
        dropped += lost
    if changed:
        changes["messages"] = array(messages)
    return changes, tuple(sorted(dropped))


def _thinking(members: dict[str, msgspec.Raw]) -> Object:
    return {name: msgspec.json.decode(members[name]) for name in ("thinking", "reasoning_effort") if name in members}


def mend(message: Object, path: str, model: str, host: HostProfile) -> list[str]:
    """Removes from a message: fields that our replies added for Claude and Gemini, thinking that the host refuses, and
    refused ids of calls. Hosts of this API refuse unknown fields of a message, and a conversation may continue with
    another model."""
    lost: list[str] = []
    fields = [] if "claude" in model else ["thinking_blocks"]
    if host.thoughts == "refused" and message.get("role") == "assistant":
        fields += [*FLAT_THOUGHT, "reasoning_details", "images"]
    lost += [f"{path}.{name}" for name in fields if message.pop(name, None) is not None]
    calls = message.get("tool_calls")
    for at, call in enumerate(calls if isinstance(calls, list) else ()):
        if not isinstance(call, dict):
            continue
        where = f"{path}.tool_calls[{at}]"
        match call.get("extra_content"):
            case {"google": {"thought_signature": _}} if "gemini" not in model:
                del call["extra_content"]
                lost.append(f"{where}.extra_content")
        if isinstance(id := call.get("id"), str) and (legal := _raw_call_id(id, model, host)) != id:
            call["id"] = legal
            lost.append(f"{where}.id")
    if isinstance(id := message.get("tool_call_id"), str) and (legal := _raw_call_id(id, model, host)) != id:
        message["tool_call_id"] = legal
        lost.append(f"{path}.tool_call_id")
    return lost


def _raw_call_id(id: str, model: str, host: HostProfile) -> str:
    """The caller's id of a call, in the form that this model's host accepts."""
    if MISTRALS.search(model) or (host.strict_ids and len(id) > LONGEST_CALL_ID):
        return call_id(id, model)
    return id
