"""Requests to servers of the Model Context Protocol: rights, limits and prices of tools, and what callers see."""
