"""Renders what Envoy answers without the agent: health checks of load balancers, and CORS preflights of browsers.

Istio has its own of both, on its status port and in a VirtualService.
"""

from __future__ import annotations

from ..config.envoy import CorsConfig
from ..config.schema import Config
from ..model.envoy_names import AGENT
from .envoy_types import (
    Json,
    cors,
    ext_authz,
    ext_proc,
    extension,
    fields,
    health_check,
    matcher,
    route_v3,
    type_v3,
    typed,
)

HEALTH_PATH = "/healthz"
# Seconds for which a browser caches a preflight: Chromium's maximum.
_PREFLIGHT_AGE = "7200"
_CORS = "envoy.filters.http.cors"


def filters(config: Config) -> list[Json]:
    """The first filters of the chain. HEALTH_PATH returns 200 while at least one worker is healthy and Envoy is not
    draining."""
    if config.envoy.istio is not None:
        return []
    health = health_check.HealthCheck(
        pass_through_mode=False,
        cluster_min_healthy_percentages={AGENT: type_v3.Percent(value=1)},
        headers=[route_v3.HeaderMatcher(name=":path", string_match=matcher.StringMatcher(exact=HEALTH_PATH))],
    )
    browsers = [extension(_CORS, cors.Cors())] if config.listen.cors is not None else []
    return [*browsers, extension("envoy.filters.http.health_check", health)]


def routes(config: Config) -> list[Json]:
    """The routes without the agent. The CORS filter answers the preflights of allowed origins; the others get here."""
    if config.envoy.istio is not None:
        return []
    preflight = [
        route_v3.HeaderMatcher(name=":method", string_match=matcher.StringMatcher(exact="OPTIONS")),
        route_v3.HeaderMatcher(name="origin", present_match=True),
        route_v3.HeaderMatcher(name="access-control-request-method", present_match=True),
    ]
    return [
        _route(config, "health", route_v3.RouteMatch(path=HEALTH_PATH)),
        _route(config, "preflight", route_v3.RouteMatch(prefix="/", headers=preflight)),
    ]


def _route(config: Config, name: str, match: route_v3.RouteMatch) -> Json:
    """A route to a cluster that does not exist. It has no direct response, because Envoy's CORS filter ignores routes
    with one."""
    without: Json = {"envoy.filters.http.ext_proc": typed(ext_proc.ExtProcPerRoute(disabled=True))}
    if config.auth.trust_ext_authz:
        without["envoy.filters.http.ext_authz"] = typed(ext_authz.ExtAuthzPerRoute(disabled=True))
    return {
        **fields(route_v3.Route(name=name, match=match)),
        "route": {"cluster": "none"},
        "typed_per_filter_config": without,
    }


def replies(config: Config) -> list[tuple[str, tuple[str, str, str]]]:
    """The error replies of these routes and filters: a condition, and the type, code and message for the caller."""
    if config.envoy.istio is not None:
        return []
    return [
        (
            "response.code_details.startsWith('health_check')",
            ("overloaded_error", "not_ready", "no worker of the gateway is ready, or it is shutting down"),
        ),
        (
            "response.code_details == 'cluster_not_found' && request.method == 'OPTIONS' "
            "&& 'access-control-request-method' in request.headers",
            (
                "permission_error",
                "origin_not_allowed",
                "web pages of this origin may not call the gateway; its operator can allow them in listen.cors.origins",
            ),
        ),
    ]


def host_policy(config: Config) -> Json:
    """The CORS policy of the virtual host. The code of a page sends its key itself, so the browser's credentials are
    not needed. In `allow_headers`, * does not include Authorization."""
    settings = config.listen.cors
    if settings is None or config.envoy.istio is not None:
        return {}
    policy = cors.CorsPolicy(
        allow_origin_string_match=_origins(settings),
        allow_methods="GET, POST, PUT, PATCH, DELETE",
        allow_headers="*, authorization",
        expose_headers="*",
        max_age=_PREFLIGHT_AGE,
    )
    return {"typed_per_filter_config": {_CORS: typed(policy)}}


def _origins(cors: CorsConfig) -> list[matcher.StringMatcher]:
    if "*" in cors.origins:
        return [matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=".*"))]
    return [matcher.StringMatcher(exact=origin) for origin in cors.origins]
