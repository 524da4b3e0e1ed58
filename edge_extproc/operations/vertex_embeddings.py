"""Vertex AI's predict for text embeddings: a list of instances, and a prediction with statistics for each."""

from __future__ import annotations

import msgspec

from ..codecs.json_values import UNREADABLE, maybe_text, read_body
from ..dialects.base import Headers, Route
from ..dialects.gemini_generate.request_in import address
from ..errors import BadRequest, Unsupported, UpstreamError
from ..model.call import Call, Operation, Written
from ..model.content import Json
from ..model.embedding import Embed, Embedded
from ..model.usage import Usage
from .base import Answer, Question, WholeResult
from .gemini_embeddings import dimensions_of, place, texts
from .metering.usage import prompt_usage
from .openai_embeddings import embed, embedded

NAME = "vertex_embeddings"
TITLE = "Vertex AI predict"
_INSTANCE = frozenset({"content", "task_type", "taskType", "title"})


class VertexEmbeddings(WholeResult):
    name = NAME
    title = TITLE
    operation: Operation = "embeddings"
    error_dialect = "gemini_generate"
    routes: tuple[Route, ...] = tuple(
        Route("POST", f"/{version}{project}/publishers/google/models/{{model}}:predict", "embeddings", NAME)
        for version in ("v1", "v1beta1")
        for project in ("/projects/{project}/locations/{location}", "")
    )

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        del method, headers
        model, _ = address(path.partition("?")[0])
        return Call(self.error_dialect, self.operation, model, stream=False, raw=raw, format=NAME)

    def splice(self, call: Call, model: str) -> Written:
        del model  # it is only in the path
        return Written(call.raw)

    def path(self, call: Call, model: str) -> str:
        del call
        return place(model, "predict")

    def read(self, call: Call) -> Embed:
        body = read_body(call.raw)
        rows, parameters = body.get("instances"), body.get("parameters") or {}
        if not isinstance(rows, list) or not rows or not isinstance(parameters, dict):
            raise BadRequest("instances must be a list that is not empty", param="instances")
        inputs: list[str] = []
        options: list[tuple[str | None, str | None]] = []
        dropped = {f"parameters.{key}" for key in parameters if key != "outputDimensionality"}
        for n, row in enumerate(rows):
            text = row.get("content") if isinstance(row, dict) else None
            if not isinstance(row, dict) or not isinstance(text, str):
                raise BadRequest(f"instances[{n}].content must be a string", param=f"instances[{n}].content")
            inputs.append(text)
            where = f"instances[{n}]"
            task_type = maybe_text(row.get("task_type", row.get("taskType")), f"{where}.task_type")
            options.append((task_type, maybe_text(row.get("title"), f"{where}.title")))
            dropped |= {f"instances[{n}].{key}" for key in row.keys() - _INSTANCE}
        if any(each != options[0] for each in options):
            raise Unsupported("instances", "another format", "the instances differ in task_type or title")
        task, title = options[0]
        return Embed(
            call.model,
            tuple(inputs),
            len(inputs) == 1,
            dimensions_of(parameters.get("outputDimensionality"), "parameters.outputDimensionality"),
            task,
            title,
            tuple(sorted(dropped)),
        )

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        embed_request = embed(question)
        rows: list[dict[str, Json]] = []
        for text in texts(embed_request, TITLE):
            row: dict[str, Json] = {"content": text}
            if embed_request.task is not None:
                row["task_type"] = embed_request.task
            if embed_request.title is not None:
                row["title"] = embed_request.title
            rows.append(row)
        body: dict[str, object] = {"instances": rows}
        if embed_request.dimensions is not None:
            body["parameters"] = {"outputDimensionality": embed_request.dimensions}
        return place(model, "predict"), Written(msgspec.json.encode(body), embed_request.dropped)

    def read_answer(self, body: bytes) -> Embedded:
        try:
            value = msgspec.json.decode(body)
            embeddings = [row["embeddings"] for row in value["predictions"]]
            vectors = tuple(tuple(float(each) for each in row["values"]) for row in embeddings)
        except (*UNREADABLE, KeyError, TypeError):
            raise UpstreamError("the provider's reply has no embeddings") from None
        return Embedded(vectors, None, self.read_usage(value))

    def write_answer(self, answer: Answer, call: Call) -> bytes:
        """Each prediction's statistics have its token count. For a reply of another format only the sum is known, so it
        is written only for a single prediction."""
        del call
        embeddings = embedded(answer)
        rows: list[dict[str, object]] = [{"embeddings": {"values": vector}} for vector in embeddings.vectors]
        if embeddings.usage is not None and len(rows) == 1:
            statistics = {"truncated": False, "token_count": embeddings.usage.prompt}
            rows[0] = {"embeddings": {"statistics": statistics, "values": embeddings.vectors[0]}}
        return msgspec.json.encode({"predictions": rows})

    def read_usage(self, reply: Json) -> Usage | None:
        rows = reply.get("predictions") if isinstance(reply, dict) else None
        counts = [_count(row) for row in rows] if isinstance(rows, list) else []
        if not counts or any(count is None for count in counts):
            return None
        return sum((prompt_usage(count) for count in counts), Usage())


def _count(prediction: Json) -> Json:
    inner: Json = prediction
    for key in ("embeddings", "statistics", "token_count"):
        inner = inner.get(key) if isinstance(inner, dict) else None
    return inner


PLUGIN = VertexEmbeddings()
