"""Renders Envoy's and Istio's configuration. Only the supervisor and the command
line import it: its types take half a second and 50 MiB to load."""
