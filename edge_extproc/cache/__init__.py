"""Replies that were given before: who may have them again, where they lie, and for how long."""
