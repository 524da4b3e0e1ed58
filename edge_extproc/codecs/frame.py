"""One frame of a streamed reply, whatever framed it."""

from __future__ import annotations

from ..model.noun import noun


@noun
class Frame:
    data: bytes
    """The payload: for SSE the data lines joined by LF, without the field name."""
    raw: bytes
    """All bytes of the frame as they came, delimiter included: joining every frame's `raw` gives the stream back."""
    event: str = ""
    """The SSE event name, or the event type of an AWS frame; empty where none was given."""
