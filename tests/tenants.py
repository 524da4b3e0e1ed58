"""Two tenants that share the accounts of all providers."""

from __future__ import annotations

from typing import Any

from player import DIALECTS, FORMATS, KEY, Stage

from edge_extproc import registry
from edge_extproc.auth.base import AuthSettings, KeySettings
from edge_extproc.exchange.path_router import PathRouter
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.owners import ObjectOwners, ProviderAccount
from edge_extproc.routing.base import PassthroughEndpoint, PassthroughEndpoints

OTHER_KEY = "edge-key-of-umbrella"
KEYS = {"acme": KEY, "umbrella": OTHER_KEY}
PROVIDERS = ("openai", "anthropic", "google")
OPENAI_PATHS = (
    *("/v1/files", "/v1/batches", "/v1/uploads", "/v1/vector_stores", "/v1/containers", "/v1/conversations"),
    *("/v1/responses", "/v1/fine_tuning", "/v1/evals", "/v1/chat/completions", "/v1/videos", "/v1/things"),
)
ENDPOINTS = {
    **dict.fromkeys(OPENAI_PATHS, "openai"),
    "/v1/messages/batches": "anthropic",
    **dict.fromkeys(("/v1beta/files", "/v1beta/cachedContents", "/v1beta/batches"), "google"),
}


def tenants(*, shared_objects: tuple[str, ...] = (), shared_paths: tuple[str, ...] = (), **more: Any) -> Stage:
    """A gateway with two tenants. `more`: other values of `Gateway`."""
    stage = Stage()
    keys = tuple(KeySettings(f"{tenant}-1", tenant, secret=lambda key=key: key) for tenant, key in KEYS.items())
    rows = [PassthroughEndpoint(path, to, shared=path in shared_paths) for path, to in ENDPOINTS.items()]
    endpoints = PassthroughEndpoints(rows)
    records = MemoryRecords()
    accounts = {name: ProviderAccount(name, shared_objects) for name in PROVIDERS}
    return stage.having(
        authenticator=registry.load("auth", "api_key").build(
            AuthSettings(keys, b"a pepper of the tests"), lambda: 1_700_000_000.0
        ),
        endpoints=endpoints,
        routes=PathRouter(DIALECTS, FORMATS, endpoints.paths),
        owners=ObjectOwners(records, accounts),
        **more,
    )
