"""Checks a configuration as far as that is possible without starting it, with the detectors of its guardrails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..config.extras import require_extras
from ..config.schema import Config
from ..envoy_config import bootstrap as render_envoy
from ..envoy_config import validate
from ..envoy_config.typed_messages import typed_messages, typed_messages_installed
from ..errors import NoEnvoy, StartError
from ..gateway.own_valkey import check_store
from ..proxy.envoy_versions import lost, proxy_name
from ..worker.wiring.guardrails import check_detectors


def warnings(config: Config) -> Iterator[str]:
    """What does not work with the configured proxy, or with `serve`. Raises ConfigError."""
    require_extras(config)
    check_detectors(config)
    yield from (f"{proxy_name(config)}: {each}" for each in lost(config))
    try:
        check_store(config, with_own=False)
    except StartError as error:
        yield f"`serve` refuses this configuration: {error.message}"


def check_rendering(config: Config) -> str:
    """Checks the configuration of Envoy that is rendered. Returns how. Raises ConfigError."""
    try:
        binary = validate.envoy_path()
    except NoEnvoy as error:
        # Without an Envoy, its types find at least unknown fields and values.
        has_types = typed_messages_installed()
        with typed_messages() if has_types else contextlib.nullcontext():
            render_envoy.render(config)
        types = ", only with its types" if has_types else ""
        return f"valid; not checked with Envoy{types}: {error}"
    validate.validate(render_envoy.render(config), binary)
    return "valid, and Envoy accepts the configuration that is rendered from it"
