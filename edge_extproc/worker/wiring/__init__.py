"""Builds each stage of a worker from the configuration, one module a stage."""
