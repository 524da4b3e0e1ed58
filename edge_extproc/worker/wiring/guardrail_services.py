"""Builds the services of guardrails with their credentials."""

from __future__ import annotations

import time
from functools import partial

from ... import registry
from ...config.credentials import UpstreamCredentialConfig
from ...guardrails.base import RequestSigner, Service, ServicePlugin, ServiceTools
from ...guardrails.service_calls import ServiceCalls
from ...guardrails.service_options import ServiceOptions
from ...providers.credentials.base import Credential, CredentialSettings, UnsignedRequest
from ...providers.credentials.refresh import CredentialRefreshers
from ...telemetry.guardrail_service_metrics import GuardrailServiceMetrics
from .providers import current_secret


def build_service(
    rule: str,
    kind: str,
    options: ServiceOptions,
    metrics: GuardrailServiceMetrics,
    refreshers: CredentialRefreshers,
) -> Service:
    """`kind`: the name of the plugin. `refreshers` renew the credential from the moment they are started. Raises
    ConfigError."""
    plugin: ServicePlugin = registry.load("guardrails.services", kind)
    service = plugin.build(options, service_tools(rule, refreshers))
    return ServiceCalls(rule, kind, service, options, metrics)


def service_tools(rule: str, refreshers: CredentialRefreshers) -> ServiceTools:
    # The refreshers' names are those of providers elsewhere. A space is in no provider's name.
    name = f"guardrail {rule}"
    return ServiceTools(
        rule, lambda secret: current_secret(name, secret, refreshers), partial(_signer, name, refreshers)
    )


def _signer(
    name: str, refreshers: CredentialRefreshers, credential: UpstreamCredentialConfig, service: str, region: str | None
) -> RequestSigner:
    secrets = {field: current_secret(name, secret, refreshers) for field, secret in credential.secrets().items()}
    settings = CredentialSettings(name, service, region, credential.plain(), secrets)
    built: Credential = registry.load("providers.credentials", credential.kind).build(
        settings, refreshers.of(name), time.time
    )

    def sign(method: str, host: str, path: str, body: bytes) -> tuple[tuple[str, str], ...]:
        return built.headers(UnsignedRequest(method, host, path, body))

    return sign
