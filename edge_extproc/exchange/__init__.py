"""The core of the gateway, without IO: one HTTP request and its response through Envoy."""
