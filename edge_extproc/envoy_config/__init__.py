"""Renders the configuration of Envoy and Istio. Only the supervisor and the command line import it: its types take half
a second and 50 MiB to load."""
