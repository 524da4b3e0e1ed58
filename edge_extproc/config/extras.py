"""The extras of the package: which settings need one, and whether it is installed.

A configuration is refused at the start, at a reload and by `check`, with the name of the missing extra. Loading it does
not need the extras: `render` may run on another machine than the gateway.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from .. import registry
from ..errors import ConfigError
from .credentials import UpstreamCredentialConfig
from .schema import Config


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra of a distribution, and the modules by which it is recognized."""

    name: str
    modules: tuple[str, ...]
    distribution: str = "edge-extproc"

    def is_installed(self) -> bool:
        return all(_exists(module) for module in self.modules)

    def require(self, setting: str) -> None:
        """Raises ConfigError if it is not installed. `setting` is what needs it."""
        if not self.is_installed():
            raise ConfigError(
                f"{setting} needs packages that are not installed: pip install '{self.distribution}[{self.name}]'"
            )


LEDGER = Extra("ledger", ("sqlalchemy", "alembic"))
POSTGRES = Extra("postgres", (*LEDGER.modules, "psycopg"))
GUARDRAILS = Extra("guardrails", ("ahocorasick_rs", "jsonschema_rs", "phonenumbers"))
SEMANTIC = Extra("semantic", ("numpy",))
ADMIN = Extra("admin", (*LEDGER.modules, "fastapi", "jinja2"))
OTEL = Extra(
    "otel",
    (
        "opentelemetry.sdk",
        "opentelemetry.exporter.otlp.proto.grpc",
        "opentelemetry.exporter.otlp.proto.http",
        "opentelemetry.instrumentation.grpc",
    ),
)


def needed(config: Config) -> Iterator[tuple[str, Extra]]:
    """Each setting that needs an extra, with the extra. A kind of credential names its own."""
    if config.store is not None:
        yield "store", LEDGER
        if (config.database_url() or "").startswith("postgres"):
            yield "store.database", POSTGRES
    if config.has_admin_api:
        yield "admin.tokens" if config.admin.tokens else "admin.pages", ADMIN
    if config.telemetry.otlp is not None:
        yield "telemetry.otlp", OTEL
    if config.cache is not None and config.cache.semantic is not None:
        yield "cache.semantic", SEMANTIC
        for key, plugin, options in config.cache.semantic.plugin_options():
            extra = plugin.required_extra(options)
            if extra is not None:
                yield f"cache.semantic.{key}", extra
    for name, provider in config.providers.items():
        yield from _of_credential(f"providers.{name}.credential", provider.credential)
    for _, rule in config.guardrail_rules():
        if rule.detect is not None:
            # A detector without libraries does not have the method.
            required = getattr(registry.load(rule.detect.room, rule.detect.name), "required_extra", None)
            extra = required(rule.detect.options) if required is not None else None
            if extra is not None:
                yield f"the detector of the rule {rule.name}", extra
        elif rule.service is not None:
            credential = getattr(rule.service.options, "credential", None)
            yield from _of_credential(f"the service of the rule {rule.name}", credential)


def _of_credential(setting: str, credential: object) -> Iterator[tuple[str, Extra]]:
    if isinstance(credential, UpstreamCredentialConfig):
        kind = registry.load("providers.credentials", credential.kind)
        extra = kind.required_extra(credential.given())
        if extra is not None:
            yield setting, extra


def require_extras(config: Config) -> None:
    """Raises ConfigError for the first setting whose extra is not installed."""
    for setting, extra in needed(config):
        extra.require(setting)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a package above it is not installed
        return False
