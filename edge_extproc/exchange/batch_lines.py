"""Reads the requests of a batch: each must be one that its caller may send alone, and all have a cost.

OpenAI's batches are uploaded as a file with a request on each line; Anthropic's are in the body that begins the batch.
The models in them are the provider's own names, because nothing translates them later.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from decimal import ROUND_CEILING
from typing import Any, NamedTuple

import msgspec

from ..codecs import multipart
from ..codecs.content_type import media_type
from ..codecs.json_values import UNREADABLE
from ..errors import BadRequest, CallerError, Forbidden, NoSuchModel
from ..model.call import Call
from ..model.globs import allows
from ..model.plan import Candidate
from ..records.batches import MOST_MODELS, BatchCost
from .candidates import may_use
from .phases import Identified
from .ports import Gateway
from .worst_case import reservation_request

# Requests that are read before other work on large bodies has its turn.
_SLICE = 256
_TEXT, _FILE = frozenset({"purpose"}), frozenset({"file"})


class _Line(msgspec.Struct):
    url: str
    body: msgspec.Raw


class _Request(msgspec.Struct):
    params: msgspec.Raw


class _Requests(msgspec.Struct):
    requests: list[_Request]


class _Purpose(msgspec.Struct):
    purpose: Any = None


_purpose = msgspec.json.Decoder(_Purpose)
_line = msgspec.json.Decoder(_Line)
_requests = msgspec.json.Decoder(_Requests)


class BatchRequest(NamedTuple):
    url: str
    body: bytes


class BatchReading:
    """Reads the requests of a batch in slices: checks that this caller may send each, and adds up what they cost.

    Of a caller without restrictions, requests that cannot be read are passed on to the provider, and the cost is not
    known."""

    def __init__(self, gateway: Gateway, identified: Identified, call: Call, provider: str) -> None:
        self._gateway = gateway
        self._identified = identified
        self._provider = provider
        self._requests = batch_requests(call)
        self._restricts = identified.rights is not None or identified.principal.models != ("*",)
        self._number = self._size = self._tokens = self._assumed = 0
        self._micro: int | None = 0
        self._models: dict[str, None] = {}
        self._urls: dict[str, None] = {}
        self._is_lost = False

    def step(self) -> bool:
        """Reads the next requests. False: all are read. Raises the error of the first request that this caller may not
        send. Its time is linear in their length."""
        try:
            for _ in range(_SLICE):
                request = next(self._requests, None)
                if request is None:
                    return False
                self._number += 1
                self._read(request)
        except UNREADABLE:
            if self._restricts:
                raise BadRequest(f"request {self._number + 1} of the batch cannot be read") from None
        except CallerError as error:
            if self._restricts:
                raise _numbered(error, self._number) from None
        else:
            return True
        self._is_lost = True
        return False

    @property
    def cost(self) -> BatchCost | None:
        """None: it is no batch, or a request cannot be read."""
        if self._is_lost or not self._number:
            return None
        url = next(iter(self._urls)) if len(self._urls) == 1 else ""
        models = tuple(self._models)
        return BatchCost(self._number, self._size, self._tokens, self._micro, self._assumed, models, url)

    def _read(self, request: BatchRequest) -> None:
        gateway, identified = self._gateway, self._identified
        url = request.url.partition("?")[0]
        dialect, route = gateway.routes.match("POST", url)
        if identified.rights is not None:
            identified.rights.may_do(route.operation)
        if route.format:
            call = gateway.formats[route.format].read_call(request.body, "POST", (), request.url)
        else:
            call = dialect.read_call(request.body, route.operation, (), request.url)
        if self._restricts:
            _check(gateway, identified, call, self._provider)
        if gateway.batches is not None:
            self._add(call, url)

    def _add(self, call: Call, url: str) -> None:
        gateway = self._gateway
        provider = gateway.providers[self._provider]
        most = reservation_request(
            call,
            [Candidate(self._provider, call.model)],
            gateway.providers,
            gateway.prices,
            gateway.bounds,
            gateway.prompt_search,
            priced=True,
        )
        micro = most.micro_dollars
        if micro is not None:
            factor = gateway.prices.batch_factor(provider.price_list, call.model, host=provider.name)
            micro = int((micro * factor).to_integral_value(ROUND_CEILING))
        self._micro = None if micro is None or self._micro is None else self._micro + micro
        self._assumed += most.assumed if micro is None else micro
        self._tokens += most.tokens
        self._size += len(call.raw)
        if len(self._models) < MOST_MODELS:
            self._models[call.model] = None
        self._urls[url] = None


def batch_requests(call: Call) -> Iterator[BatchRequest]:
    """The requests of a batch; none if the call uploads or begins none. Raises ValueError for what is not JSON."""
    path = call.target.partition("?")[0]
    if path == "/messages/batches":
        yield from (BatchRequest("/v1/messages", bytes(each.params)) for each in _requests.decode(call.raw).requests)
    elif path == "/uploads" and _purpose.decode(call.raw).purpose == "batch":
        raise BadRequest("a batch is checked as a whole: upload it as one file, to /files", param="purpose")
    elif path == "/files" and media_type(call.content_type) == "multipart/form-data":
        spans = multipart.fields(call.raw, call.content_type, _TEXT, files=_FILE)
        if "file" in spans and call.raw[slice(*spans.get("purpose", (0, 0)))].strip() == b"batch":
            for line in call.raw[slice(*spans["file"])].splitlines():
                if line.strip():
                    read = _line.decode(line)
                    yield BatchRequest(read.url, bytes(read.body))


def _check(gateway: Gateway, identified: Identified, call: Call, provider: str) -> None:
    principal, rights = identified.principal, identified.rights
    served = gateway.models.candidates(call.model) if allows(principal.models, call.model) else ()
    own = next((c for c in served if (c.provider, c.model) == (provider, call.model)), None)
    if own is None:
        raise NoSuchModel(f"there is no model {call.model!r} for this key at the provider of the batch", param="model")
    if not may_use(rights, call, own):
        raise Forbidden(f"this caller may not use the model {call.model!r} so")


def _numbered(error: CallerError, number: int) -> CallerError:
    numbered = copy(error)
    numbered.message = f"request {number} of the batch: {error.message}"
    return numbered
