"""Which provider a route goes to, for streams of a proxy whose configuration is not rendered by this project.

Such a proxy has no upstream filters: the agent writes a request once, before the proxy sends it. So it writes the
credential of a provider only if the proxy shows that the route goes to this provider.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ..errors import EdgeError, ProxyMisconfigured
from .events import BodyModes, RequestHeaders, ResponseHeaders

_ATTRIBUTES = ("xds.cluster_name", "xds.route_name")
"""Envoy's attributes that show where a request goes. Envoy Gateway can send only the name of the route."""
REQUEST_MODES = frozenset({"buffered", "full_duplex_streamed"})
_RESPONSE_MODES = frozenset({"buffered", "streamed", "full_duplex_streamed"})
DUPLEX = BodyModes("full_duplex_streamed", "full_duplex_streamed")


def destination_of(event: RequestHeaders) -> str | None:
    """The cluster or, if that is not sent, the route of a request."""
    values = (event.attributes.get(name) for name in _ATTRIBUTES)
    return next((value for value in values if isinstance(value, str) and value), None)


@dataclass(frozen=True, slots=True)
class ConsumerRoutes:
    provider: str | None = None
    """All routes with the filter go to this provider. None: the cluster or the route shows the provider."""
    destinations: tuple[tuple[str, str], ...] = ()
    """Names or globs of clusters or routes, and the provider of each."""
    chooses: bool = False
    """A stream that shows neither chooses the route."""
    full_duplex: bool = False
    """The proxy does not send its body modes, and uses full duplex for both bodies."""
    caller_headers: frozenset[str] = field(default=frozenset())
    """The headers with an internal prefix that callers may send."""

    def provider_of(self, destination: str) -> str | None:
        """The provider of a cluster or route: an exact name wins, then the longest glob."""
        found = [
            (glob != destination, -len(glob), name)
            for glob, name in self.destinations
            if fnmatchcase(destination, glob)
        ]
        return min(found)[2] if found else None

    def chooses_for(self, event: RequestHeaders) -> bool:
        return self.chooses and self.provider is None and destination_of(event) is None

    def modes_of(self, event: RequestHeaders | ResponseHeaders) -> BodyModes | None:
        return event.modes or (DUPLEX if self.full_duplex else None)


NO_ROUTES = ConsumerRoutes()


@dataclass(frozen=True, slots=True)
class ConsumerRoute:
    """The route of one request."""

    provider: str | None
    destination: str | None
    modes: BodyModes | None
    internal: tuple[str, ...]
    """The internal headers of the request, which do not go to the provider."""
    refusal: EdgeError | None = None
    """Why no route could be chosen for this request."""

    @property
    def full_duplex(self) -> bool:
        return self.modes is not None and self.modes.request == "full_duplex_streamed"

    @property
    def can_end_responses(self) -> bool:
        """Whether the gateway can end a response before its provider does."""
        return self.modes is not None and self.modes.response == "full_duplex_streamed"

    def check_modes(self, *, body: bool) -> None:
        """Raises ProxyMisconfigured if a request or its reply would pass the agent unread. `body`: one follows."""
        if self.modes is None:
            raise ProxyMisconfigured(
                "the proxy does not send the body modes of its ext_proc filter; use Envoy 1.34 or newer, or set "
                "agent.consumer.full_duplex"
            )
        if body and self.modes.request not in REQUEST_MODES:
            raise ProxyMisconfigured(
                f"the ext_proc filter sends request bodies as {self.modes.request.upper()}; "
                "set BUFFERED or FULL_DUPLEX_STREAMED"
            )
        if self.modes.response not in _RESPONSE_MODES:
            raise ProxyMisconfigured(
                f"the ext_proc filter sends response bodies as {self.modes.response.upper()}; "
                "set BUFFERED, STREAMED or FULL_DUPLEX_STREAMED"
            )

    def check_provider(self) -> str:
        """The provider. Raises `refusal` if there is one, and ProxyMisconfigured if the provider is not known."""
        if self.refusal is not None:
            raise self.refusal
        if self.provider is not None:
            return self.provider
        if self.destination is None:
            raise ProxyMisconfigured(
                "the ext_proc filter sends neither the attribute xds.cluster_name nor xds.route_name, so the "
                "provider of this route is not known"
            )
        raise ProxyMisconfigured("agent.consumer.routes has no provider for this route")
