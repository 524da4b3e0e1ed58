"""Converts between ext_authz's protobuf messages and the types of the checker. The only module that names these
messages."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from ..errors import PeerError
from ..exchange.check import AuthzRequest, CheckAllowed, CheckDenied, Verdict
from ..exchange.commands import Pairs
from ..exchange.events import Headers
from ..pb.auth_pb2 import AttributeContext, CheckRequest, CheckResponse
from ..pb.core_pb2 import HeaderValueOption

# Values of google.rpc.Code. Envoy only distinguishes OK from other codes; the others are for people.
_OK, _PERMISSION_DENIED, _UNAUTHENTICATED = 0, 7, 16


def to_request(message: bytes) -> AuthzRequest:
    """Decodes a CheckRequest. Raises PeerError."""
    try:
        attributes = CheckRequest.FromString(message).attributes
    except DecodeError as exc:
        raise PeerError("this is not a CheckRequest") from exc
    http = attributes.request.http
    return AuthzRequest(http.method, http.path, _headers(http), dict(attributes.context_extensions), http.host or None)


def _headers(http: AttributeContext.HttpRequest) -> Headers:
    """The request's headers, unchanged if the filter has encode_raw_headers. Otherwise Envoy has joined repeated
    headers by commas, which makes a key or token in them invalid."""
    if http.HasField("header_map"):
        pairs = (
            (h.key.lower(), h.raw_value.decode("utf-8", "surrogateescape") or h.value) for h in http.header_map.headers
        )
    else:
        pairs = ((name.lower(), value) for name, value in http.headers.items())
    return tuple((name, value) for name, value in pairs if not name.startswith(":"))


def to_answer(verdict: Verdict) -> bytes:
    """Encodes a CheckResponse."""
    response = CheckResponse()
    match verdict:
        case CheckAllowed():
            response.status.code = _OK
            ok = response.ok_response
            ok.SetInParent()
            _set(ok.headers, verdict.set_headers)
            ok.headers_to_remove.extend(verdict.remove_headers)
            _set(ok.response_headers_to_add, verdict.response_headers)
            for name, text in verdict.metadata.items():
                response.dynamic_metadata.fields[name].string_value = text
        case CheckDenied():
            response.status.code = _UNAUTHENTICATED if verdict.status == 401 else _PERMISSION_DENIED
            denied = response.denied_response
            denied.status.code = verdict.status  # type: ignore[assignment]  # enums of proto3 accept unknown values
            _set(denied.headers, verdict.headers)
            # A header may contain text that is not UTF-8; the gateway's own bodies do not.
            denied.body = verdict.body.decode("utf-8", "replace")
    return response.SerializeToString()


def _set(options: object, pairs: Pairs) -> None:
    for name, value in pairs:
        option: HeaderValueOption = options.add()  # type: ignore[attr-defined]  # a repeated field has no public type
        option.header.key = name
        option.header.value = value.encode("utf-8", "replace").decode()
        option.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
