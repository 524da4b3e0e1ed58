"""Records in a collection of Qdrant: one point for each question, with the reply in its payload.

    partition   in hexadecimal; the index keeps the points of one partition together (`is_tenant`)
    owner, tenant, model, digest   of the key, for purges
    expires     Unix time; expired points are not returned, and are deleted about once a minute
    text, answer, entry            the question, the beginning of the reply's text, and the packed reply in base64

The id of a point is a hash of partition and digest, so the same call is stored once. Vectors of another length need
another collection: the length is a part of its name. No method waits longer than the time-out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import math
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from grpc import RpcError
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from ...model.frozen_dataclass import frozen_dataclass
from ..base import PurgeSelection, TierCounts
from ..key import CacheKey, CacheOwner
from ..packing import UnreadableEntry, pack, unpack
from .base import Neighbour, SemanticFailure, SemanticRecord, Vector

T = TypeVar("T")

# Seconds between two deletions of expired points.
_SWEEP_INTERVAL = 60.0
_COMPRESS_ABOVE = 8192
_NOT_FOUND, _CONFLICT, _FULL = 404, 409, 507
_NO_VECTOR: Vector = np.empty(0, np.float32)
_GLOBAL = "global"


@frozen_dataclass
class QdrantSettings:
    """`timeout`: seconds."""

    collection: str
    timeout: float
    quantized: bool = False
    has_indexes: bool = True
    """False for the client's local mode, which has none."""


def connect(url: str, api_key: str | None, grpc_port: int | None, ca: str | None, timeout: float) -> AsyncQdrantClient:
    """A client. It connects at its first request. Proxies of the environment are not used."""
    more: dict[str, Any] = {"trust_env": False}
    if ca is not None:
        more["verify"] = ca
    return AsyncQdrantClient(
        url=url,
        # Not as `api_key`: the client would then warn about http:// in a format of its own.
        headers={"api-key": api_key} if api_key is not None else None,
        prefer_grpc=grpc_port is not None,
        grpc_port=grpc_port or 6334,
        timeout=math.ceil(timeout),
        check_compatibility=False,
        **more,
    )


class QdrantStore:
    """The `VectorStore` in Qdrant."""

    shared = True
    down: str | None = None
    """The tier knows it: all methods raise."""

    def __init__(self, client: AsyncQdrantClient, settings: QdrantSettings) -> None:
        self._client = client
        self._settings = settings
        self._ready: set[int] = set()
        """The lengths of vectors whose collections exist."""
        self._swept_at = 0.0

    def _collection(self, length: int) -> str:
        return f"{self._settings.collection}-{length}"

    async def nearest(self, partition: bytes, vector: Vector, count: int, now: float) -> Sequence[Neighbour]:
        conditions: list[Any] = [
            models.FieldCondition(key="partition", match=models.MatchValue(value=partition.hex())),
            models.FieldCondition(key="expires", range=models.Range(gt=now)),
        ]

        async def search() -> Any:
            return await self._client.query_points(
                self._collection(len(vector)),
                query=vector.tolist(),
                query_filter=models.Filter(must=conditions),
                limit=count,
                with_payload=True,
            )

        try:
            found = await self._within_time(search)
        except _NoCollection:  # nothing was stored yet
            return ()
        read = ((_record(point.payload or {}), point.score) for point in found.points)
        return [Neighbour(record, score) for record, score in read if record is not None]

    async def put(self, record: SemanticRecord, now: float) -> None:
        if record.expires <= now:
            return
        length = len(record.vector)
        try:
            payload = _payload(record)
        except ValueError as error:
            raise SemanticFailure("answer", "the reply cannot be packed") from error
        point = models.PointStruct(id=_id_of(record), vector=record.vector.tolist(), payload=payload)
        await self._within_time(lambda: self._prepare(length))
        await self._within_time(lambda: self._client.upsert(self._collection(length), [point], wait=True))
        if now - self._swept_at >= _SWEEP_INTERVAL:
            self._swept_at = now
            expired = models.Filter(must=[models.FieldCondition(key="expires", range=models.Range(lte=now))])
            await self._within_time(lambda: self._client.delete(self._collection(length), expired, wait=False))

    async def purge(self, selection: PurgeSelection) -> int:
        chosen = _filter_of(selection)
        removed = 0
        listed = await self._within_time(self._client.get_collections)
        for name in (each.name for each in listed.collections):
            if name.rpartition("-")[0] != self._settings.collection or not name.rpartition("-")[2].isdecimal():
                continue
            counted = await self._within_time(
                lambda name=name: self._client.count(name, count_filter=chosen, exact=True)  # type: ignore[misc]
            )
            await self._within_time(
                lambda name=name: self._client.delete(name, models.FilterSelector(filter=chosen), wait=True)  # type: ignore[misc]
            )
            removed += counted.count
        return removed

    def counts(self) -> TierCounts:
        return TierCounts(0, 0, 0)

    async def close(self) -> None:
        await self._client.close()

    async def _prepare(self, length: int) -> None:
        """Creates the collection with its indexes, unless it exists."""
        if length in self._ready:
            return
        name = self._collection(length)
        if not await self._client.collection_exists(name):
            quantization = None
            if self._settings.quantized:
                scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
                quantization = models.ScalarQuantization(scalar=scalar)
            try:
                await self._client.create_collection(
                    name,
                    vectors_config=models.VectorParams(size=length, distance=models.Distance.COSINE),
                    # Each partition is searched alone: links between points of two would be of no use.
                    hnsw_config=models.HnswConfigDiff(m=0, payload_m=16),
                    quantization_config=quantization,
                )
            except UnexpectedResponse as error:
                if error.status_code != _CONFLICT:  # another worker was first
                    raise
        if self._settings.has_indexes:
            keyword = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            await self._client.create_payload_index(name, "partition", field_schema=keyword)
            for field in ("owner", "tenant", "model", "digest"):
                await self._client.create_payload_index(name, field, field_schema=models.PayloadSchemaType.KEYWORD)
            await self._client.create_payload_index(name, "expires", field_schema=models.PayloadSchemaType.FLOAT)
        self._ready.add(length)

    async def _within_time(self, work: Callable[[], Awaitable[T]]) -> T:
        """Turns the errors of the client into SemanticFailure, and an absent collection into _NoCollection."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await work()
        except TimeoutError as error:
            raise SemanticFailure("slow", "it did not answer in time") from error
        except UnexpectedResponse as error:
            if error.status_code == _NOT_FOUND:
                self._ready.clear()  # somebody has deleted the collection
                raise _NoCollection from error
            why = "full" if error.status_code == _FULL else "refused"
            raise SemanticFailure(why, f"it answered with status {error.status_code}") from error
        except RpcError as error:
            code = getattr(error, "code", lambda: None)()
            raise SemanticFailure("unreachable", f"gRPC {code}") from error
        except (ApiException, OSError) as error:
            raise SemanticFailure("unreachable", type(error).__name__) from error
        except ValueError as error:  # the local mode, for a collection that is not there
            if "not found" in str(error):
                raise _NoCollection from error
            raise


class _NoCollection(SemanticFailure):
    def __init__(self) -> None:
        super().__init__("refused", "there is no collection")


def _id_of(record: SemanticRecord) -> str:
    return str(uuid.UUID(bytes=hashlib.sha256(record.partition + record.key.digest).digest()[:16]))


def _tenant_of(owner: str) -> str:
    """The owner's tenant, in the spelling of the owner's name. Empty if all tenants share."""
    return owner.split("/")[1] if owner != _GLOBAL else ""


def _payload(record: SemanticRecord) -> dict[str, Any]:
    key = record.key
    return {
        "partition": record.partition.hex(),
        "owner": key.owner,
        "tenant": _tenant_of(key.owner),
        "model": key.model,
        "digest": key.digest.hex(),
        "text": record.text,
        "answer": record.answer.encode(errors="replace").decode(),
        "expires": record.expires,
        "entry": base64.b64encode(pack(key.digest, record.entry, _COMPRESS_ABOVE)).decode(),
    }


def _record(payload: Mapping[str, Any]) -> SemanticRecord | None:
    """None if another version, or another program, has written the point."""
    try:
        digest = bytes.fromhex(payload["digest"])
        key = CacheKey(payload["owner"], payload["model"], digest)
        entry = unpack(digest, base64.b64decode(payload["entry"], validate=True))
        partition, expires = bytes.fromhex(payload["partition"]), float(payload["expires"])
        text, answer = payload["text"], payload["answer"]
    except (KeyError, TypeError, ValueError, binascii.Error, UnreadableEntry):
        return None
    if not isinstance(text, str) or not isinstance(answer, str):
        return None
    return SemanticRecord(key, partition, text, _NO_VECTOR, entry, answer, expires)


def _filter_of(selection: PurgeSelection) -> models.Filter:
    def equal(field: str, value: str) -> models.FieldCondition:
        return models.FieldCondition(key=field, match=models.MatchValue(value=value))

    must: list[Any] = []
    if selection.digest is not None:
        must.append(equal("digest", selection.digest.hex()))
    if selection.model is not None:
        must.append(equal("model", selection.model))
    owners: list[Any] = []
    if selection.shared:
        owners.append(equal("owner", _GLOBAL))
    if selection.tenant is not None:
        owners.append(equal("tenant", _tenant_of(CacheOwner("tenant", selection.tenant).name)))
    if owners:
        must.append(models.Filter(should=owners))
    return models.Filter(must=must)
