"""The legal order, read off the tables and held against each illegal pair."""

import pytest

from edge_extproc.errors import PeerError
from edge_extproc.exchange.events import (
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from edge_extproc.exchange.states import ATTEMPT, GUARD, ROUTER, State, StreamOrder

EVENTS = {
    RequestHeaders: lambda end: RequestHeaders((), end),
    RequestBody: lambda end: RequestBody(b"", end),
    RequestTrailers: lambda end: RequestTrailers(),
    ResponseHeaders: lambda end: ResponseHeaders((), end),
    ResponseBody: lambda end: ResponseBody(b"", end),
    ResponseTrailers: lambda end: ResponseTrailers(),
}
ILLEGAL = [
    (table, state, kind)
    for table in (ROUTER, ATTEMPT, GUARD)
    for state in table
    for kind in EVENTS
    if kind not in table[state]
]


@pytest.mark.parametrize(("table", "state", "kind"), ILLEGAL)
def test_what_is_not_in_the_table_is_the_peers_error_and_changes_nothing(table, state, kind):
    order = StreamOrder(table)
    order.state = state

    with pytest.raises(PeerError, match=kind.__name__):
        order.advance(EVENTS[kind](True))

    assert state is order.state


@pytest.mark.parametrize("end", [False, True])
def test_every_legal_pair_leads_where_its_row_says(end):
    for table, state, kind in [(t, s, k) for t in (ROUTER, GUARD) for s in t for k in t[s]]:
        more, last = table[state][kind]
        order = StreamOrder(table)
        order.state = state
        order.advance(EVENTS[kind](end))
        ends = kind not in (RequestTrailers, ResponseTrailers)

        assert (last if end and ends else more) is order.state


def test_a_streamed_reply_with_an_empty_last_chunk_is_legal():
    order = StreamOrder(ROUTER)
    for event in (
        RequestHeaders((), False),
        RequestBody(b"{}", True),
        ResponseHeaders((), False),
        ResponseBody(b"data: 1\n\n", False),
        ResponseBody(b"", True),
    ):
        order.advance(event)

    assert State.OVER is order.state


def test_our_own_reply_comes_back_through_the_response_path():
    order = StreamOrder(ROUTER)
    order.advance(RequestHeaders((), False))
    order.replied()
    order.advance(ResponseHeaders((), False))
    order.advance(ResponseBody(b"x", True))

    assert State.REPLIED is order.state


def test_the_error_says_what_was_expected():
    with pytest.raises(PeerError, match=r"ResponseBody in state FRESH; expected RequestHeaders, ResponseHeaders"):
        StreamOrder(ROUTER).advance(ResponseBody(b"", True))
