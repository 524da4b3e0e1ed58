"""Metrics, logs and traces. Each gets an exchange once, as its Settlement."""
