"""Real traffic of every chat API, carried over into every other chat format: requests, replies, streams, usage. What is
checked, and for which reasons a request may be refused, stands in `crossings.py`."""

from __future__ import annotations

from cells import each_cell
from crossings import dialect_of, events_of, examine, recorded
from recordings import body, of_today

from edge_extproc.model.reply import Ended, Failed

STREAMS = of_today(id for id, r in recorded().items() if r["streaming"] and r["response"]["status"] == 200)


@each_cell("id", of_today(recorded()), parts=4)
def test_a_recording_crosses_into_every_other_format(id: str) -> None:
    findings = list(examine(recorded()[id]))

    assert findings
    assert [] == [finding for finding in findings if finding.outcome == "failed"]


@each_cell("id", STREAMS)
def test_half_of_a_stream_is_no_whole_one(id: str) -> None:
    """Cut before the end that its format knows. A host that sends no [DONE] has said all with its finish."""
    dialect = dialect_of(recorded()[id])
    wire = body(recorded()[id]["response"])

    events = events_of(dialect, wire[: len(wire) // 3])

    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Ended) for event in events)
