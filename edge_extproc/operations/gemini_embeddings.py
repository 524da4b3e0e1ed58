"""Gemini's embedContent and batchEmbedContents: the model and the verb are in the path."""

from __future__ import annotations

import msgspec

from ..codecs import json_splice
from ..codecs.json_values import UNREADABLE, decode, maybe_text, read_body, wrong
from ..dialects.base import Headers, Route
from ..dialects.gemini_generate import PLUGIN as GEMINI
from ..dialects.gemini_generate.fields import as_count
from ..dialects.gemini_generate.request_in import address
from ..errors import BadRequest, Unsupported, UpstreamError
from ..model.call import Call, Operation, Written
from ..model.content import Json
from ..model.embedding import Embed, Embedded
from ..model.usage import Usage
from .base import Answer, Question, WholeResult
from .metering.usage import prompt_usage
from .openai_embeddings import embed, embedded, spliced

NAME = "gemini_embeddings"
TITLE = "Gemini embeddings"
_ONE, _MANY = "embedContent", "batchEmbedContents"
_KNOWN = frozenset({"model", "content", "taskType", "task_type", "title", "outputDimensionality"}) | {
    "output_dimensionality"
}
_rows = msgspec.json.Decoder(list[msgspec.Raw])


def _spliced_rows(requests: bytes, name: bytes) -> list[bytes]:
    try:
        rows = _rows.decode(requests)
    except ValueError:  # the body is valid JSON, so this is not a list
        raise wrong("requests", "a list", decode(requests)) from None
    spliced_rows: list[bytes] = []
    for i, row in enumerate(rows):
        try:
            spliced_rows.append(json_splice.splice(bytes(row), {"model": name}))
        except ValueError as exc:
            raise BadRequest(f"requests[{i}] cannot be read: {exc}", param=f"requests[{i}]") from None
    return spliced_rows


class GeminiEmbeddings(WholeResult):
    name = NAME
    title = TITLE
    operation: Operation = "embeddings"
    error_dialect = "gemini_generate"
    routes: tuple[Route, ...] = (
        *(
            Route("POST", f"{root}/{{model}}:{verb}", "embeddings", NAME)
            for root in ("/v1beta/models", "/v1/models")
            for verb in (_ONE, _MANY)
        ),
        *(
            Route("POST", f"/{version}{project}/publishers/google/models/{{model}}:{_ONE}", "embeddings", NAME)
            for version in ("v1", "v1beta1")
            for project in ("/projects/{project}/locations/{location}", "")
        ),
    )

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        del method, headers
        model, verb = address(path.partition("?")[0])
        member = "requests" if verb == _MANY else "content"
        try:
            has_member = member in json_splice.members_of(raw)
        except ValueError as exc:
            raise BadRequest(f"the body cannot be read: {exc}") from None
        if not has_member:
            raise BadRequest(f"{member} is missing", param=member)
        return Call(self.error_dialect, self.operation, model, stream=False, raw=raw, format=NAME, target=verb)

    def splice(self, call: Call, model: str) -> Written:
        """Changes the model in the body if the caller gave it there, and in each request of a batch, which requires
        it."""
        name = msgspec.json.encode(f"models/{model}")
        members = json_splice.members_of(call.raw)
        changes: dict[str, json_splice.Change] = {"model": name} if "model" in members else {}
        if call.target == _MANY:
            changes["requests"] = b"[" + b",".join(_spliced_rows(bytes(members["requests"]), name)) + b"]"
        return spliced(call.raw, changes) if changes else Written(call.raw)

    def path(self, call: Call, model: str) -> str:
        return place(model, call.target)

    def read(self, call: Call) -> Embed:
        body = read_body(call.raw)
        if call.target == _ONE:
            return _read(call.model, [body], single=True)
        rows = body.get("requests")
        if not isinstance(rows, list) or not rows:
            raise BadRequest("requests must be a list that is not empty", param="requests")
        return _read(call.model, rows, single=False)

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        embed_request = embed(question)
        rows = [_row(embed_request, text, model) for text in texts(embed_request, TITLE)]
        if len(rows) == 1:
            return place(model, _ONE), Written(msgspec.json.encode(rows[0]), embed_request.dropped)
        return place(model, _MANY), Written(msgspec.json.encode({"requests": rows}), embed_request.dropped)

    def read_answer(self, body: bytes) -> Embedded:
        try:
            value = msgspec.json.decode(body)
            rows = value["embeddings"] if "embeddings" in value else [value["embedding"]]
            vectors = tuple(tuple(float(each) for each in row["values"]) for row in rows)
        except (*UNREADABLE, KeyError, TypeError):
            raise UpstreamError("the provider's reply has no embeddings") from None
        return Embedded(vectors, None, self.read_usage(value))

    def write_answer(self, answer: Answer, call: Call) -> bytes:
        embeddings = embedded(answer)
        rows = [{"values": vector} for vector in embeddings.vectors]
        body: dict[str, object] = {"embedding": rows[0]} if call.target == _ONE else {"embeddings": rows}
        if embeddings.usage is not None:
            body["usageMetadata"] = {"promptTokenCount": embeddings.usage.prompt}
        return msgspec.json.encode(body)

    def read_usage(self, reply: Json) -> Usage | None:
        usage = reply.get("usageMetadata") if isinstance(reply, dict) else None
        if not isinstance(usage, dict) or "promptTokenCount" not in usage:
            return None
        return prompt_usage(usage["promptTokenCount"])


def place(model: str, verb: str) -> str:
    """The path below the base URL. Raises BadRequest if the model's name could change the path."""
    return GEMINI.path("chat", model, stream=False).removesuffix("generateContent") + verb


def texts(embed_request: Embed, title: str) -> tuple[str, ...]:
    """The inputs, if all of them are texts. Raises Unsupported otherwise."""
    only_texts = tuple(each for each in embed_request.inputs if isinstance(each, str))
    if len(only_texts) != len(embed_request.inputs):
        raise Unsupported("input", title, "the API accepts text, not token numbers")
    return only_texts


def _row(embed_request: Embed, text: str, model: str) -> dict[str, Json]:
    row: dict[str, Json] = {"model": f"models/{model}", "content": {"parts": [{"text": text}]}}
    if embed_request.task is not None:
        row["taskType"] = embed_request.task
    if embed_request.title is not None:
        row["title"] = embed_request.title
    if embed_request.dimensions is not None:
        row["outputDimensionality"] = embed_request.dimensions
    return row


def _read(model: str, rows: list[Json], *, single: bool) -> Embed:
    inputs: list[str] = []
    options: list[tuple[int | None, str | None, str | None]] = []
    dropped: set[str] = set()
    for n, row in enumerate(rows):
        if not isinstance(row, dict):
            raise BadRequest(f"requests[{n}] must be a JSON object", param=f"requests[{n}]")
        inputs.append(_text(row.get("content"), "content" if single else f"requests[{n}].content"))
        where = "" if single else f"requests[{n}]."
        options.append(
            (
                dimensions_of(
                    row.get("outputDimensionality", row.get("output_dimensionality")), f"{where}outputDimensionality"
                ),
                maybe_text(row.get("taskType", row.get("task_type")), f"{where}taskType"),
                maybe_text(row.get("title"), f"{where}title"),
            )
        )
        dropped |= {key if single else f"requests[{n}].{key}" for key in row.keys() - _KNOWN}
    if any(each != options[0] for each in options):
        raise Unsupported(
            "requests", "another format", "the requests differ in outputDimensionality, taskType or title"
        )
    dimensions, task, title = options[0]
    return Embed(
        model,
        tuple(inputs),
        single,
        dimensions,
        task,
        title,
        tuple(sorted(dropped)),
    )


def dimensions_of(value: Json, path: str) -> int | None:
    """The length of the vectors. Protobuf's JSON accepts "768" and 768.0 as 768. Raises BadRequest."""
    return None if value is None else as_count(value, path)


def _text(content: Json, where: str) -> str:
    parts = content.get("parts") if isinstance(content, dict) else None
    parts = [parts] if isinstance(parts, dict) else parts  # Google accepts a single value instead of a list
    if not isinstance(parts, list) or not parts:
        raise BadRequest(f"{where}.parts must be a list that is not empty", param=where)
    parts_text: list[str] = []
    for n, part in enumerate(parts):
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            raise Unsupported(f"{where}.parts[{n}]", "another format", "the API embeds only text")
        parts_text.append(text)
    return "".join(parts_text)


PLUGIN = GeminiEmbeddings()
