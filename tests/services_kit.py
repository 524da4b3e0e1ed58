"""Services of guardrails for tests: built from the options of a configuration, as the wiring builds them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edge_extproc import registry
from edge_extproc.config.surroundings import Surroundings
from edge_extproc.guardrails.base import Checked, Media, Piece, Service, TextKind
from edge_extproc.guardrails.service_options import ServiceOptions
from edge_extproc.providers.credentials.refresh import CredentialRefreshers
from edge_extproc.telemetry.guardrail_service_metrics import GuardrailServiceMetrics
from edge_extproc.telemetry.metrics import MetricRegistry
from edge_extproc.worker.wiring.guardrail_services import build_service

SECRET = "s3cr3t-of-the-service"
KINDS: dict[str, dict[str, Any]] = {
    "litellm_webhook": {},
    "agentgateway_webhook": {},
    "openai_moderation": {"api_key": SECRET},
    "lakera": {"api_key": SECRET},
    "azure_content_safety": {"api_key": SECRET},
    "bedrock_guardrails": {
        "guardrail": "gr1",
        "version": "1",
        "region": "eu-central-1",
        "credential": {"kind": "aws", "access_key_id": "AKID", "secret_access_key": SECRET},
    },
}
"""The options that each service needs, but for its URL. Without Model Armor, which needs a token."""


def options_of(kind: str, given: dict[str, Any], environ: dict[str, str] | None = None) -> ServiceOptions:
    around = Surroundings(environ or {}, Path.cwd())
    options: ServiceOptions = registry.load("guardrails.services", kind).options.model_validate(given, context=around)
    return options


def new_refreshers() -> CredentialRefreshers:
    return CredentialRefreshers(time.time, lambda provider, error, expires_at: None)


def service_of(
    kind: str, metrics: MetricRegistry | None = None, refreshers: CredentialRefreshers | None = None, /, **given: Any
) -> Service:
    refreshers = refreshers or new_refreshers()
    counts = GuardrailServiceMetrics(metrics or MetricRegistry())
    return build_service("my rule", kind, options_of(kind, given), counts, refreshers)


def text_check(
    *texts: str | tuple[TextKind, str], reply: bool = False, tenant: str = "acme", media: tuple[Media, ...] = ()
) -> Checked:
    """A check of texts: each is the user's (in a reply the model's) or a pair of a kind and a text."""
    usual: TextKind = "assistant" if reply else "user"
    pairs = [(usual, each) if isinstance(each, str) else each for each in texts]
    pieces = tuple(Piece(text, kind, f"messages[{at}].content") for at, (kind, text) in enumerate(pairs))
    return Checked("reply" if reply else "request", pieces, media, "gpt-5.2", tenant, "call-1")
