"""The door alone: who is calling, for a service that is not ours. What `ext_authz` asks.

Pure, and without a settlement: nothing is used, so nothing is billed. Where the request is one for a model, ext_proc
asks for the same credential again.
"""

from __future__ import annotations

from ..errors import EdgeError
from ..model.principal import Principal
from . import headers as header_rules
from .commands import Reply
from .events import Headers
from .ports import Gateway


def admit(gateway: Gateway, headers: Headers) -> Principal | Reply:
    """Who it is; or what to answer, in the words of the API that was called."""
    try:
        return gateway.authenticator.authenticate(headers)
    except EdgeError as error:
        fault = error.fault()
    path = (header_rules.first(headers, ":path") or "").partition("?")[0]
    voice = gateway.routes.voice(path, headers) or gateway.dialects[gateway.default_dialect]
    status, told, body = voice.write_error(fault)
    empty = header_rules.first(headers, ":method") == "HEAD"
    return Reply(status, tuple(told), b"" if empty else body, f"edge_{fault.code or 'error'}")
