"""Renders the configuration of Envoy and Istio. Only the supervisor and the command line import it."""
