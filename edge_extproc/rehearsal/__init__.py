"""The rehearsal provider: a real HTTP server that plays OpenAI and Anthropic, so that the gateway runs without a key.

It is the other side of the wire. It imports nothing of the gateway, above all no dialect: what the gateway writes is
read here by other code, written from the providers' documentation, or a mistake made twice would look like agreement.

`python -m edge_extproc.rehearsal` runs it as a process; tests start `Rehearsal` in their own event loop. What it can be
told to do wrong is listed in `script.py`, what it says in `turn.py`.
"""

from .record import Recorded
from .server import Rehearsal

__all__ = ["Recorded", "Rehearsal"]
