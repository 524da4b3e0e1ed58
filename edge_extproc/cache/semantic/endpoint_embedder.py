"""Vectors from an endpoint of OpenAI's format: POST /embeddings.

The host comes from the configuration alone: redirects are not followed, and the proxies of the environment are not
used. No error contains a URL, a header or a text. Each request is charged to the tenant of the question.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence

import httpx2
import msgspec
import numpy as np

from ...model.frozen_dataclass import frozen_dataclass
from ...model.usage import Usage
from .base import EmbeddingUse, SemanticFailure, Vector

# Bytes of an answer: a vector of 4,096 numbers has some 100 KB as JSON.
_MAX_ANSWER = 4 << 20
_OK = 200


@frozen_dataclass
class EndpointSettings:
    """`timeout`: seconds."""

    base_url: str
    model: str
    dimensions: int | None
    price_list: str
    timeout: float
    connections: int
    ca: str | None


class _Embedding(msgspec.Struct):
    index: int
    embedding: list[float]


class _EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int = 0


class _EmbeddingsResponse(msgspec.Struct):
    data: list[_Embedding]
    usage: _EmbeddingUsage = msgspec.field(default_factory=_EmbeddingUsage)


_decode = msgspec.json.Decoder(_EmbeddingsResponse).decode


class EndpointEmbedder:
    """The `Embedder`."""

    def __init__(
        self,
        settings: EndpointSettings,
        api_key: Callable[[], str] | None,
        meter: Callable[[EmbeddingUse], None],
    ) -> None:
        self._settings = settings
        self._api_key = api_key
        self._meter = meter
        # Reading the authorities takes some 20 ms. A context without any trusts no server.
        context = (
            ssl.create_default_context(cafile=settings.ca)
            if settings.base_url.startswith("https:")
            else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        connections = settings.connections
        self._client = httpx2.AsyncClient(
            verify=context,
            timeout=settings.timeout,
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
            trust_env=False,
        )

    @property
    def identity(self) -> str:
        return f"{self._settings.base_url} {self._settings.model} {self._settings.dimensions or ''}"

    async def embed(self, texts: Sequence[str], tenant: str) -> Sequence[Vector]:
        settings, began = self._settings, time.monotonic()
        request: dict[str, object] = {"model": settings.model, "input": list(texts)}
        if settings.dimensions is not None:
            request["dimensions"] = settings.dimensions
        answer = await self._post(_encoded(request))
        self._meter(
            EmbeddingUse(
                tenant,
                settings.price_list,
                settings.model,
                Usage(input=max(0, answer.usage.prompt_tokens)),
                time.monotonic() - began,
            )
        )
        by_index = {each.index: each.embedding for each in answer.data}
        if sorted(by_index) != list(range(len(texts))) or len({len(each) for each in by_index.values()}) != 1:
            raise SemanticFailure("answer", "its answer does not have one vector for each text")
        return [_unit(by_index[index]) for index in range(len(texts))]

    async def _post(self, content: bytes) -> _EmbeddingsResponse:
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self._api_key is not None:
            headers["authorization"] = f"Bearer {self._api_key()}"
        body = bytearray()
        try:
            async with self._client.stream(
                "POST", f"{self._settings.base_url}/embeddings", content=content, headers=headers
            ) as response:
                if response.status_code != _OK:
                    raise SemanticFailure("refused", f"it answered with status {response.status_code}")
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > _MAX_ANSWER:
                        raise SemanticFailure("answer", f"its answer is longer than {_MAX_ANSWER} bytes")
        except httpx2.TimeoutException as error:
            raise SemanticFailure("slow", "it did not answer in time") from error
        except httpx2.HTTPError as error:
            raise SemanticFailure("unreachable", type(error).__name__) from error
        try:
            return _decode(bytes(body))
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:  # ValueError: invalid UTF-8
            raise SemanticFailure("answer", "its answer is not as documented") from error

    async def close(self) -> None:
        await self._client.aclose()


def _encoded(request: dict[str, object]) -> bytes:
    try:
        return msgspec.json.encode(request)
    except UnicodeEncodeError as error:  # half of a surrogate pair, which UTF-8 does not have
        raise SemanticFailure("refused", "the text is no valid Unicode") from error


def _unit(numbers: list[float]) -> Vector:
    vector = np.asarray(numbers, np.float32)
    length = float(np.sqrt(vector @ vector))
    if not np.isfinite(length) or length == 0:
        raise SemanticFailure("answer", "its answer has a vector without a direction")
    return vector / np.float32(length)
