"""Every fault, for replies and streams, on the raw lane and across formats: alone, and with a healthy candidate behind.

What comes of it is written down in docs/faults.md, which this test holds to the truth. EDGE_WRITE_FAULTS=1 writes it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fault_player
import gateway as gateways
import httpx2 as httpx
import pytest
from ports import free_port

from edge_extproc.model.plan import Candidate
from edge_extproc.routing.breaker import Circuit, circuit_name
from edge_extproc.routing.shared import SharedCircuitTable

pytestmark = pytest.mark.envoy

TABLE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- begin of the table -->", "<!-- end of the table -->"

ON_THE_WAY = ("refused", "tls", "dns")
WORDS = {
    "refused": "connection refused",
    "tls": "TLS fails",
    "dns": "no such host",
    "reset-before-headers": "reset before headers",
    "reset-after-headers": "reset after headers",
    "429-retry-after": "429 with Retry-After: 1",
    "slow-headers": "no headers in time",
    "slow-first-token": "no first token in time",
    "stall-midway": "stalls midway",
    "cut-in-an-event": "ends within an event",
    "reset-midway": "reset midway",
    "cut-after-finish": "ends after finish_reason, without its end",
    "malformed-event": "malformed event midway",
    "error-first": "error event first",
    "error-later": "error event midway",
    "empty-body": "empty body",
    "wrong-content-type": "an HTML page with 200",
    "stream-as-text": "a stream as text/plain",
    "slow-but-alive": "comments until a late first token",
    "broken-off": "ends with finish reason network_error",
    "gzip-unasked": "gzip where none was asked",
}
FAULTS = (*ON_THE_WAY, *(name for name in fault_player.FAULTS if name not in {"good", "429-much-later"}))
# What a caller must never take for a whole answer.
BROKEN = frozenset(
    {
        "cut-in-an-event",
        "reset-midway",
        "stall-midway",
        "broken-off",
        "error-later",
        "error-first",
        "empty-body",
        "reset-after-headers",
    }
)
PARALLEL = 16


@dataclass(frozen=True)
class Cell:
    company: str
    """alone, or two."""
    lane: str
    fault: str
    shape: str

    @property
    def model(self) -> str:
        return f"{self.company}.{self.lane}.{self.fault}.{self.shape}"

    @property
    def trace(self) -> str:
        """By which its line in the log is found."""
        return hashlib.md5(self.model.encode(), usedforsecurity=False).hexdigest()

    @property
    def circuit(self) -> str:
        provider = "faulty" if self.fault not in ON_THE_WAY else self.fault
        return circuit_name(Candidate(f"{provider}_{self.lane}", self.model), "acme")


@dataclass(frozen=True)
class Came:
    status: int | None
    body: bytes
    whole: bool
    """As far as HTTP goes."""

    def told(self, shape: str) -> str:
        if self.status is None:
            return "no answer"
        if self.status != 200:
            error = json.loads(self.body)["error"]
            return f"{self.status} {error['code'] or error['type']}"
        if shape == "reply":
            return "the answer" if b"Hi there" in self.body else "?"
        text = "text" if b"Hi" in self.body else "no text"
        if b"[DONE]" in self.body:
            return "the answer" if b"there" in self.body else f"{text}, [DONE]"
        if b'"error"' in self.body:
            return f"{text}, error event"
        return f"{text}, broken connection" if not self.whole else f"{text}, no end"


def config(port: int) -> str:
    here = f"http://127.0.0.1:{port}"
    where = {
        "faulty": here,
        "refused": f"http://127.0.0.1:{free_port()}",
        "tls": f"https://127.0.0.1:{port}",
        "dns": "http://no-such-host.invalid",
    }
    providers, models = [], []
    for lane, kind in (("raw", "openai"), ("cross", "anthropic")):
        for name, url in where.items():
            providers.append(
                f"  {name}_{lane}: {{kind: {kind}, base_url: '{url}/v1', api_key: x, allow_plaintext: true}}\n"
            )
        for name in where:
            glob = f"{lane}.*" if name == "faulty" else f"{lane}.{name}.*"
            first = f"{{provider: {name}_{lane}}}"
            models.append(f'"alone.{glob}": {{candidates: [{first}], guard: "on"}}')
            second = "{provider: healthy, model: a.good}"
            models.append(f'"two.{glob}": {{candidates: [{first}, {second}], guard: "on"}}')
    more = """
    retries: {attempts: 2, back_off: {base: 5ms, max: 10ms}}
    timeouts: {connect: 1s, first_byte: 2s, stream_idle: 8s}
    routing: {first_token: 2s, breaker: {failures: 1000}}
    """
    text = gateways.config(here, more=more, models="\n".join(models))
    healthy = f"  healthy: {{kind: openai, base_url: '{here}/v1', api_key: x}}\n"
    return text.replace("providers:\n", "providers:\n" + healthy + "".join(providers), 1)


@pytest.fixture(scope="module")
def wall() -> Iterator[tuple[gateways.RunningGateway, fault_player.FaultPlayer]]:
    with fault_player.fault_player() as player, gateways.RunningGateway(config(player.port)) as gateway:
        yield gateway, player


def cells() -> list[Cell]:
    return [
        Cell(company, lane, fault, shape)
        for fault in FAULTS
        for shape in ("reply", "stream")
        for lane in ("raw", "cross")
        for company in ("alone", "two")
    ]


async def ask(http: httpx.AsyncClient, cell: Cell, player: fault_player.FaultPlayer) -> Came:
    asked = {
        "model": cell.model,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 50,
        "stream": cell.shape.startswith("stream"),
    }
    body = b""
    traced = {"traceparent": f"00-{cell.trace}-{'1' * 16}-01"}
    try:
        async with http.stream("POST", "/v1/chat/completions", json=asked, headers=traced) as reply:
            async for part in reply.aiter_raw():
                body += part
                if cell.fault == "reset-midway" and b"Hi" in body:
                    player.text_seen[cell.model].set()
    except httpx.RemoteProtocolError:
        return Came(reply.status_code, body, whole=False)
    return Came(reply.status_code, body, whole=True)


def client(gateway: gateways.RunningGateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.url, headers={"authorization": f"Bearer {gateways.KEY}"}, timeout=30)


async def play(gateway: gateways.RunningGateway, player: fault_player.FaultPlayer) -> dict[Cell, Came]:
    turn = asyncio.Semaphore(PARALLEL)

    async def one(http: httpx.AsyncClient, cell: Cell) -> Came:
        async with turn:
            return await ask(http, cell, player)

    async with client(gateway) as http:
        found = await asyncio.gather(*(one(http, cell) for cell in cells()))
    return dict(zip(cells(), found, strict=True))


def billed(line: dict[str, object]) -> str:
    if line.get("tokens_input") is None and line.get("tokens_output") is None:
        return "nothing"
    return f"{line.get('tokens_input') or 0} + {line.get('tokens_output') or 0}" + (
        " (in part estimated)" if line.get("estimated") else ""
    )


async def test_the_wall(wall: tuple[gateways.RunningGateway, fault_player.FaultPlayer]) -> None:
    gateway, player = wall
    came = await play(gateway, player)
    lines = await asyncio.to_thread(gateway.settled, len(came))
    settled = {line["trace_id"]: line for line in lines}
    slots = SharedCircuitTable(gateway.directory / ".edge" / "run" / "circuits")
    learned = {cell: failures(slots.read(cell.circuit)) for cell in came}
    slots.close()

    for cell, each in came.items():
        told = each.told(cell.shape)
        assert "?" != told, (cell, each)
        if cell.fault in BROKEN:
            assert told != "the answer" or cell.company == "two", (cell, each)
        if each.status != 200:
            assert each.whole, (cell, each)
            assert "error" in json.loads(each.body), (cell, each)
    table = written(came, settled, learned)
    if os.environ.get("EDGE_WRITE_FAULTS"):
        before, _, rest = TABLE.read_text().partition(BEGIN)
        TABLE.write_text(before + BEGIN + "\n" + table + END + rest.partition(END)[2])
    assert table == TABLE.read_text().partition(BEGIN)[2].partition(END)[0].lstrip("\n")
    assert not [line for line in gateway.lines if "envoy bug" in line or "Traceback" in line]


def written(came: dict[Cell, Came], lines: dict[str, dict[str, object]], learned: dict[Cell, str]) -> str:
    rows = [
        "| Fault | Shape | Lane | Alone: the caller gets | Billed | The circuit learns | With another: they get |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        for shape in ("reply", "stream"):
            for lane in ("raw", "cross"):
                alone, two = (Cell(company, lane, fault, shape) for company in ("alone", "two"))
                rows.append(
                    f"| {WORDS.get(fault, fault)} | {shape} | {lane} | {came[alone].told(shape)} "
                    f"| {billed(lines[alone.trace])} | {learned[alone]} | {came[two].told(shape)} |"
                )
    return "\n".join(rows) + "\n"


def failures(circuit: Circuit) -> str:
    if circuit.open_until:
        return "it opens at once"
    return {0: "nothing bad", 1: "1 failure"}.get(circuit.failures, f"{circuit.failures} failures")


async def test_a_provider_without_an_address_is_passed_over_from_the_second_call_on(
    wall: tuple[gateways.RunningGateway, fault_player.FaultPlayer],
) -> None:
    gateway, player = wall
    cell = Cell("two", "raw", "dns", "stream.again")
    async with client(gateway) as http:
        first, second = [(await ask(http, cell, player)).told("stream") for _ in range(2)]

    assert ("503 no_provider", "the answer") == (first, second)
