"""ext_proc for a proxy that this project does not configure: a plain Envoy, cut down to what other control planes can
render, between callers and two providers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import fault_player
import gateway as gateways
import httpx2 as httpx
import pytest
from consumer_kit import bootstrap, cluster_of, in_composite, listener, process, route
from running_envoy import RunningEnvoy

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("consumers")]

LIMITED = "edge-test-key-that-is-limited"
DUPLEX = "FULL_DUPLEX_STREAMED"
WORKING = {
    "streamed": ("BUFFERED", "STREAMED"),
    "whole": ("BUFFERED", "BUFFERED"),
    "duplex": (DUPLEX, DUPLEX),
    "mixed": (DUPLEX, "STREAMED"),
}
REFUSED = {
    "no request body": ("NONE", "STREAMED"),
    "request in chunks": ("STREAMED", "STREAMED"),
    "request in part": ("BUFFERED_PARTIAL", "STREAMED"),
    "no reply": ("BUFFERED", "NONE"),
    "reply in part": ("BUFFERED", "BUFFERED_PARTIAL"),
}
# What the first filter of two may be.
CHOOSING = {"chosen": "BUFFERED", "chosen in duplex": DUPLEX}


@dataclass(frozen=True, slots=True)
class Consumer:
    envoy: RunningEnvoy
    player: fault_player.FaultPlayer
    gateway: gateways.RunningGateway


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consumer]:
    with fault_player.fault_player() as player:
        url = f"http://127.0.0.1:{player.port}"
        text = gateways.config(
            url,
            models="""
                "one.*": [{provider: openai}]
                "other.*": [{provider: anthropic}]
                "both.*": [{provider: openai}, {provider: anthropic}]
            """,
            more="""
                routing: {breaker: {enabled: false}}
                limiter: {store: memory}
            """,
        )
        clusters = '"httproute/llm/openai/*": openai, "httproute/llm/anthropic/*": anthropic'
        text = text.replace(
            "agent: {workers: 1", f"agent: {{consumer: {{routes: {{{clusters}}}, route_header: true}}, workers: 1"
        )
        limited = f"{{id: acme-2, key: {LIMITED}, limits: {{requests_per_minute: 1}}}}"
        text = text.replace("keys: [{id: acme-1", f"keys: [{limited}, {{id: acme-1")
        with gateways.RunningGateway(text) as gateway:
            worker = gateway.directory / ".edge" / "run" / "worker-0.sock"
            names = ("openai", "anthropic", "unknown")
            hosts = {name: [route(name)] for name in names}
            by_header = {
                "llm": [*(route(name, x_edge_provider=name) for name in names[:2]), route("unknown")],
            }
            one = [listener(name, process(*modes), hosts=hosts) for name, modes in (WORKING | REFUSED).items()]
            two = [
                listener(
                    name,
                    process(request, "SKIP", attribute=""),
                    process(request, DUPLEX if request == DUPLEX else "STREAMED"),
                    hosts=by_header,
                )
                for name, request in CHOOSING.items()
            ]
            names_route = process("BUFFERED", "STREAMED", attribute="xds.route_name")
            one.append(listener("by route name", names_route, hosts=hosts))
            one.append(listener("in a composite", in_composite(process("BUFFERED", "STREAMED")), hosts=hosts))
            alone = listener("choice alone", process("BUFFERED", "SKIP", attribute=""), hosts=by_header)
            found = bootstrap([*one, *two, alone], worker, dict.fromkeys(map(cluster_of, names), player.port))
            envoy = RunningEnvoy(found, tmp_path_factory.mktemp("consumer"))
            envoy.start()
            try:
                yield Consumer(envoy, player, gateway)
            finally:
                envoy.stop()


@pytest.fixture(autouse=True)
def _nothing_seen(consumer: Consumer) -> None:
    consumer.player.server.seen.clear()


def ask(
    consumer: Consumer,
    where: str,
    host: str,
    model: str,
    *headers: tuple[str, str],
    key: str = gateways.KEY,
    stream: bool = False,
) -> httpx.Response:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50, "stream": stream}
    authorization = [("authorization", f"Bearer {key}")] if key else []
    with httpx.Client(headers=[("host", host), *authorization, *headers], timeout=30) as http:
        return http.post(f"http://127.0.0.1:{consumer.envoy.port(where)}/v1/chat/completions", json=asked)


def is_whole(came: httpx.Response, *, stream: bool) -> bool:
    text = came.text
    return came.status_code == 200 and "there" in text and ("[DONE]" in text) is stream


def seen_by(consumer: Consumer) -> list[tuple[str | None, str | None, str]]:
    return [
        (one.header("authorization"), one.header("x-api-key"), one.line.split()[1])
        for one in consumer.player.server.seen
    ]


OPENAI = ("Bearer sk-provider-openai", None, "/v1/chat/completions")
ANTHROPIC = (None, "sk-ant-provider", "/v1/messages")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", WORKING)
def test_a_route_gets_its_provider_in_each_body_mode(consumer: Consumer, where: str, stream: bool) -> None:
    assert is_whole(ask(consumer, where, "openai", "one.good", stream=stream), stream=stream)
    assert is_whole(ask(consumer, where, "anthropic", "other.good", stream=stream), stream=stream)
    assert is_whole(ask(consumer, where, "openai", "both.good", stream=stream), stream=stream)
    assert is_whole(ask(consumer, where, "anthropic", "both.good", stream=stream), stream=stream)
    assert [OPENAI, ANTHROPIC, OPENAI, ANTHROPIC] == seen_by(consumer)


def test_the_name_of_a_route_is_enough(consumer: Consumer) -> None:
    assert is_whole(ask(consumer, "by route name", "anthropic", "both.good"), stream=False)
    assert [ANTHROPIC] == seen_by(consumer)
    assert 500 == ask(consumer, "by route name", "unknown", "both.good").status_code


@pytest.mark.parametrize("stream", [False, True])
def test_a_filter_may_be_within_another_one(consumer: Consumer, stream: bool) -> None:
    assert is_whole(ask(consumer, "in a composite", "openai", "both.good", stream=stream), stream=stream)
    assert is_whole(ask(consumer, "in a composite", "anthropic", "both.good", stream=stream), stream=stream)
    assert [OPENAI, ANTHROPIC] == seen_by(consumer)
    assert 401 == ask(consumer, "in a composite", "openai", "both.good", key="x").status_code


@pytest.mark.parametrize("where", WORKING)
def test_errors_are_the_callers(consumer: Consumer, where: str) -> None:
    nobody, wrong = (
        ask(consumer, where, "openai", "one.good", key=""),
        ask(consumer, where, "openai", "one.good", key="x"),
    )
    elsewhere = ask(consumer, where, "anthropic", "one.good")
    assert [401, 401, 404] == [came.status_code for came in (nobody, wrong, elsewhere)]
    assert "model_not_found" == elsewhere.json()["error"]["code"]
    assert [] == consumer.player.server.seen

    failed = [ask(consumer, where, host, "both.503") for host in ("openai", "anthropic")]
    assert [503, 503] == [came.status_code for came in failed]
    assert ["a bad day", "a bad day"] == [came.json()["error"]["message"] for came in failed]
    assert 2 == len(consumer.player.server.seen)


def test_a_limit_is_counted(consumer: Consumer) -> None:
    statuses = [ask(consumer, "streamed", "openai", "one.good", key=LIMITED).status_code for _ in range(2)]
    assert [200, 429] == statuses
    assert 1 == len(consumer.player.server.seen)


@pytest.mark.parametrize("where", REFUSED)
def test_a_mode_in_which_something_would_pass_unread_is_refused(consumer: Consumer, where: str) -> None:
    came = ask(consumer, where, "openai", "one.good")
    assert (500, "proxy_misconfigured") == (came.status_code, came.json()["error"]["code"])
    assert "set BUFFERED" in came.json()["error"]["message"]
    assert [] == consumer.player.server.seen


@pytest.mark.parametrize("where", WORKING)
def test_a_cluster_without_a_provider_gets_no_credential(consumer: Consumer, where: str) -> None:
    came = ask(consumer, where, "unknown", "one.good")
    assert (500, "proxy_misconfigured") == (came.status_code, came.json()["error"]["code"])
    assert [] == consumer.player.server.seen


SPOOFED = (
    ("x-edge-role", "upstream"),
    ("x-edge-route", "once"),
    ("x-edge-cluster", "provider_anthropic"),
    ("x-edge-provider", "anthropic"),
    ("x-edge-identity", "9999999999.00.e30="),
    ("x-edge-tenant", "umbrella"),
    ("x-edge-request-id", "forged"),
    ("x-forwarded-client-cert", "URI=spiffe://forged"),
    ("x-forwarded-host", "forged.example"),
    ("x-envoy-max-retries", "9"),
)


@pytest.mark.parametrize("where", [*WORKING, *CHOOSING])
def test_internal_headers_decide_nothing_and_stay_inside(consumer: Consumer, where: str) -> None:
    spoofed = [pair for pair in SPOOFED if where in CHOOSING or pair[0] != "x-edge-identity"]
    host = "llm" if where in CHOOSING else "openai"
    assert is_whole(ask(consumer, where, host, "one.good", *spoofed), stream=False)
    assert [OPENAI] == seen_by(consumer)
    names = {name for name, _ in consumer.player.server.seen[0].headers}
    assert not {name for name in names if name.startswith(("x-edge-", "x-forwarded-"))}
    assert not {name for name in names if name.startswith("x-envoy-")}


def test_a_forged_identity_is_refused(consumer: Consumer) -> None:
    came = ask(consumer, "streamed", "openai", "one.good", ("x-edge-identity", "9999999999.00.e30="), key="")
    assert 401 == came.status_code
    assert [] == consumer.player.server.seen


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", CHOOSING)
def test_a_header_of_ours_selects_the_route(consumer: Consumer, where: str, stream: bool) -> None:
    assert is_whole(ask(consumer, where, "llm", "one.good", stream=stream), stream=stream)
    assert is_whole(ask(consumer, where, "llm", "other.good", stream=stream), stream=stream)
    assert [OPENAI, ANTHROPIC] == seen_by(consumer)


@pytest.mark.parametrize("where", CHOOSING)
def test_a_request_without_a_route_has_the_error_of_its_cause(consumer: Consumer, where: str) -> None:
    before = len(consumer.gateway.access_lines())
    came = [ask(consumer, where, "llm", "one.good", key="x")]
    came.append(ask(consumer, where, "llm", "only-nobody", key=gateways.OTHER_KEY))
    assert [401, 404] == [each.status_code for each in came], (came[0].text, consumer.gateway.lines[-6:])
    assert [] == consumer.player.server.seen
    gateways.until(lambda: len(consumer.gateway.access_lines()) >= before + 2)


def test_a_choice_without_a_second_filter_lets_no_secret_out(consumer: Consumer) -> None:
    ask(consumer, "choice alone", "llm", "one.good")
    (seen,) = consumer.player.server.seen
    assert (None, None) == (seen.header("authorization"), seen.header("x-api-key"))
    assert gateways.KEY not in str(seen.headers)
    assert "sk-" not in str(seen.headers)


def test_an_exchange_is_settled_with_its_provider_and_usage(consumer: Consumer) -> None:
    request_id = "a-request-of-a-consumer"
    assert is_whole(
        ask(consumer, "duplex", "anthropic", "other.good", ("x-request-id", request_id), stream=True), stream=True
    )

    def settled() -> list[tuple[str, int]]:
        return [
            (line["provider"], line["tokens_output"])
            for line in consumer.gateway.access_lines()
            if line["model"] == "other.*" and line["stream"]
        ]

    gateways.until(lambda: ("anthropic", 2) in settled())


@pytest.mark.parametrize("where", ["streamed", "duplex", "mixed"])
def test_a_stream_is_not_held_until_its_end(consumer: Consumer, where: str) -> None:
    """The provider's stream breaks after its first token, and the token has reached the caller."""
    asked = {"model": "one.reset-midway", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    found = {"host": "openai", "authorization": f"Bearer {gateways.KEY}"}
    url, text = f"http://127.0.0.1:{consumer.envoy.port(where)}/v1/chat/completions", ""
    with httpx.Client(timeout=30) as http, http.stream("POST", url, json=asked, headers=found) as came:
        assert 200 == came.status_code
        with contextlib.suppress(httpx.RemoteProtocolError):
            for part in came.iter_text():
                text += part
                if "Hi" in text:
                    consumer.player.text_seen["one.reset-midway"].set()
    assert "Hi" in text
