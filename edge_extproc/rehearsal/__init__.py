"""The rehearsal provider: an HTTP server like OpenAI and Anthropic, so that the gateway runs without a key.

It imports nothing of the gateway. Its code is written from the providers' documentation: code that is shared with a
dialect would repeat, and hide, the dialect's mistakes.

`python -m edge_extproc.rehearsal` runs it as a process; tests start `Rehearsal` in their own event loop. script.py
lists the faults that it can simulate, and model_output.py makes its replies.
"""

from .record import Recorded
from .server import Rehearsal

__all__ = ["Recorded", "Rehearsal"]
