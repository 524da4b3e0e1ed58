"""Routing: the order in which a call's candidates are tried, and which of them their circuit breakers exclude."""
