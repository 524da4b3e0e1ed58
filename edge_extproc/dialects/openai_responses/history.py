"""Changes the caller's history on the raw lane, if the provider would refuse it."""

from __future__ import annotations

import re

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import encode, read_body
from ...model.content import Thinking
from ...model.frozen_dataclass import frozen_dataclass
from ...model.host import HostProfile
from ..carried import MARK
from ..history import array
from ..openai_chat.models import WANTED, is_too_long
from .content import is_made, read_reasoning_item
from .fields import Item
from .request_out import CALL_ID_LIMIT, call_id_of, unsigned_item

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_MADE_ITEM = re.compile(rb'"rs_[0-9a-f]{32}"')
_LONG_CALL_ID = re.compile(rb'"call_id"\s*:\s*"[^"]{65}')
_USER = re.compile(rb'"(?:user|safety_identifier)"\s*:')


def is_worth_a_look(raw: bytes, host: HostProfile) -> bool:
    """Whether a body may contain something that `mended_history` changes. Only then it is decoded."""
    if MARK.encode() in raw or _MADE_ITEM.search(raw):
        return True
    return (host.strict_ids and _LONG_CALL_ID.search(raw) is not None) or (
        host.user_limit is not None and _USER.search(raw) is not None
    )


def mended_history(raw: bytes, host: HostProfile) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The input without the reasoning of other providers, and without other values that the host refuses. A host
    refuses foreign reasoning as forged or unknown. A host that requires unsigned reasoning gets it. Other items keep
    their bytes."""
    body = read_body(raw)
    changes: dict[str, json_splice.Change] = {}
    dropped: list[str] = []
    for name in ("user", "safety_identifier"):
        user = body.get(name)
        if isinstance(user, str) and is_too_long(user, host):
            changes[name] = None
            dropped.append(name)
    items = body.get("input")
    if not isinstance(items, list):
        return changes, tuple(dropped)
    rows: list[bytes] = []
    changed = False
    for i, (item, row) in enumerate(zip(items, _rows.decode(_members.decode(raw)["input"]), strict=True)):
        if not isinstance(item, dict) or not (edit := _edit(item, host)):
            rows.append(bytes(row))
            continue
        changed = True
        if edit.item is not None:
            rows.append(encode(edit.item))
        if edit.lost is not None:
            dropped.append(f"input[{i}]{edit.lost}")
    if changed:
        changes["input"] = array(rows)
    return changes, tuple(sorted(dropped))


@frozen_dataclass
class _Edit:
    item: Item | None
    """The replacement of an item. None: it is removed."""
    lost: str | None
    """The field of it that was rewritten, or "" for all of it; None if nothing is lost."""


def _edit(item: Item, host: HostProfile) -> _Edit | None:
    call_id = item.get("call_id")
    if host.strict_ids and isinstance(call_id, str) and len(call_id) > CALL_ID_LIMIT:
        return _Edit({**item, "call_id": call_id_of(call_id)}, ".call_id")
    if item.get("type") != "reasoning" or not is_made(item):
        return None
    part = read_reasoning_item(item, "")
    if isinstance(part, Thinking) and part.text and not part.signature and host.thoughts in WANTED:
        return _Edit(unsigned_item(part.text), None)
    return _Edit(None, "")
