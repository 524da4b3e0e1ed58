"""Keeps tenants that share a provider's account apart: an object that the provider stores belongs to the tenant whose
request has made it (docs/adr/184).

    request body     the ids that it names          → 404, unless they are the tenant's
    response body    the ids that it makes          → recorded, before the caller gets them
                     a list of objects              → only those of the tenant

A provider with `shared_account: false` has no part in this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from ..codecs.content_type import media_type
from ..codecs.json_values import UNREADABLE, decode_reply, encode
from ..dialects.stored_ids import entry_id, ids_made
from ..errors import NoSuchObject, UpstreamError
from ..model.call import Call
from ..model.content import Json
from ..model.plan import Candidate, Fallback
from ..model.stored_objects import ObjectPath, object_of
from ..records.owners import REPLY_SECONDS, ObjectOwners
from .commands import Command, Continue
from .events import ResponseBody
from .large_bodies import AT_ONCE
from .object_ids import NamedObject, ReplyIds, stores_reply
from .phases import Identified
from .ports import Gateway
from .response import Receiving, ResponsePhase
from .response_head import Answered

_GOOD = range(200, 300)


async def object_access(
    gateway: Gateway, identified: Identified, call: Call, candidates: Sequence[Candidate], *, large: bool
) -> ObjectAccess | None:
    """None if tenants share no account. `large`: the body is searched off the event loop. Raises NoSuchObject if no
    candidate has all objects that the request names for this tenant, BadRequest, and PolicyUnavailable."""
    owners = gateway.owners
    if owners is None:
        return None
    search, with_query = gateway.id_searches[call.operation == "passed"], identified.received.values[":path"]
    runner = gateway.large_body_runner if large else AT_ONCE
    objects_named = await runner.run(search.ids_in, call, with_query) if owners.checks else []
    path = identified.received.path
    endpoint = gateway.endpoints.at(path) if call.operation == "passed" else None
    if endpoint is not None and endpoint.shared:
        return None
    target = object_of(path, endpoint.path) if endpoint is not None else None
    if target is not None and target.id is not None and owners.checks:
        objects_named = [NamedObject(target.id, "path"), *objects_named]
    refused: dict[str, tuple[NamedObject, ...]] = {}
    if objects_named:
        ids = [each.id for each in objects_named]
        for provider in gateway.providers:
            if owners.is_shared(provider):
                owned = await owners.owned(provider, identified.principal.tenant, ids)
                refused[provider] = tuple(
                    [each for each, is_owned in zip(objects_named, owned, strict=True) if not is_owned]
                )
    stored = None
    if large and call.operation == "chat":  # now and not with the reply, because it is searched off the event loop
        stored = await runner.run(stores_reply, call, identified.caller_dialect.wire_names)
    reads = partial(_reads, gateway, call)
    objects = ObjectAccess(owners, identified.principal.tenant, call, target, refused, reads, stored=stored)
    able = objects.able(candidates)
    if candidates and not able:
        first = next(each for candidate in candidates for each in objects.refused(candidate))
        raise NoSuchObject(first.id, param=None if first.param == "path" else first.param)
    return objects


def _reads(gateway: Gateway, call: Call, candidate: Candidate) -> bool:
    """Whether a candidate may get the items of the caller's format as they are. A translated chat has no references."""
    if call.operation != "chat":
        return True
    formats = gateway.providers[candidate.provider].formats(call.operation, candidate.model)
    return call.dialect in ((candidate.dialect,) if candidate.dialect else formats)


class ObjectAccess:
    """The stored objects of one exchange."""

    __slots__ = ("_call", "_owners", "_reads", "_refused", "_reply", "_stored", "_target", "_tenant")

    def __init__(
        self,
        owners: ObjectOwners,
        tenant: str,
        call: Call,
        target: ObjectPath | None,
        refused: dict[str, tuple[NamedObject, ...]],
        reads: Callable[[Candidate], bool],
        *,
        stored: bool | None = None,
    ) -> None:
        """`target`: what the path of a passthrough endpoint names. `refused`: for each shared provider, the objects
        that the request names and that are not the tenant's there. `reads`: whether a candidate gets the references of
        the request. `stored`: what `stores_reply` says of a large body, which has been searched."""
        self._owners = owners
        self._tenant = tenant
        self._call = call
        self._target = target
        self._refused = refused
        self._reads = reads
        self._stored = stored
        self._reply: ReplyIds | None = None

    def able(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """The candidates at which all named objects are the tenant's."""
        if not any(self._refused.values()):
            return candidates
        return tuple([each for each in candidates if not self.refused(each)])

    def refused(self, candidate: Candidate) -> Sequence[NamedObject]:
        """The objects that a candidate would get and that are not the tenant's there."""
        refused = self._refused.get(candidate.provider, ())
        if not any(each.is_reference for each in refused) or self._reads(candidate):
            return refused
        return [each for each in refused if not each.is_reference]

    def permitted(self, fallback: Fallback) -> Fallback:
        return Fallback(tuple(self.able(fallback.context_length)), tuple(self.able(fallback.content_filter)))

    # --- the response

    def reply_ids(self, answered: Answered) -> ReplyIds | None:
        """Reads the ids of a chat's reply. None: it makes none that the caller could use."""
        names, call = answered.caller_dialect.wire_names, self._call
        stores = bool(names.stored_if or names.stored_unless or names.owned)
        own = answered.dialect.name == answered.caller_dialect.name
        if call.operation != "chat" or not stores or not own or not self._owners.is_shared(answered.candidate.provider):
            return None
        self._reply = ReplyIds(stored=stores_reply(call, names) if self._stored is None else self._stored)
        return self._reply

    def needs_whole(self, answered: Answered) -> bool:
        """Whether the reply of a passthrough path must be read: it shows objects."""
        target = self._target
        if target is None or not self._owners.is_shared(answered.candidate.provider):
            return False
        if self._is_listing:
            return True
        json = media_type(answered.head.values.get("content-type", "")).endswith("json")
        return json and (self._call.method != "GET" or not target.below)

    @property
    def _is_listing(self) -> bool:
        """Whether the reply is a list of objects of several tenants."""
        collection = self._target is not None and self._target.id is None
        return collection and self._owners.checks and self._call.method in ("GET", "HEAD")

    async def respond(self, event: ResponseBody, command: Command, phase: ResponsePhase | None) -> Command:
        """The command for a part of the response body, after the ids in it are recorded."""
        if not isinstance(phase, Receiving) or not isinstance(command, Continue):
            return command
        answered, body = phase.answered, phase.body
        provider = answered.candidate.provider
        if self._reply is not None:
            if body.is_whole and event.end:
                raw = phase.body.raw  # the caller may get it as a stream
                self._reply.whole(raw or (event.body if command.body is None else command.body))
            if self._reply.new:
                ids, self._reply.new = self._reply.new, []
                await self._owners.record(provider, self._tenant, ids, REPLY_SECONDS)
            return command
        if not (body.is_whole and event.end and self.needs_whole(answered)):
            return command
        return await self._passed(event, command, provider, answered.head.status)

    async def _passed(self, event: ResponseBody, command: Continue, provider: str, status: int) -> Command:
        """The complete reply of a passthrough path."""
        target, call = self._target, self._call
        raw = event.body if command.body is None else command.body
        if self._is_listing:
            return await self._filtered(raw, command, provider)
        try:
            reply = decode_reply(raw)
        except UNREADABLE:
            return command
        if status not in _GOOD or target is None:
            return command
        if call.method == "DELETE":
            if target.id is not None and not target.below:
                await self._owners.forget(provider, self._tenant, target.id)
            return command
        # What a path below an object shows can be made by others. What a POST makes is the tenant's.
        ids = ids_made(reply) if call.method != "GET" or not target.below else []
        if ids:
            await self._owners.record(provider, self._tenant, ids)
        return command

    async def _filtered(self, raw: bytes, command: Continue, provider: str) -> Command:
        """The tenant's part of a list. Raises UpstreamError if it cannot be read."""
        try:
            listing = decode_reply(raw)
        except UNREADABLE:
            raise UpstreamError("the provider's list of objects could not be read") from None
        lists = _lists(listing)
        entries = [entry for each in lists for entry in each]
        ids = [entry_id(entry) or "" for entry in entries]
        owned = dict(zip(ids, await self._owners.owned(provider, self._tenant, ids), strict=True)) if ids else {}
        body = encode(_with_only(listing, owned))
        headers = tuple(pair for pair in command.set_headers if pair[0] != "content-length")
        removed = tuple(dict.fromkeys((*command.remove_headers, "content-encoding", "etag")))
        return replace(
            command,
            body=body,
            set_headers=(*headers, ("content-length", str(len(body)))),
            remove_headers=removed,
        )


def _lists(listing: Json) -> list[list[Json]]:
    """The lists of objects in a reply."""
    if isinstance(listing, list):
        return [listing]
    values = listing.values() if isinstance(listing, dict) else ()
    return [value for value in values if isinstance(value, list)]


def _with_only(listing: Json, owned: dict[str, bool]) -> Json:
    def part(entries: list[Json]) -> list[Json]:
        return [entry for entry in entries if owned.get(entry_id(entry) or "", False)]

    if isinstance(listing, list):
        return part(listing)
    if not isinstance(listing, dict):
        return {}
    filtered: dict[str, Json] = {
        key: part(value) if isinstance(value, list) else value for key, value in listing.items()
    }
    entries = next((value for value in filtered.values() if isinstance(value, list)), [])
    # The cursors of a list name its first and last entry. Of more pages the last one is needed to go on.
    if "first_id" in filtered:
        filtered["first_id"] = entry_id(entries[0]) if entries else None
    if "last_id" in filtered and not filtered.get("has_more"):
        filtered["last_id"] = entry_id(entries[-1]) if entries else None
    return filtered
