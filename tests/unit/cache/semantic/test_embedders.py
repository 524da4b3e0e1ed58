"""The embedders: one within the gateway, and an endpoint."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from edge_extproc.cache.semantic.base import EmbeddingUse, SemanticFailure
from edge_extproc.cache.semantic.endpoint_embedder import EndpointEmbedder, EndpointSettings
from edge_extproc.cache.semantic.static_embedder import StaticEmbedder, load
from edge_extproc.model.usage import Usage


@pytest.fixture(scope="module")
def static() -> StaticEmbedder:
    return load()


async def test_similar_words_have_near_vectors(static: StaticEmbedder) -> None:
    texts = ("How do I delete a branch in git?", "How can I remove a git branch?", "Who wrote Faust?", "")
    one, same, other, nothing = await static.embed(texts, "acme")

    assert 0.8 < float(one @ same) <= 1
    assert float(one @ other) < 0.5
    assert 0.0 == float(nothing @ nothing)
    assert np.float32 == one.dtype
    assert 1.0 == pytest.approx(float(one @ one), abs=1e-5)


def test_neither_the_package_nor_a_network_is_used() -> None:
    """Only two files of wordllama are read: the package itself would import an HTTP client."""
    code = """
import socket, sys
def refuse(*_): raise AssertionError("a connection")
socket.socket.connect = refuse
from edge_extproc.cache.semantic.static_embedder import load
load().vector("a text")
print(sorted({"wordllama", "requests", "huggingface_hub"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]\n" == done.stdout


# --- an endpoint


@asynccontextmanager
async def endpoint(answer: bytes, status: int = 200, requests: list[Any] | None = None) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length"))
        body = await reader.readexactly(length)
        if requests is not None:
            requests.append((head.decode(), json.loads(body)))
        writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(answer)))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def made_for(
    url: str, uses: list[EmbeddingUse], dimensions: int | None = None, key: str | None = None
) -> EndpointEmbedder:
    settings = EndpointSettings(url, "an-embedder", dimensions, "openai", 10.0, 2, None)
    return EndpointEmbedder(settings, (lambda: key) if key is not None else None, uses.append)


def answer(*vectors: list[float], **more: Any) -> bytes:
    # In another order: the index says which text a vector belongs to.
    rows = [{"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(vectors)][::-1]
    return json.dumps(
        {"object": "list", "data": rows, "usage": {"prompt_tokens": 7, "total_tokens": 7}, **more}
    ).encode()


async def test_an_endpoint_is_asked_in_openais_format_and_charged_to_the_tenant() -> None:
    requests: list[Any] = []
    uses: list[EmbeddingUse] = []
    async with endpoint(answer([3.0, 4.0], [0.0, 2.0]), requests=requests) as url:
        embedder = made_for(url, uses, 2, "sk-of-the-tests")
        one, other = await embedder.embed(("a", "b"), "acme")
        await embedder.close()

    ((head, body),) = requests
    assert head.startswith("POST /v1/embeddings HTTP/1.1\r\n")
    assert "authorization: bearer sk-of-the-tests" in head.lower()
    assert {"model": "an-embedder", "input": ["a", "b"], "dimensions": 2} == body
    assert [0.6, 0.8] == pytest.approx(one.tolist())
    assert [0.0, 1.0] == other.tolist()
    (use,) = uses
    assert ("acme", "openai", "an-embedder", Usage(input=7)) == (use.tenant, use.provider, use.model, use.usage)


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"{}", 200, "answer"),
        (b"no JSON", 200, "answer"),
        (b'{"data": [{"index": 0, "embedding": ["a"]}]}', 200, "answer"),
        (answer([1.0, 2.0], [1.0]), 200, "answer"),
        (answer([1.0, 2.0]), 200, "answer"),
        (answer([0.0, 0.0], [0.0, 1.0]), 200, "answer"),
        (b"[" * (5 << 20), 200, "answer"),
        (b"{}", 429, "refused"),
        (b"{}", 302, "refused"),
    ],
    ids=["empty", "no json", "text", "lengths", "too few", "zero", "long", "status", "redirect"],
)
async def test_an_answer_that_is_not_as_documented_is_a_failure(body: bytes, status: int, why: str) -> None:
    async with endpoint(body, status) as url:
        embedder = made_for(url, [])
        with pytest.raises(SemanticFailure) as failure:
            await embedder.embed(("a", "b"), "acme")
        await embedder.close()

    assert why == failure.value.why


async def test_an_endpoint_that_is_away_is_a_failure() -> None:
    async with endpoint(b"") as url:
        pass
    embedder = made_for(url, [])
    with pytest.raises(SemanticFailure) as failure:
        await embedder.embed(("a",), "acme")
    await embedder.close()

    assert "unreachable" == failure.value.why


async def test_half_of_a_surrogate_pair_is_not_sent() -> None:
    embedder = made_for("http://127.0.0.1:9/v1", [])
    with pytest.raises(SemanticFailure, match="refused"):
        await embedder.embed(("\ud800",), "acme")
    await embedder.close()
