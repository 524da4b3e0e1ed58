"""Amazon Titan's text embeddings, by Bedrock's InvokeModel: one text in, one vector out."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from ..codecs.json_values import UNREADABLE, read_body
from ..dialects.base import Headers, Route
from ..dialects.bedrock_converse.request_in import model_of
from ..errors import BadRequest, Unsupported, UpstreamError
from ..model.call import Call, Operation, Written
from ..model.content import Json
from ..model.embedding import Embed, Embedded
from ..model.usage import Usage
from .base import Answer, Question, WholeResult
from .gemini_embeddings import texts
from .metering.usage import prompt_usage
from .openai_embeddings import embed, embedded, removed_purpose

NAME = "titan_embeddings"
TITLE = "Amazon Titan embeddings"


class TitanEmbeddings(WholeResult):
    name = NAME
    title = TITLE
    operation: Operation = "embeddings"
    error_dialect = "bedrock_converse"
    routes: tuple[Route, ...] = (Route("POST", "/model/{model}/invoke", "embeddings", NAME, member="inputText"),)

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        del method, headers
        if not isinstance(read_body(raw).get("inputText"), str):
            raise BadRequest(
                "inputText is missing: this path is for Titan's embeddings; use /converse for other models",
                param="inputText",
            )
        return Call(self.error_dialect, self.operation, model_of(path)[0], stream=False, raw=raw, format=NAME)

    def splice(self, call: Call, model: str) -> Written:
        del model  # it is only in the path
        return Written(call.raw)

    def path(self, call: Call, model: str) -> str:
        del call
        return _path(model)

    def read(self, call: Call) -> Embed:
        body = read_body(call.raw)
        text, dimensions = body["inputText"], body.get("dimensions")
        if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool)):
            raise BadRequest(f"dimensions is {dimensions!r}; give a whole number", param="dimensions")
        dropped = tuple(sorted(key for key in body if key not in ("inputText", "dimensions")))
        return Embed(call.model, (str(text),), single=True, dimensions=dimensions, dropped=dropped)

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        """The first version of Titan's model does not accept `dimensions`."""
        embed_request = embed(question)
        (text, *more) = texts(embed_request, TITLE)
        if more:
            raise Unsupported("input", TITLE, "the API accepts one text per request")
        if not text:
            raise BadRequest("input is empty: give a text", param="input")
        body: dict[str, Json] = {"inputText": text}
        dropped = {*embed_request.dropped}
        if embed_request.dimensions is not None and "embed-text-v1" in model:
            dropped.add("dimensions")
        elif embed_request.dimensions is not None:
            body["dimensions"] = embed_request.dimensions
        dropped |= removed_purpose(embed_request)
        return _path(model), Written(msgspec.json.encode(body), tuple(sorted(dropped)))

    def read_answer(self, body: bytes) -> Embedded:
        try:
            value = msgspec.json.decode(body)
            vector = tuple(float(each) for each in value["embedding"])
        except (*UNREADABLE, KeyError, TypeError):
            raise UpstreamError("the provider's reply has no embedding") from None
        return Embedded((vector,), None, self.read_usage(value))

    def write_answer(self, answer: Answer, call: Call) -> bytes:
        del call
        embeddings = embedded(answer)
        count = {} if embeddings.usage is None else {"inputTextTokenCount": embeddings.usage.prompt}
        return msgspec.json.encode({"embedding": embeddings.vectors[0] if embeddings.vectors else (), **count})

    def read_usage(self, reply: Json) -> Usage | None:
        is_reported = isinstance(reply, dict) and reply.get("inputTextTokenCount") is not None
        return prompt_usage(reply["inputTextTokenCount"]) if is_reported and isinstance(reply, dict) else None


def _path(model: str) -> str:
    return f"/model/{quote(model, safe='')}/invoke"


PLUGIN = TitanEmbeddings()
