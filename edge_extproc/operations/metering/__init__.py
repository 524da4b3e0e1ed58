"""Reads the usage of replies that no dialect parses."""
