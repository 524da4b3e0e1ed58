"""Changes the caller's history on the raw lane, if the provider would refuse it."""

from __future__ import annotations

import re

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import encode, read_body
from ...model.content import Inline, Thinking
from ...model.frozen_dataclass import frozen_dataclass
from ...model.host import HostProfile
from ..cache_keys import CACHE_KEY, accepted_key, may_have_long_key
from ..carried import MARK
from ..history import UniqueIds, array
from ..openai_chat.models import WANTED
from .content import data_uri, is_made, read_picture, read_reasoning_item
from .fields import Item
from .request_out import call_id_of, unsigned_item

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_MADE_ITEM = re.compile(rb'"(?:rs|ig)_[0-9a-f]{32}"')
# Reasoning that another provider wrote: OpenAI shows only summaries.
_FOREIGN_REASONING = re.compile(rb'"reasoning_text"')
_CALL_ID = re.compile(rb'"call_id"\s*:\s*"([^"]*)"\s*[,}]')
_MADE_PICTURE_ID = re.compile(r"ig_[0-9a-f]{32}")
_SHOWN = "The picture that you made:"
_LONG_CALL_ID = re.compile(rb'"call_id"\s*:\s*"[^"]{65}')
# A quote within a text of JSON is escaped, so this matches no text of a caller or a model.
_SEALED = re.compile(rb'"encrypted_content"\s*:\s*"([^"]+)"')
_COMPACTION = re.compile(rb'"compaction[a-z_]*"')
_USER = re.compile(rb'"(?:user|safety_identifier)"\s*:')


def sealed_texts(raw: bytes) -> tuple[bytes, ...]:
    """The encrypted texts in a body or an event, without those that the gateway made."""
    if b'"encrypted_content"' not in raw:
        return ()
    texts = [text.replace(b"\\/", b"/") for text in _SEALED.findall(raw)]
    return tuple(dict.fromkeys(text for text in texts if not text.startswith(MARK.encode())))


def sealed_in_request(raw: bytes) -> tuple[tuple[bytes, ...], frozenset[bytes]]:
    """The encrypted texts, and those of them that stand for the conversation before them."""
    texts = sealed_texts(raw)
    if not texts or not _COMPACTION.search(raw):
        return texts, frozenset()
    items = read_body(raw).get("input")
    compacted = [
        item.get("encrypted_content")
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict) and str(item.get("type")).startswith("compaction")
    ]
    return texts, frozenset(text.encode("utf-8", "surrogatepass") for text in compacted if isinstance(text, str))


def is_worth_a_look(raw: bytes, host: HostProfile) -> bool:
    """Whether a body may contain something that `mended_history` changes. Only then it is decoded."""
    if MARK.encode() in raw or _MADE_ITEM.search(raw):
        return True
    if host.refusals and _FOREIGN_REASONING.search(raw):
        return True
    if may_have_long_key(raw):
        return True
    ids = _CALL_ID.findall(raw)
    if len(ids) > 2 * len(set(ids)):  # a call and its result have the same id
        return True
    return (host.strict_ids and _LONG_CALL_ID.search(raw) is not None) or (
        (host.user_limit is not None or host.user_least > 0) and _USER.search(raw) is not None
    )


def mended_history(
    raw: bytes, host: HostProfile, unreadable: frozenset[bytes] = frozenset()
) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The input without the reasoning of other providers, and without other values that the host refuses. A host
    refuses foreign reasoning as forged or unknown. `unreadable`: the encrypted texts that the host's account cannot
    decrypt. A host that requires unsigned reasoning gets it. Other items keep their bytes."""
    body = read_body(raw)
    changes: dict[str, json_splice.Change] = {}
    dropped: list[str] = []
    for name in ("user", "safety_identifier"):
        user = body.get(name)
        if isinstance(user, str) and not host.takes_user(user):
            changes[name] = None
            dropped.append(name)
    if (accepted := accepted_key(body.get(CACHE_KEY))) != body.get(CACHE_KEY):
        changes[CACHE_KEY] = encode(accepted)
        dropped.append(CACHE_KEY)
    items = body.get("input")
    if not isinstance(items, list):
        return changes, tuple(dropped)
    rows: list[bytes] = []
    changed = False
    unique = UniqueIds()
    for i, (item, row) in enumerate(zip(items, _rows.decode(_members.decode(raw)["input"]), strict=True)):
        if not isinstance(item, dict) or not (edit := _edit(item, host, unique, i, unreadable)):
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


def _edit(item: Item, host: HostProfile, unique: UniqueIds, place: int, unreadable: frozenset[bytes]) -> _Edit | None:
    call_id = item.get("call_id")
    if isinstance(call_id, str):
        is_call = not str(item.get("type")).endswith("_output")
        new = unique.of_call(call_id, place) if is_call else unique.of_result(call_id)
        new = call_id_of(new) if host.strict_ids else new
        return None if new == call_id else _Edit({**item, "call_id": new}, ".call_id")
    if item.get("type") == "image_generation_call":
        return _picture_edit(item)
    sealed = item.get("encrypted_content") if unreadable else None
    if isinstance(sealed, str) and sealed.encode("utf-8", "surrogatepass") in unreadable:
        return _Edit(None, "")
    if item.get("type") != "reasoning" or not (is_made(item) or (host.refusals and _is_foreign(item))):
        return None
    part = read_reasoning_item(item, "")
    if isinstance(part, Thinking) and part.text and not part.signature and host.thoughts in WANTED:
        return _Edit(unsigned_item(part.text), None)
    return _Edit(None, "")


def _is_foreign(item: Item) -> bool:
    """Whether OpenAI has not written the reasoning item, and would not find it."""
    return bool(item.get("content")) and not item.get("encrypted_content")


def _picture_edit(item: Item) -> _Edit | None:
    """A picture of another provider's model, as a message of the user. A host would look up the item by its id."""
    picture, id = read_picture(item), item.get("id")
    if picture is None or not isinstance(picture.source, Inline) or not _MADE_PICTURE_ID.fullmatch(str(id)):
        return None
    pictures = [
        {"type": "input_text", "text": _SHOWN},
        {"type": "input_image", "detail": "auto", "image_url": data_uri(picture.source)},
    ]
    return _Edit({"role": "user", "content": pictures}, None)
