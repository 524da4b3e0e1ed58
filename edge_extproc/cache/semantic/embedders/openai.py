"""The embedder at an endpoint of OpenAI's format (../endpoint_embedder.py)."""

from __future__ import annotations

from datetime import timedelta

from ....config.extras import Extra
from ....config.part import ConfigSection, Text
from ....config.paths import ReadableFile
from ....config.provider import BaseUrl
from ....config.quantities import Count, PositiveDuration
from ....config.secrets import Secret
from ..base import Embedder, EmbedderPlugin, EmbedderTools


class EndpointEmbedderOptions(ConfigSection):
    """An endpoint of OpenAI's format, which gets the text of each question. Set `budget` of the semantic cache to what
    it needs."""

    base_url: BaseUrl
    """The address, as https://api.openai.com/v1. The requests go to its path /embeddings, without Envoy."""
    model: Text
    """The name of the model."""
    api_key: Secret | None = None
    """Sent as a bearer token."""
    dimensions: Count | None = None
    """The length of the vectors, for a model that permits several."""
    price_list: Text = "openai"
    """The provider's id in the price list, by which the requests are charged to the caller's tenant in the ledger."""
    timeout: PositiveDuration = timedelta(seconds=2)
    """The longest time of a request after a response, when no caller waits."""
    connections: Count = 16
    """The most connections of one worker."""
    ca: ReadableFile | None = None
    """A PEM file with the authorities that the server's certificate may come from. Default: those of the system."""


class _EndpointPlugin:
    options = EndpointEmbedderOptions

    def required_extra(self, options: EndpointEmbedderOptions) -> Extra | None:
        del options
        return None

    def build(self, options: EndpointEmbedderOptions, tools: EmbedderTools) -> Embedder:
        from ..endpoint_embedder import EndpointEmbedder, EndpointSettings  # not before a worker needs it

        return EndpointEmbedder(
            EndpointSettings(
                options.base_url,
                options.model,
                options.dimensions,
                options.price_list,
                options.timeout.total_seconds(),
                options.connections,
                str(options.ca) if options.ca is not None else None,
            ),
            tools.secret(options.api_key) if options.api_key is not None else None,
            tools.meter,
        )


PLUGIN: EmbedderPlugin = _EndpointPlugin()
