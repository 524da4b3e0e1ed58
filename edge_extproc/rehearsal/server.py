"""The rehearsal provider: it maps paths to operations, checks requests, and applies scripts to replies."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType

import orjson

from . import anthropic, openai, openai_media, responses
from .connection import Connection, Outcome, Request
from .format import JSON, Format, Operation, RequestMeta, Whole
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
        "/v1/completions": (OPENAI, openai_media.completions),
        "/v1/images/generations": (OPENAI, openai_media.images),
        "/v1/images/edits": (OPENAI, openai_media.images),
        "/v1/images/variations": (OPENAI, openai_media.images),
        "/v1/audio/speech": (OPENAI, openai_media.speech),
        "/v1/audio/transcriptions": (OPENAI, openai_media.transcriptions),
        "/v1/audio/translations": (OPENAI, openai_media.transcriptions),
        "/v1/moderations": (OPENAI, openai_media.moderations),
        "/v1/rerank": (OPENAI, openai_media.rerank),
        "/v1/messages": (ANTHROPIC, anthropic.messages),
        "/v1/messages/count_tokens": (ANTHROPIC, anthropic.count_tokens),
    }
)
# Their bodies are forms with files.
_FORMS = frozenset({"/v1/images/edits", "/v1/images/variations", "/v1/audio/transcriptions", "/v1/audio/translations"})
_MODELS = "/v1/models"
_REQUESTS = "/rehearsal/requests"
_HEALTH = "/rehearsal/health"

# The most keys of `fail_first` that are counted. The least recently used one is removed.
MAX_KEYS = 1024


class Rehearsal:
    """A provider on a port of its own, which runs in the event loop that starts it."""

    def __init__(self, *, record: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._records = Records() if record else None
        self._clock = clock
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._open: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._address = ("", 0)
        self.tally: Counter[Outcome] = Counter()
        """The number of replies by outcome: answered, broken by a script, abandoned by the client."""

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Starts to listen. Returns the port."""
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
        """The provider's URL, without `/v1`."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def requests(self) -> tuple[Recorded, ...]:
        """The last requests, oldest first. Empty if recording is off."""
        return self._records.all() if self._records is not None else ()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def forget(self) -> None:
        """Clears all records and counts."""
        if self._records is not None:
            self._records.clear()
        self._counts.clear()
        self.tally.clear()

    # ------------------------------------------------------------------------------------------------------- answers

    def _answer(self, request: Request) -> Performance:
        path = request.target.partition("?")[0]
        identity = f"{self._run}{next(self._numbers):016x}"
        headers = _as_mapping(request.headers)
        if path.startswith("/rehearsal/"):
            return self._answer_about_itself(request, path)
        if self._records is not None:
            self._records.add(Recorded(request.method, request.target, request.headers, request.body))
        wire_format = _format_of(path, headers)
        request_id = f"{wire_format.request_id_prefix}{identity}"
        try:
            return self._perform(request, path, headers, wire_format, identity, request_id)
        except Refused as refused:
            return _refusal(refused, wire_format, request_id)

    def _perform(
        self,
        request: Request,
        path: str,
        headers: Mapping[str, str],
        wire_format: Format,
        identity: str,
        request_id: str,
    ) -> Performance:
        if request.is_too_large:
            raise Refused("the request is too large", status=413)
        is_models = path == _MODELS or path.startswith(f"{_MODELS}/")
        if not is_models and path not in _OPERATIONS:
            raise Refused(f"there is no API at {path}", status=404, code="unknown_url")
        allowed = "GET" if is_models else "POST"
        if request.method != allowed:
            raise Refused(f"{path} accepts {allowed}, not {request.method}", status=405)
        wire_format.check(headers)
        read = openai_media.read_form if path in _FORMS else _read_body
        body = None if is_models else read(request.body, headers)
        script = self._script(body, request.headers)
        if script.status != 200:
            return _refusal(_scripted_error(script.status), wire_format, request_id, script)
        if body is None:
            listed = wire_format.write_models(path.removeprefix(_MODELS).strip("/") or None)
            return stage(Whole(listed), script, wire_format, request_id)
        _, operation = _OPERATIONS[path]
        answer = operation(body, RequestMeta(script, identity, int(self._clock())))
        return stage(answer, script, wire_format, request_id)

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
        count = self._counts[key] = self._counts.pop(key, 0) + 1
        if len(self._counts) > MAX_KEYS:
            self._counts.popitem(last=False)
        return script.failing() if count <= script.fail_first else script.healed()

    def _answer_about_itself(self, request: Request, path: str) -> Performance:
        match request.method, path:
            case "GET", str(known) if known == _HEALTH:
                return _plain(200, {"status": "ok"})
            case "GET", str(known) if known == _REQUESTS and self._records is not None:
                return _plain(200, {"data": [recorded.as_json() for recorded in self.requests], "tally": self.tally})
            case "DELETE", str(known) if known == _REQUESTS and self._records is not None:
                self.forget()
                return _plain(200, {"data": [], "tally": {}})
            case _:
                return _plain(404, {"error": f"{request.method} {path} is not available; it may need --record"})


def _format_of(path: str, headers: Mapping[str, str]) -> Format:
    """The format of the path. If both formats or neither have the path, the version header decides."""
    if path in _OPERATIONS:
        return _OPERATIONS[path][0]
    return ANTHROPIC if "anthropic-version" in headers else OPENAI


def _read_body(body: bytes, headers: Mapping[str, str]) -> Fields:
    if headers.get("content-encoding", "identity") != "identity":
        raise Refused("compressed requests are not supported", status=415)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Refused(f"content-type: {JSON} is expected here", status=415)
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise Refused("the body is not JSON", code="invalid_json") from exc
    if not isinstance(read, dict):
        raise Refused("the body is not a JSON object", code="invalid_json")
    return Fields(read)


def _as_mapping(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The headers by name. Duplicates are joined, as HTTP defines, so that a duplicate credential is invalid."""
    mapping: dict[str, str] = {}
    for name, value in headers:
        mapping[name] = f"{mapping[name]}, {value}" if name in mapping else value
    return mapping


def _scripted_error(status: int) -> Refused:
    return Refused(f"the rehearsal answers {status}, as requested", status=status)


def _refusal(refused: Refused, wire_format: Format, request_id: str, script: Script | None = None) -> Performance:
    script = script or Script()
    body = Whole(wire_format.write_error(refused, request_id))
    headers = [("retry-after", script.retry_after)] if script.retry_after else []
    return stage(body, script, wire_format, request_id, status=refused.status, headers=headers)


def _plain(status: int, value: object) -> Performance:
    body = orjson.dumps(value)
    return Performance(status, (("content-type", JSON), ("content-length", str(len(body)))), (body,), len(body))
