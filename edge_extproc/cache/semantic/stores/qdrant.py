"""The store in Qdrant (../qdrant_store.py)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from ....config.extras import Extra
from ....config.part import ConfigSection, Label
from ....config.paths import ReadableFile
from ....config.provider import BaseUrl
from ....config.quantities import Boolean, Count, PositiveDuration
from ....config.secrets import Secret
from ..base import VectorStore, VectorStorePlugin

_EXTRA = Extra("qdrant", ("numpy", "qdrant_client"))


class QdrantOptions(ConfigSection):
    """A Qdrant server, which all workers and replicas share."""

    url: BaseUrl
    """The address of its REST API, as https://qdrant.example:6333."""
    api_key: Secret | None = None
    """Sent with each request."""
    collection: Label = "edge-semantic"
    """The name of the collection. The length of the vectors is added to it."""
    grpc_port: Count | None = None
    """Use gRPC at this port for searches and writes."""
    ca: ReadableFile | None = None
    """A PEM file with the authorities that the server's certificate may come from. Default: those of the system."""
    quantized: Boolean = False
    """Keep the vectors in memory as bytes (scalar quantization). It applies when the collection is created."""
    timeout: PositiveDuration = timedelta(seconds=2)
    """The longest time of a write, of a purge, and of the first use of the collection."""


class _QdrantPlugin:
    options = QdrantOptions

    def required_extra(self, options: QdrantOptions) -> Extra:
        del options
        return _EXTRA

    def build(self, options: QdrantOptions, secret: Callable[[Secret], Callable[[], str]]) -> VectorStore:
        from ..qdrant_store import QdrantSettings, QdrantStore, connect  # not before a worker needs it

        settings = QdrantSettings(options.collection, options.timeout.total_seconds(), quantized=options.quantized)
        api_key = secret(options.api_key)() if options.api_key is not None else None
        ca = str(options.ca) if options.ca is not None else None
        return QdrantStore(connect(options.url, api_key, options.grpc_port, ca, settings.timeout), settings)


PLUGIN: VectorStorePlugin = _QdrantPlugin()
