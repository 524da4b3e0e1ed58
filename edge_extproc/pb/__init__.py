"""Envoy's messages as Python, written by protos/generate.py. Only server/wire.py names them."""
