"""Checks the requests of a batch: each must be one that its caller may send alone.

OpenAI's batches are uploaded as a file with a request on each line; Anthropic's are in the body that begins the batch.
The models in them are the provider's own names, because nothing translates them later.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, NamedTuple

import msgspec

from ..codecs import multipart
from ..codecs.content_type import media_type
from ..codecs.json_values import UNREADABLE
from ..errors import BadRequest, CallerError, Forbidden, NoSuchModel
from ..model.call import Call
from ..model.globs import allows
from .candidates import may_use
from .phases import Identified
from .ports import Gateway

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


def check_batch(gateway: Gateway, identified: Identified, call: Call) -> None:
    """Raises the error of the first request that this caller may not send. A caller without restrictions may send any.
    Its time is linear in the length of the body."""
    principal, rights = identified.principal, identified.rights
    if call.method != "POST" or (rights is None and principal.models == ("*",)):
        return
    endpoint = gateway.endpoints.at(identified.received.path)
    if endpoint is None:
        return
    number = 0
    try:
        for request in batch_requests(call):
            number += 1
            _check(gateway, identified, request, endpoint.provider)
    except UNREADABLE:
        raise BadRequest(f"request {number + 1} of the batch cannot be read") from None
    except CallerError as error:
        raise _numbered(error, number) from None


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


def _check(gateway: Gateway, identified: Identified, request: BatchRequest, provider: str) -> None:
    principal, rights = identified.principal, identified.rights
    dialect, route = gateway.routes.match("POST", request.url.partition("?")[0])
    if rights is not None:
        rights.may_do(route.operation)
    if route.format:
        call = gateway.formats[route.format].read_call(request.body, "POST", (), request.url)
    else:
        call = dialect.read_call(request.body, route.operation, (), request.url)
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
