"""The capabilities of the proxies, and the names of their clusters. Workers and the renderer of Envoy's configuration
share this package, so that both assume the same proxy."""
