"""What of a new configuration a running gateway can take over, and what needs a restart."""

from __future__ import annotations

from typing import Any

import pytest
from config_kit import ONE, TWO, read

from edge_extproc.config.changes import differences, needing_restart
from edge_extproc.config.schema import Config
from edge_extproc.envoy_config import bootstrap as render_envoy
from edge_extproc.errors import ConfigError

RENDERED: list[tuple[Config, Any]] = []


def render(config: Config) -> Any:
    """Renders each configuration once: most tests begin at the same one, and a rendering takes 200 ms."""
    for known, rendered in RENDERED:
        if known == config:
            return rendered
    rendered = render_envoy.render(config)
    RENDERED.append((config, rendered))
    return rendered


def needed(old: str, new: str) -> list[str]:
    return needing_restart(read(old), read(new), render)


def test_equal_texts_do_not_differ():
    assert [] == differences(read(TWO), read(TWO))


def test_a_secret_that_changed_is_a_difference():
    old, new = (read(f"callers: [{{tenant: dev, keys: [{{id: dev, key: {{env: {n}}}}}]}}]\n") for n in ("KEY", "OTHER"))

    assert [("callers",)] == differences(old, new)


def test_a_difference_is_told_as_deep_as_mappings_go():
    old = read(TWO + "models: {m: [{provider: p}], n: [{provider: p}]}\n")
    new = read(TWO + "models: {m: [{provider: q}], o: [{provider: p}]}\n")

    assert {("models", "m", "candidates"), ("models", "n"), ("models", "o")} == set(differences(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "callers: [{tenant: dev, models: [m], keys: [{id: other, key: {env: OTHER}}]}]\n"),
        ("", "callers: [{tenant: dev, limits: {requests_per_minute: 5}, keys: [{id: dev, key: {env: KEY}}]}]\n"),
        ("", "roles: {r: {models: [m]}}\n"),
        ("", "prices: [{provider: p, model: '*', input: 1, output: 2}]\n"),
        (TWO, TWO + "models: {m: [{provider: q}, {provider: p}], n: {candidates: [{provider: p}]}}\n"),
        (TWO, TWO + "routing: {breaker: {failures: 9}}\n"),
        ("cache: {}\n", "cache: {ttl: 5m, tenants: {dev: {enabled: false}}}\n"),
        ("", "telemetry: {log: {level: debug, format: console}}\n"),
        ("", "providers: {p: {kind: openai, api_key: {env: OTHER}, location: eu}}\n"),
        ("", "limiter: {default_max_output: 100, assumed_price: {input: 1, output: 2}}\n"),
    ],
)
def test_what_requests_are_judged_and_routed_by_is_taken_over(old, new):
    assert [] == needed(old, new)


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ("", "listen: {port: 11111}\n", ["listen.port"]),
        ("", "agent: {workers: 3}\n", ["agent.workers"]),
        ("", "auth: {pepper: another-pepper-of-length}\n", ["auth.pepper"]),
        ("", "limits: {request_body: 64MiB}\n", ["limits.request_body"]),
        ("", "timeouts: {connect: 1s}\n", ["timeouts.connect"]),
        ("", "cache: {}\n", ["cache"]),
        ("cache: {}\n", "cache: {memory: {size: 1MiB}}\n", ["cache.memory.size"]),
        ("", "store: {}\n", ["store"]),
        ("", "telemetry: {otlp: {endpoint: 'http://127.0.0.1:4317'}}\n", ["telemetry.otlp"]),
        ("", TWO, ["providers.p.base_url", "providers.q"]),
        (TWO, ONE, ["providers.q"]),
        (TWO, TWO.replace("127.0.0.1:2", "127.0.0.1:3"), ["providers.q.base_url"]),
        ("", "providers: {p: {kind: openai, api_key: {env: KEY}, pool: {idle: 5s}}}\n", ["providers.p.pool.idle"]),
        ("", "limiter: {url: 'redis://127.0.0.1:1/0'}\n", ["limiter.url"]),
        ("", "sockets: {responses: requests}\n", ["sockets.responses"]),
    ],
)  # fmt: skip
def test_what_a_process_or_envoy_holds_is_named(old, new, keys):
    assert keys == needed(old, new)


def test_a_model_whose_order_is_a_cluster_of_envoys_needs_a_restart_and_another_does_not():
    old = TWO + "models: {m: [{provider: p}], n: [{provider: p}]}\n"
    hedged = "{candidates: [{provider: p}, {provider: q}], hedge: {}}"
    new = TWO + f"models: {{m: {hedged}, n: [{{provider: q}}]}}\n"

    assert ["models.m"] == needed(old, new)


def test_what_is_held_does_not_hide_what_envoy_would_need():
    new = "listen: {port: 11111}\ntimeouts: {connect: 1s}\ntelemetry: {log: {level: debug}}\n"

    assert ["listen.port", "timeouts.connect"] == needed("", new)


def test_a_configuration_that_cannot_be_rendered_is_no_restart_away():
    with pytest.raises(ConfigError, match="cannot be rendered"):
        needed("", 'envoy: {version: "1.2"}\n')


def test_sampling_is_no_difference_where_envoy_can_be_told():
    otlp = "telemetry: {{otlp: {{endpoint: 'http://127.0.0.1:4317', sampling: {}}}}}\n"
    old, new = read(otlp.format(5)), read(otlp.format(50))

    def blind(config: Config) -> object:
        return render_envoy.render(config)["admin"]

    assert ["telemetry.otlp.sampling"] == needing_restart(old, new, render_envoy.render)
    assert [] == needing_restart(old, new, blind)
