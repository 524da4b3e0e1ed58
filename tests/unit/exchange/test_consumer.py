"""A stream without a role: which credential a request gets, and in which body modes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from guarding import SECRET, guardrails, rule
from player import KEY, Stage, answered, body, headers, talk

from edge_extproc.auth.identity_seal import IdentitySeal
from edge_extproc.errors import Forbidden, Unauthenticated
from edge_extproc.exchange.body_limits import BodyLimits
from edge_extproc.exchange.commands import HOLD, Command, Continue, ImmediateResponse, Pass, Release
from edge_extproc.exchange.consumer import ConsumerExchange
from edge_extproc.exchange.consumer_routes import ConsumerRoutes
from edge_extproc.exchange.events import (
    BodyModes,
    FilterBodyMode,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
)
from edge_extproc.exchange.large_bodies import LARGE, InlineRunner
from edge_extproc.exchange.route_identity import seal_identity, sealed_principal
from edge_extproc.guardrails.base import Rule
from edge_extproc.model.principal import Principal
from edge_extproc.worker.main import open_stream

T = TypeVar("T")

CLUSTERS = (("route/openai/*", "openai"), ("route/*", "anthropic"), ("route/openai/none", "google"))
QUESTION = {"model": "both", "messages": [{"role": "user", "content": "Hello"}]}


def begun(routes: ConsumerRoutes, **more: Any) -> ConsumerExchange:
    stage = Stage()
    choose = open_stream(lambda: replace(stage.gateway, consumer=routes, **more), lambda: None)
    found = choose({}, None)
    assert isinstance(found, ConsumerExchange)
    return found


def first(
    cluster: str | None, request: FilterBodyMode = "buffered", response: FilterBodyMode = "streamed"
) -> RequestHeaders:
    attributes = {"xds.cluster_name": cluster} if cluster is not None else {}
    return replace(headers(), attributes=attributes, modes=BodyModes(request, response))


def credential(command: Command) -> str | None:
    assert isinstance(command, Continue | Release)
    pairs = dict(command.set_headers)
    return pairs.get("authorization") or pairs.get("x-api-key")


def refusal(command: Command) -> str:
    assert isinstance(command, ImmediateResponse)
    return str(json.loads(command.body)["error"]["code"])


def test_the_cluster_shows_the_provider_and_the_longest_glob_wins() -> None:
    routes = ConsumerRoutes(destinations=CLUSTERS)
    assert ["openai", "anthropic", "google", None] == [
        routes.provider_of(name) for name in ("route/openai/1", "route/other", "route/openai/none", "another")
    ]
    keys = {
        name: credential(talk(begun(routes), first(f"route/{name}/1"), body(QUESTION))[-1])
        for name in ("openai", "else")
    }
    assert keys["openai"] != keys["else"]


@pytest.mark.parametrize("cluster", [None, "", "another"])
def test_without_a_known_cluster_no_credential_is_written(cluster: str | None) -> None:
    came = talk(begun(ConsumerRoutes(destinations=CLUSTERS)), first(cluster), body(QUESTION))
    assert "proxy_misconfigured" == refusal(came[-1])


def test_one_provider_for_all_routes_needs_no_attribute() -> None:
    assert credential(talk(begun(ConsumerRoutes("openai")), first(None), body(QUESTION))[-1])


def test_a_filter_that_does_not_send_its_modes_is_refused_unless_they_are_configured() -> None:
    unknown = replace(first(None), modes=None)
    assert "proxy_misconfigured" == refusal(talk(begun(ConsumerRoutes("openai")), unknown)[-1])

    came = talk(begun(ConsumerRoutes("openai", full_duplex=True)), unknown, body(QUESTION))
    assert HOLD == came[0]
    assert isinstance(came[1], Release)


def test_in_full_duplex_the_headers_wait_for_the_body_also_before_trailers() -> None:
    sent = json.dumps(QUESTION).encode()
    parts = (RequestBody(sent[:9], False), RequestBody(sent[9:], False), RequestTrailers())
    held = talk(begun(ConsumerRoutes("openai")), first(None, "full_duplex_streamed"), *parts)
    assert [HOLD, HOLD, HOLD] == held[:3]
    released = held[3]
    assert isinstance(released, Release)
    assert (False, True) == (released.end, released.trailers)
    assert "content-length" not in dict(released.set_headers)
    assert credential(released)


def test_nothing_of_a_body_is_answered_after_a_refusal() -> None:
    wrong = replace(first(None, "full_duplex_streamed"), headers=(("x-api-key", "x"), *headers().headers[:3]))
    came = talk(begun(ConsumerRoutes("openai")), wrong, body(QUESTION))
    assert isinstance(came[0], ImmediateResponse)
    assert HOLD == came[1]


def test_a_sealed_identity_is_for_one_request_and_a_short_time() -> None:
    seal, who = IdentitySeal(b"a pepper"), Principal("acme", "acme-1", ("*",), None, None, None)
    value = seal_identity(seal, who, "id-1", 1000.0)
    assert who == sealed_principal(seal, value, "id-1", 1059.0)
    for changed, request_id, now in (
        (value, "id-2", 1000.0),
        (value, "id-1", 1061.0),
        (value.replace("1060.", "9999.", 1), "id-1", 1000.0),
        ("", "id-1", 1000.0),
        ("1060.é.é", "id-1", 1000.0),
    ):
        with pytest.raises(Unauthenticated):
            sealed_principal(seal, changed, request_id, now)


def test_a_choice_takes_the_credential_away_and_the_writer_takes_its_identity() -> None:
    more = {"route_seal": IdentitySeal(b"a pepper")}
    routes = ConsumerRoutes(destinations=CLUSTERS, chooses=True)
    chosen = talk(begun(routes, **more), first(None, "buffered", "none"), body(QUESTION))[-1]
    assert isinstance(chosen, Continue)
    assert chosen.reroute
    to_set = dict(chosen.set_headers)
    assert {"x-edge-provider", "x-edge-identity"} == to_set.keys()
    assert ("authorization",) == chosen.remove_headers
    assert KEY not in str(chosen)

    kept = tuple(pair for pair in headers().headers if pair[0] != "authorization")
    second = replace(first("route/openai/1"), headers=(*kept, *chosen.set_headers))
    written = talk(begun(routes, **more), second, body(QUESTION))[-1]
    assert isinstance(written, Continue)
    assert credential(written)
    assert {"x-edge-provider", "x-edge-identity"} <= {*written.remove_headers}


@pytest.mark.parametrize(
    ("rules", "provider"),
    [
        ((rule("route", route="claude"),), "anthropic"),
        ((rule("route", route="claude"), rule("block", "b")), "openai"),
        ((rule("mask"),), "openai"),
    ],
)
def test_a_choice_knows_the_model_that_a_rule_routes_to(rules: tuple[Rule, ...], provider: str) -> None:
    """What blocks the call is left to the next stream, which settles it."""
    more = {"route_seal": IdentitySeal(b"a pepper"), "guardrails": guardrails(*rules)}
    routes = ConsumerRoutes(destinations=CLUSTERS, chooses=True)
    call = {"model": "chat", "messages": [{"role": "user", "content": SECRET}]}
    chosen = talk(begun(routes, **more), first(None, "buffered", "none"), body(call))[-1]

    assert isinstance(chosen, Continue)
    assert dict(chosen.set_headers)["x-edge-provider"] == provider


def test_the_name_of_the_route_shows_the_provider_if_the_cluster_is_not_sent() -> None:
    routes = ConsumerRoutes(destinations=CLUSTERS)
    by_route = replace(first(None), attributes={"xds.route_name": "route/openai/1"})
    both = replace(first(None), attributes={"xds.route_name": "route/openai/1", "xds.cluster_name": "another"})
    assert credential(talk(begun(routes), by_route, body(QUESTION))[-1])
    assert "proxy_misconfigured" == refusal(talk(begun(routes), both, body(QUESTION))[-1])


CHOOSING = ConsumerRoutes(destinations=CLUSTERS, chooses=True)
SEAL = IdentitySeal(b"a pepper")
DUPLEX: FilterBodyMode = "full_duplex_streamed"


@pytest.mark.parametrize("given", [None, "not an id\x01"])
def test_a_choice_without_a_request_id_gets_one_so_that_its_identity_is_for_this_request_alone(
    given: str | None,
) -> None:
    came = first(None, "buffered", "none")
    others = tuple(pair for pair in came.headers if pair[0] != "x-request-id")
    of_id = (("x-request-id", given),) if given is not None else ()
    chosen = talk(begun(CHOOSING, route_seal=SEAL), replace(came, headers=(*others, *of_id)), body(QUESTION))[-1]
    assert isinstance(chosen, Continue)
    to_set = dict(chosen.set_headers)
    sealed, request_id = to_set["x-edge-identity"], to_set["x-request-id"]
    now = float(sealed.partition(".")[0])
    assert "acme" == sealed_principal(SEAL, sealed, request_id, now).tenant
    for other in ("", given or ""):
        with pytest.raises(Unauthenticated):
            sealed_principal(SEAL, sealed, other, now)


class NoModels:
    """The rights of a caller whose roles allow no candidate."""

    admin: frozenset[str] = frozenset()

    def of(self, principal: Principal) -> NoModels:
        del principal
        return self

    def may_do(self, operation: str) -> None:
        """Every operation."""

    def narrow(self, call: object, candidates: object) -> None:
        del call, candidates
        raise Forbidden("no role of this key allows this model")


def test_a_request_without_a_route_has_the_error_of_its_choice() -> None:
    came = talk(begun(CHOOSING, route_seal=SEAL, access=NoModels()), first(None), body(QUESTION))[-1]
    assert isinstance(came, ImmediateResponse)
    assert (403, "permission_denied") == (came.status, refusal(came))


def test_a_forged_identity_does_not_change_the_error_of_a_choice() -> None:
    asked = first(None)
    forged = replace(asked, headers=(*asked.headers, ("x-edge-identity", "9999999999.00.e30=")))
    came = talk(begun(CHOOSING, route_seal=SEAL), forged, body({**QUESTION, "model": "unknown"}))[-1]
    assert isinstance(came, ImmediateResponse)
    assert (404, "model_not_found") == (came.status, refusal(came))


def test_a_large_request_is_read_off_the_event_loop_also_before_its_route_is_known() -> None:
    ran: list[object] = []

    class Runner(InlineRunner):
        async def run(self, function: Callable[..., T], *arguments: object) -> T:
            ran.append(function)
            return await asyncio.to_thread(function, *arguments)

    extended: list[float] = []

    async def more_time(seconds: float) -> None:
        extended.append(seconds)

    large = {**QUESTION, "messages": [{"role": "user", "content": "x" * LARGE}]}
    exchange = begun(CHOOSING, route_seal=SEAL, large_body_runner=Runner())
    exchange.more_time = more_time
    chosen = talk(exchange, first(None), body(large))[-1]
    assert isinstance(chosen, Continue)
    assert chosen.reroute
    assert 1 == len(ran)
    assert 1 == len(extended)


def test_a_choice_in_full_duplex_releases_the_whole_body_after_an_empty_last_chunk_and_passes_the_reply() -> None:
    sent = json.dumps(QUESTION).encode()
    chunks = (RequestBody(sent[:9], False), RequestBody(sent[9:], False), RequestBody(b"", True))
    reply = (ResponseHeaders(((":status", "200"),), False), ResponseBody(b"abc", False), ResponseBody(b"", True))
    came = talk(begun(CHOOSING, route_seal=SEAL), first(None, DUPLEX, DUPLEX), *chunks, *reply)
    assert [HOLD, HOLD, HOLD] == came[:3]
    released = came[3]
    assert isinstance(released, Release)
    assert (sent, True, True) == (released.body, released.end, released.reroute)
    assert [Pass(b"abc", False), Pass(b"", True)] == came[5:]


def test_a_response_of_an_earlier_filter_passes_whole_if_full_duplex_is_configured() -> None:
    refused = (ResponseHeaders(((":status", "403"),), False), ResponseBody(b"no", True))
    assert Pass(b"no", True) == talk(begun(ConsumerRoutes("openai", full_duplex=True)), *refused)[-1]


def test_after_the_error_of_a_reply_that_is_too_long_its_other_chunks_are_ignored() -> None:
    exchange = begun(ConsumerRoutes("openai"), body_limits=BodyLimits(1 << 20, 10))
    chunks = (ResponseBody(b"x" * 20, False), ResponseBody(b"x" * 20, False), ResponseBody(b"", True))
    came = talk(exchange, first(None, "buffered", DUPLEX), body(QUESTION), answered(), *chunks)
    replaced = came[-3]
    assert isinstance(replaced, Release)
    assert replaced.end
    assert "502" == dict(replaced.set_headers)[":status"]
    assert [HOLD, HOLD] == came[-2:]
