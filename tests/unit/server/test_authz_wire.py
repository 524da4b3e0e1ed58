"""ext_authz's messages: every spelling of headers, every verdict, and no bytes that stop us."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.errors import PeerError
from edge_extproc.exchange.check import AuthzRequest, CheckAllowed, CheckDenied
from edge_extproc.pb.auth_pb2 import CheckRequest, CheckResponse
from edge_extproc.server.authz_wire import to_answer, to_request


def request(**headers: str) -> CheckRequest:
    found = CheckRequest()
    http = found.attributes.request.http
    http.method, http.path = "POST", "/orders?id=1"
    for name, value in headers.items():
        http.headers[name.replace("_", "-")] = value
    found.attributes.context_extensions["edge.tenants"] = "acme"
    return found


def test_headers_come_as_a_map() -> None:
    asked = to_request(request(X_Api_Key="k").SerializeToString())

    assert AuthzRequest("POST", "/orders?id=1", (("x-api-key", "k"),), {"edge.tenants": "acme"}) == asked


def test_raw_headers_come_each_as_it_was() -> None:
    found = request(ignored="x")
    for name, value in ((":path", b"/"), ("Authorization", b"a"), ("authorization", b"\xff")):
        pair = found.attributes.request.http.header_map.headers.add()
        pair.key, pair.raw_value = name, value

    assert (("authorization", "a"), ("authorization", "\udcff")) == to_request(found.SerializeToString()).headers


def test_a_pass_sets_and_removes_headers_and_tells_who_it_is() -> None:
    verdict = CheckAllowed((("x-edge-tenant", "acme"),), ("authorization",), {"identity": "i"}, (("x-left", "1"),))
    answer = CheckResponse.FromString(to_answer(verdict))

    assert 0 == answer.status.code
    assert ("x-edge-tenant", "acme") == (
        answer.ok_response.headers[0].header.key,
        answer.ok_response.headers[0].header.value,
    )
    assert ["authorization"] == list(answer.ok_response.headers_to_remove)
    assert "x-left" == answer.ok_response.response_headers_to_add[0].header.key
    assert "i" == answer.dynamic_metadata.fields["identity"].string_value


@pytest.mark.parametrize(("status", "code"), [(401, 16), (403, 7), (429, 7), (503, 7)])
def test_a_refusal_is_told_with_its_status_headers_and_body(status: int, code: int) -> None:
    answer = CheckResponse.FromString(to_answer(CheckDenied(status, (("retry-after", "1"),), b'{"error":{}}', "x")))

    assert (code, status, '{"error":{}}') == (
        answer.status.code,
        answer.denied_response.status.code,
        answer.denied_response.body,
    )
    assert "retry-after" == answer.denied_response.headers[0].header.key


def test_text_that_no_protobuf_can_hold_is_replaced() -> None:
    verdict = CheckAllowed((("x-edge-user", "\udcff"),), (), {})

    assert "?" == CheckResponse.FromString(to_answer(verdict)).ok_response.headers[0].header.value


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_make_no_sense(message: bytes) -> None:
    try:
        asked = to_request(message)
    except PeerError:
        return
    assert isinstance(asked, AuthzRequest)
