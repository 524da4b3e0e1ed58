"""The headers that repeat a part of the body. They are never believed instead of it: a difference is refused.

The revision 2026-07-28 requires them. In earlier ones they are optional here, and compared where they are.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping

from ...codecs.json_rpc import RpcMessage
from ...model.content import Json
from ..events import Headers
from .errors import HeaderMismatch
from .methods import FIRST_MODERN, MIRRORED

VERSION, METHOD, NAME, SESSION, LAST_EVENT = (
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "mcp-session-id",
    "last-event-id",
)
PARAMETER_PREFIX = "mcp-param-"
_ONCE = frozenset({VERSION, METHOD, NAME, SESSION, LAST_EVENT})
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_VERSION_IN_BODY = "io.modelcontextprotocol/protocolVersion"
_ENCODED = re.compile(r"=\?base64\?(.*)\?=")


def check_once(headers: Headers) -> None:
    """Raises HeaderMismatch if a header of the protocol is there twice: the server may read the other one."""
    seen: set[str] = set()
    for name, _ in headers:
        if name in _ONCE or name.startswith(PARAMETER_PREFIX):
            if name in seen:
                raise HeaderMismatch(f"the header {name} must be there once")
            seen.add(name)


def is_modern(values: Mapping[str, str]) -> bool:
    """Whether the request is of a revision without sessions."""
    version = values.get(VERSION, "")
    return _DATE.fullmatch(version) is not None and version >= FIRST_MODERN


def check_mirrored(values: Mapping[str, str], message: RpcMessage) -> None:
    """Raises HeaderMismatch."""
    params = message.params or {}
    meta = params.get("_meta")
    in_body = meta.get(_VERSION_IN_BODY) if isinstance(meta, dict) else None
    required = is_modern(values)
    if in_body is not None and in_body != values.get(VERSION):
        raise HeaderMismatch(f"the header {VERSION} is not {_VERSION_IN_BODY} of the body")
    if message.kind == "response":
        return
    method = values.get(METHOD)
    if method != message.method and (method is not None or (required and message.kind == "request")):
        raise HeaderMismatch(f"the header {METHOD} is not the method of the body")
    member, name = MIRRORED.get(message.method), values.get(NAME)
    if name is None and (member is None or not required):
        return
    # Some clients repeat the name or URI of other methods, too.
    member = member or ("name" if isinstance(params.get("name"), str) else "uri")
    repeated = params.get(member)
    if not isinstance(repeated, str) or decoded(name) != repeated:
        raise HeaderMismatch(f"the header {NAME} is not params.{member} of the body")


def decoded(value: str | None) -> str | None:
    """The value of a header that may be in base64. None: it cannot be read."""
    match = _ENCODED.fullmatch(value) if value is not None else None
    if match is None:
        return value
    try:
        raw = base64.b64decode(match[1], validate=True)
        text = raw.decode()
    except (binascii.Error, ValueError):
        return None
    return text if base64.b64encode(raw).decode() == match[1] else None


def check_parameters(headers: Headers, message: RpcMessage) -> None:
    """Raises HeaderMismatch if a header repeats what no argument says: guardrails read the arguments only."""
    arguments = set(_leaves((message.params or {}).get("arguments")))
    for name, value in headers:
        if name.startswith(PARAMETER_PREFIX) and decoded(value) not in arguments:
            raise HeaderMismatch(f"the header {name} repeats no argument of the body")


def has_parameters(headers: Headers) -> bool:
    return any(name.startswith(PARAMETER_PREFIX) for name, _ in headers)


def _leaves(value: Json) -> Iterator[str]:
    """The texts, integers and booleans of an object and of objects in it, as headers write them."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as members:
                waiting.extend(members.values())
            case bool() as flag:
                yield "true" if flag else "false"
            case str() | int() as leaf:
                yield str(leaf)
            case _:
                continue
