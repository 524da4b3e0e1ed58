"""The heart, without IO: one HTTP request on its way through Envoy."""
