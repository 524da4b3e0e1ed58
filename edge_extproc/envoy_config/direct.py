"""What Envoy answers by itself on the listener of callers: health checks of load balancers, and browsers' preflights.

Neither reaches the agent. Istio has both of its own, on its status port and in a VirtualService.
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
# How long a browser keeps a preflight: no more than Chromium does.
_PREFLIGHT_AGE = "7200"
_CORS = "envoy.filters.http.cors"


def filters(config: Config) -> list[Json]:
    """Before all that costs something. 200 at HEALTH_PATH as long as one worker is well and Envoy is not draining."""
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
    """Without the agent. A preflight that the filter before has not answered is of an origin that is not allowed."""
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
    """It leads to no cluster. Envoy's filter for preflights passes over a route of a direct response."""
    without: Json = {"envoy.filters.http.ext_proc": typed(ext_proc.ExtProcPerRoute(disabled=True))}
    if config.auth.trust_ext_authz:
        without["envoy.filters.http.ext_authz"] = typed(ext_authz.ExtAuthzPerRoute(disabled=True))
    return {
        **fields(route_v3.Route(name=name, match=match)),
        "route": {"cluster": "none"},
        "typed_per_filter_config": without,
    }


def replies(config: Config) -> list[tuple[str, tuple[str, str, str]]]:
    """Where these routes and filters refuse: a condition; type, code and message for the caller."""
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
    """Of the virtual host: which pages may read answers. A page's own code sends its key, so no credentials of the
    browser are needed, and * means any name but Authorization."""
    wanted = config.listen.cors
    if wanted is None or config.envoy.istio is not None:
        return {}
    policy = cors.CorsPolicy(
        allow_origin_string_match=_origins(wanted),
        allow_methods="GET, POST, PUT, PATCH, DELETE",
        allow_headers="*, authorization",
        expose_headers="*",
        max_age=_PREFLIGHT_AGE,
    )
    return {"typed_per_filter_config": {_CORS: typed(policy)}}


def _origins(wanted: CorsConfig) -> list[matcher.StringMatcher]:
    if "*" in wanted.origins:
        return [matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=".*"))]
    return [matcher.StringMatcher(exact=origin) for origin in wanted.origins]
