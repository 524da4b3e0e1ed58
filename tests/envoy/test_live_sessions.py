"""Sessions of Google's Live API through Envoy, with Google's SDK and a scripted provider."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import gateway as gateways
import pytest
from certificates import Pems, mutual
from gateway import KEY, RunningGateway
from google import genai
from google.genai import errors, types
from google.genai.live import AsyncSession
from ports import free_port
from scripted_sockets import ScriptedSockets, scripted_sockets
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.envoy

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
POOR_KEY = "edge-test-key-of-tenant-poor"
PRICES = """
prices:
  - {provider: google, model: "*", input: 0.5, input_audio: 3, output: 2, output_audio: 12}
"""
Converse = Callable[[AsyncSession], Coroutine[Any, Any, Any]]
Talk = Callable[..., Any]


def text(url: str, port: int, pems: Pems) -> str:
    poor = f"- {{tenant: poor, keys: [{{id: poor-1, key: {POOR_KEY}, limits: {{dollars_per_day: 0.0001}}}}]}}"
    written = gateways.config(
        url,
        more=PRICES,
        models="""
    live: [{provider: google, model: gemini-live-2.5-flash-preview}]
    """,
    )
    google = f'google: {{kind: google, base_url: "{url}/v1beta", api_key: sk-provider-google, sockets: true}}'
    written = written.replace("providers:\n", f"providers:\n  {google}\n")
    tls = f"{{certificate: {pems.certificate}, private_key: {pems.private_key}}}"
    plain = next(line for line in written.splitlines() if line.startswith("listen: "))
    written = written.replace(plain, f"{plain[:-1]}, more: [{{port: {port}, tls: {tls}}}]}}")
    return written.replace("callers:\n", f"callers:\n  {poor}\n")


@pytest.fixture(scope="module")
def provider() -> Iterator[tuple[ScriptedSockets, str]]:
    with scripted_sockets() as running:
        yield running


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Pems:
    return mutual(tmp_path_factory.mktemp("pems"), "localhost")


@pytest.fixture(scope="module")
def port() -> int:
    """Of the listener with TLS, without which Google's SDK opens no WebSocket."""
    return free_port()


@pytest.fixture(scope="module")
def running(provider: tuple[ScriptedSockets, str], port: int, pems: Pems) -> Iterator[RunningGateway]:
    with RunningGateway(text(provider[1], port, pems)) as gateway:
        yield gateway


@pytest.fixture
def talk(running: RunningGateway, port: int, pems: Pems) -> Talk:
    """Returns what `converse` returns for a session of Google's SDK."""
    trusted = ssl.create_default_context(cafile=str(pems.ca))

    def talk(converse: Converse, *, key: str = KEY, model: str = "live") -> Any:
        async def run() -> Any:
            options = types.HttpOptions(
                base_url=f"https://localhost:{port}", api_version="v1beta", async_client_args={"ssl": trusted}
            )
            client = genai.Client(api_key=key, http_options=options)
            config = types.LiveConnectConfig(response_modalities=[types.Modality.TEXT])
            async with client.aio.live.connect(model=model, config=config) as session:
                return await converse(session)

        return asyncio.run(run())

    return talk


@pytest.fixture
def scripted(provider: tuple[ScriptedSockets, str]) -> ScriptedSockets:
    played, _ = provider
    played.requests.clear()
    played.events.clear()
    return played


@pytest.fixture
def before(running: RunningGateway) -> int:
    """How many lines there are before a test."""
    running.all_settled()
    return len(running.access_lines())


def new_lines(gateway: RunningGateway, before: int, count: int) -> list[dict[str, Any]]:
    return gateway.settled(before + count)[before:]


async def say(session: AsyncSession, words: str) -> list[types.LiveServerMessage]:
    turn = types.Content(role="user", parts=[types.Part(text=words)])
    await session.send_client_content(turns=turn, turn_complete=True)
    return [message async for message in session.receive()]


def test_googles_sdk_has_a_conversation(
    running: RunningGateway, talk: Talk, scripted: ScriptedSockets, before: int
) -> None:
    async def converse(session: AsyncSession) -> list[list[types.LiveServerMessage]]:
        return [await say(session, words) for words in ("Hello", "And you?")]

    turns = talk(converse)
    *lines, whole = new_lines(running, before, 3)

    assert all("Hi Hi" in (turn[0].text or "") for turn in turns)
    (path, headers), *_ = scripted.requests
    assert PATH == path
    assert "sk-provider-google" == headers["x-goog-api-key"]
    assert KEY not in str(scripted.requests)
    assert "models/gemini-live-2.5-flash-preview" == scripted.events[0]["setup"]["model"]
    for line in lines:
        assert ("ok", "live", "gemini-live-2.5-flash-preview") == (
            line["outcome"],
            line["model"],
            line["upstream_model"],
        )
        assert (40, 60, 10, 40) == tuple(
            line[f"tokens_{kind}"] for kind in ("input", "input_audio", "output", "output_audio")
        )
        # 40 × 0.5 + 60 × 3 + 10 × 2 + 40 × 12 dollars for a million.
        assert "0.0007" == line["cost_usd"]
    assert ("socket", 101, "ok") == (whole["operation"], whole["status"], whole["outcome"])


def test_speech_is_answered_when_the_provider_has_heard_its_end(
    running: RunningGateway, talk: Talk, scripted: ScriptedSockets, before: int
) -> None:
    async def converse(session: AsyncSession) -> int:
        await session.send_realtime_input(audio=types.Blob(data=b"\0\0" * 800, mime_type="audio/pcm;rate=16000"))
        await session.send_realtime_input(audio=types.Blob(data=b"ABC" * 800, mime_type="audio/pcm;rate=16000"))
        return len([message async for message in session.receive()])

    assert talk(converse) > 1
    line, _ = new_lines(running, before, 2)

    assert ("ok", 60) == (line["outcome"], line["tokens_input_audio"])


def test_a_function_is_called_within_a_session(
    running: RunningGateway, talk: Talk, scripted: ScriptedSockets, before: int
) -> None:
    async def converse(session: AsyncSession) -> str:
        turn = types.Content(role="user", parts=[types.Part(text="call a function")])
        await session.send_client_content(turns=turn, turn_complete=True)
        async for message in session.receive():
            if message.tool_call is not None:
                response = types.FunctionResponse(id="1", name="weather", response={"sky": "clear"})
                await session.send_tool_response(function_responses=response)
            elif message.text:
                return message.text
        return ""

    assert "Hi" in talk(converse)
    first, *_ = new_lines(running, before, 2)

    assert ("ok", 10) == (first["outcome"], first["tokens_output"])


def test_the_end_of_a_budget_is_the_reason_of_the_close(
    running: RunningGateway, talk: Talk, scripted: ScriptedSockets, before: int
) -> None:
    with pytest.raises(errors.APIError, match="dollars per day") as refused:
        talk(lambda session: say(session, "Hello"), key=POOR_KEY)
    lines = new_lines(running, before, 2)

    assert 1008 == refused.value.code
    assert ["setup"] == [next(iter(event)) for event in scripted.events]
    assert [("rejected", "budget_exceeded")] * 2 == [(line["outcome"], line["code"]) for line in lines]


def test_a_model_that_is_not_there_is_the_reason_of_the_close(
    running: RunningGateway, talk: Talk, scripted: ScriptedSockets
) -> None:
    with pytest.raises(errors.APIError, match="nowhere"):
        talk(lambda session: say(session, "Hello"), model="nowhere")
    assert [] == scripted.events


@pytest.mark.parametrize(("script", "outcome"), [("hang", "caller_left"), ("leave", "broken_stream")])
def test_a_turn_in_progress_is_settled_when_a_side_leaves(
    running: RunningGateway, scripted: ScriptedSockets, before: int, script: str, outcome: str
) -> None:
    url = running.url.replace("http", "ws") + f"{PATH}?key={KEY}"
    with connect(url, proxy=None) as session:
        session.send(json.dumps({"setup": {"model": "models/live"}}))
        assert {"setupComplete": {}} == json.loads(session.recv(timeout=20))
        content = {"turns": [{"role": "user", "parts": [{"text": script}]}], "turnComplete": True}
        session.send(json.dumps({"clientContent": content}))
        assert "Hi" in str(session.recv(timeout=20))
        if script == "leave":
            with pytest.raises(ConnectionClosed):
                session.recv(timeout=20)
    line, _ = new_lines(running, before, 2)

    assert (outcome, True) == (line["outcome"], line["estimated"])
    assert KEY not in str(scripted.requests)


@pytest.mark.parametrize(
    ("path", "status"),
    [(f"{PATH}Constrained", 426), (f"{PATH}?key=wrong", 401), (PATH, 401), ("/v1/realtime?model=live", 426)],
)
def test_refused_upgrades(running: RunningGateway, scripted: ScriptedSockets, path: str, status: int) -> None:
    headers = {"authorization": f"Bearer {KEY}"} if "realtime" in path else {}
    url = running.url.replace("http", "ws") + path
    with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers, proxy=None):
        pass

    assert status == refused.value.response.status_code
    assert [] == scripted.requests
