"""The rehearsal provider: which path is which operation, who may ask, and what the script makes of the answer."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType

import orjson

from . import anthropic, openai, responses
from .connection import Connection, Outcome, Request
from .format import JSON, Asking, Format, Operation, Whole
from .reading import Fields, Refused
from .record import Recorded, Records
from .script import BadScript, Script, read_script
from .stage import Performance, stage

OPENAI = openai.OpenAI()
RESPONSES = responses.Responses()
ANTHROPIC = anthropic.Anthropic()

_OPERATIONS: Mapping[str, tuple[Format, Operation]] = MappingProxyType(
    {
        "/v1/chat/completions": (OPENAI, openai.chat),
        "/v1/responses": (RESPONSES, responses.responses),
        "/v1/embeddings": (OPENAI, openai.embeddings),
        "/v1/messages": (ANTHROPIC, anthropic.messages),
        "/v1/messages/count_tokens": (ANTHROPIC, anthropic.count_tokens),
    }
)
_MODELS = "/v1/models"
_REQUESTS = "/rehearsal/requests"
_HEALTH = "/rehearsal/health"

# So many different keys of `fail_first` are counted; the longest unused is forgotten.
MAX_KEYS = 1024


class Rehearsal:
    """A provider on a port of its own. Everything happens in the event loop that started it."""

    def __init__(self, *, record: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._records = Records() if record else None
        self._clock = clock
        self._tries: OrderedDict[str, int] = OrderedDict()
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._open: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._address = ("", 0)
        self.tally: Counter[Outcome] = Counter()
        """How the answers ended: answered, broken as told, abandoned by the client."""

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listens, and says on which port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._answer, self.tally, self._open), host, port)
        self._address = (host, int(self._server.sockets[0].getsockname()[1]))
        return self._address[1]

    async def stop(self) -> None:
        """Stops listening and ends every connection."""
        if self._server is None:
            return
        self._server.close()
        await asyncio.gather(*(connection.close() for connection in tuple(self._open)))
        await self._server.wait_closed()
        self._server = None

    @property
    def url(self) -> str:
        """Where the provider is, without `/v1`."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def requests(self) -> tuple[Recorded, ...]:
        """The last requests, oldest first; none unless it was told to record."""
        return self._records.all() if self._records is not None else ()

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    def forget(self) -> None:
        """As if nothing had been asked."""
        if self._records is not None:
            self._records.clear()
        self._tries.clear()
        self.tally.clear()

    # ------------------------------------------------------------------------------------------------------- answers

    def _answer(self, request: Request) -> Performance:
        path = request.target.partition("?")[0]
        identity = f"{self._run}{next(self._numbers):016x}"
        headers = _as_mapping(request.headers)
        if path.startswith("/rehearsal/"):
            return self._answer_about_itself(request, path)
        if self._records is not None:
            self._records.keep(Recorded(request.method, request.target, request.headers, request.body))
        spoken = _spoken(path, headers)
        request_id = f"{spoken.request_id_prefix}{identity}"
        try:
            return self._perform(request, path, headers, spoken, identity, request_id)
        except Refused as refused:
            return _refusal(refused, spoken, request_id)

    def _perform(
        self, request: Request, path: str, headers: Mapping[str, str], spoken: Format, identity: str, request_id: str
    ) -> Performance:
        if request.is_too_large:
            raise Refused("the request is too large", status=413)
        is_models = path == _MODELS or path.startswith(f"{_MODELS}/")
        if not is_models and path not in _OPERATIONS:
            raise Refused(f"no API lives at {path}", status=404, code="unknown_url")
        allowed = "GET" if is_models else "POST"
        if request.method != allowed:
            raise Refused(f"{path} takes {allowed}, not {request.method}", status=405)
        spoken.check(headers)
        body = None if is_models else _read_body(request.body, headers)
        script = self._script(body, request.headers)
        if script.status != 200:
            return _refusal(_told(script.status), spoken, request_id, script)
        if body is None:
            listed = spoken.write_models(path.removeprefix(_MODELS).strip("/") or None)
            return stage(Whole(listed), script, spoken, request_id)
        _, operation = _OPERATIONS[path]
        answer = operation(body, Asking(script, identity, int(self._clock())))
        return stage(answer, script, spoken, request_id)

    def _script(self, body: Fields | None, headers: tuple[tuple[str, str], ...]) -> Script:
        model = body.values.get("model") if body is not None else None
        name = model if isinstance(model, str) else ""
        try:
            script = read_script(name, headers)
        except BadScript as exc:
            raise Refused(str(exc), param="model", code="bad_script") from exc
        if script.fail_first is None:
            return script
        key = script.key or name
        tried = self._tries[key] = self._tries.pop(key, 0) + 1
        if len(self._tries) > MAX_KEYS:
            self._tries.popitem(last=False)
        return script.failing() if tried <= script.fail_first else script.healed()

    def _answer_about_itself(self, request: Request, path: str) -> Performance:
        match request.method, path:
            case "GET", str(known) if known == _HEALTH:
                return _plain(200, {"status": "ok"})
            case "GET", str(known) if known == _REQUESTS and self._records is not None:
                return _plain(200, {"data": [kept.as_json() for kept in self.requests], "tally": self.tally})
            case "DELETE", str(known) if known == _REQUESTS and self._records is not None:
                self.forget()
                return _plain(200, {"data": [], "tally": {}})
            case _:
                return _plain(404, {"error": f"nothing to {request.method} at {path}; are requests recorded at all?"})


def _spoken(path: str, headers: Mapping[str, str]) -> Format:
    """The format of the path; where both have the path, or neither, the version header tells."""
    if path in _OPERATIONS:
        return _OPERATIONS[path][0]
    return ANTHROPIC if "anthropic-version" in headers else OPENAI


def _read_body(body: bytes, headers: Mapping[str, str]) -> Fields:
    if headers.get("content-encoding", "identity") != "identity":
        raise Refused("a compressed request is not taken", status=415)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Refused(f"content-type: {JSON} is wanted here", status=415)
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise Refused("the body is no JSON", code="invalid_json") from exc
    if not isinstance(read, dict):
        raise Refused("the body is no JSON object", code="invalid_json")
    return Fields(read)


def _as_mapping(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Repeated headers joined, as HTTP says: a credential that was sent twice is then no credential that fits."""
    mapping: dict[str, str] = {}
    for name, value in headers:
        mapping[name] = f"{mapping[name]}, {value}" if name in mapping else value
    return mapping


def _told(status: int) -> Refused:
    return Refused(f"the rehearsal answers {status}, as it was told", status=status)


def _refusal(refused: Refused, spoken: Format, request_id: str, script: Script | None = None) -> Performance:
    script = script or Script()
    body = Whole(spoken.write_error(refused, request_id))
    headers = [("retry-after", script.retry_after)] if script.retry_after else []
    return stage(body, script, spoken, request_id, status=refused.status, headers=headers)


def _plain(status: int, value: object) -> Performance:
    body = orjson.dumps(value)
    return Performance(status, (("content-type", JSON), ("content-length", str(len(body)))), (body,), len(body))
