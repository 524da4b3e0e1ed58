"""Gemini's countTokens at Vertex AI: the request that would be sent, as it is."""

from __future__ import annotations

from .gemini_count import GeminiCount

PLUGIN = GeminiCount(
    "vertex_count",
    tuple(
        f"/{version}{project}/publishers/google/models"
        for version in ("v1", "v1beta1")
        for project in ("/projects/{project}/locations/{location}", "")
    ),
    wrapped=False,
)
